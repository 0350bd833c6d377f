/* Automata for numbers. Comparing a number with a bound while its digits arrive: as long as all
 * digits so far are the bound's, the text is "tight" to it, and the next digit is held against the
 * bound's; one other digit decides. Whole parts of different length are compared by length, so
 * every length has states of its own. Two bounds make four kinds of states, [tight to the lower]
 * [tight to the upper]. States from which nothing can follow any more are cut off when the
 * automaton is made deterministic. */
#include <errno.h>

#include "engine/grammar/number.h"

/* --- decimals --- */

/* All digits of the text in one row; *ret_point: how many of them stand before the point. */
static size_t collect_digits(const char *text, uint8_t *digits, size_t max, long *ret_point) {
        size_t n = 0;
        bool point = false;

        *ret_point = 0;
        for (; (*text >= '0' && *text <= '9') || *text == '.'; text++) {
                if (*text == '.') {
                        point = true;
                        continue;
                }
                *ret_point += !point;
                if (n == 0 && *text == '0') {
                        *ret_point -= 1; /* the value's first digit is not 0 */
                        continue;
                }
                if (n < max)
                        digits[n] = (uint8_t)(*text - '0');
                n++;
        }
        if (*text == 'e' || *text == 'E')
                *ret_point += strtol(text + 1, NULL, 10);
        return n;
}

int decimal_parse(const char *text, struct decimal *ret) {
        uint8_t digits[NUMBER_WHOLE_MAX + NUMBER_FRACTION_MAX];
        struct decimal d = { .negative = *text == '-', .n_whole = 1 };
        long point;
        size_t n = collect_digits(text + d.negative, digits, sizeof(digits), &point);

        for (size_t i = MIN(n, sizeof(digits)); n == i && n > 0 && digits[n - 1] == 0; i--)
                n--;
        if (n == 0) {
                *ret = (struct decimal){ .n_whole = 1 };
                return 0;
        }
        if (point > NUMBER_WHOLE_MAX)
                return -ERANGE;
        if ((long)n - point > NUMBER_FRACTION_MAX || n > sizeof(digits))
                return -EDOM;
        d.n_whole = (uint8_t)MAX(point, 1L);
        for (long i = 0; i < point; i++)
                d.digits[i] = i < (long)n ? digits[i] : 0;
        for (long i = MAX(point, 0L); i < (long)n; i++)
                d.digits[d.n_whole + i - point] = digits[i];
        d.n_fraction = (uint8_t)MAX((long)n - point, 0L);
        *ret = d;
        return 0;
}

static int compare_magnitude(const struct decimal *a, const struct decimal *b) {
        if (a->n_whole != b->n_whole)
                return a->n_whole < b->n_whole ? -1 : 1;
        for (int i = 0; i < MAX(a->n_whole + a->n_fraction, b->n_whole + b->n_fraction); i++) {
                int x = i < a->n_whole + a->n_fraction ? a->digits[i] : 0;
                int y = i < b->n_whole + b->n_fraction ? b->digits[i] : 0;

                if (x != y)
                        return x < y ? -1 : 1;
        }
        return 0;
}

int decimal_compare(const struct decimal *a, const struct decimal *b) {
        if (a->negative != b->negative)
                return a->negative ? -1 : 1;
        return a->negative ? compare_magnitude(b, a) : compare_magnitude(a, b);
}

/* --- ranges of magnitudes --- */

/* lo is always there, hi NULL without an upper end. */
struct magnitudes {
        struct nfa *n;
        const struct decimal *lo, *hi;
        bool lo_open, hi_open, whole;
        uint32_t end;
        uint32_t fractions[NUMBER_DIGITS_MAX];
};

#define NONE UINT32_MAX

/* Two tight bits; NONE where a state does not exist yet. */
struct row {
        uint32_t state[2][2];
};

static const struct row empty_row = { { { NONE, NONE }, { NONE, NONE } } };

static void row_edge(struct nfa *n, uint32_t from, int digit, struct row *to, bool lo, bool hi) {
        uint32_t *next = &to->state[lo][hi];

        if (*next == NONE)
                *next = nfa_state(n);
        nfa_edge(n, from, (uint8_t)('0' + digit), (uint8_t)('0' + digit), *next);
}

