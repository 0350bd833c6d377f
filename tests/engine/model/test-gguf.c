/* The container reader against malformed files: one row for every rule of formats-and-models 1.3
 * (1 to 14) and every published vulnerability of other readers (1.4) that concerns the container.
 * Every file is built here, byte by byte, in memory of exactly its size, so that a checker of
 * memory sees one byte read too many. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/model/gguf_write.h"
#include "engine/model/types.h"

#define MAX64 UINT64_MAX
#define P2(n) (UINT64_C(1) << (n))

static void put(struct bytes *b, const void *p, size_t n) {
        assert_int_equal(bytes_put(b, p, n), 0);
}

static void put_u32(struct bytes *b, uint32_t v) {
        put(b, &v, sizeof(v));
}

static void put_u64(struct bytes *b, uint64_t v) {
        put(b, &v, sizeof(v));
}

static void put_str(struct bytes *b, const char *s) {
        put_u64(b, strlen(s));
        put(b, s, strlen(s));
}

static void put_header(struct bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
        put(b, "GGUF", 4);
        put_u32(b, version);
        put_u64(b, n_tensors);
        put_u64(b, n_kv);
}

static void put_tensor(struct bytes *b, const char *name, uint32_t n_dims, const uint64_t *ne,
                       uint32_t type, uint64_t offset) {
        put_str(b, name);
        put_u32(b, n_dims);
        put(b, ne, MIN(n_dims, 4U) * sizeof(*ne));
        put_u32(b, type);
        put_u64(b, offset);
}

static void put_blob(struct bytes *b, size_t n) {
        static const uint8_t zero;

        while (b->n % 32 != 0)
                put(b, &zero, 1);
        for (size_t i = 0; i < n; i++)
                put(b, &zero, 1);
}

/* Parse a copy that lies in exactly b->n bytes. Consumes b. */
static enum model_error_code parse(struct bytes *b, uint64_t *ret_position) {
        struct model_error err = {.code = MODEL_OK};
        uint8_t *exact = malloc(MAX(b->n, 1U));
        struct gguf *g = NULL;
        int r;

        assert_non_null(exact);
        if (b->n > 0)
                memcpy(exact, b->p, b->n);
        r = gguf_parse(&g, (struct view){exact, b->n}, &err);
        assert_int_equal(r == 0, err.code == MODEL_OK);
        assert_int_equal(r == 0, g != NULL);
        assert_true(err.position <= b->n);
        if (ret_position)
                *ret_position = err.position;
        gguf_free(g);
        free(exact);
        free(b->p);
        *b = (struct bytes){0};
        return err.code;
}

static unsigned wrong;

static void expect(const char *what, size_t row, enum model_error_code got,
                   enum model_error_code wanted) {
        if (got == wanted)
                return;
        print_error("%s, row %zu: got \"%s\", wanted \"%s\"\n", what, row, model_error_text(got),
                    model_error_text(wanted));
        wrong++;
}

static void test_headers(void **state) {
        static const struct {
                uint32_t version;
                uint64_t n_tensors, n_kv;
                enum model_error_code code;
        } rows[] = {
                {3, 0, 0, MODEL_OK},
                {2, 0, 0, MODEL_OK},
                {0, 0, 0, MODEL_E_VERSION},
                {1, 0, 0, MODEL_E_VERSION},
                {4, 0, 0, MODEL_E_VERSION},
                {0x03000000, 0, 0, MODEL_E_BYTE_ORDER},
                {3, 1, 0, MODEL_E_TENSOR_COUNT},
                {3, 65537, 0, MODEL_E_TENSOR_COUNT},
                {3, P2(32), 0, MODEL_E_TENSOR_COUNT},             /* CVE-2024-21836 */
                {3, P2(63), 0, MODEL_E_TENSOR_COUNT},
                {3, MAX64 / 80 + 1, 0, MODEL_E_TENSOR_COUNT},
                {3, MAX64, 0, MODEL_E_TENSOR_COUNT},
                {3, 0, 1, MODEL_E_KV_COUNT},
                {3, 0, 65537, MODEL_E_KV_COUNT},
                {3, 0, P2(63), MODEL_E_KV_COUNT},                 /* CVE-2024-23605 */
                {3, 0, MAX64 / 56 + 1, MODEL_E_KV_COUNT},
                {3, 0, MAX64, MODEL_E_KV_COUNT},
        };

        wrong = 0;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bytes b = {0};

                put_header(&b, rows[i].version, rows[i].n_tensors, rows[i].n_kv);
                expect("header", i, parse(&b, NULL), rows[i].code);
        }
        assert_int_equal(wrong, 0);
}

