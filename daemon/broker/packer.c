/* The pack dialogue: HELLO, READY, then MODEL and PACK_OUTPUT, then PACKED. Any other message, a
 * missing filter, the end of the connection or the deadline is a failure, and the worker is killed
 * whatever the outcome. The packer process is hostile input too: what it wrote is only used under
 * the digest the broker computes afterwards, and its claims are numbers. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/packer.h"
#include "engine/base/macro.h"
#include "policy/limits.h"

struct packer {
        struct packer_request request;
        char name[WIRE_NAME_MAX];
        int sock;
        pid_t pid;
        bool ready;
        unsigned faults;
        sd_event_source *io, *timer;
};

static void packer_free(struct packer *p) {
        sd_event_source_disable_unref(p->io);
        sd_event_source_disable_unref(p->timer);
        if (p->sock >= 0)
                close(p->sock);
        if (p->pid > 0) {
                kill(p->pid, SIGKILL);
                while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
                        continue;
        }
        free(p);
}

/* The process is gone, with its writable descriptor, before anybody hears of the result. */
static int finish(struct packer *p, int error, const struct wire_packed *packed) {
        struct packer_request request = p->request;

        packer_free(p);
        request.done(request.userdata, error, packed);
        return 0;
}

static int send_files(struct packer *p) {
        union wire_message m = { .model = { .h.type = WIRE_MODEL } };
        int r;

        memcpy(m.model.name, p->name, sizeof(p->name));
        r = wire_send(p->sock, &m, p->request.source);
        if (r < 0)
                return r;
        m = (union wire_message){ .pack_output = { .h.type = WIRE_PACK_OUTPUT,
                                                   .source_size = p->request.source_size,
                                                   .i2s = p->request.i2s,
                                                   .packing = p->request.packing } };
        return wire_send(p->sock, &m, p->request.output);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct packer *p = userdata;
        union wire_message m;
        _cleanup_close_ int extra = -1;
        int r = wire_receive(p->sock, &m, &extra);

        if (r == -EAGAIN)
                return 0;
        if (r < 0)
                return finish(p, r, NULL);
        if (m.h.type == WIRE_FAULT && ++p->faults <= LIMIT_FAULTS)
                return 0;
        if (m.h.type == WIRE_PACKED && p->ready)
                return finish(p, 0, &m.packed);
        if (m.h.type != WIRE_READY || p->ready || m.ready.seccomp != SPAWN_SECCOMP)
                return finish(p, -EBADMSG, NULL);
        p->ready = true;
        r = send_files(p);
        return r < 0 ? finish(p, r, NULL) : 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        return finish(userdata, -ETIMEDOUT, NULL);
}

/* Packed weights take no more room than the source, but for padding and a second, coarser copy of
 * the output head. */
static uint64_t output_limit(uint64_t source_size) {
        return 2 * source_size + (UINT64_C(64) << 20);
}

static int start(struct packer *p, sd_event *event, const struct spawn *spawn) {
        union wire_message m = { .hello = {
                .h.type = WIRE_HELLO, .mode = WIRE_MODE_PACK, .uid = geteuid(), .threads = 1,
                .cpu_mask = p->request.cpu_mask, .fsize = output_limit(p->request.source_size) } };
        int r = spawn_worker(spawn, SPAWN_SLOT_PACK, &p->sock, &p->pid);

        if (r >= 0)
                r = wire_send(p->sock, &m, -1);
        if (r >= 0)
                r = sd_event_add_io(event, &p->io, p->sock, EPOLLIN, on_io, p);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &p->timer, CLOCK_MONOTONIC, LIMIT_PACK_USEC,
                                               0, on_deadline, p);
        return r < 0 ? r : 0;
}

int packer_start(struct packer **ret, sd_event *event, const struct spawn *spawn,
                 const struct packer_request *request) {
        struct packer *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        p->request = *request;
        p->sock = -1;
        snprintf(p->name, sizeof(p->name), "%s", request->name);
        r = start(p, event, spawn);
        if (r < 0) {
                packer_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

struct packer *packer_cancel(struct packer *p) {
        if (p)
                packer_free(p);
        return NULL;
}
