/* Messages of a worker (or broker) as arbitrary bytes. The first byte says how many descriptors
 * come along; the rest is the message. What passes must be exactly legal: it can be sent again.
 *
 * Built with -fsanitize=fuzzer it is a libFuzzer target. On its own it runs every type with every
 * single byte set to a few values, and a fixed number of random messages, so that the check is part
 * of the ordinary tests. */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "daemon/wire/frame.h"
#include "engine/base/macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        union wire_message m = {}, again;
        int fd = size > 0 && (data[0] & 1) ? 0 : -1;
        size_t n = size > 0 ? MIN(size - 1, sizeof(m)) : 0;

        if (n > 0)
                memcpy(&m, data + 1, n);
        if (wire_check(&m, n, fd) < 0)
                return 0;
        assert(n == wire_size(m.h.type) && n > 0);
        again = m;
        /* No socket: legal messages fail with EBADF, others would with EINVAL. */
        assert(wire_send(-1, &again, fd) == -9);
        return 0;
}

#ifndef FUZZ_ENGINE
static uint64_t next(uint64_t *state) {
        *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
        return *state >> 33;
}

static void mutate(uint32_t type, uint64_t *seed) {
        static const uint8_t values[] = { 0, 1, 0x2e, 0x61, 0x7f, 0x80, 0xff };
        uint8_t data[1 + WIRE_MAX_MESSAGE] = {};
        struct wire_header h = { type, WIRE_VERSION };
        size_t size = wire_size(type) + 1;

        memcpy(data + 1, &h, sizeof(h));
        for (size_t i = 0; i < size; i++)
                for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
                        uint8_t old = data[i];

                        data[i] = values[v];
                        LLVMFuzzerTestOneInput(data, size);
                        data[i] = old;
                }
        for (unsigned round = 0; round < 2000; round++) {
                for (size_t i = 9; i < size; i++)
                        data[i] = next(seed) % 4 ? (uint8_t)(next(seed) % 3) : (uint8_t)next(seed);
                data[0] = (uint8_t)next(seed);
                LLVMFuzzerTestOneInput(data, size - next(seed) % 2);
        }
}

int main(void) {
        uint64_t seed = 1;

        for (uint32_t type = 0; type < 256; type++)
                mutate(type, &seed);
        return 0;
}
#endif
