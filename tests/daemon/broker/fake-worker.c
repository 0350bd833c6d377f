/* A worker without model and sandbox, for tests of the broker. It speaks the protocol and does what
 * it is told, good or bad: over a connection by one line of text, in a job of the bus by the
 * input's first word, at its start by the number of threads in HELLO (all a test controls then).
 *
 * Lines of a connection:  pid | job [TOKENS] | background | end [TOKENS] | exit | hang |
 *                         illegal N | close | nap | linger | overrun | faults |
 *                         keep USEC | prepared | drops | forgets | want NAME
 * Sessions:               OPEN is answered at once, APPEND by its word (fine | full | silent |
 *                         exit | twice); a turn "ok N" keeps N bytes, "deaf" never closes again
 * Inputs of a bus job:    ok | wait | flood | hang | early | exit | illegal N */
#undef NDEBUG
#include <assert.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/wire/frame.h"
#include "engine/base/macro.h"
#include "policy/error.h"
#include "tests/daemon/broker/fake-worker.h"

enum { LINK = 3, MAX_CONNS = 64, MAX_JOBS = 64 };

struct conn {
        int fd;
        uint64_t id, ref, job;
};

struct job {
        uint64_t id;
        uint64_t session;
        uint32_t verb;
        int input, output;
        bool keep;
        char text[64];
};

struct fake {
        struct conn conns[MAX_CONNS];
        struct job jobs[MAX_JOBS];
        unsigned n_conns, n_jobs;
        uint64_t next_ref;
        struct wire_hello hello;
        bool overrun;            /* keeps its lease, but wants no more */
        bool linger;             /* SHUTDOWN is not the end */
        struct wire_prepare prepare; /* the last one that came */
        unsigned drops;          /* DROP_CACHES that came */
        unsigned forgets;        /* SESSION_FORGET that came */
        uint64_t turns;          /* of all sessions */
        bool deaf;               /* SESSION_CLOSE has no effect */
};

static void say(union wire_message m) {
        if (wire_send(LINK, &m, -1) < 0)
                _exit(3);
}

#define SAY(...) say((union wire_message){ __VA_ARGS__ })

static void raw(const void *p, size_t n) {
        if (send(LINK, p, n, MSG_NOSIGNAL) < 0)
                _exit(3);
}

/* Each number is another thing a worker must not do. */
static void be_illegal(struct fake *f, unsigned kind) {
        struct wire_used used = { { WIRE_USED, WIRE_VERSION }, .flags = 4 };
        struct wire_lease lease = { { WIRE_LEASE, WIRE_VERSION }, .usec = 1 };
        struct wire_admit admit = { { WIRE_ADMIT, WIRE_VERSION }, .ref = WIRE_REF_WORKER | 99,
                                    .conn = 999999, .verb = 1 };
        uint64_t foreign = 12345;

        switch (kind) {
        case 0: raw(&used, sizeof(used)); break;                /* out of range */
        case 1: raw(&used, sizeof(used) - 1); break;            /* too short */
        case 2: raw("", 1); break;                              /* shorter than a header */
        case 3: raw(&lease, sizeof(lease)); break;              /* the broker's to say */
        case 4: raw(&admit, sizeof(admit)); break;              /* no such connection */
        case 5: SAY(.ready = { .h.type = WIRE_READY, .threads = 1, .seccomp = 2 }); break;
        case 6: SAY(.progress = { .h.type = WIRE_PROGRESS, .job = foreign }); break;
        case 7: SAY(.done = { .h.type = WIRE_DONE, .job = foreign }); break;
        case 8: SAY(.conn_closed = { .h.type = WIRE_CONN_CLOSED, .conn = 999999 }); break;
        case 9: SAY(.packed = { .h.type = WIRE_PACKED }); break;
        case 10:
                for (unsigned i = 0; i < 100000; i++)
                        SAY(.fault = { .h.type = WIRE_FAULT, .code = i });
                break;
        case 12: SAY(.counted = { .h.type = WIRE_COUNTED, .ref = foreign }); break;
        case 11: SAY(.session = { .h.type = WIRE_SESSION, .session = foreign, .event = 2 }); break;
        default:
                assert(kind < FAKE_ILLEGAL_KINDS);
        }
}

static void answer(struct conn *c, const char *text) {
        /* That the client is gone is learnt from poll. */
        (void)!send(c->fd, text, strlen(text), MSG_NOSIGNAL);
}

