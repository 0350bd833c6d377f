/* org.bitnetd.Bitnetd1.Model: one object per model of the catalogue, visible to everybody; and the
 * manager's methods that install, remove and verify models, for administrators. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/control.h"
#include "daemon/broker/tasks.h"
#include "dbus/options.h"
#include "dbus/peer.h"
#include "engine/base/macro.h"
#include "engine/base/model_error.h"

#define MODEL_PREFIX BUS_ROOT "/model"

static int get_created(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct store_model *model = userdata;

        return sd_bus_message_append(reply, "t", model->created * 1000000);
}

const char *model_state_word(const struct store_model *model) {
        return model->state == ERROR_NONE            ? "ready"
               : model->state == ERROR_MODEL_LOADING ? "loading"
                                                     : "bad";
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", model_state_word(userdata));
}

static int get_problem(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct store_model *model = userdata;

        return sd_bus_message_append(
                reply, "s",
                model->state == ERROR_MODEL_BAD
                        ? model_error_text((enum model_error_code)model->model_error)
                        : "");
}

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *e) {
        struct peer *p = userdata;
        _cleanup_free_ char *name = NULL;
        const struct store_model *model;
        int r = sd_bus_path_decode(path, MODEL_PREFIX, &name);

        if (r <= 0)
                return r;
        model = name[0] ? store_find(peer_broker(p)->store, name) : NULL;
        if (!model)
                return 0;
        *ret_found = (void *)model;
        return 1;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                     sd_bus_error *e) {
        struct peer *p = userdata;
        const struct store *store = peer_broker(p)->store;
        uint32_t n = store_count(store);
        char **nodes = calloc(n + 1, sizeof(*nodes));

        if (!nodes)
                return -ENOMEM;
        for (uint32_t i = 0; i < n; i++) {
                int r = sd_bus_path_encode(MODEL_PREFIX, store_get(store, i)->name, &nodes[i]);

                if (r < 0) {
                        while (i > 0)
                                free(nodes[--i]);
                        free(nodes);
                        return r;
                }
        }
        *ret_nodes = nodes;
        return 1;
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", bus_get_text, offsetof(struct store_model, name),
                        SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Size", "t", NULL, offsetof(struct store_model, size), 0),
        SD_BUS_PROPERTY("CreatedUSec", "t", get_created, 0, 0),
        SD_BUS_PROPERTY("State", "s", get_state, 0, 0),
        SD_BUS_PROPERTY("Problem", "s", get_problem, 0, 0),
        SD_BUS_PROPERTY("ProblemPosition", "t", NULL, offsetof(struct store_model, position), 0),
        SD_BUS_PROPERTY("ProblemValue", "t", NULL, offsetof(struct store_model, value), 0),
        SD_BUS_PROPERTY("ProblemLimit", "t", NULL, offsetof(struct store_model, limit), 0),
        SD_BUS_VTABLE_END,
};

struct install_options {
        const char *name;        /* must be given */
        const char *token;
        int detach;
};

static int read_option(sd_bus_message *m, struct install_options *o) {
        const char *key;
        int r = sd_bus_message_read(m, "s", &key);

        if (r <= 0)
                return -EINVAL;
        if (strcmp(key, "name") == 0 && !o->name)
                r = sd_bus_message_read(m, "v", "s", &o->name);
        else if (strcmp(key, "token") == 0)
                r = options_read_token(m, &o->token) == ERROR_NONE ? 1 : -EINVAL;
        else if (strcmp(key, "detach") == 0)
                r = sd_bus_message_read(m, "v", "b", &o->detach);
        else
                r = -EINVAL;
        return r > 0 ? 0 : -EINVAL;
}

static int read_options(sd_bus_message *m, struct install_options *ret) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        *ret = (struct install_options){};
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                if (read_option(m, ret) < 0)
                        return -EINVAL;
                r = sd_bus_message_exit_container(m);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 || !ret->name ? -EINVAL : 0;
}

