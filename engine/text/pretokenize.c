/* Pre-tokenizers. A regular expression engine would be the largest and least bounded part of the
 * tokenizer, and only a handful of expressions exist: each is written out here as a function
 * that returns the length of the first piece of a text. Several splitters run one after the
 * other on each other's pieces; a stage never looks past the piece it was given, so that a
 * look-ahead sees the end of the piece as the end of the text, and every stage reads every byte
 * a fixed number of times. */

#include <errno.h>
#include <string.h>

#include "engine/text/pretokenize.h"
#include "engine/text/unicode.h"
#include "engine/text/utf8.h"

struct character {
        uint32_t cp;
        size_t n; /* 0 at the end of the text */
        unsigned class;
};

enum { WORD = UNICODE_LETTER | UNICODE_NUMBER | UNICODE_SPACE };

static struct character at(const uint8_t *t, size_t n, size_t i) {
        struct character c = {0};
        if (i < n) {
                c.n = utf8_decode(t + i, n - i, &c.cp);
                c.class = unicode_class(c.cp);
        }
        return c;
}

static bool is_class(struct character c, unsigned class) {
        return c.class & class;
}

/* Neither letter nor number nor white space. */
static bool is_symbol(struct character c) {
        return c.n > 0 && !(c.class & WORD);
}

static bool is_newline(struct character c) {
        return c.n > 0 && (c.cp == '\r' || c.cp == '\n');
}

static size_t run_of_class(const uint8_t *t, size_t n, size_t i, unsigned class, size_t max) {
        struct character c;
        for (size_t k = 0; k < max && is_class(c = at(t, n, i), class); k++)
                i += c.n;
        return i;
}

static size_t run_of_symbols(const uint8_t *t, size_t n, size_t i) {
        struct character c;
        while (is_symbol(c = at(t, n, i)))
                i += c.n;
        return i;
}

