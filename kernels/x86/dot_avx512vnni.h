/* The core of the tiled matrix products on 512 bits: the codes of one tile and 64 columns sit in
 * 16 registers and meet the activations of many tokens. One lane is one row; one step is 4
 * columns, whose activations are broadcast to all lanes by the load. Several tokens go side by
 * side because a single chain of vpdpbusd would wait for its own result. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/x86/total_sum.h"
#include "kernels/x86/unroll.h"

enum {
        STEPS = 16,       /* vpdpbusd per token, tile and 64 columns */
        TOKENS_MAX = 64,  /* tokens whose accumulators fit beside the rest in the L1 cache */
        L2_CODES = 160 * 1024, /* bytes of codes that meet all tokens before others are read */
};

/* Forget where a value comes from. Without it clang precomputes the address of every activation of
 * a block outside the loop and then spends its time reloading addresses. */
#define OPAQUE(x) __asm__("" : "+r"(x))
/* The same for a vector. Without it gcc loads a value again for every use, and where sums that a
 * loop carries along nearly fill the registers it copies them around and into memory. */
#define OPAQUE_VECTOR(x) __asm__("" : "+v"(x))

/* How many tiles that is, an even number. */
static inline uint32_t blocked_tiles(size_t tile_bytes) {
        size_t pairs = L2_CODES / (2 * tile_bytes);

        return 2 * (pairs > 1 ? (uint32_t)pairs : 1);
}

/* Four consecutive activations in every lane. */
INLINE __m512i broadcast_q(const int8_t *q) {
        int32_t v;

        memcpy(&v, q, sizeof(v));
        return _mm512_set1_epi32(v);
}

/* Codes are masked but not shifted down: those under mask k count 4^k fold. */
INLINE __m512i code_mask(unsigned k) {
        return _mm512_set1_epi8((char)(3 << 2 * k));
}

/* Sum of four accumulators, one for each mask, each brought back to single weight. */
INLINE __m512i fold(const __m512i a[4]) {
        __m512i v = _mm512_add_epi32(_mm512_srai_epi32(a[3], 2), a[2]);

        v = _mm512_add_epi32(_mm512_srai_epi32(v, 2), a[1]);
        return _mm512_add_epi32(_mm512_srai_epi32(v, 2), a[0]);
}

/* The result of t2_row and t5_row for 16 rows. */
INLINE void store_row(float *y, __m512i sum, float inverse, const float *scales) {
        __m512 v = _mm512_div_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(inverse));

        _mm512_storeu_ps(y, _mm512_mul_ps(v, _mm512_loadu_ps(scales)));
}

/* One tile, 64 columns and the tokens of a chunk. Every kernel sets the members it needs. */
struct block {
        const __m512i *u;       /* [STEPS] codes */
        const int8_t *q;        /* activations of token 0, */
        size_t stride;          /* bytes to those of the next token */
        const int32_t *sum;     /* activation sum of token 0 */
        const float *scale;     /* activation scale of token 0 */
        size_t groups;          /* elements to those of the next token */
        const float *row_scales;
        __m512i factor;         /* per row */
        __m512i *sums;          /* [tokens] integer accumulators */
        __m512 *a;              /* [tokens] float accumulators */
};

/* Work on tokens t .. t + m - 1, m at most 8 and known when compiling. */
typedef void block_fn(const struct block *b, uint32_t t, unsigned m);

INLINE void each_block(block_fn *fn, const struct block *b, uint32_t n) {
        uint32_t t = 0;

        for (; t + 8 <= n; t += 8)
                fn(b, t, 8);
        if (n & 4) {
                fn(b, t, 4);
                t += 4;
        }
        if (n & 2) {
                fn(b, t, 2);
                t += 2;
        }
        if (n & 1)
                fn(b, t, 1);
}

/* d[i] += codes times activations of token t + i. */
INLINE void dot_tokens(__m512i d[8], const struct block *b, uint32_t t, unsigned m) {
        size_t stride = b->stride;
        const int8_t *q = b->q + t * stride;

        OPAQUE(stride);
        OPAQUE(q);
        UNROLL for (unsigned s = 0; s < STEPS; s++) {
                UNROLL for (unsigned i = 0; i < m; i++)
                        d[i] = _mm512_dpbusd_epi32(d[i], b->u[s],
                                                   broadcast_q(q + i * stride + 4 * s));
        }
}

/* d[i] = factor * activation sum of token t + i. Both fit 16 bits; the factor is given as 16 bits
 * in the lower half of each lane, so that one vpdpwssd multiplies and broadcasts. */
INLINE void start_sums(__m512i d[8], __m512i factor, const struct block *b, uint32_t t,
                       unsigned m) {
        UNROLL for (unsigned i = 0; i < m; i++)
                d[i] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), factor,
                                           _mm512_set1_epi32(b->sum[(t + i) * b->groups]));
}

/* sums += factor * dot products. A dot product fits 16 bits (|sum| <= 3 * 127 * 64), so one
 * vpdpwssd does it exactly. */
INLINE void add_scaled_sums(const struct block *b, uint32_t t, unsigned m) {
        __m512i d[8];

        UNROLL for (unsigned i = 0; i < m; i++)
                d[i] = _mm512_setzero_si512();
        dot_tokens(d, b, t, m);
        UNROLL for (unsigned i = 0; i < m; i++)
                b->sums[t + i] = _mm512_dpwssd_epi32(b->sums[t + i], d[i], b->factor);
}

/* Accumulators. Members, since gcc keeps an array that a loop carries along in memory. */
struct sums {
        __m512i t0, t1, t2, t3, t4, t5, t6, t7;
};

INLINE struct sums no_sums(void) {
        const __m512i zero = _mm512_setzero_si512();

        return (struct sums){ zero, zero, zero, zero, zero, zero, zero, zero };
}

/* One step of two tiles and one token: the broadcast serves both. */
INLINE void dot_pair(__m512i *a, __m512i *b, __m512i u0, __m512i u1, const int8_t *q) {
        __m512i v = broadcast_q(q);

        OPAQUE_VECTOR(v);
        *a = _mm512_dpbusd_epi32(*a, u0, v);
        *b = _mm512_dpbusd_epi32(*b, u1, v);
        OPAQUE_VECTOR(*a);
        OPAQUE_VECTOR(*b);
}

/* The same for m of at most eight tokens. */
INLINE void dot_pairs(struct sums *a, struct sums *b, __m512i u0, __m512i u1, const int8_t *q,
                      size_t stride, unsigned m) {
        dot_pair(&a->t0, &b->t0, u0, u1, q);
        if (m > 1)
                dot_pair(&a->t1, &b->t1, u0, u1, q + stride);
        if (m > 2) {
                dot_pair(&a->t2, &b->t2, u0, u1, q + 2 * stride);
                dot_pair(&a->t3, &b->t3, u0, u1, q + 3 * stride);
        }
        if (m > 4) {
                dot_pair(&a->t4, &b->t4, u0, u1, q + 4 * stride);
                dot_pair(&a->t5, &b->t5, u0, u1, q + 5 * stride);
                dot_pair(&a->t6, &b->t6, u0, u1, q + 6 * stride);
                dot_pair(&a->t7, &b->t7, u0, u1, q + 7 * stride);
        }
}
