/* The listing half of Ollama's interface: version, models, and the routes that only administrators
 * have. Desktop front ends and editors look here before they offer a model. */
#include <string.h>
#include <time.h>

#include "daemon/worker/api.h"
#include "daemon/worker/models.h"
#include "daemon/worker/ollama_request.h"
#include "daemon/worker/reply.h"
#include "engine/base/macro.h"
#include "engine/model/model.h"
#include "engine/text/chat.h"

/* What clients compare with the oldest Ollama they work with; our own version is in the system
 * fingerprint of the OpenAI routes. */
#define OLLAMA_LEVEL "0.9.0"

void api_ollama_version(struct conn *c) {
        reply_json(c, 200, json_pack("{s:s}", "version", OLLAMA_LEVEL), 0);
}

void api_root(struct conn *c) {
        static const char text[] = "bitnetd is running\n";

        reply_text(c, text, strlen(text), NULL, 0);
}

static const char *arch_name(const struct model *m) {
        if (!m)
                return "";
        return m->hp.arch == ARCH_LLAMA ? "llama" : "bitnet";
}

static json_t *parameter_size(uint64_t n) {
        char text[32];

        if (n >= 1000000000)
                snprintf(text, sizeof(text), "%.1fB", (double)n / 1e9);
        else
                snprintf(text, sizeof(text), "%.1fM", (double)n / 1e6);
        return json_string(text);
}

/* Details come from the model file, so they are empty until the model is mapped in this worker. */
static json_t *details(const struct model *m) {
        return json_pack("{s:s,s:s,s:s,s:[s],s:o,s:s}", "parent_model", "", "format", "gguf",
                         "family", arch_name(m), "families", arch_name(m), "parameter_size",
                         m ? parameter_size(m->n_params) : json_string(""), "quantization_level",
                         "ternary");
}

/* Base models have no system message that could tell them of tools. */
static json_t *capabilities(const struct model *m) {
        bool pools = m && m->hp.pooling != POOLING_NONE;
        json_t *v = json_pack("[s]", pools ? "embedding" : "completion");

        if (m && !pools && vocab_chat_format(m->vocab) != CHAT_RAW)
                json_array_append_new(v, json_string("tools"));
        return v;
}

static json_t *entry(const struct conn *c, const struct wire_catalog *m) {
        const struct model *loaded = models_loaded(c->w->models, c->user, m);

        return json_pack("{s:s,s:s,s:o,s:I,s:s,s:o,s:o}", "name", m->name, "model", m->name,
                         "modified_at", ollama_time(m->created), "size", (json_int_t)m->size,
                         "digest", "", "details", details(loaded),
                         "capabilities", capabilities(loaded));
}

void api_ollama_tags(struct conn *c) {
        json_t *list = json_array();

        for (size_t i = 0; i < models_count(c->w->models); i++)
                json_array_append_new(list, entry(c, models_entry(c->w->models, i)));
        reply_json(c, 200, json_pack("{s:o}", "models", list), 0);
}

/* Seconds since the epoch; rounded up, as what has expired is gone. */
static uint64_t expires_at(const struct conn *c, const struct wire_catalog *m) {
        static const uint64_t never = 253402300799; /* the end of year 9999 */
        uint64_t expiry = models_expiry(c->w->models, c->user, m);

        if (expiry == UINT64_MAX)
                return never;
        return (uint64_t)time(NULL) + (MAX(expiry, c->w->now) - c->w->now) / USEC_PER_SEC + 1;
}

/* The models loaded for this user, and until when if no request comes. */
void api_ollama_ps(struct conn *c) {
        json_t *list = json_array();

        for (size_t i = 0; i < models_count(c->w->models); i++) {
                const struct wire_catalog *m = models_entry(c->w->models, i);
                json_t *v;

                if (!models_loaded(c->w->models, c->user, m))
                        continue;
                v = entry(c, m);
                json_object_set_new(v, "expires_at", ollama_time(expires_at(c, m)));
                json_object_set_new(v, "size_vram", json_integer(0));
                json_object_set_new(v, "context_length",
                                    json_integer(models_context(c->w->models, c->user, m)));
                json_array_append_new(list, v);
        }
        reply_json(c, 200, json_pack("{s:o}", "models", list), 0);
}

static json_t *model_info(const struct model *m, uint32_t context) {
        const char *arch = arch_name(m);
        json_t *v = json_pack("{s:s,s:I}", "general.architecture", arch,
                              "general.parameter_count", (json_int_t)m->n_params);
        const struct {
                const char *name;
                uint32_t value;
        } numbers[] = { { "context_length", context },
                        { "embedding_length", m->hp.n_embd },
                        { "block_count", m->hp.n_layer },
                        { "attention.head_count", m->hp.n_head },
                        { "attention.head_count_kv", m->hp.n_head_kv } };

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                char name[64];

                snprintf(name, sizeof(name), "%s.%s", arch, numbers[i].name);
                json_object_set_new(v, name, json_integer(numbers[i].value));
        }
        return v;
}

/* Waits for the model: what editors want to know of it is in its file. */
void api_ollama_show(struct conn *c) {
        const struct secure_buf *body = &c->request.body;
        struct request_error e = {};
        json_t *root = params_load(body->p ? body->p : "", body->n, &e);
        json_t *to = root ? ollama_translate(root, &e) : NULL;
        const struct wire_catalog *entry_of = NULL;
        const struct model *m = NULL;
        char name[WIRE_NAME_MAX];
        uint32_t context;
        int r = -1;

        if (to && params_model(to, name, &e) == 0)
                r = models_get(c->w->models, c->user, name, &m, name, &e);
        json_decref(to);
        json_decref(root);
        if (r == MODELS_PENDING) {
                conn_wait(c, api_ollama_show);
                return;
        }
        if (r < 0) {
                reply_failure(c, &e);
                return;
        }
        entry_of = models_find(c->w->models, c->user, name);
        context = entry_of ? models_context(c->w->models, c->user, entry_of) : 0;
        reply_json(c, 200,
                   json_pack("{s:s,s:s,s:s,s:o,s:o,s:o,s:o}", "license", "", "template", "",
                             "parameters", "", "details", details(m), "model_info",
                             model_info(m, context),
                             "capabilities", capabilities(m), "modified_at",
                             ollama_time(entry_of ? entry_of->created : 0)),
                   0);
}

/* pull, create, copy, push, delete: changing models is for administrators, over the bus. */
void api_ollama_admin(struct conn *c) {
        struct request_error e = { .code = ERROR_NOT_AUTHORIZED,
                                   .detail = "Models are managed with bnctl by an administrator, "
                                             "not over this socket." };

        reply_error(c, &e, 0);
}
