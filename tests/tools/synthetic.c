/* The generator behind make-model and the tests. Problem: tests need valid models of every type and
 * measurements need one of real size within seconds, so blocks are made straight in their stored
 * form, 32 ternary weights for each random number. Scales are chosen so that a product with a
 * normalised input has variance near one. Owns nothing beyond a call. */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/gguf_write.h"
#include "engine/model/types.h"
#include "tests/tools/gates.h"
#include "tests/tools/synthetic.h"

const struct synthetic synthetic_tiny = {
        .arch = "bitnet-b1.58", .layers = 1, .embd = 256, .ff = 256, .heads = 4, .kv_heads = 2,
        .vocab = 264, .ctx = 128, .type = {TYPE_I2_S, 0}, .head = {TYPE_F32, 0}, .seed = 1,
};

const struct synthetic synthetic_2b4t = {
        .arch = "bitnet-b1.58", .layers = 30, .embd = 2560, .ff = 6912, .heads = 20, .kv_heads = 5,
        .vocab = 128256, .ctx = 4096, .type = {TYPE_I2_S, 0}, .head = {TYPE_F16, 0}, .seed = 1,
};

const struct synthetic synthetic_100b = {
        .arch = "bitnet-b1.58", .layers = 63, .embd = 12288, .ff = 33024, .heads = 96,
        .kv_heads = 24, .vocab = 4096, .ctx = 4096, .type = {TYPE_I2_S, 0}, .head = {TYPE_F16, 0},
        .seed = 1,
};

int synthetic_type_parse(const char *name, struct synthetic_type *ret) {
        static const struct {
                const char *name;
                struct synthetic_type type;
        } types[] = {
                {"i2_s", {TYPE_I2_S, 0}},  {"tq1_0", {TYPE_TQ1_0, 0}}, {"tq2_0", {TYPE_TQ2_0, 0}},
                {"q8_0", {TYPE_Q8_0, 0}},  {"q4_0", {TYPE_Q4_0, 0}},   {"q4_1", {TYPE_Q4_1, 0}},
                {"q6_k", {TYPE_Q6_K, 0}},  {"f16", {TYPE_F16, 0}},     {"bf16", {TYPE_BF16, 0}},
                {"f32", {TYPE_F32, 0}},    {"trits1", {TYPE_I8, 1}},   {"trits2", {TYPE_I8, 2}},
                {"trits3", {TYPE_I8, 3}},  {"trits4", {TYPE_I8, 4}},
        };

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (strcmp(name, types[i].name) == 0) {
                        *ret = types[i].type;
                        return 0;
                }
        return -EINVAL;
}

/* ---- random blocks ---- */

