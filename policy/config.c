/* One table row per key: where the value goes and its range. inih splits the lines; it reports the
 * line of the first handler that refused, and the reason is the one recorded then. The result is
 * built in a copy, so a bad file changes nothing. */
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "policy/config.h"

struct key {
        const char *section, *name;
        size_t offset;
        size_t size; /* of the number: 4 or 8 */
        uint64_t min, max;
};

#define LIMIT(name, field, min, max)                                                               \
        { "Limits", name, offsetof(struct config, limits.field),                                   \
          sizeof(((struct config *)0)->limits.field), min, max }

static const struct key keys[] = {
        LIMIT("MaxConcurrentJobs", max_concurrent_jobs, 1, 64),
        LIMIT("MaxQueuedJobs", max_queued_jobs, 0, 1024),
        LIMIT("MaxConnections", max_connections, 1, 256),
        LIMIT("MaxInputBytes", max_input_bytes, 1024, UINT64_C(4) << 30),
        LIMIT("MaxOutputTokens", max_output_tokens, 1, 1 << 20),
        LIMIT("MaxSequences", max_sequences, 1, 64),
        LIMIT("KVBytes", kv_bytes, UINT64_C(1) << 20, UINT64_C(1) << 40),
        LIMIT("IdleTimeoutSec", idle_timeout_sec, 1, 86400),
        LIMIT("ConnectionIdleSec", connection_idle_sec, 1, 86400),
        { "Broker", "Threads", offsetof(struct config, threads), sizeof(uint32_t), 0,
          LIMIT_THREADS },
};

struct state {
        struct config config;
        const char *reason;
};

int config_cpu_level(const char *name, enum cpu_level *ret) {
        static const char *const names[_CPU_LEVEL_MAX] = {
                [CPU_LEVEL_C] = "c",
                [CPU_LEVEL_AVX2] = "avx2",
                [CPU_LEVEL_AVXVNNI] = "avxvnni",
                [CPU_LEVEL_AVX512VL] = "avx512vl",
                [CPU_LEVEL_AVX512VNNI] = "avx512vnni",
                [CPU_LEVEL_ALL] = "all",
        };

        for (unsigned i = 0; i < _CPU_LEVEL_MAX; i++)
                if (strcmp(names[i], name) == 0) {
                        *ret = (enum cpu_level)i;
                        return 0;
                }
        return -EINVAL;
}

/* A decimal number with an optional K, M or G. */
static bool parse_number(const char *value, uint64_t *ret) {
        unsigned long long n;
        unsigned shift = 0;
        char *end;

        if (*value < '0' || *value > '9')
                return false;
        errno = 0;
        n = strtoull(value, &end, 10);
        if (errno)
                return false;
        if (*end == 'K' || *end == 'M' || *end == 'G')
                shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 30;
        if (end[shift ? 1 : 0] != '\0' || n > UINT64_MAX >> shift)
                return false;
        *ret = (uint64_t)n << shift;
        return true;
}

static int refuse(struct state *s, const char *reason) {
        if (!s->reason)
                s->reason = reason;
        return 0; /* for inih: an error on this line */
}

static int set_number(struct state *s, const struct key *key, const char *value) {
        uint8_t *field = (uint8_t *)&s->config + key->offset;
        uint64_t n;

        if (!parse_number(value, &n))
                return refuse(s, "not a number");
        if (n < key->min || n > key->max)
                return refuse(s, "number out of range");
        if (key->size == sizeof(uint32_t))
                memcpy(field, &(uint32_t){ (uint32_t)n }, sizeof(uint32_t));
        else
                memcpy(field, &n, sizeof(n));
        return 1;
}

static int handle(void *userdata, const char *section, const char *name, const char *value) {
        struct state *s = userdata;

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
                        return set_number(s, &keys[i], value);
        if (strcmp(section, "Broker") != 0)
                return refuse(s, strcmp(section, "Limits") == 0 ? "unknown key"
                                                                : "unknown section");
        if (strcmp(name, "DefaultModel") == 0) {
                if (!model_name_valid(value))
                        return refuse(s, "not a model name");
                memcpy(s->config.default_model, value, strlen(value) + 1);
                return 1;
        }
        if (strcmp(name, "CPU") == 0)
                return config_cpu_level(value, &s->config.cpu) < 0
                               ? refuse(s, "not a CPU level")
                               : 1;
        return refuse(s, "unknown key");
}

int config_parse(const char *text, struct config *ret, unsigned *ret_line,
                 const char **ret_reason) {
        struct state s = { .config = *ret };
        int r = ini_parse_string(text, handle, &s);

        if (r != 0) {
                *ret_line = r > 0 ? (unsigned)r : 0;
                *ret_reason = s.reason ? s.reason : "not an assignment or section";
                return -EINVAL;
        }
        *ret = s.config;
        return 0;
}
