/* What the table lookups of base-3 codes give, as functions of a compile-time constant, and arrays
 * of them. w = byte / 28 (0..9) holds the upper two codes, x = byte % 28 the lower three. */
#pragma once

#define T5_D3(w) ((w) % 3)
#define T5_D4(w) ((w) / 3)
/* 28 * w in a byte. */
#define T5_BELOW(w) (28 * (w) % 256)
#define T5_HIGH(w) (28 * T5_D3(w) + 20 * T5_D4(w))
#define T5_LOW(x) ((x) % 3 | (x) / 3 % 3 << 2 | (x) / 9 << 4)

#define T5_4(f, i) f(i), f((i) + 1), f((i) + 2), f((i) + 3)
#define T5_16(f, i) T5_4(f, i), T5_4(f, (i) + 4), T5_4(f, (i) + 8), T5_4(f, (i) + 12)
#define T5_64(f) { T5_16(f, 0), T5_16(f, 16), T5_16(f, 32), T5_16(f, 48) }

/* Without byte permutations: the upper nibble n says w but for one step, which the byte itself
 * decides by comparison with T5_STEP(n). */
#define T5_FIRST(n) (16 * (n) / 28)
#define T5_STEP(n) (28 * (T5_FIRST(n) + 1))