static void end_conn_job(struct conn *c, enum error_code error, uint64_t tokens) {
        if (c->job)
                SAY(.done = { .h.type = WIRE_DONE, .job = c->job, .error = error,
                              .tokens_in = tokens });
        c->job = c->ref = 0;
}

static void close_conn(struct fake *f, struct conn *c) {
        end_conn_job(c, ERROR_CANCELLED, 0);
        SAY(.conn_closed = { .h.type = WIRE_CONN_CLOSED, .conn = c->id });
        close(c->fd);
        *c = f->conns[--f->n_conns];
}

static void hang(void) {
        for (;;)
                pause();
}

static uint64_t number_after(const char *line, size_t n, uint64_t otherwise) {
        return line[n] == ' ' ? strtoull(line + n, NULL, 10) : otherwise;
}

static void on_line(struct fake *f, struct conn *c, const char *line) {
        char text[64];

        if (strncmp(line, "pid", 3) == 0) {
                snprintf(text, sizeof(text), "%d %u %u\n", getpid(), getuid(), f->hello.uid);
                answer(c, text);
        } else if (strncmp(line, "job", 3) == 0 || strncmp(line, "background", 10) == 0) {
                c->ref = WIRE_REF_WORKER | ++f->next_ref;
                SAY(.admit = { .h.type = WIRE_ADMIT, .ref = c->ref, .conn = c->id,
                               .verb = WIRE_VERB_CHAT, .priority = line[0] == 'b',
                               .tokens_in = line[0] == 'b' ? 5 : number_after(line, 3, 5) });
                SAY(.used = { .h.type = WIRE_USED, .flags = WIRE_USED_WANT });
        } else if (strncmp(line, "end", 3) == 0)
                end_conn_job(c, ERROR_NONE, number_after(line, 3, 0));
        else if (strncmp(line, "drops", 5) == 0) {
                snprintf(text, sizeof(text), "%u\n", f->drops);
                answer(c, text);
        } else if (strncmp(line, "forgets", 7) == 0) {
                snprintf(text, sizeof(text), "%u\n", f->forgets);
                answer(c, text);
        } else if (strncmp(line, "want ", 5) == 0) {
                union wire_message m = { .want_model = { .h.type = WIRE_WANT_MODEL,
                                                         .uid = f->hello.uid } };

                snprintf(m.want_model.name, sizeof(m.want_model.name), "%.*s",
                         (int)strcspn(line + 5, "\n"), line + 5);
                say(m);
        } else if (strncmp(line, "prepared", 8) == 0) {
                snprintf(text, sizeof(text), "%s %.40s\n", f->prepare.keep ? "keep" : "drop",
                         f->prepare.name);
                answer(c, text);
        } else if (strncmp(line, "keep", 4) == 0)
                SAY(.resident = { .h.type = WIRE_RESIDENT,
                                  .keep_usec = number_after(line, 4, 0) });
        else if (strncmp(line, "exit", 4) == 0)
                _exit(1);
        else if (strncmp(line, "hang", 4) == 0)
                hang();
        else if (strncmp(line, "illegal", 7) == 0)
                be_illegal(f, (unsigned)atoi(line + 8));
        else if (strncmp(line, "close", 5) == 0)
                close_conn(f, c);
        else if (strncmp(line, "nap", 3) == 0)
                sleep(1);
        else if (strncmp(line, "linger", 6) == 0)
                f->linger = true;
        else if (strncmp(line, "overrun", 7) == 0) {
                f->overrun = true;
                SAY(.used = { .h.type = WIRE_USED, .flags = WIRE_USED_WANT });
        } else if (strncmp(line, "faults", 6) == 0)
                for (unsigned i = 0; i < 17; i++)
                        SAY(.fault = { .h.type = WIRE_FAULT, .code = i });
}

/* Lines that were said one soon after the other may come together. */
static void on_conn_input(struct fake *f, struct conn *c) {
        char text[64] = "", *rest = text, *line;
        ssize_t n = read(c->fd, text, sizeof(text) - 1);

        if (n <= 0)
                close_conn(f, c);
        while ((line = strsep(&rest, "\n")) && *line) {
                on_line(f, c, line);
                if (strcmp(line, "close") == 0)
                        break;
        }
}

static void tell_session(struct fake *f, uint64_t session, enum wire_session_event event,
                         uint64_t kv) {
        SAY(.session = { .h.type = WIRE_SESSION, .session = session, .event = event, .tokens = 10,
                         .tokens_max = 1000, .turns = f->turns, .kv_bytes = kv });
}

