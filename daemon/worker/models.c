/* Models by name. A listing is collected aside and swapped in whole, so that nobody sees half of
 * one. A loaded model stays while somebody holds it (jobs borrow it, the broker may want it kept)
 * and for a while after the last use; then everything that belongs to it goes at once. When a
 * catalogue entry changes (another file under the same name), the old mapping stays for the jobs
 * that have it, and the next request asks again.
 *
 * KV memory: a single model gets the worker's whole budget; with more in the catalogue each
 * loaded one takes three quarters of what is left, so the sum never passes the budget. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/worker/link.h"
#include "daemon/worker/models.h"
#include "daemon/worker/scheduler.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"

enum { FAILURE_KEPT_USEC = 1000000, LOADING_RETRY_MS = 2000 };

enum grant_state { GRANT_ASKED, GRANT_GIVEN, GRANT_FAILED };

/* What the broker has said to a user who wants the model. */
struct grant {
        struct grant *next;
        uint32_t uid;
        enum grant_state state;
        struct request_error error;  /* GRANT_FAILED */
        uint64_t failed_at;
};

struct slot {
        struct slot *next;
        char name[WIRE_NAME_MAX];
        uint64_t size, created;      /* of the catalogue entry when it was asked for */
        struct grant *grants;
        struct model *model;         /* NULL: it is not loaded */
        struct token_trie *trie;     /* NULL: nobody needed it yet */
        size_t kv_bytes;             /* its share of the budget */
        uint32_t holders;
        struct keep keep;
        uint64_t used_at;            /* last loaded, held or released */
};

/* A model that a user wants kept. */
struct wish {
        struct wish *next;
        uint32_t uid;
        char name[WIRE_NAME_MAX];
};

struct listing {
        struct wire_catalog *entries;
        uint32_t n, count;
};

