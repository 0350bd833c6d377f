/* The verbs. Each returns the exit status (feature table in README.md). */
#pragma once

#include <jansson.h>

#include "client/http.h"
#include "client/options.h"

int cmd_ask(struct options *o);
int cmd_summarize(struct options *o);
int cmd_rewrite(struct options *o);
int cmd_proofread(struct options *o);
int cmd_extract(struct options *o);
int cmd_classify(struct options *o);
int cmd_embed(struct options *o);
int cmd_chat(struct options *o);
int cmd_count(struct options *o);
int cmd_models(struct options *o);
int cmd_ps(struct options *o);
int cmd_top(struct options *o);
int cmd_monitor(struct options *o);
int cmd_cancel(struct options *o);
int cmd_wait(struct options *o);
int cmd_output(struct options *o);
int cmd_status(struct options *o);
int cmd_quota(struct options *o);
int cmd_reload(struct options *o);
int cmd_install(struct options *o);
int cmd_remove(struct options *o);
int cmd_verify(struct options *o);
int cmd_replay(struct options *o);
int cmd_completion(struct options *o);

/* The work of ask and summarize for replay: the same request, nothing printed. The prompt and the
 * text come from where they always do. *ret_receipt is a new reference. 0 or an exit status. */
int ask_again(struct options *o, const json_t *parameters, json_t **ret_receipt);
int summarize_again(struct options *o, json_t **ret_receipt);

/* Print the failure and give its exit status. */
int report_failure(const struct http_failure *failure);
