/* Regular expressions to automata, by recursive descent (Thompson's construction). Each rule of the
 * grammar returns a piece: a state where it begins and one where it ends. States and edges of a
 * piece stand together, so that a quantifier can copy them.
 *
 * JSON Schema searches: without ^ anything may stand before, without $ anything after. Inside a
 * group these two would need a context that an automaton over bytes does not have; there they are
 * refused, as is everything that is not regular. Lazy quantifiers match the same texts as
 * others. */
#include <errno.h>
#include <stdbool.h>

#include "engine/grammar/regex.h"
#include "engine/text/utf8.h"

enum { LAST_CHARACTER = 0x10ffff, RANGES_MAX = 256, NOTHING = -1 };

struct piece {
        uint32_t start, end;
};

/* A set of characters: ranges in any order. */
struct ranges {
        struct {
                uint32_t lo, hi;
        } r[RANGES_MAX];
        size_t n;
        bool full;
};

struct parser {
        struct nfa *nfa;
        const uint8_t *p;
        size_t n, at;
        unsigned depth;
        int error;
};

static int fail(struct parser *p, int error) {
        if (p->error == 0)
                p->error = error;
        return p->error;
}

/* The next byte or NOTHING; every mark of the syntax is one byte. */
static int peek(const struct parser *p) {
        return p->error == 0 && p->at < p->n ? p->p[p->at] : NOTHING;
}

static bool skip(struct parser *p, char c) {
        if (peek(p) != c)
                return false;
        p->at++;
        return true;
}

static uint32_t next_character(struct parser *p) {
        uint32_t cp;

        if (p->error < 0 || p->at >= p->n) {
                fail(p, -EINVAL);
                return 0;
        }
        p->at += utf8_decode(p->p + p->at, p->n - p->at, &cp);
        if (cp == UTF8_BAD)
                fail(p, -EINVAL);
        return cp;
}

static struct piece new_piece(struct parser *p) {
        return (struct piece){ .start = nfa_state(p->nfa), .end = nfa_state(p->nfa) };
}

/* --- sets of characters --- */

static void add_range(struct ranges *s, uint32_t lo, uint32_t hi) {
        if (s->n == RANGES_MAX) {
                s->full = true;
                return;
        }
        s->r[s->n].lo = lo;
        s->r[s->n++].hi = hi;
}

static void add_digits(struct ranges *s) {
        add_range(s, '0', '9');
}

static void add_word(struct ranges *s) {
        add_range(s, '0', '9');
        add_range(s, 'A', 'Z');
        add_range(s, '_', '_');
        add_range(s, 'a', 'z');
}

static void add_spaces(struct ranges *s) {
        static const uint32_t spaces[][2] = {
                { 0x09, 0x0d }, { 0x20, 0x20 }, { 0xa0, 0xa0 }, { 0x1680, 0x1680 },
                { 0x2000, 0x200a }, { 0x2028, 0x2029 }, { 0x202f, 0x202f }, { 0x205f, 0x205f },
                { 0x3000, 0x3000 }, { 0xfeff, 0xfeff },
        };

        for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
                add_range(s, spaces[i][0], spaces[i][1]);
}

/* The lowest character from cp on that is in the set (or, outside, that is not), with the end of
 * its run. */
static bool next_run(const struct ranges *s, uint32_t cp, uint32_t *ret_lo, uint32_t *ret_hi) {
        uint32_t lo = UINT32_MAX, hi = 0;
        bool grown = true;

        for (size_t i = 0; i < s->n; i++)
                if (s->r[i].hi >= cp)
                        lo = MIN(lo, MAX(s->r[i].lo, cp));
        if (lo == UINT32_MAX)
                return false;
        for (hi = lo; grown;) {
                grown = false;
                for (size_t i = 0; i < s->n; i++)
                        if (s->r[i].lo <= hi + 1 && s->r[i].hi > hi) {
                                hi = s->r[i].hi;
                                grown = true;
                        }
        }
        *ret_lo = lo;
        *ret_hi = hi;
        return true;
}

