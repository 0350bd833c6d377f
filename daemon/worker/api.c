/* Routing: a table of exact paths, one prefix (/v1/models/NAME), and the same treatment of methods
 * for all: HEAD where GET works, OPTIONS everywhere, 405 with Allow otherwise. */
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/defaults.h"
#include "daemon/worker/reply.h"
#include "engine/base/macro.h"

enum { PATH_MAX_BYTES = 256 };

static const struct route {
        const char *path;
        enum http_method method; /* HTTP_GET: HEAD too */
        void (*handler)(struct conn *c);
} routes[] = {
        { "/", HTTP_GET, api_root },
        { "/v1/chat/completions", HTTP_POST, api_chat },
        { "/v1/chat/completions/input_tokens", HTTP_POST, api_chat_count },
        { "/v1/completions", HTTP_POST, api_completion },
        { "/v1/responses", HTTP_POST, api_responses },
        { "/v1/responses/input_tokens", HTTP_POST, api_responses_count },
        { "/v1/embeddings", HTTP_POST, api_embeddings },
        { "/v1/summarize", HTTP_POST, api_summarize },
        { "/v1/rewrite", HTTP_POST, api_rewrite },
        { "/v1/proofread", HTTP_POST, api_proofread },
        { "/v1/extract", HTTP_POST, api_extract },
        { "/v1/classify", HTTP_POST, api_classify },
        { "/v1/models", HTTP_GET, api_models },
        { "/health", HTTP_GET, api_health },
        { "/api/version", HTTP_GET, api_ollama_version },
        { "/api/tags", HTTP_GET, api_ollama_tags },
        { "/api/ps", HTTP_GET, api_ollama_ps },
        { "/api/show", HTTP_POST, api_ollama_show },
        { "/api/chat", HTTP_POST, api_ollama_chat },
        { "/api/generate", HTTP_POST, api_ollama_generate },
        { "/api/embed", HTTP_POST, api_ollama_embed },
        { "/api/embeddings", HTTP_POST, api_ollama_embeddings },
        { "/api/pull", HTTP_POST, api_ollama_admin },
        { "/api/push", HTTP_POST, api_ollama_admin },
        { "/api/create", HTTP_POST, api_ollama_admin },
        { "/api/copy", HTTP_POST, api_ollama_admin },
        { "/api/delete", HTTP_DELETE, api_ollama_admin },
};

/* True when the request's method is the right one; otherwise answers. */
static bool method_fits(struct conn *c, enum http_method wanted) {
        unsigned method = c->request.parser.method;
        const char *allow = wanted == HTTP_GET      ? "GET, HEAD, OPTIONS"
                            : wanted == HTTP_DELETE ? "DELETE, OPTIONS"
                                                    : "POST, OPTIONS";

        if (method == HTTP_OPTIONS)
                reply_allow(c, allow);
        else if (method != wanted && !(wanted == HTTP_GET && method == HTTP_HEAD))
                reply_method(c, allow);
        else
                return true;
        return false;
}

void api_dispatch(struct conn *c) {
        static const char models[] = "/v1/models/";
        struct request_error e = { .code = ERROR_NOT_FOUND };
        char path[PATH_MAX_BYTES];

        if (request_path(&c->request, path, sizeof(path)) < 0) {
                reply_error(c, &e, 0);
                return;
        }
        c->plain_errors = strncmp(path, "/api/", strlen("/api/")) == 0;
        for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
                if (strcmp(path, routes[i].path) == 0) {
                        if (method_fits(c, routes[i].method))
                                routes[i].handler(c);
                        return;
                }
        if (strncmp(path, models, strlen(models)) == 0 && path[strlen(models)] != '\0') {
                if (method_fits(c, HTTP_GET))
                        api_model(c, path + strlen(models));
                return;
        }
        reply_error(c, &e, 0);
}

void api_defaults(struct conn *c, struct job_spec *spec, uint32_t verb) {
        *spec = (struct job_spec){ .verb = verb, .input_bytes = c->request.body.n };
        spec->params.sampling = default_sampling(verb, &c->w->seed_state);
}

json_t *api_load(struct conn *c, struct job_spec *spec) {
        const struct secure_buf *body = &c->request.body;
        struct request_error e = {};
        json_t *root = params_load(body->p ? body->p : "", body->n, &e);

        if (root && params_model(root, spec->model, &e) == 0 &&
            params_parse(root, &spec->params, &e) == 0)
                return root;
        json_decref(root);
        reply_failure(c, &e);
        return NULL;
}
