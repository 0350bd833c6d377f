/* Matrices of 8, 6 and 4 bits with group scales on 512 bits. The codes of 64 columns are spread to
 * bytes once, in registers, and meet every token of the chunk; what a code stands for is the byte
 * minus a power of two, which is one subtraction of that power times the activation sum. Those sums
 * are the same for all tiles; doing them for each cost a third of the time with many tokens. */
#include "kernels/x86/ahead.h"
#include "kernels/x86/dot_avx512vnni.h"
#include "kernels/x86/x86.h"

enum {
        SCALES_MAX = 4,   /* weight groups in 64 columns */
        SUPER_GROUPS = 4, /* groups of 64 columns under one scale of s6 */
        SPAN_GROUPS = 64, /* groups of 64 columns whose activation sums are kept for all tiles */
};

static_assert(SPAN_GROUPS % SUPER_GROUPS == 0, "a span of s6 ends with its scale");

/* The weights of one tile and 64 columns: codes as bytes, scales of each weight group. */
struct weights {
        __m512i u[STEPS];
        __m512 d[SCALES_MAX], min[SCALES_MAX];
        __m512i m[SCALES_MAX]; /* mantissas of s6, which has no d */
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

/* 2^this is subtracted from every code; negative: nothing is. */
INLINE int bias_shift(struct kind k) {
        return k.form == WEIGHT_S8 ? 7 : k.form == WEIGHT_S6 ? 5 : k.mins ? -1 : 3;
}

INLINE void spread_4(__m512i u[STEPS], const uint8_t *codes) {
        const __m512i low = _mm512_set1_epi8(15);

        UNROLL for (unsigned b = 0; b < STEPS / 2; b++) {
                __m512i v = _mm512_loadu_si512(codes + BLOCK_BYTES * b);

                u[2 * b] = _mm512_and_si512(v, low);
                u[2 * b + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
        }
}

/* u |= bits 4 and 5, from a plane of two bits. */
INLINE void add_high_2(__m512i u[STEPS], const uint8_t *plane) {
        const __m512i mask = _mm512_set1_epi8(0x30);

        UNROLL for (unsigned b = 0; b < STEPS / 4; b++) {
                __m512i v = _mm512_loadu_si512(plane + BLOCK_BYTES * b);
                const __m512i at[4] = { _mm512_slli_epi16(v, 4), _mm512_slli_epi16(v, 2), v,
                                        _mm512_srli_epi16(v, 2) };

                UNROLL for (unsigned k = 0; k < 4; k++) /* u | (at & mask) */
                        u[4 * b + k] = _mm512_ternarylogic_epi32(u[4 * b + k], at[k], mask, 0xf8);
        }
}

INLINE void load_codes(__m512i u[STEPS], const uint8_t *codes, struct kind k) {
        if (k.form == WEIGHT_S8) {
                UNROLL for (unsigned s = 0; s < STEPS; s++)
                        u[s] = _mm512_loadu_si512(codes + BLOCK_BYTES * s);
                return;
        }
        spread_4(u, codes);
        if (k.form == WEIGHT_S6)
                add_high_2(u, codes + S4_GROUP_BYTES);
}

INLINE __m512 load_halves(const uint16_t *p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE uint32_t scales_of(struct kind k) {
        return GROUP_COLS / group_cols(k);
}

/* The scales that belong to the codes of fetch_ahead; 64 columns have a cache line of them. They
 * are a stream of their own: waited for, they cost a tenth with few tokens. */
INLINE void fetch_scales(const struct weight_matrix *w, size_t at, struct kind k) {
        at += FETCH_AHEAD_BYTES / group_bytes(k) * scales_of(k) * TILE_ROWS;
        if (k.form == WEIGHT_S6)
                _mm_prefetch(w->mantissa + at, _MM_HINT_T1);
        else
                _mm_prefetch(w->halves + at, _MM_HINT_T1);
        if (k.mins)
                _mm_prefetch(w->mins + at, _MM_HINT_T1);
}

/* at: the number of the first weight group of the tile, in groups; b0: of these columns in it. */
INLINE void load_scales(struct weights *ret, const struct weight_matrix *w, uint32_t tile,
                        uint32_t b0, struct kind k) {
        const uint32_t groups = (w->cols - 1) / group_cols(k) + 1;
        const size_t at = ((size_t)tile * groups + b0) * TILE_ROWS;

        fetch_scales(w, at, k);
        ret->used = groups - b0;
        UNROLL for (uint32_t b = 0; b < GROUP_COLS / group_cols(k); b++) {
                const size_t from = at + (size_t)b * TILE_ROWS;

                ret->d[b] = ret->min[b] = _mm512_setzero_ps();
                ret->m[b] = _mm512_setzero_si512();
                if (b >= ret->used)
                        continue;
                if (k.form == WEIGHT_S6)
                        ret->m[b] = _mm512_cvtepi8_epi32(
                                _mm_loadu_si128((const __m128i *)(w->mantissa + from)));
                else
                        ret->d[b] = load_halves(w->halves + from);
                if (k.mins)
                        ret->min[b] = load_halves(w->mins + from);
        }
}

/* What the sums of a weight group begin with, for every group of a span and every token of a chunk,
 * [group of 64][token][weight group]: minus what the codes are too large by, or with minimums the
 * activation sum as a float. */
struct starts {
        int32_t at[SPAN_GROUPS * TOKENS_MAX * SCALES_MAX];
};

/* The exact sums of 64 activations by weight group: lane block i (four lanes of 32 bits) of the
 * result holds the sum of columns 16 i .. 16 i + 15, or with 32 columns of the pair it is in. */
INLINE __m512i group_sums(const int8_t *q, uint32_t cols) {
        __m512i v = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1),
                                        _mm512_loadu_si512(q));

        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
        if (cols == 32)
                v = _mm512_add_epi32(v, _mm512_shuffle_i32x4(v, v, 0xb1));
        return v;
}

INLINE __m512i pick_sum(__m512i sums, uint32_t lane_block) {
        return _mm512_permutexvar_epi32(_mm512_set1_epi32((int)(4 * lane_block)), sums);
}

/* Groups [g, g_end) of n tokens from t0 on. */
INLINE void prepare(struct starts *ret, const struct activations *x, uint32_t t0, uint32_t n,
                         uint32_t g, uint32_t g_end, struct kind k) {
        const __m512i lanes = _mm512_setr_epi32(0, group_cols(k) == 32 ? 8 : 4, 8, 12, 0, 0, 0, 0,
                                                0, 0, 0, 0, 0, 0, 0, 0);
        int32_t *to = ret->at;

        for (; g < g_end; g++)
                for (uint32_t t = t0; t < t0 + n; t++, to += scales_of(k)) {
                        __m512i v = group_sums(x->q + (size_t)t * x->stride +
                                                       (size_t)g * GROUP_COLS, group_cols(k));

                        v = _mm512_permutexvar_epi32(lanes, v);
                        if (k.mins)
                                v = _mm512_castps_si512(_mm512_cvtepi32_ps(v));
                        else
                                v = _mm512_sub_epi32(_mm512_setzero_si512(),
                                                     _mm512_slli_epi32(v, (unsigned)bias_shift(k)));
                        memcpy(to, &v, scales_of(k) * sizeof(*to));
                }
}

/* One weight group: dot is I, or with minimums the sum of code * q, and `sum` that of q. */
INLINE __m512 add_group(__m512 a, __m512i dot, __m512 sum, __m512 xs, __m512 d, __m512 min,
                        struct kind k) {
        __m512 v = _mm512_cvtepi32_ps(dot);

