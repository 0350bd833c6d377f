/* Who may administer. Only the kernel's word counts: root, and the user that runs the daemon (his
 * own in user mode; in system mode the service's account, for ExecReload=). */
#include <unistd.h>

#include "dbus/peer.h"

bool is_administrator(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

int authorize(struct peer *p, sd_bus_message *m, const char *action,
              int (*run)(sd_bus_message *m, struct peer *p, sd_bus_error *e), sd_bus_error *e) {
        uid_t uid;
        int r = peer_uid(p, m, &uid);

        if (r < 0)
                return r;
        return is_administrator(uid) ? run(m, p, e) : bus_error(e, ERROR_NOT_AUTHORIZED, 0, 0);
}
