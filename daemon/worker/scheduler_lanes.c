/* Models that leave the scheduler again, and what those that are here take. A lane may be freed
 * when no generation is left that has it: whatever the engine thread still does with it then, it
 * does under the lock, which is held while the lane is taken out of the list. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/scheduler_internal.h"

static bool in_use(const struct scheduler *s, const struct lane *l) {
        const struct generation *g;

        TAILQ_FOREACH(g, &s->all, in_all)
                if (g->lane == l)
                        return true;
        return false;
}

int scheduler_remove_model(struct scheduler *s, const struct model *model) {
        struct lane *l;
        size_t i = 0;

        while (i < s->n_lanes && s->lanes[i]->model != model)
                i++;
        if (i == s->n_lanes)
                return -ENOENT;
        l = s->lanes[i];
        if (in_use(s, l))
                return -EBUSY;
        pthread_mutex_lock(&s->lock);
        s->n_lanes--;
        memmove(s->lanes + i, s->lanes + i + 1, (s->n_lanes - i) * sizeof(struct lane *));
        pthread_mutex_unlock(&s->lock);
        engine_free(l->engine);
        free(l);
        return 0;
}

struct scheduler_memory scheduler_memory(struct scheduler *s) {
        struct scheduler_memory m = {};

        pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->n_lanes; i++) {
                m.private_bytes += s->lanes[i]->memory.private_bytes;
                m.kv_bytes += s->lanes[i]->memory.kv_bytes;
                m.kept_bytes += s->lanes[i]->memory.kept_bytes;
        }
        pthread_mutex_unlock(&s->lock);
        return m;
}
