/* The GGUF reader. Problem: the file may come from anybody, and thirty published vulnerabilities of
 * other readers show how its counts, lengths and offsets are abused. Invariants: every byte is
 * reached through take(), which knows what is left; every count is compared with the bytes that its
 * elements need before anything is allocated; sums and products are checked. What gguf_parse()
 * accepts can be walked without further checks. The tables are owned by struct gguf, all bytes by
 * the caller. Rule numbers below are those of formats-and-models 1.3. */

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/gguf.h"
#include "engine/model/limits.h"
#include "engine/model/types.h"

struct reader {
        struct view file;
        uint64_t pos;
        struct model_error *err;
};

static int fail(const struct reader *r, enum model_error_code code, uint64_t position,
                uint64_t value, uint64_t limit, struct view name) {
        return model_fail(r->err, code, position, value, limit, (const char *)name.p, name.n);
}

static const struct view no_name = {NULL, 0};

static uint64_t left(const struct reader *r) {
        return r->file.n - r->pos;
}

/* The only way to a byte of the file. */
static int take(struct reader *r, uint64_t n, const uint8_t **ret) {
        if (n > left(r))
                return fail(r, MODEL_E_TRUNCATED, r->pos, n, left(r), no_name);
        *ret = r->file.p + r->pos;
        r->pos += n;
        return 0;
}

static int take_u32(struct reader *r, uint32_t *ret) {
        const uint8_t *p = NULL;
        int e = take(r, sizeof(*ret), &p);

        if (e < 0)
                return e;
        *ret = load_u32(p);
        return 0;
}

static int take_u64(struct reader *r, uint64_t *ret) {
        const uint8_t *p = NULL;
        int e = take(r, sizeof(*ret), &p);

        if (e < 0)
                return e;
        *ret = load_u64(p);
        return 0;
}

/* A length and that many bytes. The cap is tested first, so that an absurd length is called that
 * and not a short file. */
static int take_string(struct reader *r, uint64_t limit, enum model_error_code code,
                       struct view *ret) {
        uint64_t start = r->pos, n = 0;
        const uint8_t *p = NULL;
        int e;

        e = take_u64(r, &n);
        if (e < 0)
                return e;
        if (n > limit)
                return fail(r, code, start, n, limit, no_name);
        e = take(r, n, &p);
        if (e < 0)
                return e;
        *ret = (struct view){p, (size_t)n};
        return 0;
}

static bool printable(struct view s) {
        for (size_t i = 0; i < s.n; i++)
                if (s.p[i] < 0x21 || s.p[i] > 0x7e)
                        return false;
        return true;
}

