/* Framing of the worker link. One table row per message type says how long it is, whether a
 * descriptor belongs to it and which function checks its fields; everything that is not exactly as
 * its row says is -EBADMSG, and the caller ends the peer. A message is copied out of the socket
 * before it is looked at, so the peer cannot change it under the checks. Whether a legal message is
 * welcome now (direction, state) is decided by the caller's own state table. Descriptors of refused
 * messages are closed here; those of accepted ones belong to the caller. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/wire/frame.h"
#include "engine/base/macro.h"
#include "engine/base/model_error.h"
#include "policy/bucket.h"
#include "policy/error.h"

enum fd_rule { FD_NONE = 0, FD_REQUIRED, FD_UNLESS_ERROR };

struct row {
        size_t size;
        enum fd_rule fd;
        int (*check)(const union wire_message *m); /* 1 = fields are legal; NULL: any are */
};

static int name_or_empty(const char *name) {
        return name[0] == '\0' || wire_name_valid(name);
}

/* NaN fails every comparison, so it is refused too. */
static int in_range(double v, double min, double max) {
        return v >= min && v <= max;
}

static int check_hello(const union wire_message *m) {
        return (m->hello.mode == WIRE_MODE_SERVE || m->hello.mode == WIRE_MODE_PACK) &&
               m->hello.threads >= 1 && m->hello.threads <= WIRE_MAX_THREADS &&
               m->hello.kv < _WIRE_KV_MAX && m->hello.shared <= 1;
}

static int check_catalog(const union wire_message *m) {
        const struct wire_catalog *c = &m->catalog;

        if (c->count == 0) /* the last model is gone */
                return c->index == 0;
        return wire_name_valid(c->name) && c->count <= WIRE_MAX_MODELS && c->index < c->count &&
               c->flags <= WIRE_CATALOG_DEFAULT &&
               (c->state == ERROR_NONE || c->state == ERROR_MODEL_LOADING ||
                c->state == ERROR_MODEL_BAD);
}

static int check_conn(const union wire_message *m) {
        return m->conn.conn != 0 && m->conn.reserved == 0;
}

static int bus_ref(uint64_t ref) {
        return ref != 0 && !(ref & WIRE_REF_WORKER);
}

/* The words of a verb that has some. */
static int check_words(const struct wire_job *j) {
        if (j->verb == WIRE_VERB_REWRITE)
                return j->summary_type < _WIRE_TONE_MAX &&
                       j->summary_length < _WIRE_REWRITE_LENGTH_MAX &&
                       j->text_format < _WIRE_REWRITE_FORMAT_MAX;
        return j->summary_type < _WIRE_SUMMARY_TYPE_MAX && j->summary_length < _WIRE_LENGTH_MAX &&
               j->text_format < _WIRE_FORMAT_MAX;
}

static int check_job(const union wire_message *m) {
        const struct wire_job *j = &m->job;

        return bus_ref(j->ref) && name_or_empty(j->model) && j->verb >= WIRE_VERB_CHAT &&
               j->verb < _WIRE_VERB_MAX && j->priority <= WIRE_PRIORITY_BACKGROUND &&
               j->input_format < _WIRE_INPUT_MAX && j->output_format < _WIRE_OUTPUT_MAX &&
               check_words(j) && in_range(j->temperature, -1, 2) &&
               in_range(j->top_p, -1, 1) && in_range(j->min_p, -1, 1) && j->has_seed <= 1 &&
               (j->session == 0 || (bus_ref(j->session) && j->verb == WIRE_VERB_CHAT)) &&
               j->reserved == 0;
}

static int check_job_output(const union wire_message *m) {
        return bus_ref(m->job_output.ref);
}

static int check_model(const union wire_message *m) {
        return wire_name_valid(m->model.name) && name_or_empty(m->model.asked) &&
               m->model.error < _ERROR_MAX && m->model.model_error < _MODEL_E_MAX;
}

static int check_pack_output(const union wire_message *m) {
        return m->pack_output.i2s < _WIRE_I2S_MAX && m->pack_output.packing < _WIRE_PACKING_MAX;
}

static int check_queued(const union wire_message *m) {
        return m->queued.ref != 0 && bus_ref(m->queued.job) && m->queued.reserved == 0;
}

static int check_admitted(const union wire_message *m) {
        return m->admitted.ref != 0 && bus_ref(m->admitted.job);
}

static int check_refused(const union wire_message *m) {
        return m->refused.ref != 0 && m->refused.error > ERROR_NONE &&
               m->refused.error < _ERROR_MAX;
}

static int check_lease(const union wire_message *m) {
        return m->lease.usec >= 1 && m->lease.usec <= WIRE_MAX_LEASE_USEC;
}

