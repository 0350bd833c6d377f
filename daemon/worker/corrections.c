/* A longest common subsequence of parts. Both texts are pieces of a document, so the table of all
 * pairs, of two bytes each, is small; beginning and end that agree are cut off first. What does not
 * fit into the table becomes one correction from the first difference to the last, which is as
 * exact, if less telling. Invariant: between corrections both texts are the same. The result holds
 * positions only. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/corrections.h"
#include "engine/base/macro.h"

struct part {
        size_t at, n;
};

struct parts {
        const char *text;
        struct part *items;
        size_t n;
};

void corrections_done(struct corrections *c) {
        free(c->items);
        *c = (struct corrections){0};
}

enum kind { KIND_BLANK, KIND_WORD, KIND_OTHER };

/* Bytes of characters beyond ASCII belong to words, so no character is ever cut. */
static enum kind kind_of(char c) {
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
                return KIND_BLANK;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '\'' || (unsigned char)c >= 0x80)
                return KIND_WORD;
        return KIND_OTHER;
}

static size_t part_size(const char *p, size_t n) {
        enum kind kind = kind_of(p[0]);
        size_t i = 1;

        while (kind != KIND_OTHER && i < n && kind_of(p[i]) == kind)
                i++;
        return i;
}

static int split(const char *p, size_t n, struct parts *ret) {
        size_t count = 0, room = 0;

        *ret = (struct parts){.text = p};
        for (size_t at = 0; at < n; at += ret->items[count++].n) {
                if (count == room) {
                        struct part *more = reallocarray(ret->items, room += 256, sizeof(*more));

                        if (!more)
                                return -ENOMEM;
                        ret->items = more;
                }
                ret->items[count] = (struct part){at, part_size(p + at, n - at)};
        }
        ret->n = count;
        return 0;
}

static bool same(const struct parts *a, size_t i, const struct parts *b, size_t j) {
        const struct part *x = &a->items[i], *y = &b->items[j];

        return x->n == y->n && memcmp(a->text + x->at, b->text + y->at, x->n) == 0;
}

static size_t part_start(const struct parts *p, size_t i, size_t whole) {
        return i < p->n ? p->items[i].at : whole;
}

/* The middle of both texts, between beginnings and ends that agree, as part numbers. */
struct middle {
        const struct parts *a, *b;
        size_t a_n, b_n;     /* bytes of the whole texts */
        size_t first, a_end, b_end;
};

static int add(struct corrections *c, const struct middle *m, size_t i, size_t j, size_t i_end,
               size_t j_end) {
        struct correction *more;
        struct correction new = { .start = part_start(m->a, i, m->a_n),
                                  .end = part_start(m->a, i_end, m->a_n),
                                  .from = part_start(m->b, j, m->b_n) };

        new.n = part_start(m->b, j_end, m->b_n) - new.from;
        more = reallocarray(c->items, c->n + 1, sizeof(*more));
        if (!more)
                return -ENOMEM;
        c->items = more;
        c->items[c->n++] = new;
        c->kept -= new.end - new.start;
        return 0;
}

/* table[i][j]: parts that a[first + i..] and b[first + j..] have in common, in order. */
static uint16_t *common(const struct middle *m) {
        size_t rows = m->a_end - m->first, columns = m->b_end - m->first, width = columns + 1;
        uint16_t *t = calloc((rows + 1) * width, sizeof(*t));

        for (size_t i = rows; t && i-- > 0;)
                for (size_t j = columns; j-- > 0;)
                        t[i * width + j] =
                                same(m->a, m->first + i, m->b, m->first + j)
                                        ? (uint16_t)(t[(i + 1) * width + j + 1] + 1)
                                        : MAX(t[(i + 1) * width + j], t[i * width + j + 1]);
        return t;
}

/* Walk the table from the start; what is not common between two common parts is one correction. */
static int walk(const struct middle *m, const uint16_t *t, struct corrections *ret) {
        size_t i = m->first, j = m->first, i_from, j_from, width = m->b_end - m->first + 1;
        int r = 0;

        while (r == 0 && (i < m->a_end || j < m->b_end)) {
                i_from = i;
                j_from = j;
                while (i < m->a_end || j < m->b_end) {
                        const uint16_t *here = t + (i - m->first) * width + (j - m->first);

                        if (i < m->a_end && j < m->b_end && same(m->a, i, m->b, j))
                                break;
                        if (j == m->b_end || (i < m->a_end && here[width] >= here[1]))
                                i++;
                        else
                                j++;
                }
                if (i > i_from || j > j_from)
                        r = add(ret, m, i_from, j_from, i, j);
                while (i < m->a_end && j < m->b_end && same(m->a, i, m->b, j)) {
                        i++;
                        j++;
                }
        }
        return r;
}

static int compare(const struct parts *a, size_t a_n, const struct parts *b, size_t b_n,
                   struct corrections *ret) {
        struct middle m = { .a = a, .b = b, .a_n = a_n, .b_n = b_n, .a_end = a->n,
                            .b_end = b->n };
        uint16_t *t;
        int r;

        while (m.first < a->n && m.first < b->n && same(a, m.first, b, m.first))
                m.first++;
        while (m.a_end > m.first && m.b_end > m.first && same(a, m.a_end - 1, b, m.b_end - 1)) {
                m.a_end--;
                m.b_end--;
        }
        if (m.a_end == m.first && m.b_end == m.first)
                return 0;
        if (MAX(m.a_end, m.b_end) - m.first > CORRECTIONS_PARTS_MAX)
                return add(ret, &m, m.first, m.first, m.a_end, m.b_end);
        t = common(&m);
        r = t ? walk(&m, t, ret) : -ENOMEM;
        free(t);
        return r;
}

int corrections_find(const char *a, size_t a_n, const char *b, size_t b_n,
                     struct corrections *ret) {
        struct parts x = {0}, y = {0};
        int r;

        *ret = (struct corrections){.kept = a_n};
        r = split(a, a_n, &x);
        if (r == 0)
                r = split(b, b_n, &y);
        if (r == 0)
                r = compare(&x, a_n, &y, b_n, ret);
        free(x.items);
        free(y.items);
        if (r < 0)
                corrections_done(ret);
        return r;
}
