/* GET /v1/models, /v1/models/NAME and /health: what the broker's catalogue says, nothing asked. */
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/models.h"
#include "daemon/worker/reply.h"

static json_t *describe(const struct wire_catalog *m) {
        return json_pack("{s:s,s:s,s:I,s:s,s:I,s:b}", "id", m->name, "object", "model", "created",
                         (json_int_t)m->created, "owned_by", "bitnetd", "size",
                         (json_int_t)m->size, "default",
                         (m->flags & WIRE_CATALOG_DEFAULT) != 0);
}

void api_models(struct conn *c) {
        json_t *list = json_array();

        for (size_t i = 0; i < models_count(c->w->models); i++)
                json_array_append_new(list, describe(models_entry(c->w->models, i)));
        reply_json(c, 200, json_pack("{s:s,s:o}", "object", "list", "data", list), 0);
}

void api_model(struct conn *c, const char *name) {
        struct request_error e = { .code = ERROR_MODEL_NOT_FOUND, .param = "model" };
        const struct wire_catalog *m = models_find(c->w->models, name);

        if (m)
                reply_json(c, 200, describe(m), 0);
        else
                reply_error(c, &e, 0);
}

void api_health(struct conn *c) {
        reply_json(c, 200, json_pack("{s:s}", "status", "ok"), 0);
}