static void invert(const struct ranges *s, struct ranges *ret) {
        uint32_t at = 0, lo, hi;

        while (next_run(s, at, &lo, &hi)) {
                if (lo > at)
                        add_range(ret, at, lo - 1);
                at = hi + 1;
        }
        if (at <= LAST_CHARACTER)
                add_range(ret, at, LAST_CHARACTER);
}

static void add_inverted(struct ranges *s, void (*add)(struct ranges *s)) {
        struct ranges some = { .n = 0 }, others = { .n = 0 };

        add(&some);
        invert(&some, &others);
        for (size_t i = 0; i < others.n; i++)
                add_range(s, others.r[i].lo, others.r[i].hi);
}

static struct piece put_ranges(struct parser *p, const struct ranges *s) {
        struct piece piece = new_piece(p);
        uint32_t at = 0, lo, hi;

        if (s->full)
                fail(p, -E2BIG);
        while (p->error == 0 && next_run(s, at, &lo, &hi)) {
                nfa_characters(p->nfa, piece.start, lo, hi, piece.end);
                at = hi + 1;
        }
        return piece;
}

/* --- escapes --- */

static uint32_t hex_digits(struct parser *p, unsigned n) {
        uint32_t value = 0;

        for (unsigned i = 0; i < n; i++) {
                int c = peek(p);

                if (c >= '0' && c <= '9')
                        value = value * 16 + (uint32_t)(c - '0');
                else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
                        value = value * 16 + (uint32_t)((c | 0x20) - 'a' + 10);
                else
                        fail(p, -EINVAL);
                p->at++;
        }
        return value;
}

static uint32_t unicode_escape(struct parser *p) {
        uint32_t cp, low;

        if (skip(p, '{')) {
                for (cp = 0; !skip(p, '}') && p->error == 0;)
                        if ((cp = cp * 16 + hex_digits(p, 1)) > LAST_CHARACTER)
                                fail(p, -EINVAL);
        } else {
                cp = hex_digits(p, 4);
                if (cp >= 0xd800 && cp < 0xdc00 && skip(p, '\\') && skip(p, 'u')) {
                        low = hex_digits(p, 4);
                        cp = low >= 0xdc00 && low < 0xe000
                                     ? 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00)
                                     : 0xd800;
                }
        }
        if (cp >= 0xd800 && cp < 0xe000)
                fail(p, -EINVAL); /* no character */
        return cp;
}

/* After the backslash. */
static void escape(struct parser *p, struct ranges *s) {
        static const char marks[] = "^$\\.*+?()[]{}|/-", plain[] = "tnvfr",
                          meaning[] = "\t\n\v\f\r";
        uint32_t c = next_character(p);

        if (p->error < 0)
                return;
        if (c == 'd')
                add_digits(s);
        else if (c == 'w')
                add_word(s);
        else if (c == 's')
                add_spaces(s);
        else if (c == 'D')
                add_inverted(s, add_digits);
        else if (c == 'W')
                add_inverted(s, add_word);
        else if (c == 'S')
                add_inverted(s, add_spaces);
        else if (c == 'x' || c == 'u' || c == 'c' || c == '0' ||
                 (c < 0x80 && c && (strchr(marks, (int)c) || strchr(plain, (int)c)))) {
                if (c == 'x')
                        c = hex_digits(p, 2);
                else if (c == 'u')
                        c = unicode_escape(p);
                else if (c == 'c')
                        c = ((uint32_t)(peek(p) | 0x20) - 'a' < 26) ? p->p[p->at++] & 0x1f
                                                                    : (fail(p, -EINVAL), 0U);
                else if (c == '0')
                        c = peek(p) >= '0' && peek(p) <= '9' ? (fail(p, -EINVAL), 0U) : 0U;
                else if (strchr(plain, (int)c))
                        c = (uint32_t)meaning[strchr(plain, (int)c) - plain];
                add_range(s, c, c);
        } else {
                fail(p, -EOPNOTSUPP);
        }
}