        if (!k.mins)
                return _mm512_add_ps(a, _mm512_mul_ps(_mm512_mul_ps(v, xs), d));
        v = _mm512_add_ps(_mm512_mul_ps(v, d), _mm512_mul_ps(sum, min));
        return _mm512_add_ps(a, _mm512_mul_ps(v, xs));
}

/* 64 columns of tokens t .. t + m - 1; a and start belong to token t. */
INLINE void add_tokens(__m512 *a, const struct weights *w, const struct activations *x,
                       const int32_t *start, uint32_t t, uint32_t g, unsigned m, struct kind k) {
        const uint32_t steps = group_cols(k) / 4, groups = groups_of(x->cols);
        const int8_t *q = x->q + (size_t)t * x->stride + (size_t)g * GROUP_COLS;
        const float *xs = x->scale + (size_t)t * groups + g;
        size_t stride = x->stride;

        OPAQUE(stride);
        OPAQUE(q);
        UNROLL for (uint32_t b = 0; b < scales_of(k); b++) {
                __m512i dot[4];

                if (b >= w->used)
                        break;
                UNROLL for (unsigned i = 0; i < m; i++)
                        dot[i] = k.mins ? _mm512_setzero_si512()
                                        : _mm512_set1_epi32(start[i * scales_of(k) + b]);
                UNROLL for (uint32_t s = b * steps; s < (b + 1) * steps; s++) {
                        UNROLL for (unsigned i = 0; i < m; i++)
                                dot[i] = _mm512_dpbusd_epi32(dot[i], w->u[s],
                                                             broadcast_q(q + i * stride + 4 * s));
                }
                UNROLL for (unsigned i = 0; i < m; i++)
                        a[i] = add_group(a[i], dot[i], _mm512_castsi512_ps(_mm512_set1_epi32(
                                                               start[i * scales_of(k) + b])),
                                         _mm512_set1_ps(xs[(size_t)i * groups]), w->d[b],
                                         w->min[b], k);
        }
}

/* The same for s6; c belongs to token t. */
INLINE void add_tokens_s6(__m512 *c, const struct weights *w, const struct activations *x,
                          const int32_t *start, uint32_t t, uint32_t g, unsigned m) {
        const uint32_t groups = groups_of(x->cols);
        const int8_t *q = x->q + (size_t)t * x->stride + (size_t)g * GROUP_COLS;
        const float *xs = x->scale + (size_t)t * groups + g;
        size_t stride = x->stride;
        __m512i sum[4];

        OPAQUE(stride);
        OPAQUE(q);
        UNROLL for (unsigned b = 0; b < SCALES_MAX; b++) {
                __m512i dot[4];

                UNROLL for (unsigned i = 0; i < m; i++)
                        dot[i] = _mm512_set1_epi32(start[i * SCALES_MAX + b]);
                UNROLL for (unsigned s = 4 * b; s < 4 * b + 4; s++) {
                        UNROLL for (unsigned i = 0; i < m; i++)
                                dot[i] = _mm512_dpbusd_epi32(dot[i], w->u[s],
                                                             broadcast_q(q + i * stride + 4 * s));
                }
                UNROLL for (unsigned i = 0; i < m; i++) {
                        dot[i] = _mm512_mullo_epi32(dot[i], w->m[b]);
                        sum[i] = b == 0 ? dot[i] : _mm512_add_epi32(sum[i], dot[i]);
                }
        }
        UNROLL for (unsigned i = 0; i < m; i++)
                c[i] = _mm512_add_ps(c[i], _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i]),
                                                         _mm512_set1_ps(xs[(size_t)i * groups])));
}

