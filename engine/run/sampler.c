/* From logits to a token.
 *
 * Problem: the same logits, options and seed must give the same token on every machine, for a
 * vocabulary of 128 thousand, in a fraction of the time of a step. So the exponential is our own
 * (the C library's differs between machines), sums run in one fixed order, in double, and equal
 * logits are ordered by id. Nothing is sorted but the few candidates that can still be drawn.
 *
 * Order of the steps: penalties; the mask of allowed tokens; temperature; top-k; top-p over what
 * top-k left; min-p against the best; one draw from the rest. Weights are exp((logit - best) /
 * temperature), so the best has weight 1.
 *
 * The sampler remembers tokens of a conversation; all it owns is wiped when freed.
 */
#include "engine/run/sampler.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "kernels/ref/expf.h"

enum {
        MAX_REPEAT_LAST = 1 << 20,
        FIRST_TOP_P_TRY = 128, /* candidates sorted at first; eight times as many at each retry */
        DRY_WINDOW = 512,      /* sampled tokens that are searched for repetitions */
        DRY_LONGEST = 32,      /* tokens; longer repetitions are punished no harder */
};

struct candidate {
        float logit;
        int32_t id;
};

struct sampler {
        struct sampling options;
        uint32_t n_vocab;
        uint64_t random[4];
        float *adjusted;          /* [n_vocab] logits after penalties */
        struct candidate *heap;   /* [n_vocab] */
        int32_t *window;          /* [repeat_last], a ring */
        uint64_t n_window;        /* tokens ever accepted */
        uint32_t *counts;         /* [n_vocab] how often each token was sampled; NULL: not needed */
        int32_t *seen;            /* [n_vocab] the distinct sampled tokens */
        uint32_t n_seen;
        int32_t *sampled;         /* [DRY_WINDOW] last sampled tokens, oldest first; NULL: off */
        uint32_t n_sampled;
};

static uint64_t splitmix64(uint64_t *state) {
        uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, unsigned k) {
        return (x << k) | (x >> (64 - k));
}

/* xoshiro256++ (Blackman and Vigna), the top 53 bits as a number in [0, 1). */
static double random_unit(uint64_t s[4]) {
        uint64_t value = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;

        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate(s[3], 45);
        return (double)(value >> 11) * 0x1p-53;
}

static bool options_valid(const struct sampling *o) {
        return isfinite(o->temperature) && o->temperature >= 0 && o->top_p > 0 && o->top_p <= 1 &&
               o->min_p >= 0 && o->min_p <= 1 && isfinite(o->repeat_penalty) &&
               o->repeat_penalty > 0 && isfinite(o->presence_penalty) &&
               o->dry_multiplier >= 0 && isfinite(o->dry_multiplier) &&
               (o->dry_multiplier == 0 || (o->dry_base >= 1 && o->dry_base <= 4)) &&
               isfinite(o->frequency_penalty) && o->repeat_last <= MAX_REPEAT_LAST;
}

static bool wants_repeat(const struct sampling *o) {
        return o->repeat_penalty != 1 && o->repeat_last > 0;
}

static bool wants_counts(const struct sampling *o) {
        return o->presence_penalty != 0 || o->frequency_penalty != 0;
}

static int sampler_allocate(struct sampler *s) {
        const struct sampling *o = &s->options;

        if (o->dry_multiplier > 0) {
                s->sampled = calloc(DRY_WINDOW, sizeof(*s->sampled));
                if (!s->sampled)
                        return -ENOMEM;
        }
        if (wants_repeat(o) || wants_counts(o) || o->dry_multiplier > 0 || o->masked) {
                s->adjusted = calloc(s->n_vocab, sizeof(*s->adjusted));
                if (!s->adjusted)
                        return -ENOMEM;
        }
        if (o->temperature > 0) {
                s->heap = calloc(s->n_vocab, sizeof(*s->heap));
                if (!s->heap)
                        return -ENOMEM;
        }
        if (wants_repeat(o)) {
                s->window = calloc(o->repeat_last, sizeof(*s->window));
                if (!s->window)
                        return -ENOMEM;
        }
        if (wants_counts(o)) {
                s->counts = calloc(s->n_vocab, sizeof(*s->counts));
                s->seen = calloc(s->n_vocab, sizeof(*s->seen));
                if (!s->counts || !s->seen)
                        return -ENOMEM;
        }
        return 0;
}