static void test_magic(void **state) {
        struct bytes b = {0};

        put(&b, "GGUX\3\0\0\0", 8);
        put_u64(&b, 0);
        put_u64(&b, 0);
        assert_int_equal(parse(&b, NULL), MODEL_E_MAGIC);
}

/* CVE-2024-39720: nothing but a beginning. */
static void test_short_files(void **state) {
        for (size_t n = 0; n < 24; n++) {
                struct bytes b = {0};

                put_header(&b, 3, 0, 0);
                b.n = n;
                assert_int_equal(parse(&b, NULL), MODEL_E_TRUNCATED);
        }
}

#define LE32(v) (v) & 255, (v) >> 8 & 255, (v) >> 16 & 255, (v) >> 24 & 255
#define LE64(v)                                                                                    \
        (v) & 255, (v) >> 8 & 255, (v) >> 16 & 255, (v) >> 24 & 255, (v) >> 32 & 255,              \
                (v) >> 40 & 255, (v) >> 48 & 255, (v) >> 56 & 255

/* One entry; the value as bytes behind its type. */
static void test_values(void **state) {
        static const struct {
                const char *key;
                uint32_t type;
                uint8_t value[32];
                size_t n;
                enum model_error_code code;
        } rows[] = {
                {"a", GGUF_U8, {1}, 1, MODEL_OK},
                {"a", GGUF_F64, {1}, 8, MODEL_OK},
                {"a", GGUF_F64, {1}, 7, MODEL_E_TRUNCATED},
                {"", GGUF_U32, {1}, 4, MODEL_E_KEY},               /* llama.cpp PR 24263 */
                {"a b", GGUF_U8, {1}, 1, MODEL_E_KEY},
                {"a\n", GGUF_U8, {1}, 1, MODEL_E_KEY},
                {"\xc3\xa4", GGUF_U8, {1}, 1, MODEL_E_KEY},
                {"a", 13, {1}, 8, MODEL_E_VALUE_TYPE},
                {"a", UINT32_MAX, {1}, 8, MODEL_E_VALUE_TYPE},
                {"a", GGUF_BOOL, {0}, 1, MODEL_OK},
                {"a", GGUF_BOOL, {2}, 1, MODEL_E_BOOL},
                {"a", GGUF_BOOL, {255}, 1, MODEL_E_BOOL},
                {"a", GGUF_STRING, {LE64(UINT64_C(3)), 'a', 'b', 'c'}, 11, MODEL_OK},
                {"a", GGUF_STRING, {LE64(UINT64_C(4)), 'a', 'b', 'c'}, 11, MODEL_E_TRUNCATED},
                {"a", GGUF_STRING, {LE64(MAX64)}, 16, MODEL_E_STRING_SIZE}, /* CVE-2024-21825 */
                {"a", GGUF_STRING, {LE64(P2(30))}, 16, MODEL_E_STRING_SIZE}, /* ggml PR 1516 */
                {"a", GGUF_STRING, {LE64(P2(31))}, 16, MODEL_E_STRING_SIZE}, /* CVE-2025-49847 */
                {"a", GGUF_STRING, {LE64(P2(31) + 1)}, 16, MODEL_E_STRING_SIZE},
                {"a", GGUF_STRING, {LE64(P2(32) - 1)}, 16, MODEL_E_STRING_SIZE},
                {"a", GGUF_ARRAY, {LE32(GGUF_U32), LE64(UINT64_C(0))}, 12, MODEL_OK},
                {"a", GGUF_ARRAY, {LE32(GGUF_U32), LE64(UINT64_C(1)), 1, 0, 0, 0}, 16, MODEL_OK},
                {"a", GGUF_ARRAY, {LE32(GGUF_U32), LE64(UINT64_C(2)), 1}, 16, MODEL_E_TRUNCATED},
                {"a", GGUF_ARRAY, {LE32(GGUF_BOOL), LE64(UINT64_C(2)), 1, 2}, 14, MODEL_E_BOOL},
                {"a", GGUF_ARRAY, {LE32(GGUF_ARRAY), LE64(UINT64_C(1))}, 12, MODEL_E_ARRAY_TYPE},
                {"a", GGUF_ARRAY, {LE32(13U), LE64(UINT64_C(1))}, 12, MODEL_E_ARRAY_TYPE},
                {"a", GGUF_ARRAY, {LE32(GGUF_U8), LE64(P2(63))}, 12, MODEL_E_ARRAY_COUNT},
                {"a", GGUF_ARRAY, {LE32(GGUF_U64), LE64(P2(26) + 1)}, 12, MODEL_E_ARRAY_COUNT},
                {"a", GGUF_ARRAY, {LE32(GGUF_U64), LE64(P2(26))}, 12, MODEL_E_TRUNCATED},
                {"a", GGUF_ARRAY, {LE32(GGUF_STRING), LE64(P2(61))}, 12, MODEL_E_ARRAY_COUNT},
                {"a", GGUF_ARRAY, {LE32(GGUF_STRING), LE64(UINT64_C(2))}, 20, MODEL_E_TRUNCATED},
                {"a", GGUF_ARRAY, {LE32(GGUF_STRING), LE64(UINT64_C(1)), LE64(MAX64)}, 20,
                 MODEL_E_STRING_SIZE},
                /* alignment: llama.cpp PR 26318 */
                {"general.alignment", GGUF_U32, {LE32(64U)}, 4, MODEL_OK},
                {"general.alignment", GGUF_I32, {LE32(64U)}, 4, MODEL_E_ALIGNMENT},
                {"general.alignment", GGUF_U64, {LE64(UINT64_C(64))}, 8, MODEL_E_ALIGNMENT},
                {"general.alignment", GGUF_STRING, {LE64(UINT64_C(2)), '6', '4'}, 10,
                 MODEL_E_ALIGNMENT},
                {"general.alignment", GGUF_U32, {LE32(0U)}, 4, MODEL_E_ALIGNMENT},
                {"general.alignment", GGUF_U32, {LE32(3U)}, 4, MODEL_E_ALIGNMENT},
                {"general.alignment", GGUF_U32, {LE32(1U << 21)}, 4, MODEL_E_ALIGNMENT},
                {"general.alignment", GGUF_U32, {LE32(1U << 30)}, 4, MODEL_E_ALIGNMENT},
                {"general.alignment", GGUF_U32, {LE32(1U << 31)}, 4, MODEL_E_ALIGNMENT},
        };

        wrong = 0;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bytes b = {0};

                put_header(&b, 3, 0, 1);
                put_str(&b, rows[i].key);
                put_u32(&b, rows[i].type);
                put(&b, rows[i].value, rows[i].n);
                expect("value", i, parse(&b, NULL), rows[i].code);
        }
        assert_int_equal(wrong, 0);
}

