/* The vocabulary of summaries: names of types, lengths and formats. */
#pragma once

#include <stdint.h>

/* Name of a legal number. */
const char *summary_type_name(uint32_t type);
const char *summary_length_name(uint32_t length);
const char *summary_format_name(uint32_t format);
