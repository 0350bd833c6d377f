/* Every message, legal once and illegal in every way: length, descriptor, names, ranges. */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/wire/frame.h"
#include "engine/base/macro.h"
#include "engine/base/model_error.h"
#include "engine/model/pack.h"
#include "policy/bucket.h"
#include "policy/error.h"

_Static_assert((int)WIRE_PACK_VERSION == (int)PACK_VERSION, "one pack version");

enum { WITH_FD = 1 };

#define JOB .ref = 7, .verb = WIRE_VERB_CHAT, .temperature = -1, .top_p = -1, .min_p = -1

static const struct sample {
        union wire_message m;
        int fd;
} samples[] = {
        { { .hello = { .h.type = WIRE_HELLO, .mode = WIRE_MODE_SERVE, .threads = 1 } }, 0 },
        { { .catalog = { .h.type = WIRE_CATALOG, .count = 1, .name = "m" } }, 0 },
        { { .conn = { .h.type = WIRE_CONN, .conn = 1 } }, WITH_FD },
        { { .job = { .h.type = WIRE_JOB, JOB } }, WITH_FD },
        { { .job_output = { .h.type = WIRE_JOB_OUTPUT, .ref = 7 } }, WITH_FD },
        { { .model = { .h.type = WIRE_MODEL, .name = "m" } }, WITH_FD },
        { { .pack_output = { .h.type = WIRE_PACK_OUTPUT } }, WITH_FD },
        { { .queued = { .h.type = WIRE_QUEUED, .ref = 1, .job = 1 } }, 0 },
        { { .admitted = { .h.type = WIRE_ADMITTED, .ref = 1, .job = 1 } }, 0 },
        { { .refused = { .h.type = WIRE_REFUSED, .ref = 1, .error = ERROR_QUEUE_FULL } }, 0 },
        { { .lease = { .h.type = WIRE_LEASE, .usec = 1 } }, 0 },
        { { .cancel = { .h.type = WIRE_CANCEL, .job = 1 } }, 0 },
        { { .set_limits = { .h.type = WIRE_SET_LIMITS } }, 0 },
        { { .plain = { .h.type = WIRE_DROP_CACHES } }, 0 },
        { { .plain = { .h.type = WIRE_SHUTDOWN } }, 0 },
        { { .rates = { .h.type = WIRE_RATES, .requests.per_minute = 2, .tokens.per_minute = 1 } },
          0 },
        { { .prepare = { .h.type = WIRE_PREPARE, .name = "m" } }, 0 },
        { { .session_open = { .h.type = WIRE_SESSION_OPEN, .session = 1, .model = "m" } }, 0 },
        { { .session_append = { .h.type = WIRE_SESSION_APPEND, .session = 1 } }, WITH_FD },
        { { .session_command = { .h.type = WIRE_SESSION_CLEAR, .session = 1 } }, 0 },
        { { .session_command = { .h.type = WIRE_SESSION_FORGET, .session = 1 } }, 0 },
        { { .session_command = { .h.type = WIRE_SESSION_CLOSE, .session = 1 } }, 0 },
        { { .user_gone = { .h.type = WIRE_USER_GONE } }, 0 },
        { { .ready = { .h.type = WIRE_READY, .threads = 1, .seccomp = 2 } }, 0 },
        { { .want_model = { .h.type = WIRE_WANT_MODEL } }, 0 },
        { { .take_output = { .h.type = WIRE_TAKE_OUTPUT, .job = 1 } }, 1 },
        { { .discard = { .h.type = WIRE_DISCARD, .job = 1 } }, 0 },
        { { .set_priority = { .h.type = WIRE_SET_PRIORITY, .job = 1, .priority = 1 } }, 0 },
        { { .admit = { .h.type = WIRE_ADMIT, .ref = 1, .verb = WIRE_VERB_CHAT } }, 0 },
        { { .progress = { .h.type = WIRE_PROGRESS, .job = 1 } }, 0 },
        { { .done = { .h.type = WIRE_DONE, .job = 1 } }, 0 },
        { { .used = { .h.type = WIRE_USED } }, 0 },
        { { .fault = { .h.type = WIRE_FAULT } }, 0 },
        { { .conn_closed = { .h.type = WIRE_CONN_CLOSED, .conn = 1 } }, 0 },
        { { .packed = { .h.type = WIRE_PACKED } }, 0 },
        { { .resident = { .h.type = WIRE_RESIDENT } }, 0 },
        { { .session = { .h.type = WIRE_SESSION, .session = 1, .event = WIRE_SESSION_DONE } }, 0 },
        { { .count = { .h.type = WIRE_COUNT, .ref = 1, .verb = WIRE_VERB_CHAT,
                       .deadline_usec = 1 } }, WITH_FD },
        { { .passed = { .h.type = WIRE_PASSED, .ref = WIRE_REF_WORKER | 1 } }, 0 },
        { { .counted = { .h.type = WIRE_COUNTED, .ref = 1 } }, 0 },
        { { .refusals = { .h.type = WIRE_REFUSALS } }, 0 },
        { { .shares = { .h.type = WIRE_SHARES, .n = 1 } }, 0 },
};