static int check_cancel(const union wire_message *m) {
        return bus_ref(m->cancel.job) && m->cancel.reason < _ERROR_MAX && m->cancel.reserved == 0;
}

/* A bucket that is fuller than full would be shown to clients. */
static int check_rate(const struct wire_rate *r) {
        return r->per_minute == QUOTA_INFINITY ||
               (r->per_minute >= 1 && r->per_minute <= UINT64_MAX / BUCKET_UNIT &&
                r->level <= r->per_minute * BUCKET_UNIT && (r->level == 0 || r->debt == 0));
}

static int check_rates(const union wire_message *m) {
        return check_rate(&m->rates.requests) && check_rate(&m->rates.tokens) &&
               m->rates.reserved == 0;
}

static int check_set_limits(const union wire_message *m) {
        return name_or_empty(m->set_limits.default_model) && m->set_limits.reserved == 0;
}

static int check_user_gone(const union wire_message *m) {
        return m->user_gone.reserved == 0;
}

static int check_set_priority(const union wire_message *m) {
        return bus_ref(m->set_priority.job) &&
               m->set_priority.priority <= WIRE_PRIORITY_BACKGROUND &&
               m->set_priority.reserved == 0;
}

static int check_prepare(const union wire_message *m) {
        return wire_name_valid(m->prepare.name) && m->prepare.keep <= 1;
}

static int check_resident(const union wire_message *m) {
        const struct wire_resident *r = &m->resident;

        return name_or_empty(r->name) && (r->models > 0) == (r->name[0] != '\0') &&
               r->models <= WIRE_MAX_MODELS && r->reserved == 0;
}

static int check_session_open(const union wire_message *m) {
        return bus_ref(m->session_open.session) && wire_name_valid(m->session_open.model) &&
               m->session_open.reserved == 0;
}

static int check_session_append(const union wire_message *m) {
        return bus_ref(m->session_append.session) && m->session_append.initial <= 1 &&
               m->session_append.reserved == 0;
}

static int check_session_command(const union wire_message *m) {
        return bus_ref(m->session_command.session);
}

static int check_take_output(const union wire_message *m) {
        return bus_ref(m->take_output.job);
}

static int check_discard(const union wire_message *m) {
        return bus_ref(m->discard.job);
}

static int check_count(const union wire_message *m) {
        const struct wire_count *c = &m->count;

        return bus_ref(c->ref) && name_or_empty(c->model) &&
               (c->verb == WIRE_VERB_CHAT || c->verb == WIRE_VERB_COMPLETE) &&
               c->input_format < _WIRE_INPUT_MAX && c->deadline_usec > 0 &&
               c->deadline_usec <= LIMIT_DEADLINE_USEC && c->reserved == 0;
}

static int check_passed(const union wire_message *m) {
        return (m->passed.ref & WIRE_REF_WORKER) != 0;
}

static int check_ready(const union wire_message *m) {
        return m->ready.threads >= 1 && m->ready.threads <= WIRE_MAX_THREADS &&
               m->ready.seccomp <= 2;
}

static int check_want_model(const union wire_message *m) {
        return name_or_empty(m->want_model.name) && m->want_model.reserved == 0;
}

static int check_admit(const union wire_message *m) {
        const struct wire_admit *a = &m->admit;

        return a->ref != 0 && name_or_empty(a->model) && a->verb >= WIRE_VERB_CHAT &&
               a->verb < _WIRE_VERB_MAX && a->priority <= WIRE_PRIORITY_BACKGROUND &&
               !(a->ref & WIRE_REF_WORKER) == (a->conn == 0) && a->reserved == 0 &&
               (a->count == 0 || (a->count == 1 && a->conn != 0));
}

static int check_progress(const union wire_message *m) {
        return bus_ref(m->progress.job) && m->progress.state <= WIRE_STATE_FAILED;
}

static int check_done(const union wire_message *m) {
        return m->done.job != 0 && m->done.error < _ERROR_MAX && m->done.finish <= 1;
}

static int check_used(const union wire_message *m) {
        return m->used.flags <= (WIRE_USED_WANT | WIRE_USED_STOPPED) && m->used.reserved == 0;
}

static int check_shares(const union wire_message *m) {
        const struct wire_shares *s = &m->shares;

        return s->n >= 1 && s->n <= WIRE_SHARES_MAX && s->reserved == 0;
}

static int check_conn_closed(const union wire_message *m) {
        return m->conn_closed.conn != 0;
}

static int check_counted(const union wire_message *m) {
        const struct wire_counted *c = &m->counted;

        return bus_ref(c->ref) && c->error < _ERROR_MAX && c->reserved == 0 &&
               (c->error == ERROR_NONE || c->tokens == 0);
}