static void on_append(struct fake *f, uint64_t session, int fd) {
        char text[64] = "";
        ssize_t n = read(fd, text, sizeof(text) - 1);

        close(fd);
        if (n >= 4 && strncmp(text, "full", 4) == 0)
                SAY(.session = { .h.type = WIRE_SESSION, .session = session,
                                 .event = WIRE_SESSION_DONE, .error = ERROR_CONTEXT_TOO_LONG,
                                 .value = 1234, .limit = 1000, .tokens = 10,
                                 .tokens_max = 1000 });
        else if (strncmp(text, "exit", 4) == 0)
                _exit(1);
        else if (strncmp(text, "silent", 6) != 0)
                tell_session(f, session, WIRE_SESSION_DONE, 0);
        if (strncmp(text, "twice", 5) == 0)
                tell_session(f, session, WIRE_SESSION_DONE, 0);
}

static void on_close_session(struct fake *f, uint64_t session) {
        if (!f->deaf)
                tell_session(f, session, WIRE_SESSION_CLOSED, 0);
}

/* A token for each byte. */
static void on_count(const struct wire_count *m, int fd) {
        char text[64] = "";
        ssize_t n = read(fd, text, sizeof(text) - 1);

        close(fd);
        if (strncmp(text, "exit", 4) == 0)
                _exit(1);
        if (strncmp(text, "long", 4) == 0)
                SAY(.counted = { .h.type = WIRE_COUNTED, .ref = m->ref, .value = 1234,
                                 .limit = 1000, .error = ERROR_CONTEXT_TOO_LONG });
        else if (strncmp(text, "silent", 6) != 0)
                SAY(.counted = { .h.type = WIRE_COUNTED, .ref = m->ref, .tokens = (uint64_t)n,
                                 .context = 1000 });
        if (strncmp(text, "twice", 5) == 0)
                SAY(.counted = { .h.type = WIRE_COUNTED, .ref = m->ref });
}

static void end_turn(struct fake *f, const struct job *j, bool success) {
        if (!j->session)
                return;
        f->turns += success;
        f->deaf |= strncmp(j->text, "deaf", 4) == 0;
        tell_session(f, j->session, WIRE_SESSION_TURN, number_after(j->text, 2, 0));
}

static void finish_job(struct fake *f, struct job *j, enum error_code error, bool success) {
        if (success && send(j->output, FAKE_ANSWER, strlen(FAKE_ANSWER), MSG_NOSIGNAL) < 0 &&
            !j->keep)
                error = ERROR_CANCELLED;
        end_turn(f, j, success);
        SAY(.done = { .h.type = WIRE_DONE, .job = j->id, .error = error, .tokens_in = 5,
                      .tokens_out = 3, .bytes_in = strlen(j->text),
                      .bytes_covered = strlen(j->text), .pieces = 1 });
        if (j->input >= 0)
                close(j->input);
        close(j->output);
        *j = f->jobs[--f->n_jobs];
}

static void on_job_input(struct fake *f, struct job *j) {
        ssize_t n = read(j->input, j->text, sizeof(j->text) - 1);

        j->text[n > 0 ? n : 0] = '\0';
        close(j->input);
        j->input = -1;
        if (strncmp(j->text, "exit", 4) == 0)
                _exit(1);
        if (strncmp(j->text, "illegal", 7) == 0)
                be_illegal(f, (unsigned)atoi(j->text + 8));
        else if (strncmp(j->text, "early", 5) == 0)
                finish_job(f, j, ERROR_INVALID_INPUT, false);
        else
                SAY(.admit = { .h.type = WIRE_ADMIT, .ref = j->id, .verb = j->verb,
                               .input_bytes = strlen(j->text), .tokens_in = FAKE_TOKENS_IN,
                               .tokens_wanted = strncmp(j->text, "flood", 5) == 0
                                                        ? FAKE_FLOOD_OUT
                                                        : FAKE_TOKENS_OUT });
}

static struct conn *conn_of(struct fake *f, uint64_t ref) {
        for (unsigned i = 0; i < f->n_conns; i++)
                if (f->conns[i].ref == ref || f->conns[i].job == ref)
                        return &f->conns[i];
        return NULL;
}

