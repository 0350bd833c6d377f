/* org.bitnetd.Bitnetd1.Quota: an object for each account, which exists for that uid and for
 * administrators only, and the manager's methods about quotas. The keys of the dictionaries are
 * those of the configuration. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/broker.h"
#include "dbus/peer.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

#define QUOTA_PREFIX BUS_ROOT "/quota"

enum { VALUE_MAX = 192, CHANGES_MAX = 64 };

/* Method argument for "whoever asks". */
#define UID_SELF UINT32_MAX

/* "a b c" as an array of strings in a variant. */
static int append_words(sd_bus_message *m, const char *words) {
        int r = sd_bus_message_open_container(m, 'v', "as");

        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        while (r >= 0 && *(words += strspn(words, " "))) {
                char word[MODEL_NAME_SIZE];
                size_t n = strcspn(words, " ");

                snprintf(word, sizeof(word), "%.*s", (int)n, words);
                r = sd_bus_message_append(m, "s", word);
                words += n;
        }
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_mask(sd_bus_message *m, uint64_t mask, const char *const *words, unsigned n) {
        char list[VALUE_MAX] = "";

        for (unsigned i = 0; i < n; i++)
                if (mask & UINT64_C(1) << i)
                        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s ",
                                 words[i]);
        return append_words(m, list);
}

static int append_limit(sd_bus_message *m, const struct limits *l, enum quota_key key) {
        switch (quota_row(key)->kind) {
        case QUOTA_KIND_COUNT:
        case QUOTA_KIND_BYTES:
        case QUOTA_KIND_TIME:
                return sd_bus_message_append(m, "v", "t", l->v[key]);
        case QUOTA_KIND_VERBS:
                return append_mask(m, l->v[key], quota_verbs, QUOTA_VERBS);
        case QUOTA_KIND_PRIORITIES:
                return append_mask(m, l->v[key], quota_priorities, QUOTA_PRIORITIES);
        case QUOTA_KIND_PATTERNS:
                return append_words(m, limits_text(l, key));
        case QUOTA_KIND_MODEL:
                return sd_bus_message_append(m, "v", "s", limits_text(l, key));
        }
        return 0;
}

static int append_limits(sd_bus_message *m, const struct quota_view *v) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (unsigned i = 0; r >= 0 && i < _QUOTA_MAX; i++) {
                r = sd_bus_message_open_container(m, 'e', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", quota_row((enum quota_key)i)->name);
                if (r >= 0)
                        r = append_limit(m, &v->limits, (enum quota_key)i);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_used(sd_bus_message *m, const struct quota_view *v) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (unsigned i = 0; r >= 0 && i < _QUOTA_NUMBERS; i++)
                if (v->counted[i])
                        r = sd_bus_message_append(m, "{sv}", quota_row((enum quota_key)i)->name,
                                                  "t", v->used[i]);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_origin(sd_bus_message *m, const struct config_origin *o, enum quota_key key) {
        static const char *const words[] = { [CONFIG_DEFAULT] = "Default",
                                             [CONFIG_SLICE] = "Slice ",
                                             [CONFIG_GROUP] = "Group ",
                                             [CONFIG_USER] = "User " };
        char section[SLICE_RULE_SIZE + 8] = "";

        if (o->path)
                snprintf(section, sizeof(section), "%s%s", words[o->match], o->name);
        return sd_bus_message_append(m, "{s(ssu)}", quota_row(key)->name, section,
                                     o->path ? o->path : "", o->line);
}

/* An entry of a dictionary whose value is a dictionary. */
static int append_nested(sd_bus_message *m, const char *name, const struct quota_view *v,
                         int (*append)(sd_bus_message *m, const struct quota_view *v)) {
        int r = sd_bus_message_open_container(m, 'e', "sv");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", name);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a{sv}");
        if (r >= 0)
                r = append(m, v);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_everything(sd_bus_message *m, const struct quota_view *v) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        if (r >= 0)
                r = append_nested(m, "Limits", v, append_limits);
        if (r >= 0)
                r = append_nested(m, "Used", v, append_used);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}", "UID", "u", v->id.uid,
                                          "Slice", "s", v->id.slice, "Weight", "u", v->weight,
                                          "ResetUSec", "t", v->reset_usec, "NextAllowedUSec", "t",
                                          v->next_allowed_usec, "VirtualCounter", "t",
                                          v->virtual_counter);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int get_dictionary(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *e) {
        return strcmp(property, "Limits") == 0 ? append_limits(reply, userdata)
                                               : append_used(reply, userdata);
}

