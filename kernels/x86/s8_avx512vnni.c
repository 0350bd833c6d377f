/* 8-bit matrices on 512 bits. The bytes are the unsigned operand of vpdpbusd as they are; the
 * missing "-128" is one subtraction of 128 times the activation sum. */
#include "kernels/x86/dot_avx512vnni.h"
#include "kernels/x86/x86.h"

/* How far the codes are fetched ahead into the L2 cache while a block of tokens keeps the core
 * busy; a prefetch past the end is harmless. Measured: 4 to 16 KiB do, less does not. */
enum { AHEAD_BYTES = 12 * 1024 };

INLINE void load_codes(__m512i u[STEPS], const uint8_t *codes) {
        UNROLL for (unsigned s = 0; s < STEPS; s++) {
                u[s] = _mm512_loadu_si512(codes + BLOCK_BYTES * s);
                _mm_prefetch(codes + BLOCK_BYTES * s + AHEAD_BYTES, _MM_HINT_T1);
        }
}

INLINE __m512 add_row(__m512 a, __m512i sum, float xs) {
        return _mm512_add_ps(a, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(xs)));
}

/* One tile after the other, so that the weights are one stream; four chains per tile. */
static void row_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                     uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        const int8_t *q = x->q;
        __m512 a = _mm512_setzero_ps();

        for (uint32_t g = 0; g < groups; g++, codes += S8_GROUP_BYTES, q += GROUP_COLS) {
                __m512i d[4] = { _mm512_set1_epi32(-128 * x->sum[g]), _mm512_setzero_si512(),
                                 _mm512_setzero_si512(), _mm512_setzero_si512() };

                UNROLL for (unsigned s = 0; s < STEPS; s++)
                        d[s % 4] = _mm512_dpbusd_epi32(
                                d[s % 4], _mm512_loadu_si512(codes + BLOCK_BYTES * s),
                                broadcast_q(q + 4 * s));
                d[0] = _mm512_add_epi32(d[0], d[1]);
                d[2] = _mm512_add_epi32(d[2], d[3]);
                a = add_row(a, _mm512_add_epi32(d[0], d[2]), x->scale[g]);
        }
        _mm512_storeu_ps(y + (size_t)tile * TILE_ROWS, _mm512_mul_ps(a, _mm512_loadu_ps(scales)));
}

INLINE void row_block(const struct block *b, uint32_t t, unsigned m) {
        const __m512i minus_128 = _mm512_set1_epi32(0xff80);
        __m512i d[8];

        start_sums(d, minus_128, b, t, m);
        dot_tokens(d, b, t, m);
        UNROLL for (unsigned i = 0; i < m; i++)
                b->a[t + i] = add_row(b->a[t + i], d[i], b->scale[(t + i) * b->groups]);
}

static void row_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                     const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        size_t first = (size_t)t0 * groups;
        __m512i u[STEPS];
        __m512 a[TOKENS_MAX];

        for (uint32_t t = 0; t < n; t++)
                a[t] = _mm512_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, codes += S8_GROUP_BYTES) {
                struct block b = {
                        .u = u,
                        .q = x->q + (size_t)t0 * x->stride + (size_t)g * GROUP_COLS,
                        .stride = x->stride,
                        .a = a,
                        .sum = x->sum + first + g,
                        .scale = x->scale + first + g,
                        .groups = groups,
                };

                load_codes(u, codes);
                each_block(row_block, &b, n);
        }
        for (uint32_t t = 0; t < n; t++)
                _mm512_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS,
                                 _mm512_mul_ps(a[t], _mm512_loadu_ps(scales)));
}

void matmul_s8_row_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        if (x->n == 1) {
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_gemv(y, w, x, tile);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, tile);
        }
}

/* The exact sums of 64 activations by weight group: lane block i (four lanes of 32 bits) of the
 * result holds the sum of columns 16 i .. 16 i + 15, or with group 32 of the pair it belongs to. */
INLINE __m512i group_sums(const int8_t *q, uint32_t group) {
        __m512i v = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1),
                                        _mm512_loadu_si512(q));

        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
        if (group == 32)
                v = _mm512_add_epi32(v, _mm512_shuffle_i32x4(v, v, 0xb1));
        return v;
}

INLINE __m512i pick_sum(__m512i sums, uint32_t lane_block) {
        __m512i index = _mm512_set1_epi32((int)(4 * lane_block));

        return _mm512_permutexvar_epi32(index, sums);
}

/* One weight group: `dot` holds sum of byte * q, `sum` the sum of q. */
INLINE __m512 add_group(__m512 a, __m512i dot, __m512i sum, __m512 xs, const float *scales,
                        const float *mins) {
        __m512 s = _mm512_loadu_ps(scales);
        __m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32(dot, _mm512_slli_epi32(sum, 7)));

        if (!mins)
                return _mm512_add_ps(a, _mm512_mul_ps(_mm512_mul_ps(v, xs), s));
        v = _mm512_add_ps(_mm512_mul_ps(v, s),
                          _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(mins)));
        return _mm512_add_ps(a, _mm512_mul_ps(v, xs));
}

/* One token and one group of 64 columns: `used` weight groups of it exist. */
INLINE __m512 group_token(__m512 a, const uint8_t *codes, const int8_t *q, float xs,
                          const float *scales, const float *mins, uint32_t group, uint32_t used) {
        const uint32_t steps = group / 4;
        __m512i sums = group_sums(q, group);

        for (uint32_t b = 0; b < used; b++) {
                __m512i dot = _mm512_setzero_si512();

                UNROLL for (uint32_t s = 0; s < steps; s++)
                        dot = _mm512_dpbusd_epi32(
                                dot,
                                _mm512_loadu_si512(codes + (size_t)BLOCK_BYTES * (b * steps + s)),
                                broadcast_q(q + 4 * (b * steps + s)));
                a = add_group(a, dot, pick_sum(sums, b * group / 16), _mm512_set1_ps(xs),
                              scales + (size_t)b * TILE_ROWS,
                              mins ? mins + (size_t)b * TILE_ROWS : NULL);
        }
        return a;
}

INLINE void group_tile(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                       uint32_t group) {
        const uint32_t per = GROUP_COLS / group;
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / group + 1;
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        size_t first = (size_t)tile * scale_groups;
        __m512 a[TOKENS_MAX];

        for (uint32_t t = 0; t < n; t++)
                a[t] = _mm512_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, codes += S8_GROUP_BYTES) {
                uint32_t left = scale_groups - g * per, used = left < per ? left : per;
                size_t s = (first + g * per) * TILE_ROWS;

                for (uint32_t t = 0; t < n; t++)
                        a[t] = group_token(a[t], codes,
                                           x->q + (size_t)(t0 + t) * x->stride +
                                                   (size_t)g * GROUP_COLS,
                                           x->scale[(size_t)(t0 + t) * groups + g], w->scales + s,
                                           w->mins ? w->mins + s : NULL, group, used);
        }
        for (uint32_t t = 0; t < n; t++)
                _mm512_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS, a[t]);
}

void matmul_s8_group_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                                const struct activations *x, uint32_t tile_begin,
                                uint32_t tile_end) {
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;
                float *out = y + t0 * y_stride;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
                        if (w->group == 16)
                                group_tile(out, y_stride, w, x, t0, n, tile, 16);
                        else
                                group_tile(out, y_stride, w, x, t0, n, tile, 32);
                }
        }
}
