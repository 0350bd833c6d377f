/* Lists of token ids. They spell out what users wrote, so every array is wiped before it goes back
 * to the allocator, also when the list grows; realloc could leave a copy behind. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/vocab.h"

void tokens_done(struct tokens *t) {
        if (t->ids)
                explicit_bzero(t->ids, t->room * sizeof(*t->ids));
        free(t->ids);
        *t = (struct tokens){0};
}

static int make_room(struct tokens *t, size_t more) {
        if (more <= t->room - t->n)
                return 0;
        if (more > SIZE_MAX / 2 / sizeof(*t->ids) - t->n)
                return -ENOMEM;
        size_t room = MAX(t->n + more, MAX((size_t)64, 2 * t->room));
        int32_t *ids = malloc(room * sizeof(*ids));
        if (!ids)
                return -ENOMEM;
        size_t n = t->n;
        if (n > 0)
                memcpy(ids, t->ids, n * sizeof(*ids));
        tokens_done(t);
        *t = (struct tokens){.ids = ids, .n = n, .room = room};
        return 0;
}

int tokens_push(struct tokens *t, int32_t id) {
        return tokens_append(t, &id, 1);
}

int tokens_append(struct tokens *t, const int32_t *ids, size_t n) {
        if (n == 0)
                return 0;
        int r = make_room(t, n);
        if (r < 0)
                return r;
        memcpy(t->ids + t->n, ids, n * sizeof(*ids));
        t->n += n;
        return 0;
}
