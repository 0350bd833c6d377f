/* Nobody else can count a worker's memory: another user's /proc is closed to the broker, the
 * worker's own to the worker. So it adds up what it has mapped and touched itself: heap
 * (mallinfo2), scratch and pages of keys and values, and mapped weights apart from them, because
 * the kernel has those once for everybody. Stacks and the program itself, half a megabyte, are
 * left out. The broker takes it as information. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "daemon/worker/link.h"
#include "daemon/worker/models.h"
#include "daemon/worker/resident.h"
#include "daemon/worker/scheduler.h"
#include "engine/base/macro.h"

static const uint64_t INTERVAL = 500 * USEC_PER_MSEC;

static struct wire_resident look(struct worker *w) {
        struct models_loaded loaded = models_sum(w->models);
        struct scheduler_memory memory = scheduler_memory(w->scheduler);
        struct mallinfo2 heap = mallinfo2();
        struct wire_resident r = {
                .h.type = WIRE_RESIDENT,
                .models = loaded.count,
                .keep_usec = loaded.until,
                .weights_bytes = loaded.bytes,
                .private_bytes = memory.private_bytes + heap.arena + heap.hblkhd,
                .kv_bytes = memory.kv_bytes,
                .kv_kept_bytes = memory.kept_bytes,
        };

        snprintf(r.name, sizeof(r.name), "%s", loaded.name);
        return r;
}

void resident_poll(const struct worker *w, struct poller *p) {
        if (w->resident.new)
                poller_deadline(p, w->resident.told_at + INTERVAL);
}

/* A heap that breathes by a page or two is no news. */
static bool differs(const struct wire_resident *a, const struct wire_resident *b) {
        uint64_t more = MAX(a->private_bytes, b->private_bytes);

        return a->models != b->models || a->keep_usec != b->keep_usec ||
               a->weights_bytes != b->weights_bytes || a->kv_bytes != b->kv_bytes ||
               a->kv_kept_bytes != b->kv_kept_bytes || strcmp(a->name, b->name) != 0 ||
               more - MIN(a->private_bytes, b->private_bytes) > more / 64;
}

void resident_run(struct worker *w) {
        struct resident *r = &w->resident;
        struct wire_resident now = look(w);
        union wire_message m = { .resident = now };

        r->new = differs(&now, &r->told);
        if (!r->new || (r->told_at != 0 && w->now - r->told_at < INTERVAL))
                return;
        m.resident.keep_usec = now.keep_usec > w->now ? now.keep_usec - w->now : 0;
        if (link_send(w->link, &m) < 0)
                return;
        *r = (struct resident){ .told = now, .told_at = w->now };
}
