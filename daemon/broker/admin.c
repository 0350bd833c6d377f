/* One answer for every request, so that there is no request to parse: Prometheus and curl ask for
 * /metrics over HTTP, and whatever else is asked for gets the same. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker/accept.h"
#include "daemon/broker/admin.h"
#include "daemon/broker/linger.h"
#include "daemon/broker/metrics.h"
#include "engine/base/macro.h"

enum { TEXT_MAX = 24 * 1024, HEAD_MAX = 256 };

struct admin {
        struct workers *workers;
        struct lingerers lingering;
        struct accept_pause pause;
        sd_event_source *io;
        int fd;
        char text[HEAD_MAX + TEXT_MAX];
};

static struct metrics_now look(const struct admin *a) {
        const struct workers_settings *s = workers_settings(a->workers);
        struct metrics_now now = { .workers = workers_count(a->workers),
                                   .models = store_count(s->store),
                                   .pressure_step = s->metrics->pressure_step,
                                   .connections = accounts_used(s->accounts, CHARGE_CONNECTION),
                                   .compute_usec = leases_total(s->leases) };
        const struct worker *w;
        struct job *job;

        for (uint32_t i = 0; (w = workers_at(a->workers, i)); i++) {
                now.private_bytes += w->resident.private_bytes;
                now.kv_bytes += w->resident.kv_bytes;
                now.kv_kept_bytes += w->resident.kv_kept_bytes;
                now.weights_bytes += w->resident.weights_bytes;
        }
        for (uint32_t i = 0; (job = jobs_at(s->jobs, i)); i++) {
                if (job_finished(job))
                        continue;
                if ((unsigned)job->verb < _WIRE_VERB_MAX && (unsigned)job->state < _WIRE_STATE_MAX)
                        now.jobs[job->verb][job->state]++;
                if (job->state == WIRE_STATE_QUEUED)
                        now.jobs_waiting++;
                else
                        now.jobs_running++;
        }
        return now;
}

/* Both parts in one buffer: the head first, its length known last. */
static size_t answer(struct admin *a) {
        const struct workers_settings *s = workers_settings(a->workers);
        struct metrics_now now = look(a);
        char *body = a->text + HEAD_MAX, head[HEAD_MAX];
        size_t n = metrics_format(s->metrics, &now, body, TEXT_MAX);
        int n_head = snprintf(head, sizeof(head),
                              "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\n"
                              "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                              n ? "200 OK" : "500 Internal Server Error", n);

        memmove(a->text + n_head, body, n);
        memcpy(a->text, head, (size_t)n_head);
        return (size_t)n_head + n;
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct admin *a = userdata;
        struct ucred who;
        int peer, r = accept_peer(fd, &peer, &who);
        ssize_t sent = -1;

        if (r < 0) {
                accept_failed(&a->pause, a->io, r);
                return 0;
        }
        if (who.uid == 0 || who.uid == geteuid()) {
                size_t n = answer(a);

                sent = send(peer, a->text, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        if (sent < 0 || shutdown(peer, SHUT_WR) < 0)
                close(peer);
        else
                linger(&a->lingering, peer);
        return 0;
}

int admin_new(struct admin **ret, sd_event *event, int fd, struct workers *workers) {
        struct admin *a = calloc(1, sizeof(*a));
        int r;

        if (!a)
                return -ENOMEM;
        a->workers = workers;
        a->fd = -1;
        linger_init(&a->lingering, event);
        r = sd_event_add_io(event, &a->io, fd, EPOLLIN, on_connection, a);
        if (r < 0) {
                admin_free(a);
                return r;
        }
        a->fd = fd;
        *ret = a;
        return 0;
}

struct admin *admin_free(struct admin *a) {
        if (!a)
                return NULL;
        linger_done(&a->lingering);
        accept_pause_done(&a->pause);
        sd_event_source_disable_unref(a->io);
        if (a->fd >= 0)
                close(a->fd);
        free(a);
        return NULL;
}