INLINE __m512 load_super(const struct weight_matrix *w, uint32_t tile, uint32_t g) {
        const size_t supers = (w->cols - 1) / 256 + 1;

        return load_halves(w->halves + (tile * supers + g / SUPER_GROUPS) * TILE_ROWS);
}

/* Whether group g of 64 columns is the last under its scale of s6. */
INLINE bool ends_super(uint32_t g, uint32_t groups) {
        return g % SUPER_GROUPS == SUPER_GROUPS - 1 || g + 1 == groups;
}

/* What is known after 256 columns; c begins anew. */
INLINE void add_super(__m512 *a, __m512 *c, __m512 super) {
        *a = _mm512_add_ps(*a, _mm512_mul_ps(*c, super));
        *c = _mm512_setzero_ps();
}

/* 64 columns of the only token. Its activation sums are found beside the products: prepared, as a
 * second stream, they cost a quarter of the bandwidth. */
INLINE __m512 add_alone(__m512 a, const struct weights *w, const int8_t *q, float xs,
                        struct kind k) {
        const uint32_t steps = group_cols(k) / 4;
        const __m512i sums = group_sums(q, group_cols(k));

        UNROLL for (uint32_t b = 0; b < scales_of(k); b++) {
                __m512i dot = _mm512_setzero_si512(), sum = pick_sum(sums, b * group_cols(k) / 16);

                if (b >= w->used)
                        break;
                UNROLL for (uint32_t s = b * steps; s < (b + 1) * steps; s++)
                        dot = _mm512_dpbusd_epi32(dot, w->u[s], broadcast_q(q + 4 * s));
                if (!k.mins)
                        dot = _mm512_sub_epi32(dot,
                                               _mm512_slli_epi32(sum, (unsigned)bias_shift(k)));
                a = add_group(a, dot, _mm512_cvtepi32_ps(sum), _mm512_set1_ps(xs), w->d[b],
                              w->min[b], k);
        }
        return a;
}

