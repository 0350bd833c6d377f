/* Jobs from the bus. A job reads its input to the end (input.h), then runs, then writes what is
 * left and closes. The output comes from a client, too, and is hostile: it is a pipe or a socket,
 * writes never wait, and one whose reader is gone cancels the job.
 *
 * Not so a detached job (`keep`): all that it writes stays in `out`, whatever its reader does, and
 * each reader begins at the start. It is never paused, so what all of them keep has a limit; the
 * broker says when it is wiped.
 *
 * DONE is sent once: here while the input is read, by job.c afterwards. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker/bus.h"
#include "daemon/worker/bus_format.h"
#include "daemon/worker/conn.h"
#include "daemon/worker/input.h"
#include "daemon/worker/job.h"
#include "daemon/worker/link.h"
#include "daemon/worker/session.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"

static const uint64_t OUTPUT_STALL_USEC = 60 * USEC_PER_SEC;
static const uint64_t BEAT_INTERVAL = 10 * USEC_PER_SEC; /* events, until text comes */

enum bus_step {
        BUS_OUTPUT,  /* waits for JOB_OUTPUT, which is the next message */
        BUS_READING,
        BUS_RUNNING, /* job.c has it */
        BUS_WRITING, /* the job has ended, its output is not all taken yet, or is kept */
        BUS_OVER,
};

struct bus_job {
        struct bus_job *next;
        struct worker *w;
        struct user *user;
        struct wire_job message;
        enum bus_step step;
        struct input in;
        int output;
        enum fd_kind output_kind;
        int output_place;
        uint64_t write_deadline;
        struct secure_buf out;
        bool keep;
        size_t written;              /* of out, to the present reader; 0 unless keep */
        bool text_came;
        uint64_t next_beat;
        struct job *job;
        struct job_pace pace;
};

int bus_job_new(struct worker *w, const struct wire_job *m, int input) {
        struct user *user = user_find(w, m->uid);
        struct bus_job *b = user ? calloc(1, sizeof(*b)) : NULL;

        if (!b) {
                close(input);
                return user ? -ENOMEM : -EBADMSG;
        }
        b->w = w;
        b->user = user_ref(user);
        b->message = *m;
        input_init(&b->in, input);
        b->output = -1;
        b->keep = m->keep_usec != 0;
        b->output_place = POLLER_NONE;
        b->next = w->bus_jobs;
        w->bus_jobs = b;
        return 0;
}

static void set_over(struct bus_job *b) {
        b->step = BUS_OVER;
        b->job = NULL;
}

static bool has_events(const struct bus_job *b) {
        return b->message.output_format != WIRE_OUTPUT_TEXT;
}

static bool can_write(const struct bus_job *b) {
        return b->output_kind == KIND_PIPE || b->output_kind == KIND_SOCKET;
}

/* What the last reader has got goes before the keeping ends: `written` is of kept bytes only. */
static void stop_keeping(struct bus_job *b) {
        secure_buf_consume(&b->out, b->written);
        b->written = 0;
        b->keep = false;
}

/* What the client reads last. Nothing is written to a descriptor that could block. */
static void write_end(struct bus_job *b, const struct job_result *r) {
        if (has_events(b) && can_write(b))
                bus_format_end(&b->out, b->message.verb, r);
        b->step = BUS_WRITING;
        b->job = NULL;
        if (r->error.code == ERROR_CANCELLED || r->error.code == ERROR_STOPPING)
                stop_keeping(b);
}

/* The end of a job that never started. */
static void fail(struct bus_job *b, const struct request_error *e) {
        struct job_result r = { .error = *e };
        union wire_message m = { .done = { .h.type = WIRE_DONE, .job = b->message.ref,
                                           .error = e->code, .bytes_in = b->in.bytes.n,
                                           .value = e->value, .limit = e->limit } };

        link_send(b->w->link, &m);
        write_end(b, &r);
}

static void fail_code(struct bus_job *b, enum error_code code, const char *detail,
                      uint64_t value, uint64_t limit) {
        struct request_error e;

        request_fail_range(&e, code, NULL, detail, value, limit);
        fail(b, &e);
}

int bus_job_output(struct worker *w, const struct wire_job_output *m, int output) {
        struct bus_job *b = w->bus_jobs;
        struct request_error e;

        while (b && !(b->message.ref == m->ref && b->step == BUS_OUTPUT))
                b = b->next;
        if (!b) {
                close(output);
                return -EBADMSG;
        }
        b->output = output;
        b->output_kind = fd_prepare(output);
        b->step = BUS_READING;
        if (!can_write(b))
                fail_code(b, ERROR_INVALID_INPUT, "The output is no pipe and no socket.", 0, 0);
        else if (input_start(&b->in, w->now, &e) < 0)
                fail(b, &e);
        return 0;
}

