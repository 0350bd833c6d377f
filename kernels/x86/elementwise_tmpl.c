/* Steps between the matrix products, written once for every vector width: lane i does exactly what
 * the reference does for element i. Tails use partial loads and stores. The including file has
 * included its vocabulary (vec_avx2.h or vec_avx512.h). */
#include "kernels/ref/expf.h"
#include "kernels/ref/ref.h"

/* expf_fixed of every lane, operation for operation. */
INLINE vf vf_exp(vf x) {
        vf n, r, p;
        vi i, half;

        x = vf_min(vf_set1(EXP_MAX), x);
        x = vf_max(vf_set1(EXP_MIN), x);
        n = vf_add(vf_mul(x, vf_set1(EXP_LOG2E)), vf_set1(EXP_ROUND));
        n = vf_sub(n, vf_set1(EXP_ROUND));
        r = vf_sub(x, vf_mul(n, vf_set1(EXP_LN2_HI)));
        r = vf_sub(r, vf_mul(n, vf_set1(EXP_LN2_LO)));

        p = vf_set1(EXP_P0);
        p = vf_add(vf_mul(p, r), vf_set1(EXP_P1));
        p = vf_add(vf_mul(p, r), vf_set1(EXP_P2));
        p = vf_add(vf_mul(p, r), vf_set1(EXP_P3));
        p = vf_add(vf_mul(p, r), vf_set1(EXP_P4));
        p = vf_add(vf_mul(p, r), vf_set1(EXP_P5));
        p = vf_add(vf_add(vf_mul(p, vf_mul(r, r)), r), vf_set1(1.0f));

        i = vf_round(n);
        half = vi_half(i);
        return vf_mul(vf_mul(p, vi_exp2(half)), vi_exp2(vi_sub(i, half)));
}

INLINE vf vf_relu2_mul(vf gate, vf up) {
        return vf_where_positive(gate, vf_mul(vf_mul(gate, gate), up));
}

INLINE vf vf_silu_mul(vf gate, vf up) {
        return vf_mul(vf_div(gate, vf_add(vf_set1(1.0f), vf_exp(vf_neg(gate)))), up);
}

void KERNEL(relu2_mul)(float *y, const float *gate, const float *up, size_t n) {
        size_t i = 0;

        for (; i + LANES <= n; i += LANES)
                vf_store(y + i, vf_relu2_mul(vf_load(gate + i), vf_load(up + i)));
        if (i < n)
                vf_store_n(y + i,
                           vf_relu2_mul(vf_load_n(gate + i, n - i), vf_load_n(up + i, n - i)),
                           n - i);
}

void KERNEL(silu_mul)(float *y, const float *gate, const float *up, size_t n) {
        size_t i = 0;

        for (; i + LANES <= n; i += LANES)
                vf_store(y + i, vf_silu_mul(vf_load(gate + i), vf_load(up + i)));
        if (i < n)
                vf_store_n(y + i,
                           vf_silu_mul(vf_load_n(gate + i, n - i), vf_load_n(up + i, n - i)),
                           n - i);
}

void KERNEL(add)(float *y, const float *x, size_t n) {
        size_t i = 0;

        for (; i + LANES <= n; i += LANES)
                vf_store(y + i, vf_add(vf_load(y + i), vf_load(x + i)));
        if (i < n)
                vf_store_n(y + i, vf_add(vf_load_n(y + i, n - i), vf_load_n(x + i, n - i)), n - i);
}

void KERNEL(rope_neox)(float *x, const float *cos, const float *sin, size_t half) {
        size_t i = 0;

        for (; i + LANES <= half; i += LANES) {
                vf a = vf_load(x + i), b = vf_load(x + half + i);
                vf c = vf_load(cos + i), s = vf_load(sin + i);

                vf_store(x + i, vf_sub(vf_mul(a, c), vf_mul(b, s)));
                vf_store(x + half + i, vf_add(vf_mul(b, c), vf_mul(a, s)));
        }
        if (i < half) {
                size_t n = half - i;
                vf a = vf_load_n(x + i, n), b = vf_load_n(x + half + i, n);
                vf c = vf_load_n(cos + i, n), s = vf_load_n(sin + i, n);

                vf_store_n(x + i, vf_sub(vf_mul(a, c), vf_mul(b, s)), n);
                vf_store_n(x + half + i, vf_add(vf_mul(b, c), vf_mul(a, s)), n);
        }
}

void KERNEL(rope_norm)(float *x, const float *cos, const float *sin, size_t half) {
        size_t i = 0;

        for (; i + LANES / 2 <= half; i += LANES / 2) {
                vf v = vf_load(x + 2 * i);
                vf c = vf_load_twice(cos + i), s = vf_load_twice(sin + i);

                vf_store(x + 2 * i, vf_addsub(vf_mul(v, c), vf_mul(vf_swap_pairs(v), s)));
        }
        for (; i < half; i++) {
                float a = x[2 * i], b = x[2 * i + 1];

                x[2 * i] = a * cos[i] - b * sin[i];
                x[2 * i + 1] = b * cos[i] + a * sin[i];
        }
}

void KERNEL(f32_to_f16)(uint16_t *y, const float *x, size_t n) {
        size_t i = 0;

        for (; i + LANES <= n; i += LANES)
                vf_store_f16(y + i, vf_load(x + i));
        for (; i < n; i++)
                y[i] = f32_to_f16(x[i]);
}