/* --- classes --- */

/* One member of a class: a character (*ret_single) or a set of them. */
static void class_member(struct parser *p, struct ranges *ret, bool *ret_single) {
        *ret = (struct ranges){ .n = 0 };
        if (skip(p, '\\')) {
                if (skip(p, 'b'))
                        add_range(ret, '\b', '\b');
                else
                        escape(p, ret);
        } else {
                uint32_t c = next_character(p);

                add_range(ret, c, c);
        }
        *ret_single = ret->n == 1 && ret->r[0].lo == ret->r[0].hi;
}

static void class_range(struct parser *p, struct ranges *s) {
        struct ranges first, last;
        bool single;

        class_member(p, &first, &single);
        if (p->at + 1 < p->n && p->p[p->at] == '-' && p->p[p->at + 1] != ']') {
                p->at++;
                if (!single)
                        fail(p, -EINVAL);
                class_member(p, &last, &single);
                if (!single || last.r[0].lo < first.r[0].lo)
                        fail(p, -EINVAL);
                first.r[0].hi = p->error == 0 ? last.r[0].lo : 0;
        }
        for (size_t i = 0; i < first.n && p->error == 0; i++)
                add_range(s, first.r[i].lo, first.r[i].hi);
}

static struct piece parse_class(struct parser *p) {
        struct ranges s = { .n = 0 }, inverted = { .n = 0 };
        bool invert_it = skip(p, '^');

        while (p->error == 0 && !skip(p, ']'))
                class_range(p, &s);
        if (!invert_it)
                return put_ranges(p, &s);
        invert(&s, &inverted);
        inverted.full |= s.full;
        return put_ranges(p, &inverted);
}

/* --- the grammar --- */

static struct piece alternatives(struct parser *p);

static struct piece group(struct parser *p) {
        struct piece piece = { 0 };

        if (skip(p, '?') && !skip(p, ':')) {
                /* a name is harmless: (?<name>…); anything else looks around */
                if (!skip(p, '<') || peek(p) == '=' || peek(p) == '!')
                        fail(p, -EOPNOTSUPP);
                while (p->error == 0 && !skip(p, '>'))
                        next_character(p);
        }
        if (++p->depth > REGEX_DEPTH_MAX)
                fail(p, -E2BIG);
        if (p->error == 0)
                piece = alternatives(p);
        p->depth--;
        if (!skip(p, ')'))
                fail(p, -EINVAL);
        return piece;
}

static struct piece atom(struct parser *p) {
        struct ranges s = { .n = 0 };

        if (skip(p, '('))
                return group(p);
        if (skip(p, '['))
                return parse_class(p);
        if (skip(p, '.')) {
                static const uint32_t ends[] = { '\n', '\r', 0x2028, 0x2029 };
                struct ranges lines = { .n = 0 };

                for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
                        add_range(&lines, ends[i], ends[i]);
                invert(&lines, &s);
                return put_ranges(p, &s);
        }
        if (skip(p, '\\')) {
                escape(p, &s);
                return put_ranges(p, &s);
        }
        if (peek(p) == '^' || peek(p) == '$')
                fail(p, -EOPNOTSUPP);
        else if (peek(p) != NOTHING && strchr("*+?{}])", peek(p)))
                fail(p, -EINVAL);
        if (p->error == 0) {
                uint32_t c = next_character(p);

                add_range(&s, c, c);
        }
        return put_ranges(p, &s);
}

static unsigned number(struct parser *p) {
        unsigned value = 0;

        if (peek(p) < '0' || peek(p) > '9')
                fail(p, -EINVAL);
        while (peek(p) >= '0' && peek(p) <= '9') {
                value = value * 10 + (unsigned)(p->p[p->at++] - '0');
                if (value > REGEX_REPEAT_MAX)
                        fail(p, -E2BIG);
        }
        return value;
}