static struct job *job_of(struct fake *f, uint64_t id) {
        for (unsigned i = 0; i < f->n_jobs; i++)
                if (f->jobs[i].id == id)
                        return &f->jobs[i];
        return NULL;
}

static void progress(const struct job *j, uint64_t tokens_out) {
        SAY(.progress = { .h.type = WIRE_PROGRESS, .job = j->id, .state = WIRE_STATE_GENERATING,
                          .tokens_in = FAKE_TOKENS_IN, .tokens_read = FAKE_TOKENS_IN,
                          .tokens_out = tokens_out });
}

static void on_admitted(struct fake *f, const struct wire_admitted *m) {
        struct conn *c = conn_of(f, m->ref);
        struct job *j = job_of(f, m->job);
        char text[64];

        if (c) {
                c->job = m->job;
                snprintf(text, sizeof(text), "admitted %" PRIu64 "\n", m->job);
                answer(c, text);
        }
        if (!j)
                return;
        progress(j, 2);
        if (strncmp(j->text, "ok", 2) == 0 || strncmp(j->text, "deaf", 4) == 0)
                finish_job(f, j, ERROR_NONE, true);
        for (unsigned i = 1; strncmp(j->text, "flood", 5) == 0 && i <= FAKE_FLOOD; i++) {
                progress(j, i);
                usleep(1000);
        }
}

static void on_cancel(struct fake *f, const struct wire_cancel *m) {
        struct conn *c = conn_of(f, m->job);
        struct job *j = job_of(f, m->job);

        if (c) {
                SAY(.done = { .h.type = WIRE_DONE, .job = m->job, .error = m->reason });
                c->job = c->ref = 0;
                answer(c, "cancelled\n");
        }
        if (j && strncmp(j->text, "hang", 4) != 0)
                finish_job(f, j, (enum error_code)m->reason, false);
}

static void on_queued(struct fake *f, const union wire_message *m) {
        struct conn *c = conn_of(f, m->queued.ref);
        char text[64];

        if (!c || c->job) /* or the place has changed */
                return;
        c->job = m->queued.job;
        snprintf(text, sizeof(text), "queued %u\n", m->queued.position);
        answer(c, text);
}

static void on_refused(struct fake *f, const struct wire_refused *m) {
        struct conn *c = conn_of(f, m->ref);
        struct job *j = job_of(f, m->ref);
        char text[96];

        if (j)
                finish_job(f, j, (enum error_code)m->error, false);
        if (!c)
                return;
        c->ref = 0;
        snprintf(text, sizeof(text), "refused %u %" PRIu64 " %" PRIu64 " %u\n", m->error, m->value,
                 m->limit, m->retry_after_ms);
        answer(c, text);
}

/* Everybody is told. */
static void on_model(struct fake *f, const struct wire_model *m, int fd) {
        char text[64];

        if (fd >= 0)
                close(fd);
        snprintf(text, sizeof(text), "model %u\n", m->error);
        for (unsigned i = 0; i < f->n_conns; i++)
                answer(&f->conns[i], text);
}

/* Whatever has ended gave the same answer. */
static void on_take_output(struct fake *f, const struct wire_take_output *m, int fd) {
        struct job *j = job_of(f, m->job);

        if (!j && write(fd, FAKE_ANSWER, strlen(FAKE_ANSWER)) < 0)
                _exit(8);
        close(j ? j->output : fd);
        if (j)
                j->output = fd;
}