/* The next digit of the whole part or the fraction, held against a digit of each bound. */
static struct row next_row(struct nfa *n, const struct row *at, int least, int lo_digit,
                           int hi_digit) {
        struct row to = empty_row;

        for (int lo = 0; lo < 2; lo++)
                for (int hi = 0; hi < 2; hi++) {
                        if (at->state[lo][hi] == NONE)
                                continue;
                        for (int d = MAX(least, lo ? lo_digit : 0); d <= (hi ? hi_digit : 9); d++)
                                row_edge(n, at->state[lo][hi], d, &to, lo && d == lo_digit,
                                         hi && d == hi_digit);
                }
        return to;
}

static int fraction_digit(const struct decimal *d, int i) {
        return d && i < d->n_fraction ? d->digits[d->n_whole + i] : 0;
}

/* May the number end here, after n digits of its fraction? */
static bool may_end(const struct magnitudes *m, bool lo, bool hi, int n) {
        if (lo && (m->lo->n_fraction > n || m->lo_open))
                return false; /* below the bound, or it */
        return !hi || m->hi->n_fraction > n || !m->hi_open;
}

/* Numbers far from both bounds share one chain of fractions: [i] may have i digits more. */
static void make_fractions(struct magnitudes *m) {
        m->fractions[0] = m->end;
        for (int i = 1; i < NUMBER_DIGITS_MAX; i++) {
                m->fractions[i] = nfa_state(m->n);
                nfa_empty(m->n, m->fractions[i], m->end);
                nfa_edge(m->n, m->fractions[i], '0', '9', m->fractions[i - 1]);
        }
}

static void put_point(struct magnitudes *m, struct row *at, int limit) {
        uint32_t point;

        if (at->state[0][0] != NONE) {
                point = nfa_state(m->n);
                nfa_edge(m->n, at->state[0][0], '.', '.', point);
                nfa_edge(m->n, point, '0', '9', m->fractions[limit - 1]);
                at->state[0][0] = NONE;
        }
        for (int i = 1; i < 4; i++) {
                uint32_t *s = &at->state[i / 2][i % 2];

                if (*s == NONE)
                        continue;
                point = nfa_state(m->n);
                nfa_edge(m->n, *s, '.', '.', point);
                *s = point;
        }
}

/* After the whole part: the end, or a fraction of up to `limit` digits. */
static void put_fraction(struct magnitudes *m, struct row at, int limit) {
        for (int n = 0; n <= limit; n++) {
                for (int lo = 0; lo < 2; lo++)
                        for (int hi = 0; hi < 2; hi++)
                                if (at.state[lo][hi] != NONE && may_end(m, lo, hi, n))
                                        nfa_empty(m->n, at.state[lo][hi], m->end);
                if (n == limit)
                        return;
                if (n == 0)
                        put_point(m, &at, limit);
                at = next_row(m->n, &at, 0, fraction_digit(m->lo, n), fraction_digit(m->hi, n));
        }
}

/* Numbers with so many digits before the point. */
static void put_length(struct magnitudes *m, uint32_t from, int length) {
        struct row at = empty_row;
        bool lo = length == m->lo->n_whole, hi = m->hi && length == m->hi->n_whole;

        at.state[lo][hi] = from;
        for (int i = 0; i < length; i++)
                at = next_row(m->n, &at, i == 0 && length > 1, lo ? m->lo->digits[i] : 0,
                              hi ? m->hi->digits[i] : 0);
        put_fraction(m, at, m->whole ? 0 : MAX(NUMBER_DIGITS_MAX - length, 0));
}

static void put_magnitudes(struct magnitudes *m, uint32_t from) {
        int longest = m->hi ? m->hi->n_whole : NUMBER_WHOLE_MAX;

        for (int length = m->lo->n_whole; length <= longest; length++)
                put_length(m, from, length);
}

/* --- numbers --- */

static const struct decimal zero = { .n_whole = 1 };

void number_build(struct nfa *n, const struct number_range *r, uint32_t *ret_start,
                  uint32_t *ret_end) {
        uint32_t start = nfa_state(n), end = nfa_state(n), minus = nfa_state(n);
        struct magnitudes m = { .n = n, .whole = r->whole, .end = end };
        bool above = r->min && !r->min->negative, below = r->max && r->max->negative;

        make_fractions(&m);
        nfa_edge(n, start, '-', '-', minus);
        if (!below) {
                m.lo = above ? r->min : &zero;
                m.lo_open = above && r->min_open;
                m.hi = r->max;
                m.hi_open = r->max_open;
                put_magnitudes(&m, start);
        }
        if (!above) {
                m.lo = below ? r->max : &zero;
                m.lo_open = below ? r->max_open : true;
                m.hi = r->min;
                m.hi_open = r->min_open;
                put_magnitudes(&m, minus);
        }
        *ret_start = start;
        *ret_end = end;
}