void bus_jobs_cancel(struct worker *w, const struct wire_cancel *m) {
        for (struct bus_job *b = w->bus_jobs; b; b = b->next)
                if (b->message.ref == m->job && b->step == BUS_READING) {
                        fail_code(b, m->reason ? (enum error_code)m->reason : ERROR_CANCELLED,
                                  NULL, 0, 0);
                        return;
                }
}

void bus_jobs_set_priority(struct worker *w, const struct wire_set_priority *m) {
        for (struct bus_job *b = w->bus_jobs; b; b = b->next)
                if (b->message.ref == m->job)
                        b->message.priority = m->priority;
}

/* --- the job's events --- */

static size_t kept_bytes(const struct user *user) {
        size_t n = 0;

        for (const struct bus_job *b = user->w->bus_jobs; b; b = b->next)
                n += b->keep && b->user == user ? b->out.n : 0;
        return n;
}

/* False with *e: with n bytes more too much would be kept. */
static bool has_room(const struct bus_job *b, size_t n, struct request_error *e) {
        size_t all = kept_bytes(b->user) + n;

        if (!b->keep || all <= LIMIT_KEPT_BYTES)
                return true;
        request_fail_range(e, ERROR_OVERLOADED, NULL,
                           "The results kept for you would take too much memory.", all,
                           LIMIT_KEPT_BYTES);
        return false;
}

static void on_text(void *userdata, const char *text, size_t n) {
        struct bus_job *b = userdata;
        struct request_error e;

        b->text_came = true;
        if (!has_room(b, n, &e))
                job_cancel_with(b->job, &e);
        else if (has_events(b))
                bus_format_text(&b->out, text, n);
        else
                secure_buf_append(&b->out, text, n);
}

static void on_correction(void *userdata, uint64_t start, uint64_t end, const char *text,
                          size_t n) {
        struct bus_job *b = userdata;

        if (has_events(b))
                bus_format_correction(&b->out, start, end, text, n);
}

/* Text shows progress by itself, but that of a summary has stages before it. */
static bool shows_progress(const struct bus_job *b, const struct job_progress *p) {
        return has_events(b) && (p->stage || !b->text_came);
}

static void on_progress(void *userdata, const struct job_progress *p) {
        struct bus_job *b = userdata;

        if (!shows_progress(b, p) || !job_progress_due(&b->pace, p, b->w->now))
                return;
        bus_format_progress(&b->out, p);
        b->next_beat = b->w->now + BEAT_INTERVAL;
}

static bool on_result(void *userdata, const struct job_result *r, struct request_error *e) {
        _cleanup_(secure_buf_done) struct secure_buf more = {};
        struct bus_job *b = userdata;

        if (!can_write(b))
                return true;
        bus_format_result(&more, r);
        if (!has_room(b, more.n, e))
                return false;
        secure_buf_append(&b->out, more.p, more.n);
        b->out.failed |= more.failed;
        return true;
}

static void on_end(void *userdata, const struct job_result *r) {
        write_end(userdata, r);
}

static const struct job_events events = { .text = on_text, .correction = on_correction,
                                          .progress = on_progress, .result = on_result,
                                          .end = on_end };

/* --- input --- */

static void start(struct bus_job *b) {
        struct job_spec spec = {};
        struct request_error e = {};
        int r = b->message.session
                        ? session_begin_turn(b->w, &b->message, &b->in.bytes, &spec, &e)
                        : bus_format_input(&b->message, &b->in.bytes, NULL, &b->w->seed_state,
                                           &spec, NULL, &e);

        if (r == 0) {
                spec.user = b->user;
                r = job_start(b->w, &spec, &events, b, &b->job);
                if (r < 0 && b->message.session)
                        session_take_back_turn(b->w, b->message.session);
                job_spec_done(&spec);
        }
        b->next_beat = b->w->now + BEAT_INTERVAL;
        if (r == 0)
                b->step = BUS_RUNNING;
        else if (e.code != ERROR_NONE)
                fail(b, &e);
        else
                fail_code(b, ERROR_OVERLOADED, NULL, 0, 0);
}

static void read_input(struct bus_job *b, const struct poller *p) {
        struct request_error e = {};
        int r = input_handle(&b->in, p, b->user->limits.max_input_bytes, b->w->now, &e);

        if (r == INPUT_END)
                start(b);
        else if (r == -ENOMEM)
                fail_code(b, ERROR_OVERLOADED, NULL, 0, 0);
        else if (r < 0)
                fail(b, &e);
}

/* --- output --- */

static size_t pending(const struct bus_job *b) {
        return b->out.n - b->written;
}

static ssize_t write_some(struct bus_job *b) {
        const char *p = b->out.p + b->written;

        return b->output_kind == KIND_SOCKET
                       ? send(b->output, p, pending(b), MSG_DONTWAIT | MSG_NOSIGNAL)
                       : write(b->output, p, pending(b));
}