static int compare_views(struct view a, struct view b) {
        int c = memcmp(a.p, b.p, MIN(a.n, b.n));

        return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* Bytes of a scalar type; 0 for strings and arrays. */
static unsigned scalar_size(enum gguf_type type) {
        static const uint8_t sizes[] = {
                [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2,  [GGUF_I16] = 2, [GGUF_U32] = 4,
                [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8,
                [GGUF_F64] = 8,
        };

        return sizes[type];
}

static int check_bools(const struct reader *r, const struct gguf_kv *kv) {
        for (size_t i = 0; i < kv->value.n; i++)
                if (kv->value.p[i] > 1)
                        return fail(r, MODEL_E_BOOL, kv->position + i, kv->value.p[i], 1, kv->key);
        return 0;
}

/* Rule 4, arrays. The count is compared with the bytes left before the elements are walked. */
static int parse_array(struct reader *r, struct gguf_kv *kv) {
        uint64_t start = r->pos, smallest;
        struct view s;
        uint32_t element;
        int e;

        e = take_u32(r, &element);
        if (e < 0)
                return e;
        if (element >= _GGUF_TYPE_MAX || element == GGUF_ARRAY)
                return fail(r, MODEL_E_ARRAY_TYPE, start, element, _GGUF_TYPE_MAX - 1, kv->key);
        kv->element = (enum gguf_type)element;
        e = take_u64(r, &kv->count);
        if (e < 0)
                return e;
        if (kv->count > LIMIT_ARRAY_COUNT)
                return fail(r, MODEL_E_ARRAY_COUNT, start + 4, kv->count, LIMIT_ARRAY_COUNT,
                            kv->key);

        smallest = element == GGUF_STRING ? 8 : scalar_size(kv->element);
        if (kv->count * smallest > left(r))
                return fail(r, MODEL_E_TRUNCATED, r->pos, kv->count * smallest, left(r), kv->key);
        kv->position = r->pos;
        kv->value.p = r->file.p + r->pos;
        if (element == GGUF_STRING) {
                for (uint64_t i = 0; i < kv->count; i++) {
                        e = take_string(r, LIMIT_STRING_BYTES, MODEL_E_STRING_SIZE, &s);
                        if (e < 0)
                                return e;
                }
        } else
                r->pos += kv->count * smallest;
        kv->value.n = (size_t)(r->pos - kv->position);
        return element == GGUF_BOOL ? check_bools(r, kv) : 0;
}

static int parse_kv(struct reader *r, struct gguf_kv *kv) {
        uint64_t start = r->pos;
        uint32_t type;
        int e;

        e = take_string(r, LIMIT_KEY_BYTES, MODEL_E_KEY, &kv->key);
        if (e < 0)
                return e;
        if (kv->key.n == 0 || !printable(kv->key))
                return fail(r, MODEL_E_KEY, start, kv->key.n, LIMIT_KEY_BYTES, no_name);
        e = take_u32(r, &type);
        if (e < 0)
                return e;
        if (type >= _GGUF_TYPE_MAX)
                return fail(r, MODEL_E_VALUE_TYPE, r->pos - 4, type, _GGUF_TYPE_MAX - 1, kv->key);
        kv->type = (enum gguf_type)type;
        kv->count = 1;
        kv->position = r->pos;
        if (kv->type == GGUF_ARRAY)
                return parse_array(r, kv);
        if (kv->type == GGUF_STRING)
                return take_string(r, LIMIT_STRING_BYTES, MODEL_E_STRING_SIZE, &kv->value);
        kv->value.n = scalar_size(kv->type);
        e = take(r, kv->value.n, &kv->value.p);
        if (e < 0)
                return e;
        return kv->type == GGUF_BOOL ? check_bools(r, kv) : 0;
}

static int compare_keys(const void *a, const void *b) {
        const struct gguf_kv *x = a, *y = b;

        return compare_views(x->key, y->key);
}

static int parse_kvs(struct reader *r, struct gguf *g) {
        int e;

        for (size_t i = 0; i < g->n_kv; i++) {
                e = parse_kv(r, &g->kv[i]);
                if (e < 0)
                        return e;
        }
        qsort(g->kv, g->n_kv, sizeof(g->kv[0]), compare_keys);
        for (size_t i = 1; i < g->n_kv; i++)
                if (compare_keys(&g->kv[i - 1], &g->kv[i]) == 0)
                        return fail(r, MODEL_E_KEY_DUPLICATE,
                                    MAX(g->kv[i - 1].position, g->kv[i].position), 2, 1,
                                    g->kv[i].key);
        return 0;
}

/* Rules 8 and 9: the product is checked step by step, before anybody multiplies. */
static int parse_dims(struct reader *r, struct gguf_tensor *t) {
        uint64_t elements = 1;
        int e;

        e = take_u32(r, &t->n_dims);
        if (e < 0)
                return e;
        if (t->n_dims < 1 || t->n_dims > LIMIT_DIMS)
                return fail(r, MODEL_E_DIMS, r->pos - 4, t->n_dims, LIMIT_DIMS, t->name);
        for (size_t i = 0; i < LIMIT_DIMS; i++)
                t->ne[i] = 1;
        for (uint32_t i = 0; i < t->n_dims; i++) {
                e = take_u64(r, &t->ne[i]);
                if (e < 0)
                        return e;
                if (t->ne[i] == 0)
                        return fail(r, MODEL_E_DIM_ZERO, r->pos - 8, 0, 1, t->name);
                if (__builtin_mul_overflow(elements, t->ne[i], &elements) ||
                    elements > LIMIT_ELEMENTS)
                        return fail(r, MODEL_E_ELEMENTS, r->pos - 8, t->ne[i], LIMIT_ELEMENTS,
                                    t->name);
        }
        return 0;
}

/* Rules 10 and 11. */
static int parse_type(struct reader *r, struct gguf_tensor *t) {
        const struct tensor_type *type;
        int e;

        e = take_u32(r, &t->type);
        if (e < 0)
                return e;
        type = tensor_type(t->type);
        if (!type)
                return fail(r, MODEL_E_TENSOR_TYPE, r->pos - 4, t->type, 0, t->name);
        if (type->block == 0)
                return fail(r, MODEL_E_TYPE_UNSUPPORTED, r->pos - 4, t->type, 0, t->name);
        if (t->ne[0] % type->block != 0)
                return fail(r, MODEL_E_BLOCK, r->pos - 4, t->ne[0], type->block, t->name);
        if (tensor_type_size(type, t->ne, &t->size) < 0)
                return fail(r, MODEL_E_TENSOR_SIZE, r->pos - 4, t->ne[0], LIMIT_ELEMENTS, t->name);
        return 0;
}

static int parse_tensor(struct reader *r, struct gguf_tensor *t) {
        int e;

        t->position = r->pos;
        e = take_string(r, LIMIT_NAME_BYTES, MODEL_E_TENSOR_NAME, &t->name);
        if (e < 0)
                return e;
        if (t->name.n == 0 || !printable(t->name))
                return fail(r, MODEL_E_TENSOR_NAME, t->position, t->name.n, LIMIT_NAME_BYTES,
                            no_name);
        e = parse_dims(r, t);
        if (e < 0)
                return e;
        e = parse_type(r, t);
        if (e < 0)
                return e;
        return take_u64(r, &t->offset);
}

/* Rule 6. */
static int read_alignment(const struct reader *r, const struct gguf *g, uint64_t *ret) {
        const struct gguf_kv *kv = gguf_find(g, "general.alignment");
        uint32_t a;

        *ret = 32;
        if (!kv)
                return 0;
        if (kv->type != GGUF_U32)
                return fail(r, MODEL_E_ALIGNMENT, kv->position, kv->type, GGUF_U32, kv->key);
        a = load_u32(kv->value.p);
        if (a == 0 || (a & (a - 1)) != 0 || a > LIMIT_ALIGNMENT)
                return fail(r, MODEL_E_ALIGNMENT, kv->position, a, LIMIT_ALIGNMENT, kv->key);
        *ret = a;
        return 0;
}

/* Rule 12: from relative to absolute offsets, every tensor inside the file. */
static int place_tensors(const struct reader *r, struct gguf *g, uint64_t alignment) {
        uint64_t blob = (r->pos + alignment - 1) & ~(alignment - 1), blob_size;

        if (g->n_tensors == 0)
                return 0;
        if (blob > r->file.n)
                return fail(r, MODEL_E_TRUNCATED, r->pos, blob - r->pos, left(r), no_name);
        blob_size = r->file.n - blob;
        for (size_t i = 0; i < g->n_tensors; i++) {
                struct gguf_tensor *t = &g->tensors[i];

                if (t->offset % alignment != 0)
                        return fail(r, MODEL_E_OFFSET, t->position, t->offset, alignment, t->name);
                if (t->size > blob_size || t->offset > blob_size - t->size)
                        return fail(r, MODEL_E_OFFSET, t->position, t->offset, blob_size, t->name);
                t->offset += blob;
        }
        return 0;
}

static int compare_offsets(const void *a, const void *b) {
        const struct gguf_tensor *x = a, *y = b;

        return (x->offset > y->offset) - (x->offset < y->offset);
}

static int compare_names(const void *a, const void *b) {
        const struct gguf_tensor *x = a, *y = b;

        return compare_views(x->name, y->name);
}

/* Rules 7, 13 and 14. Gaps between tensors are legal, shared bytes are not. */
static int order_tensors(const struct reader *r, struct gguf *g) {
        qsort(g->tensors, g->n_tensors, sizeof(g->tensors[0]), compare_offsets);
        for (size_t i = 1; i < g->n_tensors; i++) {
                const struct gguf_tensor *a = &g->tensors[i - 1], *b = &g->tensors[i];

                if (a->offset + a->size > b->offset)
                        return fail(r, MODEL_E_OVERLAP, b->position, b->offset,
                                    a->offset + a->size, b->name);
        }
        qsort(g->tensors, g->n_tensors, sizeof(g->tensors[0]), compare_names);
        for (size_t i = 1; i < g->n_tensors; i++) {
                const struct gguf_tensor *a = &g->tensors[i - 1], *b = &g->tensors[i];

                if (compare_names(a, b) == 0)
                        return fail(r, MODEL_E_TENSOR_DUPLICATE, MAX(a->position, b->position), 2,
                                    1, b->name);
        }
        return 0;
}

/* Rules 1 and 2. */
static int parse_header(struct reader *r, struct gguf *g) {
        static const uint8_t magic[4] = {'G', 'G', 'U', 'F'};
        uint64_t n_tensors, n_kv;
        const uint8_t *p = NULL;
        int e;

        e = take(r, sizeof(magic), &p);
        if (e < 0)
                return e;
        if (memcmp(p, magic, sizeof(magic)) != 0)
                return fail(r, MODEL_E_MAGIC, 0, load_u32(p), load_u32(magic), no_name);
        e = take_u32(r, &g->version);
        if (e < 0)
                return e;
        if (g->version != 0 && (g->version & 0xffff) == 0)
                return fail(r, MODEL_E_BYTE_ORDER, 4, g->version, 3, no_name);
        if (g->version != 2 && g->version != 3)
                return fail(r, MODEL_E_VERSION, 4, g->version, 3, no_name);
        e = take_u64(r, &n_tensors);
        if (e < 0)
                return e;
        e = take_u64(r, &n_kv);
        if (e < 0)
                return e;
        if (n_tensors > LIMIT_TENSORS || n_tensors * LIMIT_INFO_BYTES_MIN > left(r))
                return fail(r, MODEL_E_TENSOR_COUNT, 8, n_tensors,
                            MIN(LIMIT_TENSORS, left(r) / LIMIT_INFO_BYTES_MIN), no_name);
        if (n_kv > LIMIT_KVS || n_kv * LIMIT_KV_BYTES_MIN > left(r))
                return fail(r, MODEL_E_KV_COUNT, 16, n_kv,
                            MIN(LIMIT_KVS, left(r) / LIMIT_KV_BYTES_MIN), no_name);
        g->n_tensors = (size_t)n_tensors;
        g->n_kv = (size_t)n_kv;
        return 0;
}

static int parse_tables(struct reader *r, struct gguf *g) {
        uint64_t alignment;
        int e;

        g->kv = calloc(MAX(g->n_kv, 1U), sizeof(g->kv[0]));
        g->tensors = calloc(MAX(g->n_tensors, 1U), sizeof(g->tensors[0]));
        if (!g->kv || !g->tensors)
                return fail(r, MODEL_E_MEMORY, 0, g->n_kv, g->n_tensors, no_name);
        e = parse_kvs(r, g);
        if (e < 0)
                return e;
        e = read_alignment(r, g, &alignment);
        if (e < 0)
                return e;
        for (size_t i = 0; i < g->n_tensors; i++) {
                e = parse_tensor(r, &g->tensors[i]);
                if (e < 0)
                        return e;
        }
        e = place_tensors(r, g, alignment);
        if (e < 0)
                return e;
        return order_tensors(r, g);
}

int gguf_parse(struct gguf **ret, struct view file, struct model_error *err) {
        struct reader r = {.file = file, .err = err};
        struct gguf *g;
        int e;

        g = calloc(1, sizeof(*g));
        if (!g)
                return fail(&r, MODEL_E_MEMORY, 0, sizeof(*g), 0, no_name);
        g->file = file;
        e = parse_header(&r, g);
        if (e == 0)
                e = parse_tables(&r, g);
        if (e < 0) {
                gguf_free(g);
                return e;
        }
        *ret = g;
        return 0;
}

struct gguf *gguf_free(struct gguf *g) {
        if (!g)
                return NULL;
        free(g->kv);
        free(g->tensors);
        free(g);
        return NULL;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key) {
        struct gguf_kv wanted = {.key = {(const uint8_t *)key, strlen(key)}};

        return bsearch(&wanted, g->kv, g->n_kv, sizeof(g->kv[0]), compare_keys);
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name) {
        struct gguf_tensor wanted = {.name = {(const uint8_t *)name, strlen(name)}};

        return bsearch(&wanted, g->tensors, g->n_tensors, sizeof(g->tensors[0]), compare_names);
}

static int fail_kv(const struct gguf_kv *kv, enum model_error_code code, uint64_t value,
                   uint64_t limit, struct model_error *err) {
        return model_fail(err, code, kv->position, value, limit, (const char *)kv->key.p,
                          kv->key.n);
}

/* Sign-extended to 64 bits; false when not an integer. */
static bool kv_integer(const struct gguf_kv *kv, int64_t *ret) {
        const uint8_t *p = kv->value.p;

        switch (kv->type) {
        case GGUF_U8:
                *ret = p[0];
                return true;
        case GGUF_I8:
                *ret = (int8_t)p[0];
                return true;
        case GGUF_U16:
                *ret = load_u16(p);
                return true;
        case GGUF_I16:
                *ret = (int16_t)load_u16(p);
                return true;
        case GGUF_U32:
                *ret = load_u32(p);
                return true;
        case GGUF_I32:
                *ret = (int32_t)load_u32(p);
                return true;
        case GGUF_U64:
        case GGUF_I64:
                *ret = (int64_t)load_u64(p);
                return true;
        case GGUF_F32:
        case GGUF_BOOL:
        case GGUF_STRING:
        case GGUF_ARRAY:
        case GGUF_F64:
        case _GGUF_TYPE_MAX:
                break;
        }
        return false;
}

int gguf_u32(const struct gguf *g, const char *key, uint32_t *ret, struct model_error *err) {
        const struct gguf_kv *kv = gguf_find(g, key);
        int64_t v;

        if (!kv)
                return GGUF_ABSENT;
        if (!kv_integer(kv, &v))
                return fail_kv(kv, MODEL_E_META_TYPE, kv->type, GGUF_U32, err);
        if (v < 0 || v > UINT32_MAX) /* a U64 above INT64_MAX reads as negative: refused too */
                return fail_kv(kv, MODEL_E_META_RANGE, (uint64_t)v, UINT32_MAX, err);
        *ret = (uint32_t)v;
        return 0;
}

int gguf_f32(const struct gguf *g, const char *key, float *ret, struct model_error *err) {
        const struct gguf_kv *kv = gguf_find(g, key);
        double v;

        if (!kv)
                return GGUF_ABSENT;
        if (kv->type == GGUF_F32)
                v = (double)load_f32(kv->value.p);
        else if (kv->type == GGUF_F64)
                memcpy(&v, kv->value.p, sizeof(v));
        else
                return fail_kv(kv, MODEL_E_META_TYPE, kv->type, GGUF_F32, err);
        if (!isfinite(v) || !isfinite((float)v))
                return fail_kv(kv, MODEL_E_META_RANGE, 0, 0, err);
        *ret = (float)v;
        return 0;
}

int gguf_bool(const struct gguf *g, const char *key, bool *ret, struct model_error *err) {
        const struct gguf_kv *kv = gguf_find(g, key);

        if (!kv)
                return GGUF_ABSENT;
        if (kv->type != GGUF_BOOL)
                return fail_kv(kv, MODEL_E_META_TYPE, kv->type, GGUF_BOOL, err);
        *ret = kv->value.p[0] != 0;
        return 0;
}

int gguf_string(const struct gguf *g, const char *key, struct view *ret, struct model_error *err) {
        const struct gguf_kv *kv = gguf_find(g, key);

        if (!kv)
                return GGUF_ABSENT;
        if (kv->type != GGUF_STRING)
                return fail_kv(kv, MODEL_E_META_TYPE, kv->type, GGUF_STRING, err);
        *ret = kv->value;
        return 0;
}

struct view gguf_next_string(struct view *cursor) {
        struct view s = {cursor->p + 8, (size_t)load_u64(cursor->p)};

        cursor->p += 8 + s.n;
        cursor->n -= 8 + s.n;
        return s;
}
