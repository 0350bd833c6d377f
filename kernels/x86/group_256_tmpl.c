/* Matrices of 8, 6 and 4 bits with group scales on 256 bits, written once for every dot-product
 * instruction. The including file has defined what s8_256_tmpl.c and t2_256_tmpl.c need.
 *
 * Codes of 6 and 4 bits are unsigned as they are, so that dot_step serves them; what a code stands
 * for is the code minus a power of two, one subtraction of that power times the activation sum.
 * Without a 32-bit dot product two steps of codes up to 63 add up to at most 32004 in 16 bits.
 */
#include "kernels/x86/ahead.h"
#include "kernels/x86/vec256.h"

enum {
        SCALES_MAX = 4,   /* weight groups in 64 columns */
        SUPER_GROUPS = 4, /* groups of 64 columns under one scale of s6 */
};

/* The weights of one tile and 64 columns: 4- or 6-bit codes as bytes, in the order of s8x16;
 * scales of each weight group. */
struct weights {
        const uint8_t *bytes;
        __m256 d[SCALES_MAX][HALVES], min[SCALES_MAX][HALVES];
        __m256i m[SCALES_MAX][HALVES]; /* mantissas of s6, which has no d */
        uint32_t used; /* weight groups that exist */
};

/* What is known when compiling. */
struct kind {
        enum weight_form form;
        bool mins;
};

INLINE uint32_t group_cols(struct kind k) {
        return k.form == WEIGHT_S6 ? 16 : 32;
}

INLINE size_t group_bytes(struct kind k) {
        return k.form == WEIGHT_S8 ? S8_GROUP_BYTES
                                   : k.form == WEIGHT_S6 ? S6_GROUP_BYTES : S4_GROUP_BYTES;
}

/* What dot_group adds to every weight. */
INLINE int bias(struct kind k) {
        return k.form == WEIGHT_S8 ? S8_BIAS : k.form == WEIGHT_S6 ? 32 : k.mins ? 0 : 8;
}

INLINE void store_codes(uint8_t *p, __m256i v) {
        _mm256_store_si256((__m256i *)p, v);
}

INLINE void spread_4(uint8_t *bytes, const uint8_t *codes) {
        const __m256i low = _mm256_set1_epi8(15);

        UNROLL for (unsigned i = 0; i < STEPS; i++) { /* halves of blocks */
                __m256i v = load_codes(codes + 32 * i);
                uint8_t *to = bytes + (size_t)BLOCK_BYTES * 2 * (i / 2) + 32 * (i % 2);

                store_codes(to, _mm256_and_si256(v, low));
                store_codes(to + BLOCK_BYTES, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
        }
}

/* bytes |= bits 4 and 5, from a plane of two bits. */
INLINE void add_high_2(uint8_t *bytes, const uint8_t *plane) {
        const __m256i mask = _mm256_set1_epi8(0x30);

        UNROLL for (unsigned i = 0; i < STEPS / 2; i++) {
                __m256i v = load_codes(plane + 32 * i);
                const __m256i at[4] = { _mm256_slli_epi16(v, 4), _mm256_slli_epi16(v, 2), v,
                                        _mm256_srli_epi16(v, 2) };
                uint8_t *to = bytes + (size_t)BLOCK_BYTES * 4 * (i / 2) + 32 * (i % 2);

                UNROLL for (unsigned k = 0; k < 4; k++) {
                        __m256i u = load_codes(to + (size_t)BLOCK_BYTES * k);

                        store_codes(to + (size_t)BLOCK_BYTES * k,
                                    _mm256_or_si256(u, _mm256_and_si256(at[k], mask)));
                }
        }
}

INLINE __m256 load_halves(const uint16_t *p) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m256i load_mantissas(const uint8_t *p) {
        return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

/* b0: the weight group of the tile that the 64 columns begin with. */
INLINE void load_scales(struct weights *ret, const struct weight_matrix *w, uint32_t tile,
                        uint32_t b0, struct kind k) {
        const uint32_t groups = (w->cols - 1) / group_cols(k) + 1;

        ret->used = groups - b0;
        for (uint32_t b = 0; b < GROUP_COLS / group_cols(k) && b < ret->used; b++) {
                size_t at = ((size_t)tile * groups + b0 + b) * TILE_ROWS;

                UNROLL for (unsigned h = 0; h < HALVES; h++, at += 8) {
                        if (k.form == WEIGHT_S6)
                                ret->m[b][h] = load_mantissas(w->mantissa + at);
                        else
                                ret->d[b][h] = load_halves(w->halves + at);
                        if (k.mins)
                                ret->min[b][h] = load_halves(w->mins + at);
                }
        }
}

/* Exact sums of the activations of each 16 columns: element 4 * i is that of columns 16 * i on. */
INLINE void sums_of_16(int32_t ret[16], const int8_t *q) {
        for (unsigned i = 0; i < 2; i++) {
                __m256i v = _mm256_maddubs_epi16(_mm256_set1_epi8(1),
                                                 _mm256_loadu_si256((const __m256i *)q + i));

                v = _mm256_madd_epi16(v, _mm256_set1_epi16(1));
                v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0xb1));
                v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0x4e));
                _mm256_storeu_si256((__m256i *)ret + i, v);
        }
}

