/* Texts that are known by heart: models disagree about types and ids, but hardly about names. */

#include "engine/text/token-text.h"

bool token_text_ends(struct view text) {
        static const char *const ends[] = {
                "<|eot_id|>",    "<|im_end|>", "<|end|>",    "<end_of_turn>",
                "<|endoftext|>", "</s>",       "<|eom_id|>", "<EOT>",
                "<|end_of_text|>",
        };
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
                if (view_is(text, ends[i]))
                        return true;
        return false;
}

bool token_text_is_role(struct view text) {
        return view_is(text, "<|im_start|>") || view_is(text, "<|begin_of_text|>") ||
               view_is(text, "<|start_header_id|>") || view_is(text, "<|end_header_id|>");
}

bool token_text_separates(struct view text) {
        static const char *const separators[] = {
                "<fim_pad>",  "<|fim_pad|>",   "<repo_name>", "<reponame>",
                "<file_sep>", "<|repo_name|>", "<|file_sep|>",
        };
        for (size_t i = 0; i < ARRAY_SIZE(separators); i++)
                if (view_is(text, separators[i]))
                        return true;
        return false;
}

static int hex(uint8_t c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int token_text_byte(struct view s) {
        if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
                return -1;
        int high = hex(s.p[3]), low = hex(s.p[4]);
        return high < 0 || low < 0 ? -1 : 16 * high + low;
}

bool token_text_from_spm(struct view s, uint8_t *out, size_t *ret_n) {
        size_t n = 0;
        if (memchr(s.p, ' ', s.n))
                return false;
        for (size_t i = 0; i < s.n; n++) {
                bool space = s.n - i >= 3 && memcmp(s.p + i, "\xe2\x96\x81", 3) == 0;
                out[n] = space ? ' ' : s.p[i];
                i += space ? 3 : 1;
        }
        *ret_n = n;
        return true;
}
