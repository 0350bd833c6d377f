/* Words that stand for numbers. */
#pragma once

#include <errno.h>
#include <string.h>

/* The place of a word in a list that NULL ends, or -EINVAL. */
static inline int find_word(const char *const *words, const char *word) {
        for (int i = 0; words[i]; i++)
                if (strcmp(words[i], word) == 0)
                        return i;
        return -EINVAL;
}