static int get_origins(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct bus *b = (const struct bus *)((char *)userdata - offsetof(struct bus, view));
        struct config_origin origins[_QUOTA_MAX];
        int r = sd_bus_message_open_container(reply, 'a', "{s(ssu)}");

        quota_view_origins(b->settings.broker, &b->view.id, origins);
        for (unsigned i = 0; r >= 0 && i < _QUOTA_MAX; i++)
                r = append_origin(reply, &origins[i], (enum quota_key)i);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* True when the sender may see the quota of this uid. */
static bool may_see(const struct peer *p, sd_bus_message *m, uid_t sender, uid_t uid) {
        return sender == uid || is_administrator(sender) ||
               authorized(p, m, ACTION_MANAGE_QUOTA);
}

/* "UID" or "UID/SLICE" of a path. The name of the slice is escaped there. */
static bool path_account(const char *path, struct account_id *ret, bool *ret_slice) {
        const char *name = path + sizeof(QUOTA_PREFIX), *end = strchr(name, '/');
        char prefix[sizeof(QUOTA_PREFIX) + 12];
        _cleanup_free_ char *slice = NULL;
        uint64_t uid;

        if (snprintf(prefix, sizeof(prefix), QUOTA_PREFIX "/%.*s",
                     end ? (int)(end - name) : (int)strlen(name), name) >= (int)sizeof(prefix) ||
            !path_number(prefix + sizeof(QUOTA_PREFIX), &uid) || uid >= UID_SELF)
                return false;
        *ret = (struct account_id){ .uid = (uid_t)uid };
        *ret_slice = end != NULL;
        if (!end)
                return true;
        if (sd_bus_path_decode(path, prefix, &slice) <= 0 || !slice_name_valid(slice) ||
            strlen(slice) >= sizeof(ret->slice))
                return false;
        snprintf(ret->slice, sizeof(ret->slice), "%s", slice);
        return true;
}

/* The same error for what is foreign and for what is no account at all. */
static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *e) {
        struct peer *p = userdata;
        sd_bus_message *m = sd_bus_get_current_message(bus);
        struct account_id id;
        bool with_slice;
        uid_t sender;
        int r;

        if (!m || path[strlen(QUOTA_PREFIX)] != '/')
                return 0; /* the folder itself */
        r = peer_uid(p, m, &sender);
        if (r < 0)
                return r;
        if (!path_account(path, &id, &with_slice) || !may_see(p, m, sender, id.uid))
                return bus_error(e, ERROR_NO_SUCH_OBJECT, 0, 0);
        if (sender == id.uid && !with_slice)
                r = peer_account(p, m, &id, e);
        if (r < 0)
                return r;
        quota_view_read(p->owner->settings.broker, &id, &p->owner->view);
        *ret_found = &p->owner->view;
        return 1;
}

static int get(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        struct quota_view *v = &p->owner->view;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        struct account_id id;
        uint32_t uid;
        uid_t sender;
        int r = sd_bus_message_rewind(m, true);

        if (r >= 0)
                r = peer_uid(p, m, &sender);
        if (r >= 0)
                r = sd_bus_message_read(m, "u", &uid);
        if (r < 0)
                return r;
        id = (struct account_id){ .uid = uid };
        if (uid == UID_SELF || uid == sender)
                r = peer_account(p, m, &id, e);
        if (r < 0)
                return r;
        quota_view_read(p->owner->settings.broker, &id, v);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = append_everything(reply, v);
        return r < 0 ? r : sd_bus_message_send(reply);
}

int quota_method_get(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        uid_t sender;
        uint32_t uid;
        int r = peer_uid(userdata, m, &sender);

        if (r >= 0)
                r = sd_bus_message_read(m, "u", &uid);
        if (r < 0)
                return r;
        if (uid == UID_SELF || uid == sender)
                return get(m, userdata, e);
        return authorize(userdata, m, ACTION_MANAGE_QUOTA, get, e);
}

struct changes {
        struct settings_change items[CHANGES_MAX];
        char values[CHANGES_MAX][VALUE_MAX];
        size_t n;
};

/* A number, as the configuration spells it in the unit that is used on the bus. */
static void spell(enum quota_key key, uint64_t n, char *buf) {
        if (n == QUOTA_INFINITY)
                snprintf(buf, VALUE_MAX, "infinity");
        else
                snprintf(buf, VALUE_MAX, "%" PRIu64 "%s", n,
                         quota_row(key)->kind == QUOTA_KIND_TIME ? "us" : "");
}