/* 's 't 'm 'd 're 've 'll at the start: their length, or 0. */
static size_t contraction(const uint8_t *t, size_t n, bool any_case) {
        if (n < 2 || t[0] != '\'')
                return 0;
        uint8_t fold = any_case ? 0x20 : 0;
        uint8_t a = t[1] | fold, b = n > 2 ? t[2] | fold : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd')
                return 2;
        return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* White space from the start: \s+(?!\S), that is, a run leaves its last character to what follows,
 * unless nothing follows or the run is one character. With newlines: \s*[\r\n]+ comes first. */
static size_t spaces(const uint8_t *t, size_t n, bool newlines) {
        size_t end = 0, last = 0, newline_end = 0;
        struct character c;
        while (is_class(c = at(t, n, end), UNICODE_SPACE)) {
                last = end;
                end += c.n;
                if (is_newline(c))
                        newline_end = end;
        }
        if (newlines && newline_end > 0)
                return newline_end;
        return end == n || last == 0 ? end : last;
}

static size_t llama3_piece(const uint8_t *t, size_t n, size_t max_digits) {
        size_t short_form = contraction(t, n, true);
        if (short_form > 0)
                return short_form;

        struct character c = at(t, n, 0);
        size_t letters = is_newline(c) || is_class(c, UNICODE_LETTER | UNICODE_NUMBER) ? 0 : c.n;
        if (is_class(at(t, n, letters), UNICODE_LETTER))
                return run_of_class(t, n, letters, UNICODE_LETTER, SIZE_MAX);
        if (is_class(c, UNICODE_NUMBER))
                return run_of_class(t, n, 0, UNICODE_NUMBER, max_digits);

        size_t i = c.cp == ' ';
        if (is_symbol(at(t, n, i))) {
                i = run_of_symbols(t, n, i);
                while (is_newline(at(t, n, i)))
                        i++;
                return i;
        }
        return spaces(t, n, true);
}

static size_t llama3(const uint8_t *t, size_t n) {
        return llama3_piece(t, n, 3);
}

static size_t qwen2(const uint8_t *t, size_t n) {
        return llama3_piece(t, n, 1);
}

static size_t gpt2(const uint8_t *t, size_t n) {
        size_t short_form = contraction(t, n, false);
        if (short_form > 0)
                return short_form;
        size_t i = t[0] == ' ';
        struct character c = at(t, n, i);
        if (is_class(c, UNICODE_LETTER | UNICODE_NUMBER))
                return run_of_class(t, n, i, c.class, SIZE_MAX);
        if (is_symbol(c))
                return run_of_symbols(t, n, i);
        return spaces(t, n, false);
}

/* One number character, or everything up to the next one. */
static size_t single_numbers(const uint8_t *t, size_t n) {
        struct character c = at(t, n, 0);
        size_t i = c.n;
        if (is_class(c, UNICODE_NUMBER))
                return i;
        while ((c = at(t, n, i)).n > 0 && !is_class(c, UNICODE_NUMBER))
                i += c.n;
        return i;
}

static bool is_falcon_punct(struct character c) {
        return is_class(c, UNICODE_PUNCT) || (c.n == 1 && c.cp != 0 && c.cp < 0x80 &&
                                               strchr("$+<=>^~|`", (int)c.cp));
}

/* A run of punctuation, or everything up to the next one. */
static size_t punctuation_runs(const uint8_t *t, size_t n) {
        struct character c = at(t, n, 0);
        bool inside = is_falcon_punct(c);
        size_t i = c.n;
        while ((c = at(t, n, i)).n > 0 && is_falcon_punct(c) == inside)
                i += c.n;
        return i;
}

static bool three_digits(const uint8_t *t, size_t n) {
        for (size_t i = 0; i < 3; i++)
                if (i >= n || t[i] < '0' || t[i] > '9')
                        return false;
        return true;
}

/* Three ASCII digits, or everything up to the next three. */
static size_t digit_triples(const uint8_t *t, size_t n) {
        if (three_digits(t, n))
                return 3;
        size_t i = 1;
        while (i < n && !three_digits(t + i, n - i))
                i++;
        return i;
}

typedef size_t (*stage_fn)(const uint8_t *t, size_t n);

static const stage_fn stages[_PRETOKENIZER_MAX][3] = {
        [PRETOKENIZER_LLAMA3] = {llama3},
        [PRETOKENIZER_QWEN2] = {qwen2},
        [PRETOKENIZER_GPT2] = {gpt2},
        [PRETOKENIZER_DIGITS_GPT2] = {single_numbers, gpt2},
        [PRETOKENIZER_FALCON] = {punctuation_runs, gpt2, digit_triples},
};

struct pretokens pretokens_start(enum pretokenizer p, const uint8_t *text, size_t n) {
        return (struct pretokens){.text = text, .n = n, .kind = p};
}

bool pretokens_next(struct pretokens *p, struct view *ret) {
        if (p->at == p->n)
                return false;
        size_t end = p->n;
        for (size_t s = 0; s < ARRAY_SIZE(p->ends) && stages[p->kind][s]; s++) {
                if (p->ends[s] == p->at)
                        p->ends[s] += stages[p->kind][s](p->text + p->at, end - p->at);
                end = p->ends[s];
        }
        *ret = (struct view){.p = p->text + p->at, .n = end - p->at};
        p->at = end;
        return true;
}

static const struct {
        const char *name;
        enum pretokenizer kind;
} names[] = {
        {"llama3", PRETOKENIZER_LLAMA3},
        {"llama-v3", PRETOKENIZER_LLAMA3},
        {"llama-bpe", PRETOKENIZER_LLAMA3},
        {"falcon3", PRETOKENIZER_LLAMA3},
        {"falcon-h1", PRETOKENIZER_LLAMA3},
        {"falcon_e", PRETOKENIZER_LLAMA3},
        {"pixtral", PRETOKENIZER_LLAMA3},
        {"qwen2", PRETOKENIZER_QWEN2},
        {"deepseek-r1-qwen", PRETOKENIZER_QWEN2},
        {"gpt-2", PRETOKENIZER_GPT2},
        {"gpt-neox", PRETOKENIZER_GPT2},
        {"olmo", PRETOKENIZER_GPT2},
        {"phi-2", PRETOKENIZER_GPT2},
        {"mpt", PRETOKENIZER_GPT2},
        {"smollm", PRETOKENIZER_DIGITS_GPT2},
        {"starcoder", PRETOKENIZER_DIGITS_GPT2},
        {"refact", PRETOKENIZER_DIGITS_GPT2},
        {"command-r", PRETOKENIZER_DIGITS_GPT2},
        {"codeshell", PRETOKENIZER_DIGITS_GPT2},
        {"falcon", PRETOKENIZER_FALCON},
};

int pretokenizer_by_name(struct view name) {
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strlen(names[i].name) == name.n && memcmp(names[i].name, name.p, name.n) == 0)
                        return (int)names[i].kind;
        return -EOPNOTSUPP;
}

bool pretokenizer_whole_pieces(enum pretokenizer p) {
        return p == PRETOKENIZER_LLAMA3;
}

bool pretokenizer_adds_bos(enum pretokenizer p) {
        return p == PRETOKENIZER_LLAMA3;
}
