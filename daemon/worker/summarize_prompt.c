/* The words a model is asked with. Problem: the default model has 135 million parameters and
 * does what it has seen often: short, plain instructions before the text. Each wording here was
 * measured (tests/eval/README.md); change one only with numbers. The instruction comes first, so
 * that prompts of one round share their beginning. */
#include <errno.h>
#include <string.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/secure_buf.h"
#include "daemon/worker/summarize_prompt.h"
#include "engine/base/macro.h"
#include "engine/text/chat.h"

static const uint8_t counts[_WIRE_SUMMARY_TYPE_MAX][_WIRE_LENGTH_MAX] = {
        [WIRE_SUMMARY_TLDR] = {1, 3, 5},
        [WIRE_SUMMARY_TEASER] = {1, 3, 5},
        [WIRE_SUMMARY_KEY_POINTS] = {3, 5, 7},
        [WIRE_SUMMARY_HEADLINE] = {12, 17, 22},
};

uint32_t summary_count(uint32_t type, uint32_t length) {
        return counts[type][length];
}

uint32_t summary_tokens(uint32_t type, uint32_t length) {
        uint32_t count = counts[type][length];

        switch (type) {
        case WIRE_SUMMARY_HEADLINE:
                return 3 * count;
        case WIRE_SUMMARY_KEY_POINTS:
                return 56 * count;
        default:
                return 32 + 64 * count;
        }
}

static const char *number_word(uint32_t n) {
        static const char *const words[] = {[1] = "one", [3] = "three", [5] = "five",
                                            [7] = "seven"};

        return words[n];
}

static void put_final(struct secure_buf *b, const struct summary_prompt *p) {
        uint32_t count = counts[p->type][p->length];

        switch (p->type) {
        case WIRE_SUMMARY_HEADLINE:
                secure_buf_printf(b, "Write a headline of at most %u words for the following text",
                                  count);
                break;
        case WIRE_SUMMARY_KEY_POINTS:
                secure_buf_printf(b, "List the %s most important points of the following text, "
                                     "one short sentence each", number_word(count));
                break;
        case WIRE_SUMMARY_TEASER:
                secure_buf_printf(b, "Write a teaser of %s sentence%s that makes people want to "
                                     "read the following text",
                                  number_word(count), count == 1 ? "" : "s");
                break;
        default:
                secure_buf_printf(b, "Summarize the following text in %s sentence%s",
                                  number_word(count), count == 1 ? "" : "s");
        }
}

static void put_instruction(struct secure_buf *b, const struct summary_prompt *p) {
        if (p->step == SUMMARY_FINAL)
                put_final(b, p);
        else
                secure_buf_puts(b, "Summarize the following text in three sentences");
        if (p->context) {
                secure_buf_puts(b, ". The reader wants to know: ");
                secure_buf_puts(b, p->context);
        }
        secure_buf_puts(b, ":\n\n");
}

int summary_prompt_encode(const struct vocab *v, const struct summary_prompt *p, const char *text,
                          size_t n, size_t max, struct tokens *out) {
        enum chat_format format = (enum chat_format)vocab_chat_format(v);
        _cleanup_(secure_buf_done) struct secure_buf b = {0};
        struct chat_message message = {.role = CHAT_USER};

        put_instruction(&b, p);
        secure_buf_append(&b, text, n);
        if (format == CHAT_RAW)
                secure_buf_puts(&b, "\n\nTL;DR:"); /* no roles: the text itself must ask */
        if (b.failed)
                return -ENOMEM;
        message.content = b.p;
        message.n = b.n;
        return chat_encode(v, format, &message, 1, max, out);
}
