/* Text to ids: special tokens are cut out first, the rest goes to one of the two tokenizers. What
 * keeps users from writing control tokens is here and in the load: without parse_special only the
 * user-defined list is searched, and the table that merging ends in holds normal tokens only. */

#include <errno.h>
#include <string.h>

#include "engine/text/merge.h"
#include "engine/text/unicode.h"
#include "engine/text/utf8.h"
#include "engine/text/vocab-internal.h"

int sink_push(struct sink *s, int32_t id) {
        if (s->max > 0 && s->out->n >= s->max)
                return -E2BIG;
        return tokens_push(s->out, id);
}

int sink_push_byte(struct sink *s, const struct vocab *v, uint8_t byte) {
        if (v->bytes[byte] != TOKEN_NONE)
                return sink_push(s, v->bytes[byte]);
        bool unknown = v->unknown != TOKEN_NONE && token_type(v, v->unknown) == TOKEN_UNKNOWN;
        return unknown ? sink_push(s, v->unknown) : 0;
}

static size_t skip_space(struct view text, size_t i) {
        while (i < text.n) {
                uint32_t cp;
                size_t n = utf8_decode(text.p + i, text.n - i, &cp);
                if (!(unicode_class(cp) & UNICODE_SPACE))
                        break;
                i += n;
        }
        return i;
}

static int encode_fragment(const struct vocab *v, struct merger *m, struct view text,
                           bool after_special, struct sink *sink) {
        if (text.n == 0)
                return 0;
        if (v->kind == VOCAB_BPE)
                return bpe_encode(v, m, text, sink);
        return spm_encode(v, m, text, v->add_space_prefix && after_special, sink);
}

static int encode_all(const struct vocab *v, struct merger *m, struct view text,
                      const struct specials *specials, struct sink *sink) {
        bool after_special = true; /* a text starts as if a special token stood before it */
        for (size_t i = 0; i < text.n;) {
                struct special special = {.id = TOKEN_NONE};
                size_t at = text.n;
                specials_find(specials, text, i, &at, &special);
                int r = encode_fragment(v, m, (struct view){.p = text.p + i, .n = at - i},
                                        after_special, sink);
                if (r < 0 || special.id == TOKEN_NONE)
                        return r;
                r = sink_push(sink, special.id);
                if (r < 0)
                        return r;
                after_special = true;
                i = at + special.text.n;
                if (v->flags[special.id] & TOKEN_EATS_SPACE)
                        i = skip_space(text, i);
        }
        return 0;
}

int vocab_encode(const struct vocab *v, const char *text, size_t n, bool parse_special, size_t max,
                 struct tokens *out) {
        struct sink sink = {.out = out, .max = max};
        struct merger m = {0};
        size_t before = out->n;
        int r = encode_all(v, &m, (struct view){.p = (const uint8_t *)text, .n = n},
                           parse_special ? &v->specials : &v->user_defined, &sink);
        merger_done(&m);
        if (r < 0 && out->n > before) {
                explicit_bzero(out->ids + before, (out->n - before) * sizeof(*out->ids));
                out->n = before;
        }
        return r;
}
