/* The measured rate is work by time in which something ran. Both are halved when they get large, so
 * that the last seconds count most. Most answers end long before their limit; how much of what is
 * promised is done in the end is learnt in the same way. All sums are bounded: a worker that claims
 * nonsense spoils the estimates of its own user. */
#include "engine/base/macro.h"
#include "policy/pace.h"

enum { LEAST_USEC = 100000, MOST_USEC = 1 << 24 };
static const uint64_t MOST_WORK = UINT64_C(1) << 32;

void pace_count(struct pace *p, uint64_t work, bool running, uint64_t now) {
        if (p->since) {
                p->usec += now - p->since;
                p->work += MIN(work, MOST_WORK);
        }
        p->since = running ? now : 0;
        while (p->usec > MOST_USEC || p->work > MOST_WORK) {
                p->usec /= 2;
                p->work /= 2;
        }
}

void pace_ended(struct pace *p, uint64_t promised, uint64_t used) {
        promised = MIN(promised, MOST_WORK);
        p->promised += promised - p->promised / 8;
        p->used += MIN(used, promised) - p->used / 8;
}

uint64_t pace_expected(const struct pace *p, uint64_t promised) {
        promised = MIN(promised, MOST_WORK);
        if (p->promised == 0 || promised == 0)
                return promised;
        return MAX((uint64_t)((double)promised * (double)p->used / (double)p->promised), 1U);
}

uint64_t pace_usec(const struct pace *p, uint64_t work) {
        if (p->usec < LEAST_USEC || p->work == 0)
                return 0;
        return MAX((uint64_t)((double)work * (double)p->usec / (double)p->work), 1U);
}

void pace_place(struct pace_places *p, uint64_t left) {
        if (p->n < PACE_PLACES)
                p->left[p->n++] = MIN(left, MOST_WORK);
}

static uint32_t first_to_end(const struct pace_places *p) {
        uint32_t first = 0;

        for (uint32_t i = 1; i < p->n; i++)
                if (p->left[i] < p->left[first])
                        first = i;
        return first;
}

uint64_t pace_next(const struct pace_places *p) {
        return p->n == 0 ? 0 : p->left[first_to_end(p)] * p->n;
}

void pace_wait(struct pace_places *p, uint64_t work) {
        if (p->n > 0)
                p->left[first_to_end(p)] += MIN(work, MOST_WORK);
}
