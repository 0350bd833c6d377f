/* The vocabulary of summaries: names of types, lengths and formats. */
#pragma once

#include <stdint.h>

/* Number of a name, or -EINVAL. */
int summary_type(const char *name);   /* enum wire_summary_type */
int summary_length(const char *name); /* enum wire_summary_length */
int summary_format(const char *name); /* enum wire_text_format */