/* d[h] += sum over one weight group of (weight + bias) * q; p and q at its first column. */
INLINE void dot_group(__m256i d[HALVES], const uint8_t *p, const int8_t *q, struct kind k) {
        const uint32_t steps = group_cols(k) / 4;

        UNROLL for (uint32_t s = 0; s < steps; s += 2, p += 2 * BLOCK_BYTES) {
                const __m256i v[2] = { broadcast_q(q + 4 * s), broadcast_q(q + 4 * s + 4) };

                UNROLL for (unsigned h = 0; h < HALVES; h++) {
                        const uint8_t *c = p + 32 * h;
                        __m256i sum = _mm256_setzero_si256();

                        if (k.form == WEIGHT_S8) {
                                d[h] = s8_step(d[h], s8_load(c), v[0]);
                                d[h] = s8_step(d[h], s8_load(c + BLOCK_BYTES), v[1]);
                                continue;
                        }
                        sum = dot_step(sum, load_codes(c), v[0]);
                        sum = dot_step(sum, load_codes(c + BLOCK_BYTES), v[1]);
                        d[h] = _mm256_add_epi32(d[h], dot_finish(sum));
                }
        }
}

/* One weight group: dot holds I, sum the activation sum. */
INLINE __m256 add_weight_group(__m256 a, __m256i dot, int32_t sum, float xs, __m256 d, __m256 min,
                        struct kind k) {
        __m256 v = _mm256_cvtepi32_ps(dot), vxs = _mm256_set1_ps(xs);

        if (!k.mins)
                return _mm256_add_ps(a, _mm256_mul_ps(_mm256_mul_ps(v, vxs), d));
        v = _mm256_add_ps(_mm256_mul_ps(v, d),
                          _mm256_mul_ps(_mm256_set1_ps((float)sum), min));
        return _mm256_add_ps(a, _mm256_mul_ps(v, vxs));
}

/* One token and one group of 64 columns. */
INLINE void add_token(__m256 a[HALVES], const struct weights *w, const int8_t *q, float xs,
                      struct kind k) {
        const uint32_t cols = group_cols(k);
        int32_t sums[16];

        sums_of_16(sums, q);
        for (uint32_t b = 0; b < GROUP_COLS / cols && b < w->used; b++) {
                int32_t sum = cols == 16 ? sums[4 * b] : sums[8 * b] + sums[8 * b + 4];
                __m256i d[HALVES];

                d[0] = d[1] = _mm256_set1_epi32(-bias(k) * sum);
                dot_group(d, w->bytes + (size_t)TILE_ROWS * cols * b, q + cols * b, k);
                UNROLL for (unsigned h = 0; h < HALVES; h++)
                        a[h] = add_weight_group(a[h], d[h], sum, xs, w->d[b][h], w->min[b][h], k);
        }
}

/* The same for s6. */
INLINE void add_token_s6(__m256 c[HALVES], const struct weights *w, const int8_t *q, float xs,
                         struct kind k) {
        __m256i sum[HALVES] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        int32_t sums[16];

        sums_of_16(sums, q);
        for (uint32_t b = 0; b < SCALES_MAX && b < w->used; b++) {
                __m256i d[HALVES];

                d[0] = d[1] = _mm256_set1_epi32(-bias(k) * sums[4 * b]);
                dot_group(d, w->bytes + (size_t)TILE_ROWS * 16 * b, q + (size_t)16 * b, k);
                UNROLL for (unsigned h = 0; h < HALVES; h++)
                        sum[h] = _mm256_add_epi32(sum[h], _mm256_mullo_epi32(d[h], w->m[b][h]));
        }
        UNROLL for (unsigned h = 0; h < HALVES; h++)
                c[h] = _mm256_add_ps(c[h], _mm256_mul_ps(_mm256_cvtepi32_ps(sum[h]),
                                                         _mm256_set1_ps(xs)));
}

