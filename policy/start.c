/* Rate of starts, as a virtual schedule: each start books the next free interval; up to a burst of
 * them may lie in the future and still start at once. Nothing here keeps a clock. */
#include "engine/base/macro.h"
#include "policy/start.h"

uint64_t start_book(struct start_rate *s, const struct account *account, uint64_t now) {
        uint64_t ahead = START_BURST * START_INTERVAL_USEC, at;

        s->debt_until_usec = MAX(s->debt_until_usec, now) + START_INTERVAL_USEC;
        at = s->debt_until_usec > now + ahead ? s->debt_until_usec - ahead : now;
        return MAX(at, account->not_before_usec);
}

void start_crashed(struct account *account, uint64_t now, uint64_t lived_usec) {
        uint64_t delay;

        if (lived_usec >= START_FORGIVE_USEC)
                account->crashes = 0;
        if (account->crashes < 16)
                account->crashes++;
        /* The first crash costs nothing: the next request may be an innocent one. */
        delay = account->crashes < 2 ? 0 : START_BACKOFF_USEC << (account->crashes - 2);
        account->not_before_usec = now + MIN(delay, START_BACKOFF_MAX_USEC);
}

void start_ended_well(struct account *account) {
        account->crashes = 0;
        account->not_before_usec = 0;
}