/* CVE-2024-23496: a key whose length plus one is zero. */
static void test_key_lengths(void **state) {
        static const uint64_t lengths[] = {65536, P2(31), P2(32), P2(63), MAX64};

        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                struct bytes b = {0};

                put_header(&b, 3, 0, 1);
                put_u64(&b, lengths[i]);
                put_blob(&b, 64);
                assert_int_equal(parse(&b, NULL), MODEL_E_KEY);
        }
}

static void test_duplicate_key(void **state) {
        struct bytes b = {0};
        uint64_t position;

        put_header(&b, 3, 0, 3);
        for (unsigned i = 0; i < 3; i++) {
                put_str(&b, i == 1 ? "b" : "a");
                put_u32(&b, GGUF_U32);
                put_u32(&b, i);
        }
        assert_int_equal(parse(&b, &position), MODEL_E_KEY_DUPLICATE);
        assert_int_equal(position, 24 + 3 * 13 + 2 * 4); /* the value of the second "a" */
}

/* Array in array, ten thousand deep (huggingface.js PR 2028): refused at the first level. */
static void test_nested_arrays(void **state) {
        struct bytes b = {0};

        put_header(&b, 3, 0, 1);
        put_str(&b, "a");
        put_u32(&b, GGUF_ARRAY);
        for (unsigned i = 0; i < 10000; i++) {
                put_u32(&b, GGUF_ARRAY);
                put_u64(&b, 1);
        }
        assert_int_equal(parse(&b, NULL), MODEL_E_ARRAY_TYPE);
}

