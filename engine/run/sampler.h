/* From logits to a token: greedy, temperature, top-k, top-p, min-p, repetition penalty, with a
 * seeded generator of our own, so that a seed gives the same tokens everywhere. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sampling {
        float temperature;     /* 0: greedy */
        uint32_t top_k;        /* 0: off */
        float top_p;           /* 1: off */
        float min_p;           /* 0: off */
        float repeat_penalty;  /* 1: off; > 0 */
        uint32_t repeat_last;  /* how many tokens back the penalty looks */
        float presence_penalty, frequency_penalty; /* 0: off; OpenAI's definition */
        /* Against endless loops ("DRY"): a token that would lengthen a repetition of the last n > L
         * sampled tokens to n + 1 loses multiplier * base^(n - L). 0: off. Looks at the last 512
         * sampled tokens, never at the prompt: copying from a document is not a loop. */
        float dry_multiplier, dry_base;
        uint32_t dry_allowed_length;   /* L */
        uint64_t seed;
        bool masked;           /* sampler_next_of will be called */
};

#define SAMPLING_GREEDY                                                                            \
        ((struct sampling){.temperature = 0, .top_p = 1, .repeat_penalty = 1, .repeat_last = 64})

struct sampler;
int sampler_new(struct sampler **ret, uint32_t n_vocab, const struct sampling *s);
struct sampler *sampler_free(struct sampler *s);
/* Choose the next token and remember it. logits are not changed. ties: lowest id. */
int32_t sampler_next(struct sampler *s, const float *logits);
/* The same among some tokens only: bit t % 64 of allowed[t / 64]. Penalties, temperature and the
 * other limits act as if the rest of the vocabulary did not exist. NULL: among all of them. -1:
 * none is allowed. */
int32_t sampler_next_of(struct sampler *s, const float *logits, const uint64_t *allowed);
/* How likely a token was: the natural logarithm of its softmax over the whole vocabulary, at
 * temperature 1, before penalties and masks; ODDS_LEAST at least (and for a NaN). */
struct token_odds {
        int32_t token;
        double logprob;
};
#define ODDS_LEAST (-9999.0)
enum { ODDS_TOP_MAX = 20 };
/* ret[0]: of this token; ret[1..n_top]: of the likeliest ones, best first, ties by the lowest id
 * (n_top <= ODDS_TOP_MAX, and <= n_vocab). */
void sampler_odds(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_top,
                  struct token_odds *ret);
/* From the logarithms of n >= 1 likelihoods to their shares, which sum to 1: the same bits on every
 * machine. */
void sampler_shares(const double *logprobs, size_t n, double *ret);
/* Let the repetition window know tokens that were not sampled (the prompt). */
void sampler_accept(struct sampler *s, int32_t token);