/* Up to n digits more. */
static uint32_t put_digits(struct nfa *n, uint32_t from, int count, uint32_t end) {
        for (int i = 0; i < count; i++) {
                uint32_t next = nfa_state(n);

                nfa_edge(n, from, '0', '9', next);
                nfa_empty(n, next, end);
                from = next;
        }
        return from;
}

void number_build_any(struct nfa *n, uint32_t *ret_start, uint32_t *ret_end) {
        uint32_t start = nfa_state(n), unsigned_ = nfa_state(n), digit = nfa_state(n);
        uint32_t whole = nfa_state(n), point = nfa_state(n), fraction = nfa_state(n);
        uint32_t e = nfa_state(n), exponent = nfa_state(n), end = nfa_state(n);

        nfa_edge(n, start, '-', '-', unsigned_);
        nfa_empty(n, start, unsigned_);
        nfa_edge(n, unsigned_, '0', '0', whole);
        nfa_edge(n, unsigned_, '1', '9', digit);
        nfa_empty(n, digit, whole);
        put_digits(n, digit, NUMBER_WHOLE_MAX - 1, whole);
        nfa_edge(n, whole, '.', '.', point);
        put_digits(n, point, NUMBER_FRACTION_MAX, fraction);
        nfa_empty(n, whole, fraction);
        nfa_edge(n, fraction, 'e', 'e', e);
        nfa_edge(n, fraction, 'E', 'E', e);
        nfa_edge(n, e, '+', '+', exponent);
        nfa_edge(n, e, '-', '-', exponent);
        nfa_empty(n, e, exponent);
        put_digits(n, exponent, 2, end);
        nfa_empty(n, fraction, end);
        *ret_start = start;
        *ret_end = end;
}

/* --- multiples --- */

/* The digits of `step` as a whole number and how many of them are its fraction; false: too many. */
static bool whole_of(const struct decimal *step, uint32_t *ret) {
        uint64_t v = 0;

        for (int i = 0; i < step->n_whole + step->n_fraction; i++) {
                v = v * 10 + step->digits[i];
                if (v > NFA_STATES_MAX)
                        return false;
        }
        *ret = (uint32_t)v;
        return v > 0;
}

/* State of remainder r after `place` digits of the fraction (0: in the whole part, 1: the point
 * was just read, i + 1: i digits). Beyond the step's own digits only zeros may follow. */
int number_build_multiple(struct nfa *n, const struct decimal *step, uint32_t *ret_start,
                          uint32_t *ret_end) {
        uint32_t m, places = (uint32_t)step->n_fraction + 2, base, start, end, scale;

        if (!whole_of(step, &m) || (uint64_t)m * places + 2 > NFA_STATES_MAX - n->n_states)
                return -E2BIG;
        start = nfa_state(n);
        end = nfa_state(n);
        base = n->n_states;
        for (uint32_t i = 0; i < m * places; i++)
                nfa_state(n);
        nfa_edge(n, start, '-', '-', start); /* the other condition lets one through */
        for (uint32_t d = 0; d < 10; d++)
                nfa_edge(n, start, (uint8_t)('0' + d), (uint8_t)('0' + d), base + d % m);
        for (uint32_t place = 0; place < places; place++) {
                scale = 1;
                for (uint32_t i = place ? place - 1 : 0; i < step->n_fraction; i++)
                        scale = scale * 10 % m;
                for (uint32_t r = 0; r < m; r++) {
                        uint32_t state = base + place * m + r;
                        bool last = place + 1 == places;
                        uint32_t next = base + (place == 0 || last ? place : place + 1) * m;

                        if (r * (uint64_t)scale % m == 0)
                                nfa_empty(n, state, end);
                        if (place == 0)
                                nfa_edge(n, state, '.', '.', base + m + r);
                        for (uint32_t d = 0; d < (last ? 1 : 10); d++)
                                nfa_edge(n, state, (uint8_t)('0' + d), (uint8_t)('0' + d),
                                         next + (last ? r : (r * 10 + d) % m));
                }
        }
        *ret_start = start;
        *ret_end = end;
        return n->error;
}