/* What is known of n tokens after the columns under one scale of s6; c begins anew. */
INLINE void add_super(__m256 a[][HALVES], __m256 c[][HALVES], const struct weight_matrix *w,
                      uint32_t tile, uint32_t g, uint32_t n) {
        const size_t super = (size_t)tile * ((w->cols - 1) / 256 + 1) + g / SUPER_GROUPS;

        UNROLL for (unsigned h = 0; h < HALVES; h++) {
                const __m256 d = load_halves(w->halves + super * TILE_ROWS + 8 * h);

                for (uint32_t t = 0; t < n; t++) {
                        a[t][h] = _mm256_add_ps(a[t][h], _mm256_mul_ps(c[t][h], d));
                        c[t][h] = _mm256_setzero_ps();
                }
        }
}

INLINE void group_tile(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                       struct kind k) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * group_bytes(k);
        _Alignas(32) uint8_t bytes[S8_GROUP_BYTES];
        __m256 a[TOKENS_MAX][HALVES], c[TOKENS_MAX][HALVES];

        for (uint32_t t = 0; t < n; t++)
                a[t][0] = a[t][1] = c[t][0] = c[t][1] = _mm256_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, codes += group_bytes(k)) {
                struct weights part = { .bytes = k.form == WEIGHT_S8 ? codes : bytes };

                if (k.form != WEIGHT_S8 || n > 1)
                        fetch_ahead(codes, group_bytes(k));
                if (k.form != WEIGHT_S8)
                        spread_4(bytes, codes);
                if (k.form == WEIGHT_S6)
                        add_high_2(bytes, codes + S4_GROUP_BYTES);
                load_scales(&part, w, tile, g * (GROUP_COLS / group_cols(k)), k);
                for (uint32_t t = 0; t < n; t++) {
                        const int8_t *q = x->q + (size_t)(t0 + t) * x->stride +
                                          (size_t)g * GROUP_COLS;
                        float xs = x->scale[(size_t)(t0 + t) * groups + g];

                        if (k.form == WEIGHT_S6)
                                add_token_s6(c[t], &part, q, xs, k);
                        else
                                add_token(a[t], &part, q, xs, k);
                }
                if (k.form == WEIGHT_S6 && (g % SUPER_GROUPS == SUPER_GROUPS - 1 ||
                                            g + 1 == groups))
                        add_super(a, c, w, tile, g, n);
        }
        for (uint32_t t = 0; t < n; t++)
                UNROLL for (unsigned h = 0; h < HALVES; h++)
                        _mm256_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS + 8 * h,
                                         _mm256_mul_ps(a[t][h], _mm256_set1_ps(w->factor)));
}

INLINE void group_matrix(float *y, size_t y_stride, const struct weight_matrix *w,
                         const struct activations *x, uint32_t tile_begin, uint32_t tile_end,
                         struct kind k) {
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        group_tile(y + t0 * y_stride, y_stride, w, x, t0, n, tile, k);
        }
}

void KERNEL(matmul_s8_group)(float *y, size_t y_stride, const struct weight_matrix *w,
                             const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        group_matrix(y, y_stride, w, x, tile_begin, tile_end, (struct kind){ WEIGHT_S8, false });
}

void KERNEL(matmul_s6_group)(float *y, size_t y_stride, const struct weight_matrix *w,
                             const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        group_matrix(y, y_stride, w, x, tile_begin, tile_end, (struct kind){ WEIGHT_S6, false });
}

void KERNEL(matmul_s4_group)(float *y, size_t y_stride, const struct weight_matrix *w,
                             const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        if (w->mins)
                group_matrix(y, y_stride, w, x, tile_begin, tile_end,
                             (struct kind){ WEIGHT_S4, true });
        else
                group_matrix(y, y_stride, w, x, tile_begin, tile_end,
                             (struct kind){ WEIGHT_S4, false });
}