/* The same for s6. */
INLINE __m512 add_alone_s6(__m512 c, const struct weights *w, const int8_t *q, float xs) {
        const __m512i sums = _mm512_slli_epi32(group_sums(q, 16), 5);
        __m512i sum = _mm512_setzero_si512();

        UNROLL for (unsigned b = 0; b < SCALES_MAX; b++) {
                __m512i dot = _mm512_setzero_si512();

                UNROLL for (unsigned s = 4 * b; s < 4 * b + 4; s++)
                        dot = _mm512_dpbusd_epi32(dot, w->u[s], broadcast_q(q + 4 * s));
                dot = _mm512_sub_epi32(dot, pick_sum(sums, b));
                sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(dot, w->m[b]));
        }
        return _mm512_add_ps(c, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(xs)));
}

INLINE void group_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                       uint32_t tile, struct kind k) {
        const uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * group_bytes(k);
        __m512 a = _mm512_setzero_ps(), c = a;

        for (uint32_t g = 0; g < groups; g++, codes += group_bytes(k)) {
                const int8_t *q = x->q + (size_t)g * GROUP_COLS;
                struct weights part;

                if (k.form != WEIGHT_S8)
                        fetch_ahead(codes, group_bytes(k));
                load_codes(part.u, codes, k);
                load_scales(&part, w, tile, g * scales_of(k), k);
                if (k.form != WEIGHT_S6) {
                        a = add_alone(a, &part, q, x->scale[g], k);
                        continue;
                }
                c = add_alone_s6(c, &part, q, x->scale[g]);
                if (ends_super(g, groups))
                        add_super(&a, &c, load_super(w, tile, g));
        }
        _mm512_storeu_ps(y + (size_t)tile * TILE_ROWS,
                         _mm512_mul_ps(a, _mm512_set1_ps(w->factor)));
}

/* 64 columns of all tokens of the chunk. */
INLINE void add_all(__m512 *a, __m512 *c, const struct weights *part, const struct activations *x,
                    const int32_t *start, uint32_t t0, uint32_t n, uint32_t g, struct kind k) {
        uint32_t t = 0;

        for (; t + 4 <= n; t += 4, start += 4 * scales_of(k)) {
                if (k.form == WEIGHT_S6)
                        add_tokens_s6(c + t, part, x, start, t0 + t, g, 4);
                else
                        add_tokens(a + t, part, x, start, t0 + t, g, 4, k);
        }
        for (; t < n; t++, start += scales_of(k)) {
                if (k.form == WEIGHT_S6)
                        add_tokens_s6(c + t, part, x, start, t0 + t, g, 1);
                else
                        add_tokens(a + t, part, x, start, t0 + t, g, 1, k);
        }
}