/* One tensor in front of `blob` bytes. */
static void test_tensors(void **state) {
        static const struct {
                const char *name;
                uint32_t n_dims;
                uint64_t ne[4];
                uint32_t type;
                uint64_t offset;
                size_t blob;
                enum model_error_code code;
        } rows[] = {
                {"t", 1, {8}, TYPE_F32, 0, 32, MODEL_OK},
                {"t", 2, {8, 2}, TYPE_F16, 32, 64, MODEL_OK},
                {"t", 2, {128, 1}, TYPE_I2_S, 0, 64, MODEL_OK},
                {"t", 2, {128, 1}, TYPE_I2_S, 0, 63, MODEL_E_OFFSET},
                {"", 1, {8}, TYPE_F32, 0, 32, MODEL_E_TENSOR_NAME},
                {"a tensor", 1, {8}, TYPE_F32, 0, 32, MODEL_E_TENSOR_NAME},
                {"a234567890123456789012345678901234567890123456789012345678901234", 1, {8},
                 TYPE_F32, 0, 32, MODEL_E_TENSOR_NAME},
                {"t", 0, {8}, TYPE_F32, 0, 32, MODEL_E_DIMS},
                {"t", 5, {8, 1, 1, 1}, TYPE_F32, 0, 32, MODEL_E_DIMS}, /* llama.cpp PR 27188 */
                {"t", 9, {8, 1, 1, 1}, TYPE_F32, 0, 32, MODEL_E_DIMS}, /* gguf-tools 25 */
                {"t", 1U << 31, {8, 1, 1, 1}, TYPE_F32, 0, 32, MODEL_E_DIMS},
                {"t", UINT32_MAX, {8, 1, 1, 1}, TYPE_F32, 0, 32, MODEL_E_DIMS},
                {"t", 1, {0}, TYPE_F32, 0, 32, MODEL_E_DIM_ZERO},      /* llama.cpp PR 24263 */
                {"t", 2, {0, 5}, TYPE_F32, 0, 32, MODEL_E_DIM_ZERO},
                {"t", 2, {5, 0}, TYPE_F32, 0, 32, MODEL_E_DIM_ZERO},
                {"t", 2, {P2(32), P2(32)}, TYPE_F32, 0, 32, MODEL_E_ELEMENTS}, /* 2024-21802 */
                {"t", 2, {P2(63), 2}, TYPE_F32, 0, 32, MODEL_E_ELEMENTS},
                {"t", 2, {P2(62), 4}, TYPE_F32, 0, 32, MODEL_E_ELEMENTS},
                {"t", 2, {P2(33), P2(31)}, TYPE_F32, 0, 32, MODEL_E_ELEMENTS},
                {"t", 4, {MAX64, 2, 1, 1}, TYPE_F32, 0, 32, MODEL_E_ELEMENTS}, /* zackshen 15 */
                {"t", 3, {1024, P2(40), P2(20)}, TYPE_F32, 0, 32, MODEL_E_ELEMENTS}, /* 33298 */
                {"t", 3, {1024, P2(40), P2(20)}, TYPE_F16, 0, 32, MODEL_E_ELEMENTS},
                {"t", 3, {1024, P2(40), P2(20)}, TYPE_Q8_0, 0, 32, MODEL_E_ELEMENTS},
                {"t", 1, {P2(40) + 1}, TYPE_F32, 0, 32, MODEL_E_ELEMENTS},
                {"t", 1, {P2(40)}, TYPE_F32, 0, 32, MODEL_E_OFFSET},
                {"t", 2, {P2(32) + 8, 1}, TYPE_F32, 0, 32, MODEL_E_OFFSET}, /* CVE-2026-53923 */
                {"t", 2, {8, P2(32) + 1}, TYPE_F32, 0, 32, MODEL_E_OFFSET},
                {"t", 1, {MAX64 - 15}, 24, 0, 32, MODEL_E_ELEMENTS},        /* CVE-2025-53630 */
                {"t", 1, {8}, UINT32_MAX, 0, 32, MODEL_E_TENSOR_TYPE},      /* PR 19856 */
                {"t", 1, {8}, 1U << 31, 0, 32, MODEL_E_TENSOR_TYPE},
                {"t", 1, {8}, 4, 0, 32, MODEL_E_TENSOR_TYPE},
                {"t", 1, {8}, 5, 0, 32, MODEL_E_TENSOR_TYPE},
                {"t", 1, {8}, 31, 0, 32, MODEL_E_TENSOR_TYPE},
                {"t", 1, {8}, 32, 0, 32, MODEL_E_TENSOR_TYPE},
                {"t", 1, {8}, 33, 0, 32, MODEL_E_TENSOR_TYPE},
                {"t", 1, {8}, 44, 0, 32, MODEL_E_TENSOR_TYPE},
                {"t", 1, {8}, 37, 0, 32, MODEL_E_TYPE_UNSUPPORTED},
                {"t", 1, {8}, 38, 0, 32, MODEL_E_TYPE_UNSUPPORTED},
                {"t", 1, {8}, 39, 0, 32, MODEL_E_TYPE_UNSUPPORTED},
                {"t", 1, {8}, 42, 0, 32, MODEL_E_TYPE_UNSUPPORTED},
                {"t", 1, {8}, 335, 0, 32, MODEL_E_TYPE_UNSUPPORTED},
                {"t", 1, {31}, TYPE_Q8_0, 0, 64, MODEL_E_BLOCK},
                {"t", 1, {128}, TYPE_TQ1_0, 0, 64, MODEL_E_BLOCK},
                {"t", 1, {6}, TYPE_I2_S, 0, 64, MODEL_E_BLOCK},
                {"t", 1, {8}, TYPE_F32, 8, 64, MODEL_E_OFFSET},    /* not aligned */
                {"t", 1, {8}, TYPE_F32, 32, 32, MODEL_E_OFFSET},   /* CVE-2026-7482 */
                {"t", 1, {8}, TYPE_F32, 0, 31, MODEL_E_OFFSET},
                {"t", 1, {8}, TYPE_F32, MAX64 - 31, 64, MODEL_E_OFFSET},
                {"t", 1, {8}, TYPE_F32, P2(63), 64, MODEL_E_OFFSET},
        };

        wrong = 0;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bytes b = {0};

                put_header(&b, 3, 1, 0);
                put_tensor(&b, rows[i].name, rows[i].n_dims, rows[i].ne, rows[i].type,
                           rows[i].offset);
                put_blob(&b, rows[i].blob);
                expect("tensor", i, parse(&b, NULL), rows[i].code);
        }
        assert_int_equal(wrong, 0);
}

