/* Counting for the bus. The input is read to its end as that of a job (input.h), then a job that is
 * only counted looks at it: so what is told is what a job would read, by construction. There is one
 * deadline for all of it, since a client may send a byte now and then for ever. Exactly one COUNTED
 * answers each COUNT. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/worker/bus_format.h"
#include "daemon/worker/count.h"
#include "daemon/worker/input.h"
#include "daemon/worker/job.h"
#include "daemon/worker/link.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"

enum count_step { COUNT_READING, COUNT_RUNNING, COUNT_OVER };

struct count {
        struct count *next;
        struct worker *w;
        struct user *user;
        struct wire_count message;
        enum count_step step;
        uint64_t deadline;
        struct input in;
        struct job *job;             /* COUNT_RUNNING */
};

static bool known(const struct worker *w, uint64_t ref) {
        for (const struct count *c = w->counts; c; c = c->next)
                if (c->message.ref == ref)
                        return true;
        return false;
}

static void answer(struct count *c, const struct request_error *e, uint64_t tokens,
                   uint64_t context) {
        union wire_message m = { .counted = { .h.type = WIRE_COUNTED, .ref = c->message.ref,
                                              .tokens = tokens, .context = context,
                                              .error = e->code, .value = e->value,
                                              .limit = e->limit } };

        c->step = COUNT_OVER;
        link_send(c->w->link, &m);
}

static void fail(struct count *c, const struct request_error *e) {
        answer(c, e, 0, 0);
}

static void fail_code(struct count *c, enum error_code code) {
        fail(c, &(struct request_error){ .code = code });
}

int count_new(struct worker *w, const struct wire_count *m, int input) {
        struct user *user = known(w, m->ref) ? NULL : user_find(w, m->uid);
        struct count *c = user ? calloc(1, sizeof(*c)) : NULL;
        struct request_error e = {};

        if (!c) {
                close(input);
                return user ? -ENOMEM : -EBADMSG;
        }
        c->w = w;
        c->user = user_ref(user);
        c->message = *m;
        c->deadline = w->now + m->deadline_usec;
        input_init(&c->in, input);
        c->next = w->counts;
        w->counts = c;
        if (input_start(&c->in, w->now, &e) < 0)
                fail(c, &e);
        return 0;
}

static void on_end(void *userdata, const struct job_result *r) {
        struct count *c = userdata;
        bool ok = r->error.code == ERROR_NONE;

        answer(c, &r->error, ok ? r->tokens_in : 0, r->context);
}

static const struct job_events events = { .end = on_end };

/* Options of a job that names none. */
static struct wire_job job_message(const struct wire_count *m) {
        struct wire_job job = { .verb = m->verb, .input_format = m->input_format,
                                .temperature = -1, .top_p = -1, .min_p = -1,
                                .top_k = UINT32_MAX };

        memcpy(job.model, m->model, sizeof(job.model));
        return job;
}

static void start(struct count *c) {
        struct wire_job m = job_message(&c->message);
        struct job_spec spec = {};
        struct request_error e = {};
        int r = bus_format_input(&m, &c->in.bytes, NULL, &c->w->seed_state, &spec, NULL, &e);

        if (r == 0) {
                spec.count = true;
                spec.user = c->user;
                spec.params.deadline_usec = c->deadline - c->w->now;
                r = job_start(c->w, &spec, &events, c, &c->job);
                job_spec_done(&spec);
        }
        if (r == 0)
                c->step = COUNT_RUNNING;
        else if (e.code != ERROR_NONE)
                fail(c, &e);
        else
                fail_code(c, ERROR_OVERLOADED);
}

static void read_input(struct count *c, const struct poller *p) {
        struct request_error e = {};
        int r = input_handle(&c->in, p, c->user->limits.max_input_bytes, c->w->now, &e);

        if (c->w->now >= c->deadline)
                fail_code(c, ERROR_DEADLINE);
        else if (r == INPUT_END)
                start(c);
        else if (r == -ENOMEM)
                fail_code(c, ERROR_OVERLOADED);
        else if (r < 0)
                fail(c, &e);
}

void counts_poll(struct worker *w, struct poller *p) {
        for (struct count *c = w->counts; c; c = c->next) {
                if (c->step == COUNT_READING) {
                        input_poll(&c->in, p);
                        poller_deadline(p, c->deadline);
                } else if (c->step == COUNT_OVER)
                        poller_deadline(p, w->now); /* to be freed */
        }
}

void counts_handle(struct worker *w, const struct poller *p) {
        for (struct count **at = &w->counts; *at;) {
                struct count *c = *at;

                if (c->step == COUNT_READING)
                        read_input(c, p);
                c->in.place = POLLER_NONE;
                if (c->step != COUNT_OVER) {
                        at = &c->next;
                        continue;
                }
                *at = c->next;
                input_done(&c->in);
                user_unref(c->user);
                free(c);
        }
}