static uint64_t next(uint64_t *rng) {
        uint64_t z = *rng += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

static void fill_random(uint8_t *p, size_t n, uint64_t *rng) {
        for (; n > 0; p += MIN(n, 8U), n -= MIN(n, 8U)) {
                uint64_t r = next(rng);

                memcpy(p, &r, MIN(n, 8U));
        }
}

/* Sums of two random bits: codes 0, 1, 2 with a quarter, a half, a quarter. */
static void fill_codes(uint8_t *p, size_t n, uint64_t *rng) {
        const uint64_t low = UINT64_C(0x5555555555555555);

        for (; n > 0; p += MIN(n, 8U), n -= MIN(n, 8U)) {
                uint64_t r = next(rng), codes = (r & low) + (r >> 1 & low);

                memcpy(p, &codes, MIN(n, 8U));
        }
}

/* Five digits in base 3, any of them. */
static void fill_base3(uint8_t *p, size_t n, uint64_t *rng) {
        fill_random(p, n, rng);
        for (size_t i = 0; i < n; i++)
                p[i] = (uint8_t)(p[i] * 243U >> 8);
}

/* As TQ1_0 stores them: the number as a fraction of 256. */
static uint8_t tq1_byte(unsigned v) {
        return (uint8_t)((256 * v + 242) / 243);
}

static void put_f16(uint8_t *p, float v) {
        uint32_t bits = bits_of_float(v);
        int exponent = (int)(bits >> 23 & 255) - 112;
        uint32_t mantissa = (bits >> 13 & 0x3ff) | 0x400, h;

        /* truncated, positive and below 65504: good enough for a random scale */
        if (exponent <= 0)
                h = exponent < -10 ? 0 : mantissa >> (1 - exponent);
        else
                h = (uint32_t)exponent << 10 | (mantissa & 0x3ff);
        p[0] = (uint8_t)h;
        p[1] = (uint8_t)(h >> 8);
}

/* Random sign and mantissa under one exponent: magnitudes in [2^e, 2^(e+1)). */
static void fill_floats(uint32_t type, uint8_t *p, size_t n, int e, uint64_t *rng) {
        const uint64_t every16 = UINT64_C(0x0001000100010001), every32 = UINT64_C(0x100000001);

        for (; n > 0; p += MIN(n, 8U), n -= MIN(n, 8U)) {
                uint64_t r = next(rng);

                if (type == TYPE_F16)
                        r = (r & 0x83ff * every16) | ((uint64_t)(e + 15) << 10) * every16;
                else if (type == TYPE_BF16)
                        r = (r & 0x807f * every16) | ((uint64_t)(e + 127) << 7) * every16;
                else
                        r = (r & 0x807fffff * every32) | ((uint64_t)(e + 127) << 23) * every32;
                memcpy(p, &r, MIN(n, 8U));
        }
}

static void fill_block(uint32_t type, uint8_t *p, float unit, uint64_t *rng) {
        switch (type) {
        case TYPE_TQ1_0:
                fill_base3(p, 52, rng);
                for (unsigned i = 0; i < 52; i++) /* the last four hold four digits only */
                        p[i] = tq1_byte(i < 48 ? p[i] : p[i] / 3U * 3U);
                put_f16(p + 52, unit * 1.4f);
                break;
        case TYPE_TQ2_0:
                fill_codes(p, 64, rng);
                put_f16(p + 64, unit * 1.4f);
                break;
        case TYPE_Q8_0:
                fill_random(p + 2, 32, rng);
                put_f16(p, unit / 73.0f);
                break;
        case TYPE_Q4_0:
                fill_random(p + 2, 16, rng);
                put_f16(p, unit / 4.6f);
                break;
        case TYPE_Q4_1:
                fill_random(p + 4, 16, rng);
                put_f16(p, unit / 4.6f);
                put_f16(p + 2, unit * 7.5f / 4.6f);
                p[3] |= 0x80; /* a negative minimum centres the weights */
                break;
        case TYPE_Q6_K:
                fill_random(p, 208, rng);
                for (unsigned i = 192; i < 208; i++)
                        p[i] = (uint8_t)(64 + p[i] % 32);
                put_f16(p + 208, unit / (18.5f * 80.0f));
                break;
        default:
                break;
        }
}

/* ---- output ---- */

struct out {
        int fd, error;
        uint64_t at;
        size_t n, room;
        uint8_t *buffer;
};

static void out_flush(struct out *o) {
        uint8_t *p = o->buffer;

        while (o->n > 0 && o->error == 0) {
                ssize_t r = pwrite64(o->fd, p, o->n, (off64_t)o->at);

                if (r < 0)
                        o->error = -errno;
                else {
                        p += r;
                        o->n -= (size_t)r;
                        o->at += (uint64_t)r;
                }
        }
        o->n = 0;
}

/* Room for n bytes at the current position; n is at most the buffer. */
static uint8_t *out_take(struct out *o, size_t n) {
        if (o->n + n > o->room)
                out_flush(o);
        o->n += n;
        return o->buffer + o->n - n;
}

static void out_seek(struct out *o, uint64_t at) {
        if (o->at + o->n == at)
                return;
        out_flush(o);
        o->at = at;
}

/* ---- tensors ---- */

struct item {
        char name[64];
        uint32_t type;
        uint32_t cols, rows, planes; /* rows 0: a vector */
        char part;                   /* trit planes: 't', 'm' or 's' */
        uint64_t size, offset;
};

struct build {
        const struct synthetic *s;
        struct item *items;
        size_t n;
};

static void add(struct build *b, const char *base, const char *suffix, struct item item) {
        const uint32_t rows = MAX(item.rows, 1U);
        const uint64_t ne[4] = {item.cols, rows, MAX(item.planes, 1U), 1};

        if (item.part == 's')
                item.size = (uint64_t)rows * 4;
        else
                (void)tensor_type_size(tensor_type(item.type), ne, &item.size);
        snprintf(item.name, sizeof(item.name), "%s.%s", base, suffix);
        b->items[b->n++] = item;
}

static int add_matrix(struct build *b, const char *base, struct synthetic_type t, uint32_t rows,
                      uint32_t cols) {
        const struct tensor_type *type = tensor_type(t.id);

        if (t.id != TYPE_I8) {
                if (cols % type->block != 0 || (t.id == TYPE_I2_S && (uint64_t)rows * cols % 128))
                        return -EINVAL;
                add(b, base, "weight", (struct item){.type = t.id, .cols = cols, .rows = rows});
                return 0;
        }
        if (cols % 64 != 0)
                return -EINVAL;
        add(b, base, "trits", (struct item){.type = TYPE_I8, .cols = (cols + 4) / 5, .rows = rows,
                                            .planes = t.planes, .part = 't'});
        add(b, base, "mantissa", (struct item){.type = TYPE_I8, .cols = cols / 64, .rows = rows,
                                               .planes = t.planes, .part = 'm'});
        add(b, base, "row_scale", (struct item){.type = TYPE_F32, .cols = cols, .rows = rows,
                                                .planes = t.planes, .part = 's'});
        return 0;
}

static int add_layer(struct build *b, uint32_t layer) {
        const struct synthetic *s = b->s;
        const uint32_t kv = s->embd / s->heads * s->kv_heads;
        const bool llama = strcmp(s->arch, "llama") == 0;
        const struct {
                const char *name;
                uint32_t rows, cols;
        } parts[] = {
                {"attn_norm", 0, s->embd},       {"attn_q", s->embd, s->embd},
                {"attn_k", kv, s->embd},         {"attn_v", kv, s->embd},
                {"attn_sub_norm", 0, s->embd},   {"attn_output", s->embd, s->embd},
                {"ffn_norm", 0, s->embd},        {"ffn_gate", s->ff, s->embd},
                {"ffn_up", s->ff, s->embd},      {"ffn_sub_norm", 0, s->ff},
                {"ffn_down", s->embd, s->ff},
        };
        char base[48];
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                if (llama && strstr(parts[i].name, "sub_norm"))
                        continue;
                snprintf(base, sizeof(base), "blk.%u.%s", layer, parts[i].name);
                if (parts[i].rows == 0) {
                        add(b, base, "weight",
                            (struct item){.type = TYPE_F32, .cols = parts[i].cols});
                        continue;
                }
                r = add_matrix(b, base, s->type, parts[i].rows, parts[i].cols);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_all(struct build *b) {
        const struct synthetic *s = b->s;
        int r;

        r = add_matrix(b, "token_embd", s->head, s->vocab, s->embd);
        if (r < 0)
                return r;
        add(b, "output_norm", "weight", (struct item){.type = TYPE_F32, .cols = s->embd});
        for (uint32_t i = 0; i < s->layers; i++) {
                r = add_layer(b, i);
                if (r < 0)
                        return r;
        }
        return s->untied ? add_matrix(b, "output", s->head, s->vocab, s->embd) : 0;
}

static int half_log2(uint32_t n) {
        return (31 - __builtin_clz(n)) / 2;
}

static void write_row_scales(struct out *o, const struct item *t) {
        /* trits have variance 2/3, mantissas a mean near 160 */
        const float v = 1.0f / (130.0f * sqrtf((float)(t->cols * t->planes)));

        for (uint32_t r = 0; r < t->rows; r++)
                memcpy(out_take(o, 4), &v, 4);
}

/* Simple contents, in pieces of the buffer. */
static void write_bytes(struct out *o, const struct synthetic *s, const struct item *t, uint64_t n,
                        uint64_t *rng) {
        for (uint64_t at = 0; at < n;) {
                size_t piece = (size_t)MIN(n - at, (uint64_t)o->room);
                uint8_t *p = out_take(o, piece);

                if (t->part == 't')
                        fill_base3(p, piece, rng);
                else if (t->part == 'm') {
                        fill_random(p, piece, rng);
                        for (size_t i = 0; i < piece; i++)
                                p[i] |= 64;
                } else if (t->type == TYPE_I2_S)
                        fill_codes(p, piece, rng);
                else
                        fill_floats(t->type, p, piece, -half_log2(t->cols) - 1, rng);
                if (s->set_gates && !t->part)
                        gates_bend(t->name, t->type, t->cols, s->gate_zeros, at, p, piece);
                at += piece;
        }
}

static void write_norm(struct out *o, const struct synthetic *s, const struct item *t,
                       uint64_t *rng) {
        for (uint32_t i = 0; i < t->cols; i++) {
                float v = 0.75f + (float)(next(rng) >> 41) * 0x1p-24f;

                if (s->set_gates)
                        v *= gates_norm(t->name, i);
                memcpy(out_take(o, 4), &v, 4);
        }
}

static void write_tensor(struct out *o, const struct synthetic *s, const struct item *t,
                         uint64_t *rng) {
        const struct tensor_type *type = tensor_type(t->type);
        const float unit = 1.0f / sqrtf((float)t->cols);

        if (t->part == 's')
                write_row_scales(o, t);
        else if (t->rows == 0)
                write_norm(o, s, t, rng);
        else if (t->type == TYPE_I2_S) {
                const float scale[8] = {unit * 1.4f};

                write_bytes(o, s, t, t->size - 32, rng);
                memcpy(out_take(o, 32), scale, 32);
        } else if (type->block == 1)
                write_bytes(o, s, t, t->size, rng);
        else
                for (uint64_t at = 0; at < t->size; at += type->bytes) {
                        uint8_t *p = out_take(o, type->bytes);

                        fill_block(t->type, p, unit, rng);
                        if (s->set_gates)
                                gates_bend(t->name, t->type, t->cols, s->gate_zeros, at, p,
                                           type->bytes);
                }
}

/* ---- tokenizer ---- */

static int put_utf8(unsigned c, uint8_t *p) {
        if (c < 128) {
                p[0] = (uint8_t)c;
                return 1;
        }
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
}

/* The visible character that stands for a byte in byte-level vocabularies: printable Latin-1 stands
 * for itself, the others follow from 256 on. */
static unsigned byte_character(unsigned byte) {
        unsigned hidden = 0;

        for (unsigned b = 0; b < 256; b++) {
                bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

                if (b == byte)
                        return visible ? b : 256 + hidden;
                hidden += !visible;
        }
        return 0;
}

static const char *const specials[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>",
                                       "<|unk|>", "<|start_header_id|>", "<|end_header_id|>"};

/* Where Llama 3 has them when the vocabulary has its size, else at the end. */
static const char *special_at(uint32_t vocab, uint32_t id) {
        const uint32_t n = vocab < 262 ? 4 : ARRAY_SIZE(specials);

        if (vocab != 128256)
                return id >= vocab - n ? specials[id - (vocab - n)] : NULL;
        switch (id) {
        case 128000:
                return specials[0];
        case 128001:
                return specials[1];
        case 128006:
                return specials[4];
        case 128007:
                return specials[5];
        case 128009:
                return specials[2];
        default:
                return NULL;
        }
}

/* Text of a token: a byte, a pair of letters (which merges make), a filler or a special one. */
static int token_text(uint32_t vocab, uint32_t id, uint8_t *p) {
        const char *special = special_at(vocab, id);

        if (special)
                return snprintf((char *)p, 48, "%s", special);
        if (id < 256)
                return put_utf8(byte_character(id), p);
        if (vocab == 128256 && id > 128000)
                return snprintf((char *)p, 48, "<|reserved_special_token_%u|>", id - 128000);
        id -= 256;
        if (id < 26 * 26)
                return snprintf((char *)p, 48, "%c%c", 'a' + (int)(id / 26), 'a' + (int)(id % 26));
        return snprintf((char *)p, 48, "w%u", id);
}

static uint32_t special_id(uint32_t vocab, unsigned which) {
        for (uint32_t id = vocab; id-- > 0;) {
                const char *s = special_at(vocab, id);

                if (s && strcmp(s, specials[which]) == 0)
                        return id;
        }
        return 0;
}

static void put_tokens(struct gguf_writer *w, uint32_t vocab) {
        struct bytes texts = {0}, types = {0}, merges = {0};
        uint64_t n_merges = 0;
        uint8_t text[48];

        for (uint32_t id = 0; id < vocab && w->error == 0; id++) {
                int n = token_text(vocab, id, text);
                int32_t type = special_at(vocab, id) || (vocab == 128256 && id > 128000) ? 3 : 1;
                const char pair[3] = {(char)text[0], ' ', (char)text[1]};

                if (bytes_put_string(&texts, text, (size_t)n) < 0 ||
                    bytes_put(&types, &type, 4) < 0)
                        w->error = -ENOMEM;
                if (type == 3 || id < 256 || id - 256 >= 26 * 26)
                        continue;
                if (bytes_put_string(&merges, pair, 3) < 0)
                        w->error = -ENOMEM;
                n_merges++;
        }
        gguf_put_array(w, "tokenizer.ggml.tokens", GGUF_STRING, vocab, texts.p, texts.n);
        gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, vocab, types.p, types.n);
        gguf_put_array(w, "tokenizer.ggml.merges", GGUF_STRING, n_merges, merges.p, merges.n);
        free(texts.p);
        free(types.p);
        free(merges.p);
}

static void put_text(struct gguf_writer *w, const char *key, const char *text) {
        gguf_put_string(w, key, text, strlen(text));
}

static void put_tokenizer(struct gguf_writer *w, const struct synthetic *s) {
        static const char llama3[] =
                "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
                "{{ m.content | trim }}<|eot_id|>{% endfor %}";

        put_text(w, "tokenizer.ggml.model", "gpt2");
        put_text(w, "tokenizer.ggml.pre", "llama-bpe");
        put_tokens(w, s->vocab);
        gguf_put_u32(w, "tokenizer.ggml.bos_token_id", special_id(s->vocab, 0));
        gguf_put_u32(w, "tokenizer.ggml.eos_token_id", special_id(s->vocab, 1));
        gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
        if (strcmp(s->arch, "llama") == 0 && s->vocab >= 262)
                put_text(w, "tokenizer.chat_template", llama3);
}

static void put_hparams(struct gguf_writer *w, const struct synthetic *s) {
        const struct {
                const char *suffix;
                uint32_t value;
        } numbers[] = {
                {"vocab_size", s->vocab},
                {"context_length", s->ctx},
                {"embedding_length", s->embd},
                {"block_count", s->layers},
                {"feed_forward_length", s->ff},
                {"attention.head_count", s->heads},
                {"attention.head_count_kv", s->kv_heads},
                {"rope.dimension_count", s->embd / s->heads},
        };
        char key[96];

        put_text(w, "general.architecture", s->arch);
        put_text(w, "general.name", "synthetic");
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                snprintf(key, sizeof(key), "%s.%s", s->arch, numbers[i].suffix);
                gguf_put_u32(w, key, numbers[i].value);
        }
        snprintf(key, sizeof(key), "%s.rope.freq_base", s->arch);
        gguf_put_f32(w, key, 500000.0f);
        snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", s->arch);
        gguf_put_f32(w, key, 1e-5f);
        snprintf(key, sizeof(key), "%s.pooling_type", s->arch);
        if (s->pooling)
                gguf_put_u32(w, key, s->pooling);
        snprintf(key, sizeof(key), "%s.hidden_activation", s->arch);
        if (s->activation)
                put_text(w, key, s->activation);
        if (s->type.id == TYPE_I8 || s->head.id == TYPE_I8)
                gguf_put_u32(w, "trit.group_size", 64);
}

