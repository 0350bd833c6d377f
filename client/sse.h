/* Server-sent events: bytes in, one call per event out. Comment lines are heartbeats. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sse {
        char *line;         /* the unfinished line */
        size_t n, room;
        char event[32];     /* name of the event that is being read, "" if none */
        char *data;         /* its data so far */
        size_t data_n, data_room;
        /* event is "" for unnamed events. Return false to stop. */
        bool (*on_event)(void *userdata, const char *event, const char *data, size_t n);
        /* NULL: comments are skipped. */
        void (*on_comment)(void *userdata, const char *text);
        void *userdata;
};

/* Returns false when on_event did, or memory ran out. */
bool sse_feed(struct sse *s, const char *p, size_t n);
void sse_done(struct sse *s);
