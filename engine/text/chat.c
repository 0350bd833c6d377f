/* Chat formats. A template engine would run text from the model file; instead the few formats that
 * ternary models use are written out. One message is control tokens by id around one string, the
 * format's header and the content together: encoding them separately would give other tokens than
 * the models were trained on (the header's last space belongs to the first word). That string is
 * encoded like any user text, so no content can become a control token. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/gguf.h"
#include "engine/text/chat.h"
#include "engine/text/unicode.h"
#include "engine/text/utf8.h"

static const char smollm2_system[] =
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

static const char *const lower_roles[] = {"system", "user", "assistant"};
static const char *const upper_roles[] = {"System: ", "User: ", "Assistant: "};

const char *chat_format_name(enum chat_format f) {
        static const char *const names[] = {
                [CHAT_RAW] = "raw",
                [CHAT_BITNET] = "bitnet",
                [CHAT_LLAMA3] = "llama3",
                [CHAT_CHATML] = "chatml",
        };
        return (unsigned)f < ARRAY_SIZE(names) ? names[f] : "unknown";
}

/* The id of a control token; a token that user text could be is none. */
static int32_t control(const struct vocab *v, const char *text) {
        int32_t id = vocab_special(v, text);
        return vocab_is_control(v, id) ? id : TOKEN_NONE;
}

static bool supports(const struct vocab *v, enum chat_format f) {
        switch (f) {
        case CHAT_RAW:
                return true;
        case CHAT_BITNET:
                return control(v, "<|eot_id|>") != TOKEN_NONE;
        case CHAT_LLAMA3:
                return control(v, "<|start_header_id|>") != TOKEN_NONE &&
                       control(v, "<|end_header_id|>") != TOKEN_NONE &&
                       control(v, "<|eot_id|>") != TOKEN_NONE;
        case CHAT_CHATML:
                return control(v, "<|im_start|>") != TOKEN_NONE &&
                       control(v, "<|im_end|>") != TOKEN_NONE;
        default:
                return false;
        }
}

static bool contains(struct view text, const char *what) {
        return text.n > 0 && memmem(text.p, text.n, what, strlen(what));
}

static struct view template_of(const struct gguf *g) {
        struct view text = {0};
        gguf_string(g, "tokenizer.chat_template", &text, NULL);
        return text;
}

const char *chat_default_system(const struct gguf *g) {
        return contains(template_of(g), smollm2_system) ? smollm2_system : NULL;
}

enum chat_format chat_detect(const struct gguf *g, const struct vocab *v) {
        struct view architecture = {0}, text = template_of(g);
        gguf_string(g, "general.architecture", &architecture, NULL);

        enum chat_format f = CHAT_RAW;
        if (contains(architecture, "bitnet-b1.58") || contains(architecture, "bitnet-25"))
                f = CHAT_BITNET;
        else if (contains(text, "<|start_header_id|>") && contains(text, "<|end_header_id|>"))
                f = CHAT_LLAMA3;
        else if (contains(text, "<|im_start|>"))
                f = CHAT_CHATML;
        else if (contains(text, "capitalize") && contains(text, "<|eot_id|>"))
                f = CHAT_BITNET;
        return supports(v, f) ? f : CHAT_RAW;
}

/* Where a prompt goes, and the first error, after which everything else does nothing. */
struct prompt {
        const struct vocab *v;
        struct tokens *out;
        size_t max;
        int r;
};

static void put_id(struct prompt *p, int32_t id) {
        if (p->r < 0)
                return;
        if (p->max > 0 && p->out->n >= p->max)
                p->r = -E2BIG;
        else
                p->r = tokens_push(p->out, id);
}

static void put_control(struct prompt *p, const char *text) {
        put_id(p, control(p->v, text));
}

/* header and content as one string of ordinary text */
static void put_text(struct prompt *p, const char *header, const char *content, size_t n) {
        if (p->r < 0)
                return;
        size_t n_header = strlen(header), size;
        if (__builtin_add_overflow(n_header + 1, n, &size)) {
                p->r = -E2BIG;
                return;
        }
        char *text = malloc(size);
        if (!text) {
                p->r = -ENOMEM;
                return;
        }
        memcpy(text, header, n_header);
        if (n > 0)
                memcpy(text + n_header, content, n);
        p->r = vocab_encode(p->v, text, n_header + n, false, p->max, p->out);
        explicit_bzero(text, size);
        free(text);
}

