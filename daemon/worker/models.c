/* Models by name. A listing is collected aside and swapped in whole, so that nobody sees half of
 * one. A loaded model stays mapped until the worker ends: the scheduler and running jobs borrow it.
 * When a catalogue entry changes (another file under the same name), the old mapping stays for the
 * jobs that have it, and the next request asks again.
 *
 * KV memory: a single model gets the worker's whole budget; with more in the catalogue each loaded
 * one takes three quarters of what is left, so the sum never passes the budget. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/worker/link.h"
#include "daemon/worker/models.h"
#include "daemon/worker/scheduler.h"
#include "engine/base/macro.h"

enum { FAILURE_KEPT_USEC = 1000000, LOADING_RETRY_MS = 2000 };

enum slot_state { SLOT_ASKED, SLOT_LOADED, SLOT_FAILED };

struct slot {
        struct slot *next;
        char name[WIRE_NAME_MAX];
        uint64_t size, created;      /* of the catalogue entry when it was asked for */
        enum slot_state state;
        struct model *model;
        struct token_trie *trie;     /* NULL: nobody needed it yet */
        struct request_error error;  /* SLOT_FAILED */
        uint64_t failed_at;
};

struct listing {
        struct wire_catalog *entries;
        uint32_t n, count;
};

struct models {
        struct worker *w;
        struct listing now, coming;
        struct slot *slots;
        uint64_t kv_left;
        bool kv_set;
};

int models_new(struct models **ret, struct worker *w) {
        struct models *m = calloc(1, sizeof(*m));

        if (!m)
                return -ENOMEM;
        m->w = w;
        *ret = m;
        return 0;
}

struct models *models_free(struct models *m) {
        struct slot *s, *next;

        for (s = m ? m->slots : NULL; s; s = next) {
                next = s->next;
                token_trie_free(s->trie);
                model_free(s->model);
                free(s);
        }
        if (m) {
                free(m->now.entries);
                free(m->coming.entries);
        }
        free(m);
        return NULL;
}

int models_catalog(struct models *m, const struct wire_catalog *c) {
        struct listing *l = &m->coming;

        if (c->index == 0) {
                free(l->entries);
                *l = (struct listing){ .count = c->count };
                l->entries = calloc(c->count, sizeof(*l->entries));
                if (!l->entries)
                        return -ENOMEM;
        }
        if (!l->entries || c->index != l->n || c->count != l->count)
                return -EBADMSG;
        l->entries[l->n++] = *c;
        if (l->n < l->count)
                return 0;
        free(m->now.entries);
        m->now = *l;
        *l = (struct listing){};
        return 0;
}

size_t models_count(const struct models *m) {
        return m->now.n;
}

const struct wire_catalog *models_entry(const struct models *m, size_t index) {
        return &m->now.entries[index];
}

const struct wire_catalog *models_find(const struct models *m, const char *name) {
        for (uint32_t i = 0; i < m->now.n; i++) {
                const struct wire_catalog *c = &m->now.entries[i];

                if (name[0] ? strcmp(c->name, name) == 0
                            : (c->flags & WIRE_CATALOG_DEFAULT) || m->now.n == 1)
                        return c;
        }
        return NULL;
}

/* A model that was asked for while it was still being packed had size 0 then: it is the same model
 * and must not be mapped twice. */
static struct slot *find_slot(struct models *m, const struct wire_catalog *c) {
        for (struct slot *s = m->slots; s; s = s->next) {
                if (strcmp(s->name, c->name) != 0 || s->created != c->created)
                        continue;
                if (s->size == 0)
                        s->size = c->size;
                if (s->size == c->size)
                        return s;
        }
        return NULL;
}

const struct model *models_loaded(struct models *m, const struct wire_catalog *c) {
        const struct slot *s = find_slot(m, c);

        return s && s->state == SLOT_LOADED ? s->model : NULL;
}

/* Tens of milliseconds for a large vocabulary, once. */
int models_trie(struct models *m, const struct model *model, const struct token_trie **ret) {
        struct slot *s = m->slots;
        int r = 0;

        while (s->model != model)
                s = s->next;
        if (!s->trie)
                r = token_trie_new(&s->trie, model->vocab);
        *ret = s->trie;
        return r;
}