int sampler_new(struct sampler **ret, uint32_t n_vocab, const struct sampling *options) {
        struct sampler *s;
        uint64_t state = options->seed;
        int r;

        if (n_vocab == 0 || n_vocab > INT32_MAX || !options_valid(options))
                return -EINVAL;
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->options = *options;
        s->n_vocab = n_vocab;
        for (size_t i = 0; i < ARRAY_SIZE(s->random); i++)
                s->random[i] = splitmix64(&state);
        r = sampler_allocate(s);
        if (r < 0) {
                sampler_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

static void wipe_free(void *p, size_t n, size_t element) {
        if (p)
                explicit_bzero(p, n * element);
        free(p);
}

struct sampler *sampler_free(struct sampler *s) {
        if (!s)
                return NULL;
        wipe_free(s->adjusted, s->n_vocab, sizeof(*s->adjusted));
        wipe_free(s->heap, s->n_vocab, sizeof(*s->heap));
        wipe_free(s->window, s->options.repeat_last, sizeof(*s->window));
        wipe_free(s->counts, s->n_vocab, sizeof(*s->counts));
        wipe_free(s->seen, s->n_vocab, sizeof(*s->seen));
        wipe_free(s->sampled, DRY_WINDOW, sizeof(*s->sampled));
        wipe_free(s, 1, sizeof(*s));
        return NULL;
}

void sampler_accept(struct sampler *s, int32_t token) {
        if (s->window && token >= 0 && (uint32_t)token < s->n_vocab)
                s->window[s->n_window++ % s->options.repeat_last] = token;
}

static void remember_sampled(struct sampler *s, int32_t token) {
        sampler_accept(s, token);
        if (s->sampled) {
                if (s->n_sampled == DRY_WINDOW) {
                        s->n_sampled--;
                        memmove(s->sampled, s->sampled + 1, s->n_sampled * sizeof(*s->sampled));
                }
                s->sampled[s->n_sampled++] = token;
        }
        if (s->counts && s->counts[token]++ == 0)
                s->seen[s->n_seen++] = token;
}

/* How many tokens before `end` are the same as the last ones, DRY_LONGEST at most. */
static uint32_t match_length(const int32_t *t, uint32_t n, uint32_t end) {
        uint32_t length = 0;

        while (length < end && length < DRY_LONGEST && t[end - 1 - length] == t[n - 1 - length])
                length++;
        return length;
}

/* Every earlier place that ends like the text so far names the token that would go on repeating
 * it. Lowering it again for a second, longer match starts from the untouched logit. */
static void punish_loops(struct sampler *s, const float *logits) {
        const struct sampling *o = &s->options;

        for (uint32_t end = 1; end < s->n_sampled; end++) {
                uint32_t n = match_length(s->sampled, s->n_sampled, end);
                int32_t next = s->sampled[end];
                float penalty = o->dry_multiplier;

                if (n <= o->dry_allowed_length)
                        continue;
                for (uint32_t i = o->dry_allowed_length + 1; i < n; i++)
                        penalty *= o->dry_base;
                s->adjusted[next] = MIN(s->adjusted[next], logits[next] - penalty * o->dry_base);
        }
}

/* Repetition (Keskar et al.): divide a positive logit, multiply a negative one, once for a token
 * however often it stands in the window; starting from the untouched logit makes that so.
 * Presence and frequency (OpenAI): subtract presence + frequency * count, of sampled tokens. */
static const float *apply_penalties(struct sampler *s, const float *logits) {
        const struct sampling *o = &s->options;
        uint64_t n = s->window ? MIN(s->n_window, o->repeat_last) : 0;

        if (!s->adjusted)
                return logits;
        memcpy(s->adjusted, logits, s->n_vocab * sizeof(*logits));
        for (uint64_t i = 0; i < n; i++) {
                int32_t id = s->window[i];
                float x = logits[id];

                s->adjusted[id] = x > 0 ? x / o->repeat_penalty : x * o->repeat_penalty;
        }
        for (uint32_t i = 0; i < s->n_seen; i++) {
                int32_t id = s->seen[i];

                s->adjusted[id] -=
                        o->presence_penalty + o->frequency_penalty * (float)s->counts[id];
        }
        if (s->sampled)
                punish_loops(s, logits);
        return s->adjusted;
}

/* What is not allowed gets a logit that cannot win and weighs nothing; what is allowed one that
 * can, even a NaN. False: nothing is allowed. */
static bool apply_mask(struct sampler *s, const uint64_t *allowed) {
        bool any = false;

        for (uint32_t i = 0; i < s->n_vocab; i++) {
                float x = s->adjusted[i];
                bool may = allowed[i / 64] >> (i % 64) & 1;

                s->adjusted[i] = !may ? -INFINITY : x > -FLT_MAX ? x : -FLT_MAX;
                any |= may;
        }
        return any;
}

/* The lowest id among the highest logits; a NaN is never higher. */
static int32_t find_best(const float *logits, uint32_t n) {
        uint32_t best = 0;

        for (uint32_t i = 1; i < n; i++)
                if (logits[i] > logits[best] || isnan(logits[best]))
                        best = i;
        return (int32_t)best;
}

/* Whether a is to be drawn after b: lower logit, or the same and a higher id. */
static bool is_worse(const struct candidate *a, const struct candidate *b) {
        return a->logit < b->logit || (a->logit == b->logit && a->id > b->id);
}

/* Restore a heap whose root is the worst, after the element at i has become better. */
static void sift_down(struct candidate *heap, size_t n, size_t i) {
        struct candidate moving = heap[i];

        for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
                if (child + 1 < n && is_worse(&heap[child + 1], &heap[child]))
                        child++;
                if (!is_worse(&heap[child], &moving))
                        break;
                heap[i] = heap[child];
                i = child;
        }
        heap[i] = moving;
}

/* The k best, best first. Most of the vocabulary is worse than the worst kept, one comparison. */
static void select_best(struct candidate *heap, size_t k, const float *logits, uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
                struct candidate c = {isnan(logits[i]) ? -INFINITY : logits[i], (int32_t)i};

                if (i < k) {
                        heap[i] = c;
                        if (i + 1 == k)
                                for (size_t j = k / 2; j-- > 0;)
                                        sift_down(heap, k, j);
                } else if (is_worse(&heap[0], &c)) {
                        heap[0] = c;
                        sift_down(heap, k, 0);
                }
        }
        for (size_t left = k; left-- > 1;) {
                struct candidate worst = heap[0];

                heap[0] = heap[left];
                heap[left] = worst;
                sift_down(heap, left, 0);
        }
}

