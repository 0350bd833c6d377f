/* Defaults of generation. Small greedy models fall into cycles; sampling differently would hide
 * that behind noise, a repetition penalty would damage honest repetition (tables, code), so the
 * text is left alone and a cycle that has come around three times ends the answer visibly. */
#include <string.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/defaults.h"
#include "engine/base/macro.h"

/* One step of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_seed(uint64_t *state) {
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

struct sampling default_sampling(uint32_t verb, uint64_t *seed_state) {
        struct sampling s = SAMPLING_GREEDY;

        s.dry_multiplier = 0.8F;
        s.dry_base = 1.75F;
        s.dry_allowed_length = 4;
        s.seed = next_seed(seed_state);
        return s;
}

uint32_t default_max_tokens(uint32_t verb) {
        return verb == WIRE_VERB_COMPLETE ? DEFAULT_COMPLETE_TOKENS : DEFAULT_CHAT_TOKENS;
}

bool loop_guard(const char *text, size_t n) {
        size_t longest = MIN(n / LOOP_REPEATS, (size_t)LOOP_CYCLE_MAX);

        for (size_t cycle = LOOP_CYCLE_MIN; cycle <= longest; cycle++)
                if (memcmp(text + n - cycle * (LOOP_REPEATS - 1), text + n - cycle * LOOP_REPEATS,
                           cycle * (LOOP_REPEATS - 1)) == 0)
                        return true;
        return false;
}