/* Without white space at both ends. */
static struct chat_message trimmed(struct chat_message m) {
        const uint8_t *text = (const uint8_t *)m.content;
        size_t start = m.n, end = 0;
        for (size_t i = 0; i < m.n;) {
                uint32_t cp;
                size_t at = i;
                i += utf8_decode(text + i, m.n - i, &cp);
                if (unicode_class(cp) & UNICODE_SPACE)
                        continue;
                start = MIN(start, at);
                end = i;
        }
        if (end == 0)
                return (struct chat_message){.role = m.role, .content = m.content};
        return (struct chat_message){
                .role = m.role, .content = m.content + start, .n = end - start};
}

static void put_bitnet(struct prompt *p, const struct chat_message *messages, size_t n) {
        for (size_t i = 0; i < n; i++) {
                struct chat_message m = trimmed(messages[i]);
                put_text(p, upper_roles[m.role], m.content, m.n);
                put_control(p, "<|eot_id|>");
        }
        put_text(p, upper_roles[CHAT_ASSISTANT], NULL, 0);
}

static void put_llama3_header(struct prompt *p, enum chat_role role) {
        put_control(p, "<|start_header_id|>");
        put_text(p, lower_roles[role], NULL, 0);
        put_control(p, "<|end_header_id|>");
}

static void put_llama3(struct prompt *p, const struct chat_message *messages, size_t n) {
        for (size_t i = 0; i < n; i++) {
                struct chat_message m = trimmed(messages[i]);
                put_llama3_header(p, m.role);
                put_text(p, "\n\n", m.content, m.n);
                put_control(p, "<|eot_id|>");
        }
        put_llama3_header(p, CHAT_ASSISTANT);
        put_text(p, "\n\n", NULL, 0);
}

static void put_chatml_message(struct prompt *p, struct chat_message m) {
        static const char *const headers[] = {"system\n", "user\n", "assistant\n"};
        put_control(p, "<|im_start|>");
        put_text(p, headers[m.role], m.content, m.n);
        put_control(p, "<|im_end|>");
        put_text(p, "\n", NULL, 0);
}

static void put_chatml(struct prompt *p, const struct chat_message *messages, size_t n) {
        const char *system = vocab_default_system(p->v);
        if (system && (n == 0 || messages[0].role != CHAT_SYSTEM))
                put_chatml_message(p, (struct chat_message){.role = CHAT_SYSTEM,
                                                            .content = system,
                                                            .n = strlen(system)});
        for (size_t i = 0; i < n; i++)
                put_chatml_message(p, messages[i]);
        put_control(p, "<|im_start|>");
        put_text(p, "assistant\n", NULL, 0);
}

static void put_raw(struct prompt *p, const struct chat_message *messages, size_t n) {
        size_t size = 0, used = 0;
        for (size_t i = 0; i < n; i++)
                if (__builtin_add_overflow(size, messages[i].n, &size)) {
                        p->r = -E2BIG;
                        return;
                }
        char *text = malloc(MAX(size, (size_t)1));
        if (!text) {
                p->r = -ENOMEM;
                return;
        }
        for (size_t i = 0; i < n; i++)
                if (messages[i].n > 0) {
                        memcpy(text + used, messages[i].content, messages[i].n);
                        used += messages[i].n;
                }
        put_text(p, "", text, size);
        explicit_bzero(text, size);
        free(text);
}

/* BOS, but not twice: a ChatML vocabulary may name <|im_start|> as its BOS. */
static void put_bos(struct prompt *p, enum chat_format f) {
        int32_t bos = vocab_bos(p->v);
        bool twice = f == CHAT_CHATML && bos == control(p->v, "<|im_start|>");
        if (vocab_add_bos(p->v) && !twice)
                put_id(p, bos);
}

int chat_encode(const struct vocab *v, enum chat_format f, const struct chat_message *messages,
                size_t n, size_t max, struct tokens *out) {
        for (size_t i = 0; i < n; i++)
                if ((unsigned)messages[i].role >= _CHAT_ROLE_MAX)
                        return -EINVAL;
        if ((unsigned)f >= _CHAT_FORMAT_MAX)
                return -EINVAL;
        if (!supports(v, f))
                return -EOPNOTSUPP;

        struct prompt p = {.v = v, .out = out, .max = max};
        size_t before = out->n;
        put_bos(&p, f);
        if (f == CHAT_BITNET)
                put_bitnet(&p, messages, n);
        else if (f == CHAT_LLAMA3)
                put_llama3(&p, messages, n);
        else if (f == CHAT_CHATML)
                put_chatml(&p, messages, n);
        else
                put_raw(&p, messages, n);

        if (p.r < 0 && out->n > before) {
                explicit_bzero(out->ids + before, (out->n - before) * sizeof(*out->ids));
                out->n = before;
        }
        return p.r;
}
