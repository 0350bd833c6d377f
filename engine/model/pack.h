/* GGUF in, packed file out: parse and validate everything, permute the weights for the kernels,
 * carry the metadata the worker needs, write with pwrite64 only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"
#include "engine/base/model_error.h"

enum { PACK_VERSION = 5 };

enum i2s_layout { I2S_128_32, I2S_64_16, I2S_1X4 };

/* How ternary matrices with one scale per row are stored: at 2 or at 1.6 bits a weight (t2 or t5 of
 * kernels/layout.h). Both give the same bytes of output; which is faster depends on the machine. */
enum ternary_packing { TERNARY_2_BITS, TERNARY_BASE_3 };

struct pack_options {
        enum i2s_layout i2s;    /* how to read I2_S tensors */
        enum ternary_packing ternary;
        bool float_head_as_s8;  /* default true: float heads of > 100 M weights as 8-bit rows */
};

/* src: the whole GGUF file. out_fd: empty, writable. *ret_size: bytes written. Memory: tables and
 * one tile row, never a whole tensor. Returns 0 or negative errno with *err. */
int pack_model(struct view src, int out_fd, const struct pack_options *options, uint64_t *ret_size,
               struct model_error *err);
