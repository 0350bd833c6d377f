/* The vocabulary of summaries: names of types, lengths and formats. */
#pragma once

#include <stdint.h>

/* Number of a name, or -EINVAL. */
int summary_type(const char *name);   /* enum wire_summary_type */
int summary_length(const char *name); /* enum wire_summary_length */
int summary_format(const char *name); /* enum wire_text_format */
/* Name of a legal number. */
const char *summary_type_name(uint32_t type);
const char *summary_length_name(uint32_t length);
const char *summary_format_name(uint32_t format);