static_assert((int)_ERROR_MAX <= (int)WIRE_ERRORS_MAX, "wire");

static int check_refusals(const union wire_message *m) {
        const uint32_t *counts = m->refusals.counts;

        for (size_t i = 0; i < WIRE_ERRORS_MAX; i++)
                if (counts[i] > (i == ERROR_NONE || i >= _ERROR_MAX ? 0 : WIRE_MAX_REFUSALS))
                        return 0;
        return 1;
}

static int check_packed(const union wire_message *m) {
        return m->packed.model_error < _MODEL_E_MAX && m->packed.reserved == 0;
}

/* The numbers are what a client is shown and what an account is charged. */
static int check_session(const union wire_message *m) {
        const struct wire_session *s = &m->session;

        return bus_ref(s->session) && s->event >= WIRE_SESSION_DONE &&
               s->event < _WIRE_SESSION_EVENT_MAX && s->error < _ERROR_MAX &&
               (s->error == ERROR_NONE || s->event == WIRE_SESSION_DONE) &&
               s->turns <= UINT32_MAX && s->kv_bytes <= INT64_MAX;
}

static const struct row rows[] = {
        [WIRE_HELLO] = { sizeof(struct wire_hello), FD_NONE, check_hello },
        [WIRE_CATALOG] = { sizeof(struct wire_catalog), FD_NONE, check_catalog },
        [WIRE_CONN] = { sizeof(struct wire_conn), FD_REQUIRED, check_conn },
        [WIRE_JOB] = { sizeof(struct wire_job), FD_REQUIRED, check_job },
        [WIRE_JOB_OUTPUT] = { sizeof(struct wire_job_output), FD_REQUIRED, check_job_output },
        [WIRE_MODEL] = { sizeof(struct wire_model), FD_UNLESS_ERROR, check_model },
        [WIRE_PACK_OUTPUT] = { sizeof(struct wire_pack_output), FD_REQUIRED, check_pack_output },
        [WIRE_QUEUED] = { sizeof(struct wire_queued), FD_NONE, check_queued },
        [WIRE_ADMITTED] = { sizeof(struct wire_admitted), FD_NONE, check_admitted },
        [WIRE_REFUSED] = { sizeof(struct wire_refused), FD_NONE, check_refused },
        [WIRE_LEASE] = { sizeof(struct wire_lease), FD_NONE, check_lease },
        [WIRE_CANCEL] = { sizeof(struct wire_cancel), FD_NONE, check_cancel },
        [WIRE_SET_LIMITS] = { sizeof(struct wire_set_limits), FD_NONE, check_set_limits },
        [WIRE_DROP_CACHES] = { sizeof(struct wire_plain), FD_NONE, NULL },
        [WIRE_SHUTDOWN] = { sizeof(struct wire_plain), FD_NONE, NULL },
        [WIRE_RATES] = { sizeof(struct wire_rates), FD_NONE, check_rates },
        [WIRE_SET_PRIORITY] = { sizeof(struct wire_set_priority), FD_NONE, check_set_priority },
        [WIRE_PREPARE] = { sizeof(struct wire_prepare), FD_NONE, check_prepare },
        [WIRE_SESSION_OPEN] = { sizeof(struct wire_session_open), FD_NONE, check_session_open },
        [WIRE_SESSION_APPEND] = { sizeof(struct wire_session_append), FD_REQUIRED,
                                  check_session_append },
        [WIRE_SESSION_CLEAR] = { sizeof(struct wire_session_command), FD_NONE,
                                 check_session_command },
        [WIRE_SESSION_FORGET] = { sizeof(struct wire_session_command), FD_NONE,
                                  check_session_command },
        [WIRE_SESSION_CLOSE] = { sizeof(struct wire_session_command), FD_NONE,
                                 check_session_command },
        [WIRE_TAKE_OUTPUT] = { sizeof(struct wire_take_output), FD_REQUIRED, check_take_output },
        [WIRE_DISCARD] = { sizeof(struct wire_discard), FD_NONE, check_discard },
        [WIRE_COUNT] = { sizeof(struct wire_count), FD_REQUIRED, check_count },
        [WIRE_PASSED] = { sizeof(struct wire_passed), FD_NONE, check_passed },
        [WIRE_USER_GONE] = { sizeof(struct wire_user_gone), FD_NONE, check_user_gone },
        [WIRE_READY] = { sizeof(struct wire_ready), FD_NONE, check_ready },
        [WIRE_WANT_MODEL] = { sizeof(struct wire_want_model), FD_NONE, check_want_model },
        [WIRE_ADMIT] = { sizeof(struct wire_admit), FD_NONE, check_admit },
        [WIRE_PROGRESS] = { sizeof(struct wire_progress), FD_NONE, check_progress },
        [WIRE_DONE] = { sizeof(struct wire_done), FD_NONE, check_done },
        [WIRE_USED] = { sizeof(struct wire_used), FD_NONE, check_used },
        [WIRE_FAULT] = { sizeof(struct wire_fault), FD_NONE, NULL },
        [WIRE_CONN_CLOSED] = { sizeof(struct wire_conn_closed), FD_NONE, check_conn_closed },
        [WIRE_PACKED] = { sizeof(struct wire_packed), FD_NONE, check_packed },
        [WIRE_RESIDENT] = { sizeof(struct wire_resident), FD_NONE, check_resident },
        [WIRE_SESSION] = { sizeof(struct wire_session), FD_NONE, check_session },
        [WIRE_COUNTED] = { sizeof(struct wire_counted), FD_NONE, check_counted },
        [WIRE_REFUSALS] = { sizeof(struct wire_refusals), FD_NONE, check_refusals },
        [WIRE_SHARES] = { sizeof(struct wire_shares), FD_NONE, check_shares },
};