struct link {
        int a, b;
};

static struct link link_new(void) {
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        return (struct link){ pair[0], pair[1] };
}

static void link_done(struct link *l) {
        close(l->a);
        close(l->b);
}

/* Bytes as they are, with n descriptors, past the checks of wire_send. */
static void send_raw(int sock, const void *p, size_t n, unsigned n_fds) {
        int fds[3] = { 0, 1, 2 };
        char control[CMSG_SPACE(sizeof(fds))] = {};
        struct iovec iov = { (void *)p, n };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct cmsghdr *c;

        if (n_fds > 0) {
                msg.msg_control = control;
                msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        assert_int_equal(sendmsg(sock, &msg, MSG_NOSIGNAL), (ssize_t)n);
}

/* Descriptors open in this process. */
static unsigned open_fds(void) {
        unsigned n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static int receive_raw(const union wire_message *m, size_t n, unsigned n_fds) {
        _cleanup_(link_done) struct link l = link_new();
        union wire_message got;
        unsigned before = open_fds();
        int fd = -1, r;

        send_raw(l.a, m, n, n_fds);
        r = wire_receive(l.b, &got, &fd);
        if (fd >= 0)
                close(fd);
        if (open_fds() != before)
                fail_msg("type %u, %zu bytes, %u descriptors: %u are open, %u before", m->h.type, n,
                         n_fds, open_fds(), before);
        return r;
}

static void test_every_message_travels(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
                _cleanup_(link_done) struct link l = link_new();
                union wire_message m = samples[i].m, got = {};
                int fd = -1;

                assert_int_equal(wire_send(l.a, &m, samples[i].fd ? 0 : -1), 0);
                assert_int_equal(wire_receive(l.b, &got, &fd), 0);
                assert_memory_equal(&m, &got, wire_size(m.h.type));
                assert_int_equal(fd >= 0, samples[i].fd);
                if (fd >= 0) {
                        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
                        close(fd);
                }
        }
}

static void test_lengths(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
                union wire_message m = samples[i].m;
                size_t size = wire_size(m.h.type);

                m.h.version = WIRE_VERSION;
                for (size_t n = 1; n <= sizeof(m); n++) {
                        int r = receive_raw(&m, n, (unsigned)samples[i].fd);

                        if (r != (n == size ? 0 : -EBADMSG))
                                fail_msg("type %u, %zu bytes of %zu: %d", m.h.type, n, size, r);
                }
        }
}

static void test_longer_than_any(void **state) {
        char big[WIRE_MAX_MESSAGE + 1] = {};
        struct wire_header h = { WIRE_USED, WIRE_VERSION };
        _cleanup_(link_done) struct link l = link_new();
        union wire_message got;
        int fd = -1;

        memcpy(big, &h, sizeof(h));
        send_raw(l.a, big, sizeof(big), 0);
        assert_int_equal(wire_receive(l.b, &got, &fd), -EBADMSG);
}

