/* What the ternary products by column have in common on 512 bits (t2_skip_avx512vnni.h): the list
 * of columns, their interleaving, and the walk over panels. A column of a panel is 64 bytes,
 * whatever the codes. */
#pragma once

#include "kernels/x86/t2_skip_avx512vnni.h"

/* Columns to fetch ahead, of a list and of a stream, into the L2 cache: of hints for the L1 cache
 * so few are under way at once that a list comes at a third of the speed. */
enum {
        LISTED_AHEAD = 96,
        STREAM_AHEAD = 512,
};

/* Four columns of a panel byte by byte: lane i of ret[j] holds row 4 * l + i of a tile under every
 * mask or digit k. */
INLINE void interleave(__m512i ret[4], const uint8_t *const p[4]) {
        __m512i c[4], low[2], high[2];

        UNROLL for (unsigned i = 0; i < 4; i++)
                c[i] = _mm512_loadu_si512(p[i]);
        UNROLL for (unsigned i = 0; i < 2; i++) {
                low[i] = _mm512_unpacklo_epi8(c[2 * i], c[2 * i + 1]);
                high[i] = _mm512_unpackhi_epi8(c[2 * i], c[2 * i + 1]);
        }
        ret[0] = _mm512_unpacklo_epi16(low[0], low[1]);
        ret[1] = _mm512_unpackhi_epi16(low[0], low[1]);
        ret[2] = _mm512_unpacklo_epi16(high[0], high[1]);
        ret[3] = _mm512_unpackhi_epi16(high[0], high[1]);
}

/* The next four columns of a panel. */
INLINE void interleave_next(__m512i ret[4], const uint8_t *p) {
        const uint8_t *const four[4] = { p, p + BLOCK_BYTES, p + 2 * BLOCK_BYTES,
                                         p + 3 * BLOCK_BYTES };

        interleave(ret, four);
}

/* Columns with an activation, of those from `begin` on, or all of them where so many have one that
 * a stream is faster (measured: from two fifths on, with one core and with two). Their number is
 * filled up to a multiple of four with columns times zero. Behind them follow the first ones of the
 * next panel, for fetching ahead only: otherwise every panel would begin by waiting. */
struct columns {
        uint32_t begin, n;
        bool stream; /* all of them */
        uint32_t column[LIST_ROOM + STREAM_AHEAD];
        int8_t q[LIST_ROOM];
};

/* Columns of [begin, end) with an activation. */
static inline uint32_t list_wanted(struct columns *l, const int8_t *q, uint32_t begin,
                                   uint32_t end) {
        uint32_t n = 0;

        for (uint32_t c = begin; c < end; c += 16) {
                __m128i v = _mm_loadu_si128((const __m128i *)(q + c));
                __mmask16 wanted = _mm_test_epi8_mask(v, v);

                _mm_storeu_si128((__m128i *)(l->q + n),
                                 _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(
                                         wanted, _mm512_cvtepi8_epi32(v))));
                n += put_wanted(l->column + n, c, wanted);
        }
        return n;
}

/* Columns [begin, end) of a matrix of `cols` columns, with the padding of the last group. */
static inline void list_columns(struct columns *l, const int8_t *q, uint32_t begin, uint32_t end,
                                uint32_t cols) {
        uint32_t n = list_wanted(l, q, begin, end);

        l->stream = n > (end - begin) / 5 * 2;
        if (l->stream) {
                n = end - begin;
                memcpy(l->q, q + begin, n);
                for (uint32_t i = 0; i < n; i++)
                        l->column[i] = begin + i;
        }
        for (; n % 4 != 0; n++) {
                l->column[n] = l->column[n - 1];
                l->q[n] = 0;
        }
        for (uint32_t i = 0; n > 0 && i < (l->stream ? STREAM_AHEAD : LISTED_AHEAD); i++)
                l->column[n + i] = l->column[i] + cols;
        l->begin = begin;
        l->n = n;
}

/* total[i] += what the columns of a list give tile i of a panel. */
typedef void add_panel_fn(__m512i *total, const uint8_t *panel, const struct columns *l);

/* A product for one token. */
INLINE void by_col_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                        uint32_t tile_begin, uint32_t tile_end, uint32_t panel_tiles,
                        add_panel_fn *add_panel) {
        uint32_t cols = groups_of(w->cols) * GROUP_COLS;
        int32_t correction = total_sum(x, 0);
        __m512i total[T5_PANEL_TILES];
        struct columns list;

        list.begin = UINT32_MAX;
        for (uint32_t tile = tile_begin; tile < tile_end;) {
                uint32_t panel = tile / panel_tiles, end = (panel + 1) * panel_tiles;
                const uint8_t *codes = (const uint8_t *)w->codes + panel * t2_panel_bytes(w->cols);

                for (unsigned i = 0; i < panel_tiles; i++)
                        total[i] = _mm512_set1_epi32(-correction);
                for (uint32_t c = 0; c < cols; c += LIST_MAX) {
                        if (list.begin != c)
                                list_columns(&list, x->q, c,
                                             cols - c > LIST_MAX ? c + LIST_MAX : cols, cols);
                        add_panel(total, codes, &list);
                }
                for (; tile < end && tile < tile_end; tile++)
                        store_row(y + (size_t)tile * TILE_ROWS, total[tile % panel_tiles],
                                  x->inverse[0], w->scales + (size_t)tile * TILE_ROWS);
        }
}

/* The tiles [tile, tile_end) of one panel and the tokens [t0, t0 + n), at most TOKENS_MAX. */
typedef void panel_fn(float *y, size_t y_stride, const struct weight_matrix *w,
                      const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                      uint32_t tile_end);

INLINE void each_panel(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end,
                       uint32_t panel_tiles, panel_fn *fn) {
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end;) {
                        uint32_t end = (tile / panel_tiles + 1) * panel_tiles;

                        end = end < tile_end ? end : tile_end;
                        fn(y + t0 * y_stride, y_stride, w, x, t0, n, tile, end);
                        tile = end;
                }
        }
}