/* Groups [g, g_end) of one tile. Between the spans of a row y holds what has been added up. */
INLINE void group_tile(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, const struct starts *starts, uint32_t t0,
                       uint32_t n, uint32_t tile, uint32_t g, uint32_t g_end, struct kind k) {
        const uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes +
                               ((size_t)tile * groups + g) * group_bytes(k);
        const int32_t *start = starts->at;
        const __m512 factor = _mm512_set1_ps(g_end == groups ? w->factor : 1);
        __m512 a[TOKENS_MAX], c[TOKENS_MAX];

        y += (size_t)tile * TILE_ROWS;
        for (uint32_t t = 0; t < n; t++) {
                a[t] = g == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(y + t * y_stride);
                c[t] = _mm512_setzero_ps();
        }
        for (; g < g_end; g++, codes += group_bytes(k), start += n * scales_of(k)) {
                struct weights part;

                fetch_ahead(codes, group_bytes(k));
                load_codes(part.u, codes, k);
                load_scales(&part, w, tile, g * scales_of(k), k);
                add_all(a, c, &part, x, start, t0, n, g, k);
                for (uint32_t t = 0; k.form == WEIGHT_S6 && ends_super(g, groups) && t < n; t++)
                        add_super(&a[t], &c[t], load_super(w, tile, g));
        }
        for (uint32_t t = 0; t < n; t++)
                _mm512_storeu_ps(y + t * y_stride, _mm512_mul_ps(a[t], factor));
}

/* n of at most TOKENS_MAX tokens; y belongs to the first of them. */
INLINE void group_chunk(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile_begin,
                        uint32_t tile_end, struct kind k) {
        const uint32_t groups = groups_of(w->cols);
        struct starts starts;

        for (uint32_t g = 0; g < groups; g += SPAN_GROUPS) {
                uint32_t g_end = groups - g > SPAN_GROUPS ? g + SPAN_GROUPS : groups;

                prepare(&starts, x, t0, n, g, g_end, k);
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        group_tile(y, y_stride, w, x, &starts, t0, n, tile, g, g_end, k);
        }
}

INLINE void group_matrix(float *y, size_t y_stride, const struct weight_matrix *w,
                         const struct activations *x, uint32_t tile_begin, uint32_t tile_end,
                         struct kind k) {
        if (x->n == 1) { /* one stream, everything in registers */
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        group_gemv(y, w, x, tile, k);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX)
                group_chunk(y + t0 * y_stride, y_stride, w, x, t0,
                            x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX, tile_begin, tile_end,
                            k);
}

void matmul_s8_group_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                                const struct activations *x, uint32_t tile_begin,
                                uint32_t tile_end) {
        group_matrix(y, y_stride, w, x, tile_begin, tile_end, (struct kind){ WEIGHT_S8, false });
}

void matmul_s6_group_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                                const struct activations *x, uint32_t tile_begin,
                                uint32_t tile_end) {
        group_matrix(y, y_stride, w, x, tile_begin, tile_end, (struct kind){ WEIGHT_S6, false });
}

void matmul_s4_group_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                                const struct activations *x, uint32_t tile_begin,
                                uint32_t tile_end) {
        if (w->mins)
                group_matrix(y, y_stride, w, x, tile_begin, tile_end,
                             (struct kind){ WEIGHT_S4, true });
        else
                group_matrix(y, y_stride, w, x, tile_begin, tile_end,
                             (struct kind){ WEIGHT_S4, false });
}
