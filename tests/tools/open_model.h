/* A model file, packed or not, with an engine around it, for tests and developer programs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/model/model.h"
#include "engine/model/pack.h"
#include "engine/run/engine.h"

/* Open a packed file, or pack a GGUF file into memory first. On failure says why on stderr and
 * returns a negative errno. */
int open_model(struct model **ret, const char *path);
/* The same with another packing of ternary weights than 2 bits. */
int open_model_as(struct model **ret, const char *path, enum ternary_packing ternary);

struct runner {
        struct model *model;
        struct kernel_ops ops;
        struct pool *pool;
        struct engine *engine;
};

/* Engine over the model with room for kv_tokens positions in all. cpu: level name as in
 * kernels/cpu.h or NULL. The runner must not move. Complains on stderr as above. */
int runner_open(struct runner *r, const char *path, unsigned threads, const char *cpu,
                size_t kv_tokens);
/* The same with keys and values in another form than KV_S16. */
int runner_open_kv(struct runner *r, const char *path, unsigned threads, const char *cpu,
                   enum kv_form form, size_t kv_tokens);
/* The same around a model that is already open; the runner takes it over in any case. */
int runner_start(struct runner *r, struct model *model, unsigned threads, const char *cpu,
                 enum kv_form form, size_t kv_tokens);
void runner_done(struct runner *r);

/* Logits of every position of one sequence, at most `chunk` tokens in a step, handed to fn. */
int runner_logits(struct runner *r, const int32_t *ids, size_t n, size_t chunk,
                  void (*fn)(void *ctx, size_t position, const float *logits), void *ctx);

/* Add -ln p(ids[i]) for i = 1..n-1 to *nll and n - 1 to *count. */
int runner_score(struct runner *r, const int32_t *ids, size_t n, double *nll, size_t *count);

/* Whole file into memory (free with free), with a zero byte after it. */
int read_file(const char *path, uint8_t **ret, size_t *ret_size);
