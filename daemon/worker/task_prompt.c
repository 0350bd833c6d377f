/* The words of the four verbs. Problem: the default model is small; asked after a text to correct
 * it, it comments; asked before it, it corrects. To shorten or to pick something out it must have
 * read the text first. Each wording was chosen by looking at what that model makes of it. Text and
 * options of the user go in as content, in which no control token is ever recognised. */
#include <errno.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/task_prompt.h"
#include "engine/text/chat.h"

static const char *tone_words(uint32_t tone) {
        switch (tone) {
        case WIRE_TONE_MORE_FORMAL:
                return " in a more formal tone";
        case WIRE_TONE_MORE_CASUAL:
                return " in a more casual and friendly tone";
        }
        return "";
}

static const char *format_words(uint32_t format) {
        switch (format) {
        case WIRE_REWRITE_MARKDOWN:
                return " Use Markdown.";
        case WIRE_REWRITE_PLAIN:
                return " Use plain text without markup.";
        }
        return "";
}

/* Asked before the text; otherwise after it. */
static bool asks_first(uint32_t verb, const struct task_options *o) {
        return verb == WIRE_VERB_PROOFREAD || verb == WIRE_VERB_CLASSIFY ||
               (verb == WIRE_VERB_REWRITE && o->length == WIRE_REWRITE_LENGTH_AS_IS);
}

static void put_instructions(struct secure_buf *b, const struct task_options *o) {
        if (!o->instructions)
                return;
        secure_buf_puts(b, " ");
        secure_buf_puts(b, o->instructions);
}

static void put_labels(struct secure_buf *b, const struct messages *labels) {
        for (size_t i = 0; i < labels->n; i++) {
                secure_buf_puts(b, i == 0 ? "" : i + 1 < labels->n ? ", " : " or ");
                secure_buf_append(b, labels->items[i].content, labels->items[i].n);
        }
}

static void put_rewrite(struct secure_buf *b, const struct task_options *o, const char *text) {
        const char *how = o->length == WIRE_REWRITE_SHORTER  ? ", shorter"
                          : o->length == WIRE_REWRITE_LONGER ? ", longer and with more words"
                                                             : "";
        bool same = !tone_words(o->tone)[0] && !how[0];

        secure_buf_printf(b, "Rewrite %s%s%s%s.%s", text, same ? " in other words" : "",
                          tone_words(o->tone), how, format_words(o->format));
}

static void put_wish(struct secure_buf *b, uint32_t verb, const struct task_options *o) {
        const char *text = asks_first(verb, o) ? "the following text" : "this text";

        switch (verb) {
        case WIRE_VERB_REWRITE:
                put_rewrite(b, o, text);
                break;
        case WIRE_VERB_PROOFREAD:
                secure_buf_printf(b, "Correct the spelling and grammar mistakes in %s. Change "
                                     "nothing else.", text);
                break;
        case WIRE_VERB_EXTRACT:
                secure_buf_printf(b, "Extract from %s, as JSON: ", text);
                secure_buf_puts(b, o->schema);
                secure_buf_puts(b, ".");
                break;
        case WIRE_VERB_CLASSIFY:
                secure_buf_printf(b, "Classify %s as ", text);
                put_labels(b, &o->labels);
                secure_buf_puts(b, o->instructions ? "." : ":");
                break;
        }
        put_instructions(b, o);
}

int task_prompt_encode(const struct vocab *v, uint32_t verb, const struct task_options *o,
                       const char *text, size_t n, size_t max, struct tokens *out) {
        enum chat_format format = (enum chat_format)vocab_chat_format(v);
        _cleanup_(secure_buf_done) struct secure_buf b = {0};
        struct chat_message message = {.role = CHAT_USER};
        bool first = asks_first(verb, o);

        if (first)
                put_wish(&b, verb, o);
        secure_buf_puts(&b, first ? "\n\n" : "Text:\n\n");
        secure_buf_append(&b, text, n);
        if (!first) {
                secure_buf_puts(&b, "\n\n");
                put_wish(&b, verb, o);
        }
        if (format == CHAT_RAW)
                secure_buf_puts(&b, "\n\nAnswer:"); /* no roles: the text itself must ask */
        if (b.failed)
                return -ENOMEM;
        message.content = b.p;
        message.n = b.n;
        return chat_encode(v, format, &message, 1, max, out);
}