static int read_words(sd_bus_message *m, char *buf) {
        const char *word;
        size_t n = 0;
        int r = sd_bus_message_enter_container(m, 'v', "as");

        if (r > 0)
                r = sd_bus_message_enter_container(m, 'a', "s");
        while (r > 0 && (r = sd_bus_message_read(m, "s", &word)) > 0) {
                n += (size_t)snprintf(buf + n, VALUE_MAX - n, "%s%s", n > 0 ? " " : "", word);
                if (n >= VALUE_MAX)
                        return -E2BIG;
        }
        if (n == 0)
                snprintf(buf, VALUE_MAX, "none");
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* One value of t, u, s or as. */
static int read_value(sd_bus_message *m, enum quota_key key, char *buf) {
        const char *type, *text;
        uint64_t wide;
        uint32_t narrow;
        int r = sd_bus_message_peek_type(m, NULL, &type);

        if (r > 0 && strcmp(type, "as") == 0)
                return read_words(m, buf);
        if (r > 0 && strcmp(type, "t") == 0) {
                r = sd_bus_message_read(m, "v", "t", &wide);
                spell(key, wide, buf);
        } else if (r > 0 && strcmp(type, "u") == 0) {
                r = sd_bus_message_read(m, "v", "u", &narrow);
                spell(key, narrow, buf);
        } else {
                r = sd_bus_message_read(m, "v", "s", &text);
                if (r > 0 && snprintf(buf, VALUE_MAX, "%s", text) >= VALUE_MAX)
                        return -E2BIG;
        }
        return r;
}

/* What is wrong with a value is said by name of the key, which is ours by then. */
static int value_error(sd_bus_error *e, enum quota_key key, const char *reason) {
        return sd_bus_error_setf(e, error_row(ERROR_INVALID_INPUT)->dbus_name, "%s (%s: %s)",
                                 error_row(ERROR_INVALID_INPUT)->text, quota_row(key)->name,
                                 reason);
}

static int read_change(sd_bus_message *m, struct changes *c, sd_bus_error *e) {
        char *value = c->values[c->n];
        const char *name, *problem;
        enum quota_key key;
        uint64_t ignored;

        if (c->n == CHANGES_MAX || sd_bus_message_read(m, "s", &name) <= 0 ||
            (key = quota_key_find(name)) == _QUOTA_MAX)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        if (read_value(m, key, value) <= 0)
                return value_error(e, key, "not a value of this key");
        problem = value[0] ? quota_parse(key, value, &ignored) : NULL;
        if (problem)
                return value_error(e, key, problem);
        c->items[c->n++] = (struct settings_change){ key, value };
        return 0;
}

static int read_changes(sd_bus_message *m, struct changes *c, sd_bus_error *e) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_change(m, c, e);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* Paths and reasons of the configuration, which the administrator wrote. */
static int config_error(sd_bus_error *e, const struct config_problem *p) {
        return sd_bus_error_setf(e, error_row(ERROR_CONFIG)->dbus_name, "%s (%s:%u: %s)",
                                 error_row(ERROR_CONFIG)->text, p->path, p->line, p->reason);
}

static int set(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        _cleanup_free_ struct changes *c = calloc(1, sizeof(*c));
        struct config_problem problem;
        int persistent, r;
        uint32_t uid;

        r = c ? sd_bus_message_rewind(m, true) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_message_read(m, "u", &uid);
        if (r >= 0)
                r = read_changes(m, c, e);
        if (r >= 0)
                r = sd_bus_message_read(m, "b", &persistent);
        if (r < 0)
                return r;
        if (uid == UID_SELF || c->n == 0)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        if (broker_set_quota(p->owner->settings.broker, uid, c->items, c->n, persistent,
                             &problem) < 0)
                return config_error(e, &problem);
        return sd_bus_reply_method_return(m, NULL);
}

static int reload(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        struct config_problem problem;

        if (broker_reload(p->owner->settings.broker, &problem) < 0)
                return config_error(e, &problem);
        return sd_bus_reply_method_return(m, NULL);
}

int quota_method_set(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return authorize(userdata, m, ACTION_MANAGE_QUOTA, set, e);
}

int quota_method_reload(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return authorize(userdata, m, ACTION_MANAGE_QUOTA, reload, e);
}

#define NUMBER(name, type, field)                                                                  \
        SD_BUS_PROPERTY(name, type, NULL, offsetof(struct quota_view, field), 0)

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Limits", "a{sv}", get_dictionary, 0, 0),
        SD_BUS_PROPERTY("Used", "a{sv}", get_dictionary, 0, 0),
        SD_BUS_PROPERTY("Origins", "a{s(ssu)}", get_origins, 0, 0),
        NUMBER("UID", "u", id.uid),
        SD_BUS_PROPERTY("Slice", "s", bus_get_text, offsetof(struct quota_view, id.slice), 0),
        NUMBER("ResetUSec", "t", reset_usec),
        NUMBER("NextAllowedUSec", "t", next_allowed_usec),
        NUMBER("VirtualCounter", "t", virtual_counter),
        NUMBER("Weight", "u", weight),
        SD_BUS_VTABLE_END,
};

int quota_register(struct peer *p) {
        return sd_bus_add_fallback_vtable(p->bus, NULL, QUOTA_PREFIX, BUS_NAME ".Quota", vtable,
                                          find, p);
}