struct models {
        struct worker *w;
        struct listing now, coming;
        struct slot *slots;
        struct wish *wishes;
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

/* What was asked for is answered, so that is not forgotten before. */
static void forget_grants(struct slot *s, uint32_t uid, bool all) {
        struct grant **p = &s->grants, *g;

        while ((g = *p))
                if (g->state != GRANT_ASKED && (all || g->uid == uid)) {
                        *p = g->next;
                        free(g);
                } else
                        p = &g->next;
}

static void free_grants(struct slot *s) {
        struct grant *next;

        for (struct grant *g = s->grants; g; g = next) {
                next = g->next;
                free(g);
        }
}

int models_catalog(struct models *m, const struct wire_catalog *c) {
        struct listing *l = &m->coming;

        if (c->count == 0) {
                free(m->now.entries);
                m->now = (struct listing){};
                return 0;
        }
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

static const struct wire_catalog *find_entry(const struct models *m, const char *name) {
        for (uint32_t i = 0; i < m->now.n; i++) {
                const struct wire_catalog *c = &m->now.entries[i];

                if (name[0] ? strcmp(c->name, name) == 0
                            : (c->flags & WIRE_CATALOG_DEFAULT) || m->now.n == 1)
                        return c;
        }
        return NULL;
}

const struct wire_catalog *models_find(const struct models *m, const struct user *user,
                                       const char *name) {
        const struct wire_catalog *own =
                name[0] || !user->default_model[0] ? NULL : find_entry(m, user->default_model);

        return own ? own : find_entry(m, name);
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

static struct grant *find_grant(const struct slot *s, uint32_t uid) {
        struct grant *g = s ? s->grants : NULL;

        while (g && g->uid != uid)
                g = g->next;
        return g;
}

const struct model *models_loaded(struct models *m, const struct user *user,
                                  const struct wire_catalog *c) {
        const struct slot *s = find_slot(m, c);
        const struct grant *g = find_grant(s, user->uid);

        return g && g->state == GRANT_GIVEN ? s->model : NULL;
}

/* Of a loaded model. */
static struct slot *slot_of(const struct models *m, const struct model *model) {
        struct slot *s = m->slots;

        while (s->model != model)
                s = s->next;
        return s;
}

/* Tens of milliseconds for a large vocabulary, once. */
int models_trie(struct models *m, const struct model *model, const struct token_trie **ret) {
        struct slot *s = slot_of(m, model);
        int r = 0;

        if (!s->trie)
                r = token_trie_new(&s->trie, model->vocab);
        *ret = s->trie;
        return r;
}

uint32_t models_context(struct models *m, const struct user *user,
                        const struct wire_catalog *c) {
        const struct model *model = models_loaded(m, user, c);
        struct scheduler_user limits = user_for_scheduler(user);

        return model ? scheduler_max_tokens(m->w->scheduler, model, &limits) : 0;
}

static struct slot *add_slot(struct models *m, const struct wire_catalog *c) {
        struct slot *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        snprintf(s->name, sizeof(s->name), "%s", c->name);
        s->size = c->size;
        s->created = c->created;
        s->next = m->slots;
        m->slots = s;
        return s;
}

static int ask(struct models *m, const struct user *user, const struct wire_catalog *c) {
        union wire_message msg = { .want_model = { .h.type = WIRE_WANT_MODEL,
                                                   .uid = user->uid } };
        struct slot *s = find_slot(m, c);
        struct grant *g = calloc(1, sizeof(*g));

        if (g && !s)
                s = add_slot(m, c);
        if (!g || !s) {
                free(g);
                return -ENOMEM;
        }
        *g = (struct grant){ .next = s->grants, .uid = user->uid };
        s->grants = g;
        snprintf(msg.want_model.name, sizeof(msg.want_model.name), "%s", c->name);
        return link_send(m->w->link, &msg);
}

static void drop_slot(struct models *m, struct slot *s) {
        struct slot **p = &m->slots;

        while (*p != s)
                p = &(*p)->next;
        *p = s->next;
        free_grants(s);
        free(s);
}

/* Nothing is loaded, and nobody has asked. */
static void drop_unused(struct models *m, struct slot *s) {
        if (!s->model && !s->grants)
                drop_slot(m, s);
}

static void grant_fail(struct models *m, struct grant *g, enum error_code code, uint64_t value,
                       uint64_t limit, const char *detail) {
        request_fail_range(&g->error, code, "model", detail, value, limit);
        if (code == ERROR_MODEL_LOADING || code == ERROR_OVERLOADED)
                g->error.retry_after_ms = LOADING_RETRY_MS;
        g->state = GRANT_FAILED;
        g->failed_at = m->w->now;
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

static void load(struct models *m, struct slot *s, struct grant *g, int fd) {
        struct model_error error = {};
        int r = model_open(&s->model, fd, &error);

        if (r < 0) {
                grant_fail(m, g, error.code == MODEL_E_MEMORY ? ERROR_OVERLOADED : ERROR_MODEL_BAD,
                          error.value, error.limit, model_error_text(error.code));
                return;
        }
        s->kv_bytes = kv_share(m);
        if (scheduler_add_model(m->w->scheduler, s->model, s->kv_bytes) < 0) {
                m->kv_left += s->kv_bytes;
                s->model = model_free(s->model);
                grant_fail(m, g, ERROR_OVERLOADED, 0, 0, "There is no memory to run the model.");
                return;
        }
        s->used_at = m->w->now;
}

int models_answer(struct models *m, const struct wire_model *a, int fd) {
        _cleanup_close_ int owned = fd;
        struct slot *s = m->slots;
        struct grant *g = NULL;

        for (; s; s = s->next)
                if (strcmp(s->name, a->asked) == 0 && (g = find_grant(s, a->uid)) &&
                    g->state == GRANT_ASKED)
                        break;
        if (!s)
                return -EBADMSG;
        g->state = GRANT_GIVEN;
        if (a->error == ERROR_MODEL_BAD && a->model_error != MODEL_OK)
                grant_fail(m, g, ERROR_MODEL_BAD, a->value, a->limit,
                           model_error_text((enum model_error_code)a->model_error));
        else if (a->error != ERROR_NONE)
                grant_fail(m, g, (enum error_code)a->error, a->value, a->limit, NULL);
        else if (!s->model)
                load(m, s, g, owned);
        if (!user_find(m->w, a->uid))
                forget_grants(s, a->uid, false);
        drop_unused(m, s);
        return 0;
}

int models_get(struct models *m, const struct user *user, const char *name,
               const struct model **ret, char *ret_name, struct request_error *e) {
        const struct wire_catalog *c = models_find(m, user, name);
        struct slot *s = c ? find_slot(m, c) : NULL;
        struct grant *g = find_grant(s, user->uid);

        if (!c)
                return request_fail(e, ERROR_MODEL_NOT_FOUND, "model", NULL);
        if (g && g->state == GRANT_FAILED && m->w->now - g->failed_at > FAILURE_KEPT_USEC) {
                forget_grants(s, user->uid, false);
                drop_unused(m, s);
                g = NULL;
        }
        if (!g)
                return ask(m, user, c) < 0 ? request_fail(e, ERROR_OVERLOADED, NULL, NULL)
                                           : MODELS_PENDING;
        if (g->state == GRANT_ASKED)
                return MODELS_PENDING;
        if (g->state == GRANT_FAILED) {
                *e = g->error;
                return -EBADMSG;
        }
        *ret = s->model;
        snprintf(ret_name, WIRE_NAME_MAX, "%s", s->name);
        return 0;
}

/* --- how long they stay --- */

void models_hold(struct models *m, const struct model *model) {
        slot_of(m, model)->holders++;
}

void models_release(struct models *m, const struct model *model) {
        struct slot *s = slot_of(m, model);

        s->holders--;
        s->used_at = m->w->now;
}

/* After the last use. */
static uint64_t stay(const struct models *m, const struct slot *s) {
        return s->keep.given ? MIN(s->keep.usec, users_max_keep_sec(m->w) * USEC_PER_SEC)
                             : users_model_idle_sec(m->w) * USEC_PER_SEC;
}

void models_keep(struct models *m, const struct model *model, const struct keep *keep) {
        struct slot *s = slot_of(m, model);

        s->used_at = m->w->now;
        /* What one user wants away at once others may still want. */
        if (keep->given && (!m->w->shared || keep->usec > stay(m, s)))
                s->keep = *keep;
}

static bool is_wished(const struct models *m, const char *name) {
        for (const struct wish *w = m->wishes; w; w = w->next)
                if (strcmp(w->name, name) == 0)
                        return true;
        return false;
}

void models_prepare(struct models *m, const struct wire_prepare *p) {
        struct wish **at = &m->wishes, *gone;

        while (*at && ((*at)->uid != p->uid || strcmp((*at)->name, p->name) != 0))
                at = &(*at)->next;
        gone = *at;
        if (p->keep && !gone) {
                *at = calloc(1, sizeof(**at));
                if (!*at)
                        return; /* it is loaded when somebody asks */
                (*at)->uid = p->uid;
                snprintf((*at)->name, WIRE_NAME_MAX, "%s", p->name);
        } else if (!p->keep && gone) {
                *at = gone->next;
                free(gone);
        }
}

static uint64_t expiry(const struct models *m, const struct slot *s) {
        if (s->holders > 0 || is_wished(m, s->name))
                return UINT64_MAX;
        return s->used_at + stay(m, s);
}

uint64_t models_expiry(struct models *m, const struct user *user,
                       const struct wire_catalog *c) {
        const struct slot *s = find_slot(m, c);

        if (!models_loaded(m, user, c))
                return 0;
        if (is_wished(m, s->name))
                return UINT64_MAX;
        return (s->holders > 0 ? m->w->now : s->used_at) + stay(m, s);
}

/* Keys and values are wiped with the engine; the pages of the file stay in the page cache as long
 * as the kernel has room for them. */
static void unload(struct models *m, struct slot *s) {
        if (scheduler_remove_model(m->w->scheduler, s->model) < 0) {
                s->used_at = m->w->now; /* a generation has it that nobody holds it for */
                return;
        }
        m->kv_left += s->kv_bytes;
        s->trie = token_trie_free(s->trie);
        s->model = model_free(s->model);
        s->keep = (struct keep){};
        forget_grants(s, 0, true);
        drop_unused(m, s);
        malloc_trim(0);
}

/* A wish is followed as soon as the catalogue has the model. */
static void follow_wishes(struct models *m) {
        const struct model *model;
        struct request_error e;
        char name[WIRE_NAME_MAX];

        for (const struct wish *w = m->wishes; w; w = w->next) {
                const struct user *user = user_find(m->w, w->uid);
                const struct wire_catalog *c = user ? models_find(m, user, w->name) : NULL;

                if (c && c->state != ERROR_MODEL_BAD)
                        (void)models_get(m, user, w->name, &model, name, &e);
        }
}

void models_user_gone(struct models *m, uint32_t uid) {
        struct wish **at = &m->wishes, *wish;
        struct slot *next;

        while ((wish = *at))
                if (wish->uid == uid) {
                        *at = wish->next;
                        free(wish);
                } else
                        at = &wish->next;
        for (struct slot *s = m->slots; s; s = next) {
                next = s->next;
                forget_grants(s, uid, false);
                drop_unused(m, s);
        }
}

void models_poll(const struct models *m, struct poller *p) {
        for (const struct slot *s = m->slots; s; s = s->next)
                if (s->model && expiry(m, s) != UINT64_MAX)
                        poller_deadline(p, MAX(expiry(m, s), UINT64_C(1)));
}

void models_run(struct models *m) {
        struct slot *next;

        follow_wishes(m);
        for (struct slot *s = m->slots; s; s = next) {
                next = s->next;
                if (s->model && expiry(m, s) <= m->w->now)
                        unload(m, s);
        }
}

struct models_loaded models_sum(const struct models *m) {
        struct models_loaded sum = { .name = "" };
        uint64_t last = 0;

        for (const struct slot *s = m->slots; s; s = s->next) {
                uint64_t until = s->model ? expiry(m, s) : 0;

                if (!s->model)
                        continue;
                sum.count++;
                sum.bytes += s->model->map_size;
                if (s->used_at >= last) {
                        last = s->used_at;
                        sum.name = s->name;
                }
                if (until != UINT64_MAX)
                        sum.until = MAX(sum.until, until);
        }
        return sum;
}
