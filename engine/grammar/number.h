/* Numbers in a range, as automata over the digits of their decimal notation. Whole numbers have at
 * most 18 digits, which fit into 64 bits; others 15 digits together, so that a reader which keeps
 * them as a double finds them on the same side of every bound. */
#pragma once

#include "engine/grammar/automaton.h"

enum { NUMBER_WHOLE_MAX = 18, NUMBER_FRACTION_MAX = 17, NUMBER_DIGITS_MAX = 15 };

/* Exact decimal: the digits of the whole part (one at least), then those of the fraction (without
 * zeros at the end). */
struct decimal {
        bool negative;
        uint8_t n_whole, n_fraction;
        uint8_t digits[NUMBER_WHOLE_MAX + NUMBER_FRACTION_MAX];
};
/* The number that is written in text, which is a JSON number. 0; -ERANGE: the magnitude has more
 * than 18 digits before the point; -EDOM: it has more than 17 digits after it. */
int decimal_parse(const char *text, struct decimal *ret);
int decimal_compare(const struct decimal *a, const struct decimal *b);

struct number_range {
        bool whole;                 /* no fraction is written, nor ".0" */
        const struct decimal *min;  /* NULL: none */
        const struct decimal *max;
        bool min_open, max_open;    /* the bound itself is outside */
};
/* Without exponents. "-0" is not among them. */
void number_build(struct nfa *n, const struct number_range *r, uint32_t *ret_start,
                  uint32_t *ret_end);
/* Any JSON number, with an exponent of up to two digits. */
void number_build_any(struct nfa *n, uint32_t *ret_start, uint32_t *ret_end);
/* Multiples of `step`, as a condition for texts that the above accept. -E2BIG when the step has too
 * many digits. */
int number_build_multiple(struct nfa *n, const struct decimal *step, uint32_t *ret_start,
                          uint32_t *ret_end);
