/* Whose account pays. The uid decides alone unless the configuration names slices; then the process
 * is looked at: of a private connection once, by its socket, as soon as the slice counts; on a
 * message bus with each call, as the bus daemon names it. A connection that is handed to another
 * process keeps the account of the one that made it. */
#include <errno.h>
#include <string.h>

#include "daemon/broker/slices.h"
#include "dbus/peer.h"

#define DBUS_NAME "org.freedesktop.DBus"
#define DBUS_PATH "/org/freedesktop/DBus"

struct process {
        uint32_t pid;  /* 0: nothing was said */
        int pidfd;     /* of the message; -1: none */
};

static int read_credential(sd_bus_message *m, struct process *p) {
        const char *name;
        int r = sd_bus_message_read(m, "s", &name);

        if (r < 0)
                return r;
        if (strcmp(name, "ProcessID") == 0)
                return sd_bus_message_read(m, "v", "u", &p->pid);
        if (strcmp(name, "ProcessFD") == 0)
                return sd_bus_message_read(m, "v", "h", &p->pidfd);
        return sd_bus_message_skip(m, "v");
}

static int read_credentials(sd_bus_message *m, struct process *p) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_credential(m, p);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

static int slice_of_sender(const struct peer *p, sd_bus_message *m, uid_t uid,
                           char ret[SLICE_NAME_SIZE]) {
        struct process process = { .pidfd = -1 };
        sd_bus_message *reply = NULL;
        int r = sd_bus_call_method(p->bus, DBUS_NAME, DBUS_PATH, DBUS_NAME,
                                   "GetConnectionCredentials", NULL, &reply, "s",
                                   sd_bus_message_get_sender(m));

        if (r >= 0)
                r = read_credentials(reply, &process);
        if (r >= 0)
                r = slices_of_process(peer_broker(p)->settings->proc, process.pidfd,
                                      (pid_t)process.pid, uid, ret);
        sd_bus_message_unref(reply);
        return r;
}

int peer_learn_slice(struct peer *p) {
        const struct settings *s = peer_broker(p)->settings;
        int r = 0;

        if (!p->slice_known && settings_want_slices(s)) {
                r = slices_of_socket(s->proc, sd_bus_get_fd(p->bus), p->slice);
                p->slice_known = r == 0;
        }
        return r;
}

int peer_account(struct peer *p, sd_bus_message *m, struct account_id *ret, sd_bus_error *e) {
        const struct settings *s = peer_broker(p)->settings;
        char sender[SLICE_NAME_SIZE] = "";
        uid_t uid;
        int r = peer_uid(p, m, &uid);

        if (r < 0)
                return r;
        if (!p->message_bus)
                r = peer_learn_slice(p);
        else if (settings_want_slices(s))
                r = slice_of_sender(p, m, uid, sender);
        if (r < 0)
                return bus_error(e, ERROR_SLICE_UNKNOWN, 0, 0);
        settings_account(s, uid, p->message_bus ? sender : p->slice, ret);
        return 0;
}