static void test_name_with_nul(void **state) {
        const uint64_t ne = 8;
        struct bytes b = {0};

        put_header(&b, 3, 1, 0);
        put_u64(&b, 3);
        put(&b, "a\0b", 3);
        put_u32(&b, 1);
        put_u64(&b, ne);
        put_u32(&b, TYPE_F32);
        put_u64(&b, 0);
        put_blob(&b, 32);
        assert_int_equal(parse(&b, NULL), MODEL_E_TENSOR_NAME);
}

/* Two tensors: names and offsets. */
static void test_pairs(void **state) {
        static const struct {
                const char *a, *b;
                uint64_t offset_a, offset_b;
                enum model_error_code code;
        } rows[] = {
                {"a", "b", 0, 64, MODEL_OK},
                {"b", "a", 64, 0, MODEL_OK},
                {"a", "b", 0, 96, MODEL_OK}, /* a gap is legal */
                {"a", "b", 0, 32, MODEL_E_OVERLAP},
                {"a", "b", 0, 0, MODEL_E_OVERLAP},
                {"b", "a", 32, 0, MODEL_E_OVERLAP},
                {"a", "a", 0, 64, MODEL_E_TENSOR_DUPLICATE},
        };
        const uint64_t ne = 16;

        wrong = 0;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bytes b = {0};

                put_header(&b, 3, 2, 0);
                put_tensor(&b, rows[i].a, 1, &ne, TYPE_F32, rows[i].offset_a);
                put_tensor(&b, rows[i].b, 1, &ne, TYPE_F32, rows[i].offset_b);
                put_blob(&b, 160);
                expect("pair", i, parse(&b, NULL), rows[i].code);
        }
        assert_int_equal(wrong, 0);
}