static void close_output(struct bus_job *b) {
        if (b->output >= 0)
                close(b->output);
        b->output = -1;
        b->write_deadline = 0;
}

/* The reader is gone: nobody wants the rest. */
static void hung_up(struct bus_job *b) {
        if (b->keep && !b->out.failed) {
                close_output(b);
                return;
        }
        if (b->step == BUS_READING)
                fail_code(b, ERROR_CANCELLED, NULL, 0, 0);
        else if (b->job)
                job_abandon(b->job);
        set_over(b);
}

static void write_output(struct bus_job *b) {
        size_t before = pending(b);

        while (pending(b) > 0) {
                ssize_t n = write_some(b);

                if (n >= 0 && b->keep) {
                        b->written += (size_t)n;
                } else if (n >= 0) {
                        secure_buf_consume(&b->out, (size_t)n);
                } else if (errno == EAGAIN) {
                        break;
                } else if (errno != EINTR) {
                        hung_up(b);
                        return;
                }
        }
        if (pending(b) == 0)
                b->write_deadline = 0;
        else if (pending(b) < before || b->write_deadline == 0)
                b->write_deadline = b->w->now + OUTPUT_STALL_USEC;
        if (!b->job || b->keep)
                return;
        if (b->out.n > CONN_OUT_HIGH || b->out.n < CONN_OUT_LOW)
                job_pause(b->job, b->out.n > CONN_OUT_HIGH);
}

/* The job has ended and its reader has everything, or there is none. */
static bool written(const struct bus_job *b) {
        return b->step == BUS_WRITING && (pending(b) == 0 || b->output < 0);
}

static struct bus_job *find_kept(const struct worker *w, uint64_t job) {
        struct bus_job *b = w->bus_jobs;

        while (b && (b->message.ref != job || !b->keep))
                b = b->next;
        return b;
}

void bus_jobs_take(struct worker *w, const struct wire_take_output *m, int output) {
        struct bus_job *b = find_kept(w, m->job);

        if (!b || b->step == BUS_OUTPUT) {
                close(output);
                return;
        }
        close_output(b);
        b->output = output;
        b->output_kind = fd_prepare(output);
        b->output_place = POLLER_NONE;
        b->written = 0;
        if (!can_write(b))
                close_output(b);
}

void bus_jobs_discard(struct worker *w, const struct wire_discard *m) {
        struct bus_job *b = find_kept(w, m->job);

        if (b)
                stop_keeping(b);
}

void bus_jobs_shutdown(struct worker *w) {
        for (struct bus_job *b = w->bus_jobs; b; b = b->next)
                if (b->keep)
                        stop_keeping(b);
}

/* Somebody reads, and has read all there was. */
static bool has_beat(const struct bus_job *b) {
        return b->job && b->output >= 0 && pending(b) == 0 && !b->text_came &&
               shows_progress(b, job_progress(b->job));
}

static void beat(struct bus_job *b) {
        bus_format_progress(&b->out, job_progress(b->job));
        b->next_beat = b->w->now + BEAT_INTERVAL;
}

void bus_jobs_poll(struct worker *w, struct poller *p) {
        for (struct bus_job *b = w->bus_jobs; b; b = b->next) {
                if (has_beat(b))
                        poller_deadline(p, b->next_beat);
                b->output_place = poller_add(p, b->output, pending(b) > 0 ? POLLOUT : 0);
                if (b->step == BUS_READING)
                        input_poll(&b->in, p);
                poller_deadline(p, b->write_deadline);
                if (b->out.failed || (written(b) && (b->output >= 0 || !b->keep)))
                        poller_deadline(p, w->now); /* to be closed */
        }
}

static void handle(struct bus_job *b, const struct poller *p) {
        if (poller_events(p, b->output_place) & (POLLERR | POLLHUP | POLLNVAL)) {
                hung_up(b);
                return;
        }
        if (b->step == BUS_READING)
                read_input(b, p);
        if (b->out.failed || (b->write_deadline && b->w->now >= b->write_deadline)) {
                hung_up(b);
                return;
        }
        if (has_beat(b) && b->w->now >= b->next_beat)
                beat(b);
        if (b->step != BUS_OUTPUT && b->output >= 0)
                write_output(b);
        if (written(b)) {
                close_output(b);
                if (!b->keep)
                        set_over(b);
        }
}

static void bus_job_free(struct bus_job *b) {
        input_done(&b->in);
        if (b->output >= 0)
                close(b->output);
        secure_buf_done(&b->out);
        user_unref(b->user);
        free(b);
}

void bus_jobs_handle(struct worker *w, const struct poller *p) {
        for (struct bus_job **at = &w->bus_jobs; *at;) {
                struct bus_job *b = *at;

                handle(b, p);
                b->in.place = b->output_place = POLLER_NONE;
                if (b->step != BUS_OVER) {
                        at = &b->next;
                        continue;
                }
                *at = b->next;
                bus_job_free(b);
        }
}
