/* Where to cut. Problem: "so many tokens" is no position in a text: tokens are known only after
 * encoding, and encoding everything for every try would cost too much. So a position is guessed
 * from the density of tokens, encoded, and corrected a few times; then the cut moves back to the
 * best boundary in the second half of what fits. Invariant: a piece that is returned was encoded
 * by itself and found to fit, whatever the guesses were. The splitter owns nothing. */
#include <errno.h>

#include "daemon/worker/split.h"
#include "engine/base/macro.h"

enum { TRIES = 6, BYTES_PER_TOKEN = 4 };

/* Move an end back to a character boundary; 0 stays 0. */
static size_t whole_characters(const char *text, size_t n, size_t end) {
        if (end >= n)
                return n;
        while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
                end--;
        return end;
}

static size_t first_character(const char *text, size_t n) {
        size_t end = 1;

        while (end < n && ((unsigned char)text[end] & 0xc0) == 0x80)
                end++;
        return end;
}

static int count_tokens(const struct vocab *v, const char *text, size_t n, uint32_t *ret) {
        _cleanup_(tokens_done) struct tokens t = {0};
        int r;

        r = vocab_encode(v, text, n, false, 0, &t);
        if (r >= 0)
                *ret = (uint32_t)t.n;
        return r;
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Slices end before white space where there is some near, as words do in the whole text. */
int split_count(const struct vocab *vocab, const char *text, size_t n, size_t *at,
                uint64_t *tokens) {
        const char *p = text + *at;
        size_t left = n - *at, end = whole_characters(p, left, MIN(left, (size_t)SPLIT_WINDOW));
        uint32_t count;
        int r;

        for (size_t i = end; end < left && i > end / 2; i--) {
                if (is_blank(p[i]) && !is_blank(p[i - 1])) {
                        end = i;
                        break;
                }
        }
        r = count_tokens(vocab, p, end, &count);
        if (r < 0)
                return r;
        *at += end;
        *tokens += count;
        return 0;
}

/* Kinds of places where a text may be cut, best first. */
enum boundary {
        BOUNDARY_PARAGRAPH,
        BOUNDARY_LINE,
        BOUNDARY_SENTENCE,
        BOUNDARY_WORD,
        _BOUNDARY_MAX,
};

/* Is there a boundary of this kind directly before text[i]? i > 0. White space goes with what is
 * before it. */
static bool boundary_before(const char *text, size_t i, enum boundary kind) {
        size_t j = i, newlines = 0;

        if (is_blank(text[i]) || !is_blank(text[i - 1]))
                return false;
        if (kind == BOUNDARY_WORD)
                return true;
        while (j > 0 && is_blank(text[j - 1]))
                newlines += text[--j] == '\n';
        if (kind == BOUNDARY_PARAGRAPH)
                return newlines >= 2;
        if (kind == BOUNDARY_LINE)
                return newlines >= 1;
        while (j > 0 && (text[j - 1] == '"' || text[j - 1] == '\'' || text[j - 1] == ')'))
                j--;
        return j > 0 && (text[j - 1] == '.' || text[j - 1] == '!' || text[j - 1] == '?');
}

/* The last boundary of the best kind in the second half of text[0..end); end when there is none.
 * text[end] exists. */
static size_t best_boundary(const char *text, size_t end) {
        size_t found[_BOUNDARY_MAX] = {0};

        for (size_t i = end; i > end / 2; i--) {
                if (!boundary_before(text, i, BOUNDARY_WORD))
                        continue;
                for (enum boundary kind = 0; kind < _BOUNDARY_MAX; kind++)
                        if (found[kind] == 0 && boundary_before(text, i, kind))
                                found[kind] = i;
                if (found[BOUNDARY_PARAGRAPH] > 0)
                        break;
        }
        for (enum boundary kind = 0; kind < _BOUNDARY_MAX; kind++)
                if (found[kind] > 0)
                        return found[kind];
        return end;
}

/* A prefix that fits (its size and tokens) and one that does not, or the end of what there is. */
struct bracket {
        size_t fits, too_long;
        uint32_t tokens;
};

/* Next position to try: by density, kept strictly inside the bracket. */
static size_t next_guess(const char *text, size_t n, const struct bracket *b, size_t tried,
                         uint32_t tokens, uint32_t target) {
        size_t guess = (size_t)((double)tried * target / (tokens > 0 ? tokens : 0.5));

        if (guess <= b->fits || guess >= b->too_long)
                guess = b->fits + (b->too_long - b->fits) / 2;
        return whole_characters(text, n, guess);
}

/* Find a prefix of text[0..n) of at most, and preferably about, target tokens. */
static int find_prefix(const struct splitter *s, const char *text, size_t n, uint32_t target,
                       struct bracket *ret) {
        size_t window = whole_characters(text, n, MIN(n, (size_t)SPLIT_WINDOW));
        struct bracket b = {.too_long = window + 1};
        size_t guess = whole_characters(text, n, MIN(window, (size_t)target * BYTES_PER_TOKEN));
        uint32_t tokens;
        int r;

        for (unsigned i = 0; b.fits == 0 || i < TRIES; i++) {
                if (guess == 0)
                        guess = first_character(text, n);
                r = count_tokens(s->vocab, text, guess, &tokens);
                if (r < 0)
                        return r;
                if (tokens <= target || guess == first_character(text, n)) {
                        b.fits = guess;
                        b.tokens = tokens;
                        if (guess == window || tokens >= target - target / 8)
                                break;
                } else {
                        b.too_long = guess;
                }
                guess = next_guess(text, n, &b, guess, tokens, target);
                if (guess <= b.fits && b.fits > 0)
                        break;
        }
        *ret = b;
        return 0;
}

/* Tokens the next piece should have. Pieces leave room below the limit, so that cuts that come
 * early do not add up to a tiny last piece. */
static uint32_t target_tokens(const struct splitter *s) {
        uint64_t roomy = s->limit - s->limit / 8, pieces = s->tokens_left / roomy + 1;

        if (pieces <= 1)
                return s->limit;
        return (uint32_t)MAX(s->tokens_left / pieces + 1, (uint64_t)SPLIT_MIN_TOKENS);
}

int split_next(struct splitter *s, struct piece *ret) {
        const char *text = s->text + s->at;
        size_t n = s->n - s->at, cut;
        struct bracket b;
        uint32_t tokens;
        int r;

        if (n == 0)
                return 1;
        r = find_prefix(s, text, n, target_tokens(s), &b);
        if (r < 0)
                return r;
        cut = b.fits;
        tokens = b.tokens;
        if (cut < n) {
                cut = best_boundary(text, cut);
                r = count_tokens(s->vocab, text, cut, &tokens);
                if (r < 0)
                        return r;
                if (tokens > s->limit) { /* a shorter text can have more tokens, if rarely */
                        cut = b.fits;
                        tokens = b.tokens;
                }
        }
        *ret = (struct piece){.offset = s->at, .n = cut, .tokens = tokens};
        s->at += cut;
        s->tokens_left -= MIN(s->tokens_left, (uint64_t)tokens);
        return 0;
}