/* CVE-2025-53630, CVE-2026-27940: legal by themselves, together more than 64 bits. */
static void test_many_large_tensors(void **state) {
        const uint64_t ne = P2(40);
        struct bytes b = {0};
        char name[16];

        put_header(&b, 3, 1000, 0);
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "t%u", i);
                put_tensor(&b, name, 1, &ne, 28, i * P2(43));
        }
        put_blob(&b, 4096);
        assert_int_equal(parse(&b, NULL), MODEL_E_OFFSET);
}

static struct bytes small_valid_file(void) {
        const uint64_t ne[2] = {32, 3};
        const uint8_t flags[2] = {0, 1};
        struct bytes strings = {0}, b = {0};
        struct gguf_writer w;

        assert_int_equal(bytes_put_string(&strings, "one", 3), 0);
        assert_int_equal(bytes_put_string(&strings, "", 0), 0);
        gguf_writer_init(&w, 64);
        gguf_put_u32(&w, "u", 7);
        gguf_put_f32(&w, "f", 1.5f);
        gguf_put_bool(&w, "b", true);
        gguf_put_string(&w, "s", "text", 4);
        gguf_put_array(&w, "strings", GGUF_STRING, 2, strings.p, strings.n);
        gguf_put_array(&w, "flags", GGUF_BOOL, 2, flags, 2);
        (void)gguf_put_tensor(&w, "z", TYPE_Q8_0, 2, ne, 102);
        (void)gguf_put_tensor(&w, "a", TYPE_F32, 1, ne, 128);
        assert_int_equal(gguf_writer_finish(&w, &b), 0);
        put_blob(&b, w.data_size);
        gguf_writer_done(&w);
        free(strings.p);
        return b;
}

/* CVE-2024-32878: cut anywhere, always an error, nothing used that was not set. */
static void test_truncation(void **state) {
        struct bytes whole = small_valid_file();

        for (size_t n = 0; n <= whole.n; n++) {
                struct bytes b = {0};
                enum model_error_code code;

                put(&b, whole.p, n);
                code = parse(&b, NULL);
                if ((code == MODEL_OK) != (n == whole.n))
                        fail_msg("%zu of %zu bytes: %s", n, whole.n, model_error_text(code));
        }
        free(whole.p);
}

