/* The special-token table: a sorted list, searched by narrowing. At each byte of the text the
 * range of tokens that agree with what follows is cut down one byte at a time, so the cost per
 * position is the length of the agreement times the logarithm of the list, however many tokens
 * there are. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/special.h"
#include "engine/text/vocab.h"

int specials_add(struct specials *s, struct special one) {
        if (s->n == s->room) {
                size_t room = s->room ? 2 * s->room : 64;
                struct special *list = reallocarray(s->list, room, sizeof(*list));
                if (!list)
                        return -ENOMEM;
                s->list = list;
                s->room = room;
        }
        s->list[s->n++] = one;
        return 0;
}

static int compare_text(struct view a, struct view b) {
        int r = memcmp(a.p, b.p, MIN(a.n, b.n));
        return r ? r : (a.n > b.n) - (a.n < b.n);
}

static int compare(const void *a, const void *b) {
        const struct special *x = a, *y = b;
        int r = compare_text(x->text, y->text);
        return r ? r : (x->id > y->id) - (x->id < y->id);
}

void specials_sort(struct specials *s) {
        if (s->n > 0)
                qsort(s->list, s->n, sizeof(*s->list), compare);
}

void specials_done(struct specials *s) {
        free(s->list);
        *s = (struct specials){0};
}

int32_t specials_exact(const struct specials *s, struct view text) {
        size_t low = 0, high = s->n;
        while (low < high) {
                size_t mid = low + (high - low) / 2;
                if (compare_text(s->list[mid].text, text) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low < s->n && compare_text(s->list[low].text, text) == 0 ? s->list[low].id
                                                                        : TOKEN_NONE;
}

/* First entry of list[low..high) whose byte at depth d is at least b. All entries are longer than d
 * and equal before it. */
static size_t lower(const struct special *list, size_t low, size_t high, size_t d, unsigned b) {
        while (low < high) {
                size_t mid = low + (high - low) / 2;
                if (list[mid].text.p[d] < b)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

/* The longest token that text[0..n) starts with. */
static const struct special *longest(const struct specials *s, const uint8_t *text, size_t n) {
        const struct special *found = NULL;
        size_t low = 0, high = s->n;
        for (size_t d = 0; d < n && low < high; d++) {
                low = lower(s->list, low, high, d, text[d]);
                high = lower(s->list, low, high, d, text[d] + 1u);
                if (low < high && s->list[low].text.n == d + 1)
                        found = &s->list[low];
                /* those that end here cannot be longer */
                while (low < high && s->list[low].text.n == d + 1)
                        low++;
        }
        return found;
}

bool specials_find(const struct specials *s, struct view text, size_t from, size_t *ret_at,
                   struct special *ret) {
        for (size_t i = from; s->n > 0 && i < text.n; i++) {
                const struct special *found = longest(s, text.p + i, text.n - i);
                if (found) {
                        *ret_at = i;
                        *ret = *found;
                        return true;
                }
        }
        return false;
}