static void on_message(struct fake *f, const union wire_message *m, int fd) {
        switch (m->h.type) {
        case WIRE_CONN:
                assert(f->n_conns < MAX_CONNS);
                f->conns[f->n_conns++] = (struct conn){ .fd = fd, .id = m->conn.conn };
                break;
        case WIRE_JOB:
                assert(f->n_jobs < MAX_JOBS);
                f->jobs[f->n_jobs++] = (struct job){ .id = m->job.ref, .verb = m->job.verb,
                                                      .session = m->job.session,
                                                      .keep = m->job.keep_usec != 0,
                                                      .input = fd, .output = -1 };
                break;
        case WIRE_JOB_OUTPUT:
                f->jobs[f->n_jobs - 1].output = fd;
                break;
        case WIRE_ADMITTED:
                on_admitted(f, &m->admitted);
                break;
        case WIRE_QUEUED:
                on_queued(f, m);
                break;
        case WIRE_REFUSED:
                on_refused(f, &m->refused);
                break;
        case WIRE_CANCEL:
                on_cancel(f, &m->cancel);
                break;
        case WIRE_TAKE_OUTPUT:
                on_take_output(f, &m->take_output, fd);
                break;
        case WIRE_LEASE:
                SAY(.used = { .h.type = WIRE_USED, .seq = m->lease.seq,
                              .flags = f->overrun ? 0 : WIRE_USED_STOPPED });
                break;
        case WIRE_MODEL:
                on_model(f, &m->model, fd);
                break;
        case WIRE_DROP_CACHES:
                f->drops++;
                break;
        case WIRE_PREPARE:
                f->prepare = m->prepare;
                break;
        case WIRE_SESSION_OPEN:
                tell_session(f, m->session_open.session, WIRE_SESSION_DONE, 0);
                break;
        case WIRE_SESSION_APPEND:
                on_append(f, m->session_append.session, fd);
                break;
        case WIRE_SESSION_CLEAR:
                tell_session(f, m->session_command.session, WIRE_SESSION_DONE, 0);
                break;
        case WIRE_SESSION_FORGET:
                f->forgets++;
                break;
        case WIRE_SESSION_CLOSE:
                on_close_session(f, m->session_command.session);
                break;
        case WIRE_COUNT:
                on_count(&m->count, fd);
                break;
        case WIRE_SHUTDOWN:
                if (!f->linger)
                        _exit(0);
        }
}

static void receive(struct fake *f) {
        union wire_message m;
        int fd = -1, r;

        while ((r = wire_receive(LINK, &m, &fd)) == 0)
                on_message(f, &m, fd);
        if (r != -11)
                _exit(2);
}

static void serve(struct fake *f) {
        for (;;) {
                struct pollfd p[1 + MAX_CONNS + MAX_JOBS] = { { LINK, POLLIN, 0 } };
                unsigned conns = f->n_conns, jobs = f->n_jobs;

                for (unsigned i = 0; i < conns; i++)
                        p[1 + i] = (struct pollfd){ f->conns[i].fd, POLLIN, 0 };
                for (unsigned i = 0; i < jobs; i++) /* reading starts when there is an output */
                        p[1 + conns + i] = (struct pollfd){
                                f->jobs[i].output >= 0 ? f->jobs[i].input : -1, POLLIN, 0 };
                if (poll(p, 1 + conns + jobs, -1) < 0)
                        _exit(4);
                /* From the last to the first, because an end moves the last one. */
                for (unsigned i = jobs; i > 0; i--)
                        if (p[conns + i].revents)
                                on_job_input(f, &f->jobs[i - 1]);
                for (unsigned i = conns; i > 0; i--)
                        if (p[i].revents)
                                on_conn_input(f, &f->conns[i - 1]);
                if (p[0].revents)
                        receive(f);
        }
}

static void wait_for(uint32_t type, union wire_message *m, int *fd) {
        struct pollfd p = { LINK, POLLIN, 0 };

        if (poll(&p, 1, -1) < 0 || wire_receive(LINK, m, fd) < 0 || m->h.type != type)
                _exit(5);
}

static void pack(void) {
        union wire_message m;
        int source = -1, output = -1;
        char first = 0;

        wait_for(WIRE_MODEL, &m, &source);
        wait_for(WIRE_PACK_OUTPUT, &m, &output);
        if (pread(source, &first, 1, 0) != 1 || first == FAKE_SOURCE_CRASH ||
            pwrite(output, FAKE_PACKED, strlen(FAKE_PACKED), 0) < 0)
                _exit(6);
        SAY(.packed = { .h.type = WIRE_PACKED, .model_error = first == FAKE_SOURCE_BAD ? 2 : 0,
                        .position = 4, .size = strlen(FAKE_PACKED) });
        pause();
}

int main(void) {
        struct fake f = {};
        union wire_message m;
        int fd = -1;
        bool good;

        wait_for(WIRE_HELLO, &m, &fd);
        f.hello = m.hello;
        good = m.hello.mode == WIRE_MODE_PACK;
        if (!good && m.hello.threads == FAKE_THREADS_EXIT)
                return 7;
        if (!good && m.hello.threads == FAKE_THREADS_SILENT)
                hang();
        SAY(.ready = { .h.type = WIRE_READY, .threads = 1,
                       .seccomp = !good && m.hello.threads == FAKE_THREADS_OPEN
                                          ? 1
                                          : FAKE_SECCOMP });
        if (good)
                pack();
        serve(&f);
}