static void test_getters(void **state) {
        struct bytes b = small_valid_file();
        struct view cursor, v;
        struct gguf *g = NULL;
        struct model_error err;
        uint32_t u = 0;
        bool flag = false;
        float f = 0;

        assert_int_equal(gguf_parse(&g, (struct view){b.p, b.n}, &err), 0);
        assert_int_equal(gguf_u32(g, "u", &u, &err), 0);
        assert_int_equal(u, 7);
        assert_int_equal(gguf_f32(g, "f", &f, &err), 0);
        assert_true(f == 1.5f);
        assert_int_equal(gguf_bool(g, "b", &flag, &err), 0);
        assert_true(flag);
        assert_int_equal(gguf_string(g, "s", &v, &err), 0);
        assert_int_equal(v.n, 4);
        assert_memory_equal(v.p, "text", 4);
        assert_int_equal(gguf_u32(g, "none", &u, &err), GGUF_ABSENT);
        assert_true(gguf_u32(g, "s", &u, &err) < 0);
        assert_int_equal(err.code, MODEL_E_META_TYPE);
        assert_string_equal(err.name, "s");
        assert_true(gguf_f32(g, "u", &f, &err) < 0);
        assert_true(gguf_string(g, "u", &v, &err) < 0);
        assert_true(gguf_bool(g, "u", &flag, &err) < 0);

        cursor = gguf_find(g, "strings")->value;
        v = gguf_next_string(&cursor);
        assert_int_equal(v.n, 3);
        assert_memory_equal(v.p, "one", 3);
        v = gguf_next_string(&cursor);
        assert_int_equal(v.n, 0);
        assert_int_equal(cursor.n, 0);

        assert_null(gguf_tensor(g, "y"));
        assert_int_equal(gguf_tensor(g, "z")->size, 102);
        assert_int_equal(gguf_tensor(g, "a")->offset % 64, 0);
        gguf_free(g);
        free(b.p);
}

/* Rule 5: any integer width, no negative, nothing above 32 bits, no float that is no number. */
static void test_widths(void **state) {
        static const struct {
                enum gguf_type type;
                uint64_t bits;
                enum model_error_code code;
        } rows[] = {
                {GGUF_U8, 200, MODEL_OK},           {GGUF_I8, 0x80, MODEL_E_META_RANGE},
                {GGUF_U16, 60000, MODEL_OK},        {GGUF_I16, 0x8000, MODEL_E_META_RANGE},
                {GGUF_I32, 5, MODEL_OK},            {GGUF_I32, 0x80000000, MODEL_E_META_RANGE},
                {GGUF_U64, UINT32_MAX, MODEL_OK},   {GGUF_U64, P2(32), MODEL_E_META_RANGE},
                {GGUF_U64, MAX64, MODEL_E_META_RANGE}, {GGUF_I64, MAX64, MODEL_E_META_RANGE},
                {GGUF_I64, 9, MODEL_OK},            {GGUF_F32, 0, MODEL_E_META_TYPE},
                {GGUF_BOOL, 1, MODEL_E_META_TYPE},
        };
        static const size_t sizes[_GGUF_TYPE_MAX] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct model_error err = {.code = MODEL_OK};
                struct gguf *g = NULL;
                struct bytes b = {0};
                uint32_t v;

                put_header(&b, 3, 0, 1);
                put_str(&b, "a");
                put_u32(&b, rows[i].type);
                put(&b, &rows[i].bits, sizes[rows[i].type]);
                assert_int_equal(gguf_parse(&g, (struct view){b.p, b.n}, &err), 0);
                (void)gguf_u32(g, "a", &v, &err);
                assert_int_equal(err.code, rows[i].code);
                gguf_free(g);
                free(b.p);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_headers),       cmocka_unit_test(test_magic),
                cmocka_unit_test(test_short_files),   cmocka_unit_test(test_values),
                cmocka_unit_test(test_key_lengths),   cmocka_unit_test(test_duplicate_key),
                cmocka_unit_test(test_nested_arrays), cmocka_unit_test(test_tensors),
                cmocka_unit_test(test_name_with_nul), cmocka_unit_test(test_pairs),
                cmocka_unit_test(test_many_large_tensors),
                cmocka_unit_test(test_truncation),    cmocka_unit_test(test_getters),
                cmocka_unit_test(test_widths),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
