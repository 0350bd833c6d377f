/* Routing: a table of exact paths, one prefix (/v1/models/NAME), and the same treatment of methods
 * for all: HEAD where GET works, OPTIONS everywhere, 405 with Allow otherwise. */
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/defaults.h"
#include "daemon/worker/reply.h"
#include "engine/base/macro.h"

enum { PATH_MAX_BYTES = 256 };

static const struct {
        const char *path;
        bool get;
        void (*handler)(struct conn *c);
} routes[] = {
        { "/v1/chat/completions", false, api_chat },
        { "/v1/completions", false, api_completion },
        { "/v1/summarize", false, api_summarize },
        { "/v1/models", true, api_models },
        { "/health", true, api_health },
};

/* 1 when the request's method is the right one; otherwise answers. */
static bool method_fits(struct conn *c, bool get) {
        unsigned method = c->request.parser.method;
        const char *allow = get ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";

        if (method == HTTP_OPTIONS)
                reply_allow(c, allow);
        else if (get ? method != HTTP_GET && method != HTTP_HEAD : method != HTTP_POST)
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
        for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
                if (strcmp(path, routes[i].path) == 0) {
                        if (method_fits(c, routes[i].get))
                                routes[i].handler(c);
                        return;
                }
        if (strncmp(path, models, strlen(models)) == 0 && path[strlen(models)] != '\0') {
                if (method_fits(c, true))
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
        if (e.code == ERROR_NONE)
                reply_memory(c);
        else
                reply_error(c, &e, 0);
        return NULL;
}