/* *ret_most: UINT32_MAX without end. False: there is no quantifier. */
static bool quantifier(struct parser *p, unsigned *ret_least, unsigned *ret_most) {
        *ret_least = 0;
        *ret_most = UINT32_MAX;
        if (skip(p, '+')) {
                *ret_least = 1;
        } else if (skip(p, '?')) {
                *ret_most = 1;
        } else if (skip(p, '{')) {
                *ret_least = *ret_most = number(p);
                if (skip(p, ',')) {
                        *ret_most = UINT32_MAX;
                        if (peek(p) != '}')
                                *ret_most = number(p);
                }
                if (!skip(p, '}') || *ret_most < *ret_least)
                        fail(p, -EINVAL);
        } else if (!skip(p, '*')) {
                return false;
        }
        skip(p, '?');
        return true;
}

/* The piece is what was added to the automaton since the states and edges given. */
static struct piece repeat(struct parser *p, struct piece one, uint32_t first_state,
                           size_t first_edge, unsigned least, unsigned most) {
        struct nfa *n = p->nfa;
        uint32_t last_state = n->n_states, at, end;
        size_t last_edge = n->edges.n;
        unsigned copies = most == UINT32_MAX ? MAX(least, 1U) : MAX(most, 1U);
        struct piece all = new_piece(p);

        end = all.end;
        at = all.start;
        for (unsigned i = 0; i < copies && n->error == 0; i++) {
                uint32_t shift = i == 0 ? 0 : nfa_copy(n, first_state, last_state, first_edge,
                                                       last_edge);

                if (i >= least || most == 0)
                        nfa_empty(n, at, end);
                if (most == 0)
                        break;
                nfa_empty(n, at, one.start + shift);
                at = one.end + shift;
                if (i + 1 == copies && most == UINT32_MAX)
                        nfa_empty(n, at, one.start + shift);
        }
        if (most != 0)
                nfa_empty(n, at, end);
        return all;
}

static struct piece term(struct parser *p) {
        uint32_t first_state = p->nfa->n_states;
        size_t first_edge = p->nfa->edges.n;
        struct piece piece = atom(p);
        unsigned least, most;

        if (p->error == 0 && quantifier(p, &least, &most))
                piece = repeat(p, piece, first_state, first_edge, least, most);
        return piece;
}

static void put_anything(struct parser *p, uint32_t at) {
        nfa_characters(p->nfa, at, 0, LAST_CHARACTER, at);
}

/* One alternative: terms one after the other. */
static struct piece sequence(struct parser *p) {
        struct piece all = new_piece(p);
        uint32_t at = all.start;
        bool outermost = p->depth == 0, ended = false;

        if (outermost && !skip(p, '^'))
                put_anything(p, all.start);
        while (p->error == 0 && peek(p) != NOTHING && peek(p) != '|' && peek(p) != ')') {
                struct piece next;

                if (ended)
                        fail(p, -EOPNOTSUPP); /* something after $ */
                if (outermost && skip(p, '$')) {
                        ended = true;
                        continue;
                }
                next = term(p);
                nfa_empty(p->nfa, at, next.start);
                at = next.end;
        }
        if (outermost && !ended)
                put_anything(p, all.end);
        nfa_empty(p->nfa, at, all.end);
        return all;
}

static struct piece alternatives(struct parser *p) {
        struct piece all = new_piece(p);

        do {
                struct piece one = sequence(p);

                nfa_empty(p->nfa, all.start, one.start);
                nfa_empty(p->nfa, one.end, all.end);
        } while (p->error == 0 && skip(p, '|'));
        return all;
}

int regex_build(struct nfa *n, struct view pattern, uint32_t *ret_start, uint32_t *ret_end) {
        struct parser p = { .nfa = n, .p = pattern.p, .n = pattern.n };
        struct piece all = alternatives(&p);

        if (p.error == 0 && p.at < p.n)
                fail(&p, -EINVAL);
        if (n->error < 0)
                fail(&p, n->error);
        *ret_start = all.start;
        *ret_end = all.end;
        return p.error;
}