/* exp((logit - best) / temperature); a NaN or an impossible logit weighs nothing. */
static double weight_of(const struct sampler *s, float logit, float best) {
        float x = (logit - best) / s->options.temperature;

        return x > -80.0F ? (double)expf_fixed(x) : logit == best ? 1.0 : 0.0;
}

/* No order needed: walk the vocabulary by id, skipping what min-p rules out. */
static int32_t draw_unsorted(struct sampler *s, const float *logits) {
        int32_t best = find_best(logits, s->n_vocab), last = best;
        double least = s->options.min_p, sum = 0, at = 0, target;

        for (uint32_t i = 0; i < s->n_vocab; i++) {
                double w = weight_of(s, logits[i], logits[best]);

                sum += w >= least ? w : 0;
        }
        target = random_unit(s->random) * sum;
        for (uint32_t i = 0; i < s->n_vocab; i++) {
                double w = weight_of(s, logits[i], logits[best]);

                if (w < least || w == 0)
                        continue;
                last = (int32_t)i;
                at += w;
                if (at > target)
                        break;
        }
        return last;
}

/* How many of the k sorted candidates stay under top-p (of `sum`) and min-p. *ret_mass: their
 * weight. *ret_cut: a rule ended the list, so that more candidates would change nothing. */
static size_t keep_nucleus(const struct sampler *s, size_t k, double sum, double *ret_mass,
                           bool *ret_cut) {
        double wanted = (double)s->options.top_p * sum, mass = 0;
        size_t n = 0;

        *ret_cut = false;
        while (n < k && !*ret_cut) {
                double w = weight_of(s, s->heap[n].logit, s->heap[0].logit);

                *ret_cut = n > 0 && (w < (double)s->options.min_p || w == 0);
                if (*ret_cut)
                        break;
                mass += w;
                n++;
                *ret_cut = s->options.top_p < 1 && mass >= wanted;
        }
        *ret_mass = mass;
        return n;
}

