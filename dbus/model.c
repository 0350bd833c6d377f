/* org.bitnetd.Bitnetd1.Model: one object per model of the catalogue, visible to everybody. */
#include <errno.h>
#include <stdlib.h>

#include "dbus/peer.h"
#include "engine/base/macro.h"
#include "engine/base/model_error.h"

#define MODEL_PREFIX BUS_ROOT "/model"

static int get_name(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct store_model *model = userdata;

        return sd_bus_message_append(reply, "s", model->name);
}

static int get_created(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct store_model *model = userdata;

        return sd_bus_message_append(reply, "t", model->created * 1000000);
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct store_model *model = userdata;

        return sd_bus_message_append(reply, "s",
                                     model->state == ERROR_NONE            ? "ready"
                                     : model->state == ERROR_MODEL_LOADING ? "loading"
                                                                           : "bad");
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
        SD_BUS_PROPERTY("Name", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Size", "t", NULL, offsetof(struct store_model, size), 0),
        SD_BUS_PROPERTY("CreatedUSec", "t", get_created, 0, 0),
        SD_BUS_PROPERTY("State", "s", get_state, 0, 0),
        SD_BUS_PROPERTY("Problem", "s", get_problem, 0, 0),
        SD_BUS_PROPERTY("ProblemPosition", "t", NULL, offsetof(struct store_model, position), 0),
        SD_BUS_PROPERTY("ProblemValue", "t", NULL, offsetof(struct store_model, value), 0),
        SD_BUS_PROPERTY("ProblemLimit", "t", NULL, offsetof(struct store_model, limit), 0),
        SD_BUS_VTABLE_END,
};

int model_register(struct peer *p) {
        int r = sd_bus_add_fallback_vtable(p->bus, NULL, MODEL_PREFIX, BUS_NAME ".Model", vtable,
                                           find, p);

        if (r >= 0)
                r = sd_bus_add_node_enumerator(p->bus, NULL, MODEL_PREFIX, enumerate, p);
        if (r >= 0)
                r = sd_bus_add_object_manager(p->bus, NULL, BUS_ROOT);
        return r;
}
