/* The configuration: one main file and drop-ins, read in order. [Broker] is about the daemon;
 * [Default], [Slice NAME.slice], [Group NAME|GID] and [User NAME|UID] are quotas, and all their
 * keys are optional (bitnetd.conf lists them). For each key the most specific section counts: user
 * before group before inner slice before outer slice before default; among equals the one read
 * last. Unknown sections or keys and values out of range are errors with file and line: a typing
 * mistake must not silently weaken a limit. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/limits.h"
#include "policy/slice.h"

/* In this order; each level includes those before it. */
enum cpu_level { CPU_LEVEL_C, CPU_LEVEL_AVX2, CPU_LEVEL_AVXVNNI, CPU_LEVEL_AVX512VL,
                 CPU_LEVEL_AVX512VNNI, CPU_LEVEL_AVX512VBMI, CPU_LEVEL_ALL, _CPU_LEVEL_MAX };

enum kv_type { KV_TYPE_S16, KV_TYPE_F16, KV_TYPE_S8, _KV_TYPE_MAX };
/* Whom one worker serves: a uid, the users of a primary group, or everybody. */
enum isolation { ISOLATION_UID, ISOLATION_GROUP, ISOLATION_HOST, _ISOLATION_MAX };

struct config_broker {
        uint32_t threads;       /* 0 = one per CPU */
        enum cpu_level cpu;     /* the most that kernels may use */
        enum kv_type kv;        /* how keys and values are kept */
        enum isolation isolation;
        const char *isolation_path; /* where that is said; NULL: nowhere */
        unsigned isolation_line;
        bool idle_given;
        uint32_t idle_exit;     /* seconds without a client, then the daemon ends; 0 = never */
};

enum { CONFIG_IDLE_EXIT_MAX = 604800 };

enum { CONFIG_PATH_MAX = 512, CONFIG_REASON_MAX = 96 };

/* Why a file is refused. */
struct config_problem {
        char path[CONFIG_PATH_MAX];
        unsigned line;          /* 1 is the first; 0: the whole file */
        const char *reason;     /* a fixed text, or the next one */
        char text[CONFIG_REASON_MAX]; /* names a value */
};

/* Whom a section is for. */
enum config_match { CONFIG_DEFAULT, CONFIG_SLICE, CONFIG_GROUP, CONFIG_USER };

/* Who somebody is, from the user database; names are NULL when they are not known. slice: a slice
 * that he is known to be in, NULL or "" for none. */
struct identity_group {
        gid_t gid;
        const char *name;
};
struct identity {
        uid_t uid;
        const char *name;
        const struct identity_group *groups;
        size_t n_groups;
        const char *slice;
        gid_t gid;              /* primary, of somebody with a name */
};

/* What decided a value. Texts belong to the configuration. */
struct config_origin {
        enum config_match match;
        const char *name;       /* of the section: "alice", "1000"; "" for [Default] */
        const char *path;       /* NULL: no file, the value is built in */
        unsigned line;
};

struct config;

int config_new(struct config **ret);
struct config *config_free(struct config *c);

/* Read one more file. text: all of it, NUL-terminated. 0, or -ENOMEM or -EINVAL with *ret_problem;
 * after a failure the configuration is only good for config_free. */
int config_add(struct config *c, const char *path, const char *text,
               struct config_problem *ret_problem);

const struct config_broker *config_broker(const struct config *c);
/* Some section names a user or a group: resolving needs more of an identity than its number. */
bool config_wants_names(const struct config *c);

/* Some section names a slice; *ret, which may be NULL, is the first. */
bool config_wants_slices(const struct config *c, struct config_origin *ret);
/* The innermost of the named slices that a process is in whose slice is this one ("": none): which
 * account it has. */
void config_slice(const struct config *c, const char *slice, char ret[SLICE_RULE_SIZE]);

/* The quota of one user. ret_origins: one for each key, may be NULL. */
void config_resolve(const struct config *c, const struct identity *who, struct limits *ret,
                    struct config_origin ret_origins[_QUOTA_MAX]);

/* "c", "avx2", "avxvnni", "avx512vl", "avx512vnni", "avx512vbmi" or "all". 0 or -EINVAL. */
int config_cpu_level(const char *name, enum cpu_level *ret);
int config_kv_type(const char *name, enum kv_type *ret);
/* "uid", "group" or "host". */
const char *isolation_name(enum isolation i);
