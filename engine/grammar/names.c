/* No name twice. Where names are free, the only thing to keep from happening is the quotation mark
 * that would end one of those used: another character can always come instead. Where a pattern
 * binds them, names can run out, and from the beginning of one on which too few are left. The
 * automaton knows how many texts each state leads to, so the invariant (what is let through can be
 * ended) is a comparison: there are more of them than names used with the same beginning. Then one
 * of the next bytes keeps it, or the name can end here. Inside an escape, which only some
 * characters go through, all ways to its end are tried. */
#include "engine/grammar/names.h"

enum { ESCAPE_BYTES = 8 }; /* more than are missing to the end of any escape */

void names_done(struct names *s) {
        VEC_DONE(&s->text);
        VEC_DONE(&s->list);
}

int names_put(struct names *s, size_t at, uint8_t byte) {
        while (s->text.room < at + 1 + ESCAPE_BYTES) {
                int r;

                s->text.n = s->text.room; /* all of it is copied */
                r = vec_reserve((void **)&s->text.p, s->text.n, &s->text.room, 1);
                if (r < 0)
                        return r;
        }
        s->text.p[at] = byte;
        s->text.n = at + 1;
        return 0;
}

int names_add(struct names *s, uint32_t before, uint32_t first, uint32_t *ret) {
        struct used_name one = { .before = before, .first = first };
        int r;

        while (s->text.p[first + one.n] != '"')
                one.n += s->text.p[first + one.n] == '\\' ? 2 : 1;
        one.n++;
        for (size_t i = s->list.n; i > 0 && s->list.p[i - 1].first >= first; i--)
                if (memcmp(&s->list.p[i - 1], &one, sizeof(one)) == 0) {
                        *ret = (uint32_t)i;
                        return 0;
                }
        r = VEC_PUSH(&s->list, one);
        *ret = (uint32_t)s->list.n;
        return r;
}

const struct used_name *names_next(const struct names *s, uint32_t *at, uint32_t first) {
        const uint8_t *text = s->text.p + first;
        size_t n = s->text.n - first;

        while (*at) {
                const struct used_name *one = &s->list.p[*at - 1];

                *at = one->before;
                if (one->n >= n && memcmp(s->text.p + one->first, text, n) == 0)
                        return one;
        }
        return NULL;
}

bool names_begin(const struct names *s, uint32_t last, uint32_t first) {
        return names_next(s, &last, first) != NULL;
}

/* Names of the list to which the lexeme could lead. */
static uint32_t count_reachable(const struct names *s, const struct grammar *g, uint32_t last,
                                uint32_t first, const struct lexeme *l) {
        const struct used_name *one;
        uint32_t n = 0;

        while ((one = names_next(s, &last, first))) {
                struct lexeme copy = *l;
                uint32_t i = (uint32_t)s->text.n - first;

                while (i < one->n && lexeme_step(g, &copy, s->text.p[one->first + i]))
                        i++;
                n += i == one->n;
        }
        return n;
}

static bool escape_possible(struct names *s, const struct grammar *g, uint32_t last,
                            uint32_t first, const struct lexeme *l) {
        bool possible = false;

        for (uint8_t byte = 0x20; byte < 0x7f && !possible; byte++) {
                struct lexeme copy = *l;

                if (!lexeme_step(g, &copy, byte))
                        continue;
                s->text.p[s->text.n++] = byte; /* there is room: names_put */
                possible = names_possible(s, g, last, first, &copy);
                s->text.n--;
        }
        return possible;
}

bool names_avoidable(struct names *s, const struct grammar *g, uint32_t last, uint32_t first,
                     const struct lexeme *l) {
        uint32_t texts;

        if (l->closed)
                return lexeme_property(g, l) != GRAMMAR_NONE;
        if (l->kind != LEXEME_OTHER || l->state == GRAMMAR_NONE)
                return true;
        if (l->escape != ESCAPE_NONE)
                return escape_possible(s, g, last, first, l);
        texts = g->dfa.states.p[l->state].texts;
        return texts == DFA_ENDLESS || texts > count_reachable(s, g, last, first, l);
}

bool names_possible(struct names *s, const struct grammar *g, uint32_t last, uint32_t first,
                    const struct lexeme *l) {
        return !names_begin(s, last, first) || names_avoidable(s, g, last, first, l);
}
