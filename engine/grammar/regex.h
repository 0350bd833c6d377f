/* Regular expressions of JSON Schema (ECMA-262 with the u flag), the part of them that is regular:
 * characters, classes, \d \w \s and their opposites, groups, alternatives, quantifiers, and ^ and $
 * at the ends of the outermost alternatives. */
#pragma once

#include "engine/grammar/automaton.h"

enum { REGEX_DEPTH_MAX = 32, REGEX_REPEAT_MAX = 1000 };

/* The UTF-8 texts in which the expression is found somewhere. 0; -EINVAL: it is none;
 * -EOPNOTSUPP: it has something else (assertions, back references, properties of characters);
 * -E2BIG, -ENOMEM. The caller frees n also after an error. */
int regex_build(struct nfa *n, struct view pattern, uint32_t *ret_start, uint32_t *ret_end);
