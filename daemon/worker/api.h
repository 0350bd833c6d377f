/* Paths of the HTTP interface. A handler answers the complete request of its connection, at once
 * or through an exchange. */
#pragma once

#include "daemon/worker/conn.h"
#include "daemon/worker/job.h"

#ifndef BITNETD_VERSION
#define BITNETD_VERSION "0"
#endif

void api_dispatch(struct conn *c);

void api_chat(struct conn *c);
void api_chat_count(struct conn *c);
void api_completion(struct conn *c);
void api_responses(struct conn *c);
void api_responses_count(struct conn *c);
void api_embeddings(struct conn *c);
void api_summarize(struct conn *c);
void api_rewrite(struct conn *c);
void api_proofread(struct conn *c);
void api_extract(struct conn *c);
void api_classify(struct conn *c);
void api_models(struct conn *c);
void api_model(struct conn *c, const char *name);
void api_health(struct conn *c);
void api_root(struct conn *c);

/* Ollama's routes. */
void api_ollama_version(struct conn *c);
void api_ollama_tags(struct conn *c);
void api_ollama_ps(struct conn *c);
void api_ollama_show(struct conn *c);
void api_ollama_chat(struct conn *c);
void api_ollama_generate(struct conn *c);
void api_ollama_embed(struct conn *c);
void api_ollama_embeddings(struct conn *c);
void api_ollama_admin(struct conn *c);

/* Of an exchange that only counts (job_spec.count): the answer. */
void api_whole_count(struct exchange *x, const struct job_result *r);

/* The body as a JSON object with its model and generation fields in *spec. Returns a new reference,
 * or NULL after having answered with the error. */
json_t *api_load(struct conn *c, struct job_spec *spec);
/* Read *spec's verb-dependent defaults. */
void api_defaults(struct conn *c, struct job_spec *spec, uint32_t verb);
