/* GET /v1/models, /v1/models/NAME and /health: what the broker's catalogue says, nothing asked.
 * A model's context is known once it is loaded in this worker. */
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/models.h"
#include "daemon/worker/reply.h"

static const char *state_name(uint32_t state) {
        return state == ERROR_NONE ? "ready" : state == ERROR_MODEL_LOADING ? "loading" : "bad";
}

static json_t *describe(const struct conn *c, const struct wire_catalog *m) {
        uint32_t context = models_context(c->w->models, c->user, m);
        json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:I,s:b,s:s}", "id", m->name, "object", "model",
                              "created", (json_int_t)m->created, "owned_by", "bitnetd", "size",
                              (json_int_t)m->size, "default",
                              m == models_find(c->w->models, c->user, ""), "state",
                              state_name(m->state));

        if (context > 0)
                json_object_set_new(v, "context_length", json_integer(context));
        return v;
}

void api_models(struct conn *c) {
        json_t *list = json_array();

        for (size_t i = 0; i < models_count(c->w->models); i++)
                json_array_append_new(list, describe(c, models_entry(c->w->models, i)));
        reply_json(c, 200, json_pack("{s:s,s:o}", "object", "list", "data", list), 0);
}

void api_model(struct conn *c, const char *name) {
        struct request_error e = { .code = ERROR_MODEL_NOT_FOUND, .param = "model" };
        const struct wire_catalog *m = models_find(c->w->models, c->user, name);

        if (m)
                reply_json(c, 200, describe(c, m), 0);
        else
                reply_error(c, &e, 0);
}

void api_health(struct conn *c) {
        const struct wire_catalog *m = models_find(c->w->models, c->user, "");
        bool loading = m && m->state == ERROR_MODEL_LOADING;

        reply_json(c, loading ? 503 : 200,
                   json_pack("{s:s}", "status", loading ? "loading model" : "ok"), 0);
}