/* What the store says, as an error of ours; what it says nothing about is its folder. */
static int store_error(sd_bus_error *e, int r) {
        const char *name = error_row(ERROR_INVALID_INPUT)->dbus_name;

        switch (-r) {
        case EEXIST:
                return sd_bus_error_set(e, name, "A model has this name already");
        case EINVAL:
                return sd_bus_error_set(e, name, "Not the name of a model, or not a file of one");
        case EPERM:
                return sd_bus_error_set(e, name, "This model was not installed here; its file "
                                                 "belongs to somebody else");
        case ENOENT:
                return bus_error(e, ERROR_MODEL_NOT_FOUND, 0, 0);
        case EBUSY:
                return bus_error(e, ERROR_MODEL_LOADING, 0, 0);
        case ENOSPC:
                return bus_error(e, ERROR_OVERLOADED, 0, 0);
        }
        return bus_error(e, ERROR_FAILED, 0, 0);
}

/* Replies with the job, which ends with the caller unless it is detached. */
static int start(sd_bus_message *m, struct peer *p, enum task_kind kind, int fd,
                 const struct install_options *o, sd_bus_error *e) {
        _cleanup_free_ char *own_path = NULL;
        char path[JOB_PATH_SIZE];
        struct refusal refusal;
        struct job *job;
        struct account_id who;
        int r = peer_account(p, m, &who, e);

        if (r >= 0)
                r = job_new_path(p, m, o->token, &own_path);
        if (r != 0)
                return r < 0 ? r : bus_error(e, (enum error_code)r, 0, 0);
        if (workers_stopping(p->owner->settings.workers))
                return bus_error(e, ERROR_STOPPING, 0, 0);
        r = task_start(peer_broker(p)->tasks, kind, &who, o->name, fd, o->detach, &job, &refusal);
        if (r != 0)
                return r < 0 ? store_error(e, r) : bus_refuse(e, &refusal);
        r = job_own(p, job, m, TAKE_PTR(own_path));
        if (r < 0) {
                control_cancel(job, ERROR_CANCELLED);
                return r;
        }
        return sd_bus_reply_method_return(m, "o", job_path(job, path));
}

static int install(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        struct install_options options;
        struct refusal refusal;
        int fd, r = sd_bus_message_rewind(m, true);

        if (r >= 0)
                r = sd_bus_message_read(m, "h", &fd);
        if (r < 0)
                return r;
        if (read_options(m, &options) < 0)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        if (control_check_input(fd, UINT64_MAX, &refusal) != ERROR_NONE)
                return bus_refuse(e, &refusal);
        return start(m, p, TASK_INSTALL, fd, &options, e);
}

static int start_by_name(sd_bus_message *m, struct peer *p, enum task_kind kind, sd_bus_error *e) {
        struct install_options options = { .detach = true }; /* nobody need wait for it */
        int r = sd_bus_message_rewind(m, true);

        if (r >= 0)
                r = sd_bus_message_read(m, "s", &options.name);
        return r < 0 ? r : start(m, p, kind, -1, &options, e);
}

static int delete(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        return start_by_name(m, p, TASK_REMOVE, e);
}

static int verify(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        return start_by_name(m, p, TASK_VERIFY, e);
}

int model_method_install(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return authorize(userdata, m, ACTION_MANAGE_MODELS, install, e);
}

int model_method_remove(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return authorize(userdata, m, ACTION_MANAGE_MODELS, delete, e);
}

int model_method_verify(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return authorize(userdata, m, ACTION_MANAGE_MODELS, verify, e);
}

int model_register(struct peer *p) {
        int r = sd_bus_add_fallback_vtable(p->bus, NULL, MODEL_PREFIX, BUS_NAME ".Model", vtable,
                                           find, p);

        if (r >= 0)
                r = sd_bus_add_node_enumerator(p->bus, NULL, MODEL_PREFIX, enumerate, p);
        if (r >= 0)
                r = sd_bus_add_object_manager(p->bus, NULL, BUS_ROOT);
        return r;
}
