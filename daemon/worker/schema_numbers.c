/* Bounds and multiples of numbers. Bounds beyond 18 digits before the point lie outside of what is
 * written anyway; those with more than 17 digits after it are refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "engine/base/macro.h"
#include "engine/grammar/number.h"

bool schema_plain_number(const json_t *v, char ret[NUMBER_TEXT_MAX]) {
        char text[NUMBER_TEXT_MAX];
        struct decimal d;
        size_t n = 0;

        schema_number_text(v, text, sizeof(text));
        if (decimal_parse(text, &d) < 0)
                return false;
        if (d.negative)
                ret[n++] = '-';
        for (int i = 0; i < d.n_whole + d.n_fraction; i++) {
                if (i == d.n_whole)
                        ret[n++] = '.';
                ret[n++] = (char)('0' + d.digits[i]);
        }
        ret[n] = '\0';
        return true;
}

struct bounds {
        struct decimal min, max;
        struct number_range range;
        bool any;                  /* there is a bound, though perhaps a far one */
        bool nothing;              /* the bounds leave no number */
};

/* A bound is taken over when it is tighter than the one so far. */
static void tighten(struct bounds *b, const struct decimal *d, bool upper, bool open) {
        struct decimal *bound = upper ? &b->max : &b->min;
        const struct decimal **set = upper ? &b->range.max : &b->range.min;
        bool *is_open = upper ? &b->range.max_open : &b->range.min_open;
        int order = *set ? decimal_compare(d, bound) : 0;

        if (*set && (upper ? order > 0 : order < 0))
                return;
        *is_open = *set && order == 0 ? *is_open || open : open;
        *bound = *d;
        *set = bound;
}

static int add_bound(struct compiler *c, const json_t *schema, const char *keyword, bool upper,
                     bool open, struct bounds *b) {
        json_t *v = json_object_get(schema, keyword);
        char text[NUMBER_TEXT_MAX];
        struct decimal d;
        int r;

        if (!v)
                return 0;
        schema_number_text(v, text, sizeof(text));
        r = decimal_parse(text, &d);
        b->any = true;
        if (r == -EDOM)
                return schema_refuse(c, schema, keyword, ERROR_UNSUPPORTED,
                                     "The bound has more than 17 digits after the point.");
        if (r == -ERANGE)
                b->nothing |= upper == (text[0] == '-');
        else
                tighten(b, &d, upper, open);
        return 0;
}

static int collect_bounds(struct compiler *c, const struct set *s, struct bounds *b) {
        static const struct {
                const char *keyword;
                bool upper, open;
        } rows[] = {
                { "minimum", false, false }, { "exclusiveMinimum", false, true },
                { "maximum", true, false }, { "exclusiveMaximum", true, true },
        };

        for (size_t i = 0; i < s->n; i++)
                for (size_t j = 0; j < ARRAY_SIZE(rows); j++) {
                        int r = add_bound(c, s->atoms[i].schema, rows[j].keyword, rows[j].upper,
                                          rows[j].open, b);

                        if (r < 0)
                                return r;
                }
        return 0;
}

static int add_range(struct compiler *c, const struct bounds *b, uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t start, end;

        if (b->nothing) {
                start = nfa_state(&n);
                end = nfa_state(&n);
        } else {
                number_build(&n, &b->range, &start, &end);
        }
        return dfa_add(&c->g->dfa, &n, start, end, ret);
}

static int add_multiple(struct compiler *c, const json_t *schema, const json_t *step,
                        uint32_t *all) {
        _cleanup_(nfa_done) struct nfa n = {};
        char text[NUMBER_TEXT_MAX];
        uint32_t start, end, one;
        struct decimal d;
        int r;

        if (json_number_value(step) <= 0)
                return schema_refuse(c, schema, "multipleOf", ERROR_INVALID_INPUT,
                                     "The number must be above 0.");
        schema_number_text(step, text, sizeof(text));
        if (decimal_parse(text, &d) < 0 || number_build_multiple(&n, &d, &start, &end) < 0)
                return schema_refuse(c, schema, "multipleOf", ERROR_UNSUPPORTED,
                                     "The step has too many digits.");
        r = dfa_add(&c->g->dfa, &n, start, end, &one);
        return r < 0 ? r : dfa_intersect(&c->g->dfa, *all, one, all);
}

int schema_number(struct compiler *c, const struct set *s, bool whole, uint32_t *ret) {
        struct bounds b = { .range.whole = whole };
        bool multiple = false;
        int r = collect_bounds(c, s, &b);

        for (size_t i = 0; i < s->n; i++)
                multiple |= json_object_get(s->atoms[i].schema, "multipleOf") != NULL;
        *ret = GRAMMAR_NONE;
        if (r < 0 || (!multiple && !b.any))
                return r;
        r = add_range(c, &b, ret);
        for (size_t i = 0; i < s->n && r >= 0; i++) {
                json_t *step = json_object_get(s->atoms[i].schema, "multipleOf");

                if (step)
                        r = add_multiple(c, s->atoms[i].schema, step, ret);
        }
        return schema_too_big(c, s->n ? s->atoms[0].schema : c->root, r);
}