/* ---- the file ---- */

static void place(struct gguf_writer *w, struct item *t) {
        const uint64_t matrix[3] = {t->cols, t->rows, MAX(t->planes, 1U)};
        const uint64_t rows = t->rows;
        const uint32_t n_dims = t->rows == 0 ? 1 : t->planes > 0 ? 3 : 2;

        if (t->part == 's')
                t->offset = gguf_put_tensor(w, t->name, t->type, 1, &rows, t->size);
        else
                t->offset = gguf_put_tensor(w, t->name, t->type, n_dims, matrix, t->size);
}

static int write_file(struct build *b, struct gguf_writer *w, int fd, bool contents,
                      uint64_t *ret_size) {
        struct out o = {.fd = fd, .room = 1 << 20};
        struct bytes header = {0};
        uint64_t rng = b->s->seed;
        int r;

        put_hparams(w, b->s);
        put_tokenizer(w, b->s);
        for (size_t i = 0; i < b->n; i++)
                place(w, &b->items[i]);
        r = gguf_writer_finish(w, &header);
        if (r < 0)
                return r;
        o.buffer = header.p;
        o.n = header.n;
        out_flush(&o);
        free(header.p);
        o.buffer = malloc(o.room);
        if (!o.buffer)
                return -ENOMEM;
        for (size_t i = 0; contents && i < b->n && o.error == 0; i++) {
                out_seek(&o, header.n + b->items[i].offset);
                write_tensor(&o, b->s, &b->items[i], &rng);
        }
        out_flush(&o);
        free(o.buffer);
        *ret_size = header.n + w->data_size;
        return o.error;
}

static int write_model(int fd, const struct synthetic *s, bool contents, uint64_t *ret_size) {
        struct build b = {.s = s};
        struct gguf_writer w;
        int r;

        if (s->vocab < SYNTHETIC_VOCAB_MIN || s->heads == 0 || s->embd % s->heads != 0 ||
            (s->set_gates && !gates_possible(s->type.id, s->head.id, s->embd, s->ff)))
                return -EINVAL;
        b.items = calloc((size_t)s->layers * 25 + 8, sizeof(*b.items));
        if (!b.items)
                return -ENOMEM;
        r = add_all(&b);
        if (r == 0) {
                gguf_writer_init(&w, 32);
                r = write_file(&b, &w, fd, contents, ret_size);
                gguf_writer_done(&w);
        }
        free(b.items);
        return r;
}

int synthetic_write(int fd, const struct synthetic *s, uint64_t *ret_size) {
        return write_model(fd, s, true, ret_size);
}

int synthetic_outline(int fd, const struct synthetic *s, uint64_t *ret_size) {
        int r = write_model(fd, s, false, ret_size);

        if (r < 0)
                return r;
        return ftruncate(fd, (off_t)*ret_size) < 0 ? -errno : 0;
}
