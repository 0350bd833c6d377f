/* The text/event-stream format, as far as the daemon uses it: "event:" and "data:" lines, an empty
 * line ends an event, lines that start with a colon are comments. Buffers hold model output, so
 * they are wiped. */

#include <stdlib.h>
#include <string.h>

#include "client/sse.h"

static bool append(char **buf, size_t *n, size_t *room, const char *p, size_t add) {
        if (*n + add + 1 > *room) {
                size_t want = (*n + add + 1) * 2;
                char *bigger = malloc(want);
                if (!bigger)
                        return false;
                if (*n > 0)
                        memcpy(bigger, *buf, *n);
                if (*buf)
                        explicit_bzero(*buf, *room);
                free(*buf);
                *buf = bigger;
                *room = want;
        }
        memcpy(*buf + *n, p, add);
        *n += add;
        (*buf)[*n] = 0;
        return true;
}

static bool end_event(struct sse *s) {
        bool go_on = true;

        if (s->data_n > 0)
                go_on = s->on_event(s->userdata, s->event, s->data, s->data_n);
        s->event[0] = 0;
        s->data_n = 0;
        return go_on;
}

/* The value after "name:" and one optional space, or NULL when the line is another field. */
static const char *field(const char *line, const char *name) {
        size_t n = strlen(name);

        if (strncmp(line, name, n) != 0 || line[n] != ':')
                return NULL;
        return line[n + 1] == ' ' ? line + n + 2 : line + n + 1;
}

static bool end_line(struct sse *s) {
        const char *value;

        if (s->n > 0 && s->line[s->n - 1] == '\r')
                s->line[--s->n] = 0;
        if (s->n == 0)
                return end_event(s);
        value = field(s->line, "event");
        if (value) {
                strncpy(s->event, value, sizeof(s->event) - 1);
                return true;
        }
        value = field(s->line, "");
        if (value && s->on_comment)
                s->on_comment(s->userdata, value);
        value = field(s->line, "data");
        if (!value)
                return true;
        if (s->data_n > 0 && !append(&s->data, &s->data_n, &s->data_room, "\n", 1))
                return false;
        return append(&s->data, &s->data_n, &s->data_room, value, strlen(value));
}

bool sse_feed(struct sse *s, const char *p, size_t n) {
        while (n > 0) {
                const char *newline = memchr(p, '\n', n);
                size_t part = newline ? (size_t)(newline - p) : n;

                if (!append(&s->line, &s->n, &s->room, p, part))
                        return false;
                if (!newline)
                        return true;
                if (!end_line(s))
                        return false;
                s->n = 0;
                p += part + 1;
                n -= part + 1;
        }
        return true;
}

void sse_done(struct sse *s) {
        if (s->line)
                explicit_bzero(s->line, s->room);
        if (s->data)
                explicit_bzero(s->data, s->data_room);
        free(s->line);
        free(s->data);
        s->line = s->data = NULL;
}