size_t wire_size(uint32_t type) {
        return type < ARRAY_SIZE(rows) ? rows[type].size : 0;
}

static int fd_as_it_must_be(const union wire_message *m, int fd) {
        switch (rows[m->h.type].fd) {
        case FD_NONE:
                return fd < 0;
        case FD_REQUIRED:
                return fd >= 0;
        case FD_UNLESS_ERROR:
                return (fd >= 0) == (m->model.error == ERROR_NONE);
        }
        return 0;
}

int wire_check(const union wire_message *m, size_t n, int fd) {
        if (n < sizeof(m->h) || m->h.version != WIRE_VERSION || wire_size(m->h.type) != n)
                return -EBADMSG;
        if (rows[m->h.type].check && !rows[m->h.type].check(m))
                return -EBADMSG;
        return fd_as_it_must_be(m, fd) ? 0 : -EBADMSG;
}

/* Room for one descriptor. The alignment of CMSG_SPACE lets the kernel deliver a second one, so
 * whoever receives counts. */
union control {
        struct cmsghdr h;
        char bytes[CMSG_SPACE(sizeof(int))];
};

int wire_send(int sock, union wire_message *message, int fd) {
        size_t size = wire_size(message->h.type);
        struct iovec iov = { .iov_base = message, .iov_len = size };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        union control control = {};
        ssize_t n;

        message->h.version = WIRE_VERSION;
        if (size == 0 || wire_check(message, size, fd) < 0)
                return -EINVAL;
        if (fd >= 0) {
                msg.msg_control = &control;
                msg.msg_controllen = sizeof(control);
                control.h.cmsg_level = SOL_SOCKET;
                control.h.cmsg_type = SCM_RIGHTS;
                control.h.cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(&control.h), &fd, sizeof(int));
        }
        do
                n = sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

/* Take the descriptors out of a received message: the first goes to *fd, others are closed.
 * Returns how many there were. */
static unsigned take_descriptors(struct msghdr *msg, int *fd) {
        unsigned count = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                size_t n;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int received;

                        memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (count++ == 0)
                                *fd = received;
                        else
                                close(received);
                }
        }
        return count;
}

int wire_receive(int sock, union wire_message *ret, int *ret_fd) {
        union wire_message message = {};
        union control control;
        struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof(control) };
        _cleanup_close_ int fd = -1;
        unsigned count;
        ssize_t n;

        do
                n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        count = take_descriptors(&msg, &fd);
        if (count > 1 || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
                return -EBADMSG;
        if (n == 0)
                return -ECONNRESET;
        if (wire_check(&message, (size_t)n, fd) < 0)
                return -EBADMSG;
        *ret = message;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

const char *wire_state_name(uint32_t state) {
        static const char *const names[] = {
                [WIRE_STATE_QUEUED] = "queued",         [WIRE_STATE_LOADING] = "loading",
                [WIRE_STATE_READING] = "reading",       [WIRE_STATE_PREFILL] = "prefill",
                [WIRE_STATE_GENERATING] = "generating", [WIRE_STATE_MERGING] = "merging",
                [WIRE_STATE_PAUSED] = "paused",         [WIRE_STATE_DONE] = "done",
                [WIRE_STATE_CANCELLED] = "cancelled",   [WIRE_STATE_FAILED] = "failed",
                [WIRE_STATE_COPYING] = "copying",       [WIRE_STATE_HASHING] = "hashing",
                [WIRE_STATE_PACKING] = "packing",
        };

        return state < ARRAY_SIZE(names) ? names[state] : "failed";
}