static void test_descriptors(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
                union wire_message m = samples[i].m;

                m.h.version = WIRE_VERSION;
                for (unsigned n = 0; n <= 3; n++) {
                        int r = receive_raw(&m, wire_size(m.h.type), n);

                        if (r != (n == (unsigned)samples[i].fd ? 0 : -EBADMSG))
                                fail_msg("type %u with %u descriptors: %d", m.h.type, n, r);
                }
        }
}

static void test_types_and_version(void **state) {
        for (uint32_t type = 0; type < 300; type++) {
                size_t known = 0;

                for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
                        known |= samples[i].m.h.type == type;
                assert_int_equal(wire_size(type) != 0, known);
        }
        for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
                union wire_message m = samples[i].m;

                m.h.version = WIRE_VERSION + 1;
                assert_int_equal(receive_raw(&m, wire_size(m.h.type), (unsigned)samples[i].fd),
                                 -EBADMSG);
        }
        assert_int_equal(wire_size(UINT32_MAX), 0);
}

/* A legal message in which one field is replaced. */
#define BAD(FIELD, TYPE, FD, ...)                                                                  \
        do {                                                                                       \
                union wire_message m = legal(TYPE);                                                \
                m.FIELD = __VA_ARGS__;                                                             \
                if (wire_check(&m, wire_size(TYPE), (FD) ? 0 : -1) != -EBADMSG)                    \
                        fail_msg("accepted: " #TYPE " " #FIELD " = " #__VA_ARGS__);               \
                if (wire_send(-1, &m, (FD) ? 0 : -1) != -EINVAL)                                   \
                        fail_msg("sent: " #TYPE " " #FIELD " = " #__VA_ARGS__);                   \
        } while (0)

static union wire_message legal(uint32_t type) {
        for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
                if (samples[i].m.h.type == type) {
                        union wire_message m = samples[i].m;

                        m.h.version = WIRE_VERSION;
                        assert_int_equal(wire_check(&m, wire_size(type), samples[i].fd ? 0 : -1),
                                         0);
                        return m;
                }
        fail();
        return (union wire_message){};
}

static void test_ranges_to_worker(void **state) {
        BAD(hello.mode, WIRE_HELLO, 0, 0);
        BAD(hello.mode, WIRE_HELLO, 0, 3);
        BAD(hello.kv, WIRE_HELLO, 0, _WIRE_KV_MAX);
        BAD(hello.threads, WIRE_HELLO, 0, 0);
        BAD(hello.threads, WIRE_HELLO, 0, WIRE_MAX_THREADS + 1);
        BAD(hello.shared, WIRE_HELLO, 0, 2);
        BAD(catalog.index, WIRE_CATALOG, 0, 1);
        BAD(catalog.count, WIRE_CATALOG, 0, WIRE_MAX_MODELS + 1);
        BAD(catalog.flags, WIRE_CATALOG, 0, 2);
        BAD(catalog.state, WIRE_CATALOG, 0, ERROR_FAILED);
        BAD(conn.conn, WIRE_CONN, 1, 0);
        BAD(conn.reserved, WIRE_CONN, 1, 1);
        BAD(job.ref, WIRE_JOB, 1, 0);
        BAD(job.ref, WIRE_JOB, 1, WIRE_REF_WORKER | 1);
        BAD(job.verb, WIRE_JOB, 1, 0);
        BAD(job.verb, WIRE_JOB, 1, _WIRE_VERB_MAX);
        BAD(job.priority, WIRE_JOB, 1, 2);
        BAD(job.input_format, WIRE_JOB, 1, _WIRE_INPUT_MAX);
        BAD(job.output_format, WIRE_JOB, 1, _WIRE_OUTPUT_MAX);
        BAD(job.summary_type, WIRE_JOB, 1, _WIRE_SUMMARY_TYPE_MAX);
        BAD(job.summary_length, WIRE_JOB, 1, _WIRE_LENGTH_MAX);
        BAD(job.text_format, WIRE_JOB, 1, _WIRE_FORMAT_MAX);
        BAD(job.temperature, WIRE_JOB, 1, 2.01);
        BAD(job.temperature, WIRE_JOB, 1, (double)NAN);
        BAD(job.top_p, WIRE_JOB, 1, 1.01);
        BAD(job.min_p, WIRE_JOB, 1, (double)INFINITY);
        BAD(job.has_seed, WIRE_JOB, 1, 2);
        BAD(job.session, WIRE_JOB, 1, WIRE_REF_WORKER | 1);
        BAD(job.reserved, WIRE_JOB, 1, 1);
        BAD(job_output.ref, WIRE_JOB_OUTPUT, 1, 0);
        BAD(model.error, WIRE_MODEL, 0, _ERROR_MAX);
        BAD(model.error, WIRE_MODEL, 1, ERROR_MODEL_BAD); /* with a descriptor */
        BAD(model.model_error, WIRE_MODEL, 1, _MODEL_E_MAX);
        BAD(pack_output.i2s, WIRE_PACK_OUTPUT, 1, _WIRE_I2S_MAX);
        BAD(pack_output.packing, WIRE_PACK_OUTPUT, 1, _WIRE_PACKING_MAX);
        BAD(queued.ref, WIRE_QUEUED, 0, 0);
        BAD(queued.job, WIRE_QUEUED, 0, WIRE_REF_WORKER);
        BAD(take_output.job, WIRE_TAKE_OUTPUT, 1, 0);
        BAD(discard.job, WIRE_DISCARD, 0, WIRE_REF_WORKER);
        BAD(set_priority.job, WIRE_SET_PRIORITY, 0, 0);
        BAD(set_priority.priority, WIRE_SET_PRIORITY, 0, 2);
        BAD(admitted.job, WIRE_ADMITTED, 0, 0);
        BAD(refused.error, WIRE_REFUSED, 0, ERROR_NONE);
        BAD(refused.error, WIRE_REFUSED, 0, _ERROR_MAX);
        BAD(lease.usec, WIRE_LEASE, 0, 0);
        BAD(lease.usec, WIRE_LEASE, 0, WIRE_MAX_LEASE_USEC + 1);
        BAD(cancel.job, WIRE_CANCEL, 0, 0);
        BAD(cancel.reason, WIRE_CANCEL, 0, _ERROR_MAX);
        BAD(rates.requests.per_minute, WIRE_RATES, 0, 0);
        BAD(rates.tokens.per_minute, WIRE_RATES, 0, UINT64_MAX - 1);
        BAD(rates.tokens.level, WIRE_RATES, 0, BUCKET_UNIT + 1);
        BAD(rates.requests, WIRE_RATES, 0, (struct wire_rate){ 2, 1, 1 });
        BAD(rates.reserved, WIRE_RATES, 0, 1);
        BAD(set_limits.reserved, WIRE_SET_LIMITS, 0, 1);
        BAD(user_gone.reserved, WIRE_USER_GONE, 0, 1);
        BAD(prepare.keep, WIRE_PREPARE, 0, 2);
        BAD(session_open.session, WIRE_SESSION_OPEN, 0, 0);
        BAD(session_open.session, WIRE_SESSION_OPEN, 0, WIRE_REF_WORKER | 1);
        BAD(session_open.reserved, WIRE_SESSION_OPEN, 0, 1);
        BAD(session_append.session, WIRE_SESSION_APPEND, 1, 0);
        BAD(session_append.initial, WIRE_SESSION_APPEND, 1, 2);
        BAD(session_append.reserved, WIRE_SESSION_APPEND, 1, 1);
        BAD(session_command.session, WIRE_SESSION_CLEAR, 0, 0);
        BAD(session_command.session, WIRE_SESSION_FORGET, 0, 0);
        BAD(session_command.session, WIRE_SESSION_CLOSE, 0, WIRE_REF_WORKER);
        BAD(count.ref, WIRE_COUNT, 1, WIRE_REF_WORKER | 1);
        BAD(count.verb, WIRE_COUNT, 1, WIRE_VERB_SUMMARIZE);
        BAD(count.input_format, WIRE_COUNT, 1, _WIRE_INPUT_MAX);
        BAD(count.deadline_usec, WIRE_COUNT, 1, 0);
        BAD(passed.ref, WIRE_PASSED, 0, 1);
}

static void test_ranges_to_broker(void **state) {
        BAD(ready.threads, WIRE_READY, 0, 0);
        BAD(ready.seccomp, WIRE_READY, 0, 3);
        BAD(want_model.reserved, WIRE_WANT_MODEL, 0, 1);
        BAD(shares.n, WIRE_SHARES, 0, 0);
        BAD(shares.n, WIRE_SHARES, 0, WIRE_SHARES_MAX + 1);
        BAD(shares.reserved, WIRE_SHARES, 0, 1);
        BAD(admit.ref, WIRE_ADMIT, 0, 0);
        BAD(admit.ref, WIRE_ADMIT, 0, WIRE_REF_WORKER | 1); /* and no connection */
        BAD(admit.conn, WIRE_ADMIT, 0, 1);                  /* and a job of the bus */
        BAD(admit.verb, WIRE_ADMIT, 0, _WIRE_VERB_MAX);
        BAD(admit.priority, WIRE_ADMIT, 0, 2);
        BAD(progress.job, WIRE_PROGRESS, 0, 0);
        BAD(progress.job, WIRE_PROGRESS, 0, WIRE_REF_WORKER | 5);
        BAD(progress.state, WIRE_PROGRESS, 0, _WIRE_STATE_MAX);
        BAD(progress.state, WIRE_PROGRESS, 0, WIRE_STATE_COPYING);
        BAD(done.job, WIRE_DONE, 0, 0);
        BAD(done.error, WIRE_DONE, 0, _ERROR_MAX);
        BAD(done.finish, WIRE_DONE, 0, 2);
        BAD(used.flags, WIRE_USED, 0, 4);
        BAD(used.reserved, WIRE_USED, 0, 1);
        BAD(conn_closed.conn, WIRE_CONN_CLOSED, 0, 0);
        BAD(packed.model_error, WIRE_PACKED, 0, _MODEL_E_MAX);
        BAD(resident.models, WIRE_RESIDENT, 0, 1); /* without a name */
        BAD(session.session, WIRE_SESSION, 0, 0);
        BAD(session.event, WIRE_SESSION, 0, 0);
        BAD(session.event, WIRE_SESSION, 0, _WIRE_SESSION_EVENT_MAX);
        BAD(session.error, WIRE_SESSION, 0, _ERROR_MAX);
        BAD(session.turns, WIRE_SESSION, 0, UINT64_MAX);
        BAD(session.kv_bytes, WIRE_SESSION, 0, UINT64_MAX);
        BAD(admit.count, WIRE_ADMIT, 0, 1); /* of the bus */
        BAD(admit.reserved, WIRE_ADMIT, 0, 1);
        BAD(counted.ref, WIRE_COUNTED, 0, 0);
        BAD(counted.error, WIRE_COUNTED, 0, _ERROR_MAX);
        BAD(counted.reserved, WIRE_COUNTED, 0, 1);
        BAD(refusals.counts[ERROR_NONE], WIRE_REFUSALS, 0, 1);
        BAD(refusals.counts[ERROR_FAILED], WIRE_REFUSALS, 0, WIRE_MAX_REFUSALS + 1);
        BAD(refusals.counts[_ERROR_MAX], WIRE_REFUSALS, 0, 1);
}

static void check_names(uint32_t type, size_t offset, bool may_be_empty, int fd) {
        static const char *const bad[] = { "A", "a b", ".a", "-a", "_a", "a/b", "\xc3\xa4", "a\n" };
        union wire_message m = legal(type);
        char *name = (char *)&m + offset;

        memset(name, 'a', WIRE_NAME_MAX); /* not terminated */
        assert_int_equal(wire_check(&m, wire_size(type), fd ? 0 : -1), -EBADMSG);
        name[WIRE_NAME_MAX - 1] = '\0';
        assert_int_equal(wire_check(&m, wire_size(type), fd ? 0 : -1), 0);
        name[0] = '\0';
        assert_int_equal(wire_check(&m, wire_size(type), fd ? 0 : -1),
                         may_be_empty ? 0 : -EBADMSG);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                snprintf(name, WIRE_NAME_MAX, "%s", bad[i]);
                if (wire_check(&m, wire_size(type), fd ? 0 : -1) != -EBADMSG)
                        fail_msg("type %u accepted name %zu", type, i);
        }
}

static void test_names(void **state) {
        check_names(WIRE_CATALOG, offsetof(struct wire_catalog, name), false, 0);
        check_names(WIRE_JOB, offsetof(struct wire_job, model), true, 1);
        check_names(WIRE_MODEL, offsetof(struct wire_model, name), false, 1);
        check_names(WIRE_MODEL, offsetof(struct wire_model, asked), true, 1);
        check_names(WIRE_SESSION_OPEN, offsetof(struct wire_session_open, model), false, 0);
        check_names(WIRE_COUNT, offsetof(struct wire_count, model), true, 1);
        check_names(WIRE_SET_LIMITS, offsetof(struct wire_set_limits, default_model), true, 0);
        check_names(WIRE_WANT_MODEL, offsetof(struct wire_want_model, name), true, 0);
        check_names(WIRE_ADMIT, offsetof(struct wire_admit, model), true, 0);
        check_names(WIRE_PREPARE, offsetof(struct wire_prepare, name), false, 0);
        assert_int_equal(wire_name_valid("bitnet-2b_4t.v1"), 1);
}

/* A turn's error comes with its DONE, and only chats have turns. */
static void test_sessions(void **state) {
        union wire_message m = legal(WIRE_SESSION);

        m.session.error = ERROR_CONTEXT_TOO_LONG;
        assert_int_equal(wire_check(&m, sizeof(m.session), -1), 0);
        m.session.event = WIRE_SESSION_TURN;
        assert_int_equal(wire_check(&m, sizeof(m.session), -1), -EBADMSG);
        m = legal(WIRE_JOB);
        m.job.session = 1;
        assert_int_equal(wire_check(&m, sizeof(m.job), 0), 0);
        m.job.verb = WIRE_VERB_COMPLETE;
        assert_int_equal(wire_check(&m, sizeof(m.job), 0), -EBADMSG);
}

static void test_model_error_has_no_descriptor(void **state) {
        union wire_message m = legal(WIRE_MODEL);

        m.model.error = ERROR_MODEL_BAD;
        assert_int_equal(wire_check(&m, sizeof(m.model), -1), 0);
}

static void test_end_and_pressure(void **state) {
        struct link l = link_new();
        union wire_message m = legal(WIRE_USED), got;
        int fd = -1, r, n = 0;

        assert_int_equal(wire_receive(l.b, &got, &fd), -EAGAIN);
        while ((r = wire_send(l.a, &m, -1)) == 0 && n < 1000000)
                n++;
        assert_int_equal(r, -EAGAIN);
        assert_true(n > 100);
        close(l.a);
        while ((r = wire_receive(l.b, &got, &fd)) == 0)
                n--;
        assert_int_equal(r, -ECONNRESET);
        assert_int_equal(n, 0);
        assert_int_equal(wire_send(l.b, &m, -1), -EPIPE);
        close(l.b);
}

static void test_state_names(void **state) {
        for (uint32_t i = 0; i < _WIRE_STATE_MAX; i++)
                for (uint32_t k = 0; k < i; k++)
                        assert_string_not_equal(wire_state_name(i), wire_state_name(k));
        assert_string_equal(wire_state_name(WIRE_STATE_GENERATING), "generating");
        assert_string_equal(wire_state_name(1000), "failed");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_message_travels),
                cmocka_unit_test(test_lengths),
                cmocka_unit_test(test_longer_than_any),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_types_and_version),
                cmocka_unit_test(test_ranges_to_worker),
                cmocka_unit_test(test_ranges_to_broker),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_sessions),
                cmocka_unit_test(test_model_error_has_no_descriptor),
                cmocka_unit_test(test_end_and_pressure),
                cmocka_unit_test(test_state_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