static int32_t draw_from(struct sampler *s, size_t n, double mass) {
        double target = random_unit(s->random) * mass, at = 0;
        size_t i = 0;

        for (; i + 1 < n; i++) {
                at += weight_of(s, s->heap[i].logit, s->heap[0].logit);
                if (at > target)
                        break;
        }
        return s->heap[i].id;
}

static int32_t draw_top_k(struct sampler *s, const float *logits, size_t k) {
        double sum = 0, mass;
        size_t n;
        bool cut;

        select_best(s->heap, k, logits, s->n_vocab);
        for (size_t i = 0; i < k; i++)
                sum += weight_of(s, s->heap[i].logit, s->heap[0].logit);
        n = keep_nucleus(s, k, sum, &mass, &cut);
        return draw_from(s, n, mass);
}

/* Top-p over the whole vocabulary: the sum needs everybody, the order only the first few. */
static int32_t draw_top_p(struct sampler *s, const float *logits) {
        float best = logits[find_best(logits, s->n_vocab)];
        double sum = 0, mass;
        size_t k = MIN((size_t)FIRST_TOP_P_TRY, (size_t)s->n_vocab), n;
        bool cut;

        for (uint32_t i = 0; i < s->n_vocab; i++)
                sum += weight_of(s, logits[i], best);
        for (;; k = MIN(k * 8, (size_t)s->n_vocab)) {
                select_best(s->heap, k, logits, s->n_vocab);
                n = keep_nucleus(s, k, sum, &mass, &cut);
                if (cut || k == s->n_vocab)
                        return draw_from(s, n, mass);
        }
}

int32_t sampler_next(struct sampler *s, const float *logits) {
        return sampler_next_of(s, logits, NULL);
}

int32_t sampler_next_of(struct sampler *s, const float *logits, const uint64_t *allowed) {
        const struct sampling *o = &s->options;
        int32_t token;

        logits = apply_penalties(s, logits);
        if (allowed && !apply_mask(s, allowed))
                return -1;
        if (o->temperature == 0)
                token = find_best(logits, s->n_vocab);
        else if (o->top_k > 0 && o->top_k < s->n_vocab)
                token = draw_top_k(s, logits, o->top_k);
        else if (o->top_p < 1)
                token = draw_top_p(s, logits);
        else
                token = draw_unsorted(s, logits);
        remember_sampled(s, token);
        return token;
}

/* Natural logarithm of a positive, normal number with a fixed order of operations: x = 2^e m with m
 * around 1, and ln m = 2 artanh((m - 1) / (m + 1)), whose series ends below half a unit in the last
 * place. */
static double log_fixed(double x) {
        int e;
        double m = frexp(x, &e), z, sum = 0;

        if (m < 0.70710678118654752) {
                m *= 2;
                e--;
        }
        z = (m - 1) / (m + 1);
        for (int k = 23; k >= 1; k -= 2)
                sum = sum * z * z + 2.0 / k;
        return sum * z + (double)e * 0.69314718055994531;
}

static double logprob_of(float logit, float best, double log_sum) {
        double x = (double)logit - (double)best - log_sum;

        return x > ODDS_LEAST ? x : ODDS_LEAST;
}

void sampler_odds(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_top,
                  struct token_odds *ret) {
        float best = logits[find_best(logits, n_vocab)];
        struct candidate top[ODDS_TOP_MAX];
        double sum = 0;

        for (uint32_t i = 0; i < n_vocab; i++)
                sum += logits[i] - best > -80.0F ? (double)expf_fixed(logits[i] - best) : 0;
        sum = log_fixed(MAX(sum, 1.0)); /* less only where no logit is a number */
        if (n_top > 0)
                select_best(top, n_top, logits, n_vocab);
        ret[0] = (struct token_odds){token, logprob_of(logits[token], best, sum)};
        for (uint32_t i = 0; i < n_top; i++)
                ret[1 + i] = (struct token_odds){top[i].id, logprob_of(top[i].logit, best, sum)};
}

void sampler_shares(const double *logprobs, size_t n, double *ret) {
        double best = logprobs[0], sum = 0;

        for (size_t i = 1; i < n; i++)
                best = MAX(best, logprobs[i]);
        for (size_t i = 0; i < n; i++) {
                float x = (float)(logprobs[i] - best);

                ret[i] = x > -80.0F ? (double)expf_fixed(x) : 0;
                sum += ret[i];
        }
        for (size_t i = 0; i < n; i++)
                ret[i] /= sum;
}