uint32_t models_context(struct models *m, const struct wire_catalog *c) {
        const struct slot *s = find_slot(m, c);

        return s && s->state == SLOT_LOADED ? scheduler_max_tokens(m->w->scheduler, s->model) : 0;
}

static int ask(struct models *m, const struct wire_catalog *c) {
        union wire_message msg = { .want_model.h.type = WIRE_WANT_MODEL };
        struct slot *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        snprintf(s->name, sizeof(s->name), "%s", c->name);
        s->size = c->size;
        s->created = c->created;
        s->next = m->slots;
        m->slots = s;
        snprintf(msg.want_model.name, sizeof(msg.want_model.name), "%s", c->name);
        return link_send(m->w->link, &msg);
}

static void drop_slot(struct models *m, struct slot *s) {
        struct slot **p = &m->slots;

        while (*p != s)
                p = &(*p)->next;
        *p = s->next;
        free(s);
}

static void slot_fail(struct models *m, struct slot *s, enum error_code code, uint64_t value,
                      uint64_t limit, const char *detail) {
        request_fail_range(&s->error, code, "model", detail, value, limit);
        if (code == ERROR_MODEL_LOADING || code == ERROR_OVERLOADED)
                s->error.retry_after_ms = LOADING_RETRY_MS;
        s->state = SLOT_FAILED;
        s->failed_at = m->w->now;
}

static size_t kv_share(struct models *m) {
        uint64_t share;

        if (!m->kv_set)
                m->kv_left = m->w->limits.kv_bytes;
        m->kv_set = true;
        share = m->now.n <= 1 ? m->kv_left : m->kv_left / 4 * 3;
        m->kv_left -= share;
        return share;
}

static void load(struct models *m, struct slot *s, int fd) {
        struct model_error error = {};
        int r = model_open(&s->model, fd, &error);

        if (r < 0) {
                slot_fail(m, s, error.code == MODEL_E_MEMORY ? ERROR_OVERLOADED : ERROR_MODEL_BAD,
                          error.value, error.limit, model_error_text(error.code));
                return;
        }
        if (scheduler_add_model(m->w->scheduler, s->model, kv_share(m)) < 0) {
                s->model = model_free(s->model);
                slot_fail(m, s, ERROR_OVERLOADED, 0, 0, "There is no memory to run the model.");
                return;
        }
        s->state = SLOT_LOADED;
}

int models_answer(struct models *m, const struct wire_model *a, int fd) {
        _cleanup_close_ int owned = fd;
        struct slot *s = m->slots;

        while (s && !(s->state == SLOT_ASKED && strcmp(s->name, a->asked) == 0))
                s = s->next;
        if (!s)
                return -EBADMSG;
        if (a->error == ERROR_NONE)
                load(m, s, owned);
        else if (a->error == ERROR_MODEL_BAD && a->model_error != MODEL_OK)
                slot_fail(m, s, ERROR_MODEL_BAD, a->value, a->limit,
                          model_error_text((enum model_error_code)a->model_error));
        else
                slot_fail(m, s, (enum error_code)a->error, a->value, a->limit, NULL);
        return 0;
}

int models_get(struct models *m, const char *name, const struct model **ret, char *ret_name,
               struct request_error *e) {
        const struct wire_catalog *c = models_find(m, name);
        struct slot *s = c ? find_slot(m, c) : NULL;

        if (!c)
                return request_fail(e, ERROR_MODEL_NOT_FOUND, "model", NULL);
        if (s && s->state == SLOT_FAILED && m->w->now - s->failed_at > FAILURE_KEPT_USEC) {
                drop_slot(m, s);
                s = NULL;
        }
        if (!s)
                return ask(m, c) < 0 ? request_fail(e, ERROR_OVERLOADED, NULL, NULL)
                                     : MODELS_PENDING;
        if (s->state == SLOT_ASKED)
                return MODELS_PENDING;
        if (s->state == SLOT_FAILED) {
                *e = s->error;
                return -EBADMSG;
        }
        *ret = s->model;
        snprintf(ret_name, WIRE_NAME_MAX, "%s", s->name);
        return 0;
}
