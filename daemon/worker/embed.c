/* A window of generations, each of which makes one vector. Problem: a request may bring thousands
 * of short texts, which are quick together and slow one by one; all at once they would fill the
 * queue of the scheduler before other requests of the user. Invariant: while `running` is not 0
 * somebody will call on_end, which submits the next ones; when it is 0 after that, the request has
 * ended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/embed.h"
#include "daemon/worker/secure_buf.h"
#include "engine/base/macro.h"
#include "policy/error.h"

enum { WINDOW = 16 };

struct text {
        struct embed *owner;
        struct generation *generation; /* NULL: not submitted, or ended */
        uint32_t read;
};

struct embed {
        struct embed_request request;
        float *vectors;                /* [n][n_embd] */
        size_t submitted, running;
        uint64_t read;
        int error;                     /* enum error_code */
        struct text texts[];           /* [n] */
};

int embed_encode(const struct vocab *v, const char *text, size_t n, size_t max,
                 struct tokens *out) {
        int r = vocab_add_bos(v) ? tokens_push(out, vocab_bos(v)) : 0;

        if (r >= 0)
                r = vocab_encode(v, text, n, false, max, out);
        if (r >= 0 && vocab_add_eos(v))
                r = tokens_push(out, vocab_eos(v));
        return r;
}

void embed_inputs_free(struct tokens *inputs, size_t n) {
        for (size_t i = 0; i < n; i++)
                tokens_done(&inputs[i]);
        free(inputs);
}

static void embed_free(struct embed *e) {
        embed_inputs_free(e->request.inputs, e->request.n);
        secure_free(e->vectors);
        free(e);
}

static void stop(struct embed *e, int error) {
        if (e->error != ERROR_NONE)
                return;
        e->error = error;
        for (size_t i = 0; i < e->submitted; i++)
                if (e->texts[i].generation)
                        scheduler_cancel(e->request.scheduler, e->texts[i].generation);
}

static void on_vector(void *userdata, const float *v) {
        struct text *t = userdata;
        struct embed *e = t->owner;
        size_t n = e->request.model->hp.n_embd;

        memcpy(e->vectors + (size_t)(t - e->texts) * n, v, n * sizeof(*v));
}

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct text *t = userdata;
        struct embed *e = t->owner;

        e->read += tokens_read - t->read;
        t->read = tokens_read;
        e->request.progress(e->request.userdata, e->read);
}

static int submit_some(struct embed *e);

static void on_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct text *t = userdata;
        struct embed *e = t->owner;

        t->generation = NULL;
        e->running--;
        if (finish != FINISH_STOP)
                stop(e, ERROR_FAILED);
        if (e->error == ERROR_NONE && submit_some(e) < 0)
                stop(e, ERROR_OVERLOADED);
        if (e->running > 0)
                return;
        e->request.end(e->request.userdata, e->error, e->error == ERROR_NONE ? e->vectors : NULL);
        embed_free(e);
}

static int submit_some(struct embed *e) {
        while (e->running < WINDOW && e->submitted < e->request.n) {
                struct text *t = &e->texts[e->submitted];
                struct generation_request r = {
                        .model = e->request.model,
                        .prompt = e->request.inputs[e->submitted],
                        .user = e->request.user,
                        .client = e->request.client,
                        .job = e->request.job,
                        .sampling = SAMPLING_GREEDY,
                        .background = e->request.background,
                        .vector = on_vector,
                        .progress = on_progress,
                        .end = on_end,
                        .userdata = t,
                };
                int error = scheduler_submit(e->request.scheduler, &r, &t->generation);

                if (error < 0)
                        return error;
                e->request.inputs[e->submitted] = (struct tokens){};
                e->submitted++;
                e->running++;
        }
        return 0;
}

int embed_start(struct embed **ret, struct embed_request *request) {
        struct embed *e = calloc(1, sizeof(*e) + request->n * sizeof(e->texts[0]));
        int r = 0;

        if (!e)
                return -ENOMEM;
        for (size_t i = 0; i < request->n; i++)
                e->texts[i].owner = e;
        e->request = *request;
        e->vectors = calloc(request->n, request->model->hp.n_embd * sizeof(*e->vectors));
        r = e->vectors ? submit_some(e) : -ENOMEM;
        if (r < 0 && e->running == 0) {
                secure_free(e->vectors);
                free(e);
                return r;
        }
        if (r < 0)
                stop(e, ERROR_OVERLOADED);
        request->inputs = NULL;
        *ret = e;
        return 0;
}

void embed_cancel(struct embed *e) {
        stop(e, ERROR_CANCELLED);
}

void embed_set_background(struct embed *e, bool background) {
        e->request.background = background;
        for (size_t i = 0; i < e->submitted; i++)
                if (e->texts[i].generation)
                        scheduler_set_background(e->request.scheduler, e->texts[i].generation,
                                                 background);
}
