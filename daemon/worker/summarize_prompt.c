/* The words a model is asked with. Problem: the default model has 135 million parameters. It goes
 * on with what it read last: asked before a long text, it continues the text; asked after it, it
 * answers. So the text stands between a short head, which all prompts of a round share, and the
 * wish. Each wording here was measured (tests/eval/README.md); change one only with numbers. */
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

/* What is wanted of "TEXT", which is this text or the whole text. */
static void put_wish(struct secure_buf *b, const struct summary_prompt *p, const char *text) {
        uint32_t count = counts[p->type][p->length];
        const char *plural = count == 1 ? "" : "s";

        switch (p->type) {
        case WIRE_SUMMARY_HEADLINE:
                secure_buf_printf(b, "Write a headline of at most %u words for %s.", count, text);
                break;
        case WIRE_SUMMARY_KEY_POINTS:
                secure_buf_printf(b, "List the %s most important points of %s, one short sentence "
                                     "each.", number_word(count), text);
                break;
        case WIRE_SUMMARY_TEASER:
                secure_buf_printf(b, "Write a teaser of %s sentence%s that makes people want to "
                                     "read %s.", number_word(count), plural, text);
                break;
        default:
                secure_buf_printf(b, "Write a summary of %s in %s sentence%s.", text,
                                  number_word(count), plural);
        }
}

/* One sentence about a whole text: asked before the text, which is better there (and only there:
 * one sentence is too short to go on with the text). */
static bool asks_first(const struct summary_prompt *p) {
        return p->step == SUMMARY_FINAL && p->whole && p->type == WIRE_SUMMARY_TLDR &&
               p->length == WIRE_LENGTH_SHORT;
}

static const char notes_head[] = "Here are notes about the parts of a text, in order:\n\n";

static void put_context(struct secure_buf *b, const struct summary_prompt *p, const char *before) {
        if (!p->context)
                return;
        secure_buf_puts(b, before);
        secure_buf_puts(b, "The reader wants to know: ");
        secure_buf_puts(b, p->context);
}

static void put_head(struct secure_buf *b, const struct summary_prompt *p) {
        if (!asks_first(p)) {
                secure_buf_puts(b, p->step == SUMMARY_MAP || p->whole ? "Text:\n\n" : notes_head);
                return;
        }
        secure_buf_puts(b, "Summarize the following text in one sentence");
        put_context(b, p, ". ");
        secure_buf_puts(b, ":\n\n");
}

static void put_tail(struct secure_buf *b, const struct summary_prompt *p) {
        if (asks_first(p))
                return;
        secure_buf_puts(b, "\n\n");
        if (p->step == SUMMARY_FINAL)
                put_wish(b, p, p->whole ? "this text" : "the whole text");
        else if (p->step == SUMMARY_REDUCE)
                secure_buf_puts(b, "Write a summary of these notes in five sentences.");
        else
                secure_buf_puts(b, "Write a short summary of what this text is about.");
        put_context(b, p, " ");
}

int summary_prompt_encode(const struct vocab *v, const struct summary_prompt *p, const char *text,
                          size_t n, size_t max, struct tokens *out) {
        enum chat_format format = (enum chat_format)vocab_chat_format(v);
        _cleanup_(secure_buf_done) struct secure_buf b = {0};
        struct chat_message message = {.role = CHAT_USER};

        put_head(&b, p);
        secure_buf_append(&b, text, n);
        put_tail(&b, p);
        if (format == CHAT_RAW)
                secure_buf_puts(&b, "\n\nTL;DR:"); /* no roles: the text itself must ask */
        if (b.failed)
                return -ENOMEM;
        message.content = b.p;
        message.n = b.n;
        return chat_encode(v, format, &message, 1, max, out);
}
