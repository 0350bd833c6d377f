/* Records to JSON. A token may end within a character: its text then has U+FFFD, its bytes are
 * exact. Invariant: `tokens` counts the bytes of the tokens told, so a record's place in the text
 * is known without looking at the text. */
#include "daemon/worker/logprobs.h"
#include "engine/base/macro.h"

void logprobs_done(struct logprobs *l) {
        secure_buf_done(&l->records);
        *l = (struct logprobs){};
}

static size_t record_size(const struct logprobs *l) {
        return (1 + l->n_top) * sizeof(struct token_odds);
}

void logprobs_add(struct logprobs *l, const struct token_odds *records, size_t n) {
        if (l->wanted)
                secure_buf_append(&l->records, (const char *)records, n * record_size(l));
}

/* The next record that may be told, or NULL. */
static const struct token_odds *next(const struct logprobs *l, size_t at, bool rest) {
        if (at >= l->records.n || (!rest && l->tokens >= l->text))
                return NULL;
        return (const struct token_odds *)(const void *)(l->records.p + at);
}

static void count(struct logprobs *l, int32_t token) {
        struct view v = vocab_bytes(l->vocab, token, false);

        l->tokens += v.n;
        for (size_t i = 0; i < v.n; i++)
                l->characters += (v.p[i] & 0xc0) != 0x80;
}

/* Valid UTF-8, appended to an empty buffer. */
static void add_text(const struct logprobs *l, int32_t token, struct secure_buf *to) {
        struct view v = vocab_name(l->vocab, token);
        struct utf8_stream stream = {};
        char *p = secure_buf_reserve(to, 3 * (v.n + 2 * sizeof(stream.pending)));

        if (!p)
                return;
        to->n = utf8_stream_feed(&stream, v.p, v.n, p);
        to->n += utf8_stream_end(&stream, p + to->n);
}

static json_t *text_of(const struct logprobs *l, int32_t token) {
        _cleanup_(secure_buf_done) struct secure_buf text = {};

        add_text(l, token, &text);
        return text.failed ? NULL : json_stringn(text.p, text.n);
}

static json_t *bytes_of(const struct logprobs *l, int32_t token) {
        struct view v = vocab_name(l->vocab, token);
        json_t *list = json_array();

        for (size_t i = 0; i < v.n; i++)
                json_array_append_new(list, json_integer(v.p[i]));
        return list;
}

static json_t *entry(const struct logprobs *l, const struct token_odds *o) {
        return json_pack("{s:o,s:f,s:o}", "token", text_of(l, o->token), "logprob", o->logprob,
                         "bytes", bytes_of(l, o->token));
}

json_t *logprobs_content(struct logprobs *l, bool rest) {
        const struct token_odds *o;
        json_t *list = NULL;
        size_t at = 0;

        for (; (o = next(l, at, rest)); at += record_size(l)) {
                json_t *one = entry(l, o), *top = json_array();

                for (uint32_t i = 1; i <= l->n_top; i++)
                        json_array_append_new(top, entry(l, &o[i]));
                json_object_set_new(one, "top_logprobs", top);
                if (!list)
                        list = json_array();
                json_array_append_new(list, one);
                count(l, o->token);
        }
        secure_buf_consume(&l->records, at);
        return list;
}

/* {text: logprob, …}; of two tokens with one text the likelier one stays. */
static json_t *top_object(const struct logprobs *l, const struct token_odds *top) {
        json_t *v = json_object();

        for (uint32_t i = l->n_top; i-- > 0;) {
                _cleanup_(secure_buf_done) struct secure_buf text = {};

                add_text(l, top[i].token, &text);
                if (!text.failed)
                        json_object_setn_new(v, text.p, text.n, json_real(top[i].logprob));
        }
        return v;
}

json_t *logprobs_lists(struct logprobs *l, bool rest) {
        const struct token_odds *o;
        json_t *tokens, *odds, *tops, *offsets;
        size_t at = 0;

        if (!next(l, 0, rest))
                return NULL;
        tokens = json_array();
        odds = json_array();
        tops = json_array();
        offsets = json_array();
        for (; (o = next(l, at, rest)); at += record_size(l)) {
                json_array_append_new(tokens, text_of(l, o->token));
                json_array_append_new(odds, json_real(o->logprob));
                json_array_append_new(tops, top_object(l, o + 1));
                json_array_append_new(offsets, json_integer((json_int_t)l->characters));
                count(l, o->token);
        }
        secure_buf_consume(&l->records, at);
        return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", odds,
                         "top_logprobs", tops, "text_offset", offsets);
}
