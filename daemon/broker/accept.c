/* Accepting and refusing. A refused connection gets one answer, written in one piece at the start
 * of the program's life, and lingers. When descriptors run out, accepting pauses instead of
 * spinning. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/accept.h"
#include "daemon/broker/linger.h"
#include "daemon/broker/log.h"
#include "daemon/broker/metrics.h"
#include "engine/base/macro.h"

enum { PAUSE_USEC = 200000, ANSWER_SIZE = 1024 };

struct listener {
        sd_event *event;
        sd_event_source *io;
        struct accept_pause pause;
        struct workers *workers;
        void (*exhausted)(void *userdata);
        void *userdata;
        int fd;
        bool stopping;
        struct lingerers lingering;
};

/* Of those that a refused connection can have. */
static const char *reason_phrase(unsigned status) {
        return status == 429 ? "Too Many Requests" : status == 403 ? "Forbidden"
                                                                   : "Service Unavailable";
}

static void build_answer(const struct refusal *why, char buf[ANSWER_SIZE]) {
        const struct error_row *row = error_row(why->code);
        char body[ANSWER_SIZE / 2], text[ANSWER_SIZE / 4];

        snprintf(body, sizeof(body),
                 "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                 error_format(why, text, sizeof(text)), row->http_type, row->http_code);
        snprintf(buf, ANSWER_SIZE,
                 "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                 "Retry-After: 1\r\nConnection: close\r\n\r\n%s",
                 row->http_status, reason_phrase(row->http_status), strlen(body), body);
}

void listener_refuse(struct listener *l, int fd, const struct refusal *why) {
        struct metrics *metrics = workers_settings(l->workers)->metrics;
        char answer[ANSWER_SIZE];
        ssize_t n;

        build_answer(why, answer);
        n = send(fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
        metrics->refusals[why->code]++;
        if (n < 0 || shutdown(fd, SHUT_WR) < 0)
                close(fd);
        else
                linger(&l->lingering, fd);
}

int accept_peer(int listening, int *ret_fd, struct ucred *ret) {
        _cleanup_close_ int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct ucred peer;
        socklen_t n = sizeof(peer);

        if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        *ret = peer;
        return 0;
}

void accept_note_group(struct account *account, const struct ucred *peer) {
        if (account->gid == (gid_t)-1)
                account->gid = peer->gid;
}

static struct refusal admit(struct listener *l, int fd, const struct ucred *peer) {
        const struct workers_settings *s = workers_settings(l->workers);
        struct account *account = NULL;
        struct account_id id;
        struct charge charge = {};
        struct member *member;
        struct refusal why = { .code = ERROR_OVERLOADED };
        int r;

        if (settings_account_of(s->settings, fd, peer->uid, &id) < 0)
                return (struct refusal){ .code = ERROR_SLICE_UNKNOWN };
        r = accounts_get(s->accounts, &id, &account);
        if (r == 0) {
                accept_note_group(account, peer);
                r = account_charge(account, CHARGE_CONNECTION, &charge);
        }
        if (account && r == ACCOUNT_E_QUOTA)
                why = (struct refusal){ .code = ERROR_CONNECTIONS,
                                        .value = account->used[CHARGE_CONNECTION] + 1,
                                        .limit = account_limit(account, CHARGE_CONNECTION) };
        if (r == 0)
                r = workers_get(l->workers, account, &member);
        if (r == 0)
                r = worker_add_conn(member, fd, &charge);
        charge_done(&charge);
        account_unref(account);
        return r == 0 ? (struct refusal){} : why;
}

static int on_resume(sd_event_source *source, uint64_t usec, void *userdata) {
        struct accept_pause *p = userdata;

        sd_event_source_set_enabled(p->io, SD_EVENT_ON);
        return 0;
}

bool accept_failed(struct accept_pause *p, sd_event_source *io, int error) {
        sd_event *event = sd_event_source_get_event(io);
        int r;

        if (error == -EAGAIN || error == -EINTR || error == -ECONNABORTED)
                return false;
        log_event(LOG_ACCEPT_FAILED, (uint64_t)-error, 0, 0);
        p->io = io;
        p->timer = sd_event_source_disable_unref(p->timer);
        r = sd_event_add_time_relative(event, &p->timer, CLOCK_MONOTONIC, PAUSE_USEC, 0, on_resume,
                                       p);
        if (r >= 0)
                sd_event_source_set_enabled(io, SD_EVENT_OFF);
        return true;
}

void accept_pause_done(struct accept_pause *p) {
        p->timer = sd_event_source_disable_unref(p->timer);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct listener *l = userdata;
        struct refusal why = { .code = ERROR_STOPPING };
        struct ucred who;
        int peer, r = accept_peer(fd, &peer, &who);

        if (r < 0) {
                if (accept_failed(&l->pause, l->io, r))
                        l->exhausted(l->userdata);
                return 0;
        }
        if (!l->stopping)
                why = admit(l, peer, &who);
        if (why.code != ERROR_NONE) {
                log_refused(who.uid, 0, 0, why.code);
                listener_refuse(l, peer, &why);
        } else
                workers_settings(l->workers)->metrics->connections++;
        return 0;
}

void listener_pause(struct listener *l) {
        accept_pause_done(&l->pause);
        sd_event_source_set_enabled(l->io, SD_EVENT_OFF);
}

void listener_stop(struct listener *l, bool inherited) {
        l->stopping = true;
        accept_pause_done(&l->pause);
        sd_event_source_set_enabled(l->io, inherited ? SD_EVENT_OFF : SD_EVENT_ON);
}

int listener_new(struct listener **ret, sd_event *event, int fd, struct workers *workers,
                 void (*exhausted)(void *userdata), void *userdata) {
        struct listener *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        l->event = event;
        l->workers = workers;
        l->exhausted = exhausted;
        l->userdata = userdata;
        l->fd = -1;
        linger_init(&l->lingering, event);
        r = sd_event_add_io(event, &l->io, fd, EPOLLIN, on_connection, l);
        if (r < 0) {
                listener_free(l);
                return r;
        }
        l->fd = fd;
        *ret = l;
        return 0;
}

struct listener *listener_free(struct listener *l) {
        if (!l)
                return NULL;
        linger_done(&l->lingering);
        sd_event_source_disable_unref(l->io);
        accept_pause_done(&l->pause);
        if (l->fd >= 0)
                close(l->fd);
        free(l);
        return NULL;
}
