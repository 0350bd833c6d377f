/* bnctl models: what is installed. */

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "client/commands.h"
#include "client/interrupt.h"

static void print_table(const json_t *list) {
        json_t *m;
        size_t i;

        printf("%-32s %10s  %s\n", "MODEL", "SIZE", "STATE");
        json_array_foreach(json_object_get(list, "data"), i, m) {
                double size = json_number_value(json_object_get(m, "size"));
                const char *state = json_string_value(json_object_get(m, "state"));
                char bytes[24] = "-";

                if (size > 0)
                        snprintf(bytes, sizeof(bytes), "%.1f MB", size / 1e6);
                printf("%-32s %10s  %s%s\n", json_string_value(json_object_get(m, "id")), bytes,
                       state ? state : "ready",
                       json_is_true(json_object_get(m, "default")) ? ", default" : "");
        }
}

int cmd_models(struct options *o) {
        struct http_failure failure = {0};
        json_t *list = NULL;
        int result = http_json(o->socket, "/v1/models", NULL, &list, &failure);

        if (result < 0)
                return EXIT_INTERRUPTED;
        if (result > 0)
                return report_failure(&failure);
        if (o->json) {
                json_dumpf(list, stdout, JSON_INDENT(2));
                putchar('\n');
        } else {
                print_table(list);
        }
        json_decref(list);
        return 0;
}
