/* Where the configuration lies, and reading it. The main file comes first, then the drop-ins *.conf
 * of all folders in the order of their names; of two with the same name the one in the later folder
 * counts, as in systemd. */
#pragma once

#include <stdbool.h>

#include "daemon/broker/identity.h"
#include "daemon/broker/options.h"
#include "daemon/broker/places.h"
#include "policy/account.h"
#include "policy/config.h"

enum { SETTINGS_DIRS = 4 };

/* Quotas that were set until the next start; texts as of drop-ins, read after all files. */
struct settings_runtime {
        struct settings_runtime *next;
        uid_t uid;
        char *text;
};

/* One assignment of a quota, checked by quota_parse; "" takes one back. */
struct settings_change {
        enum quota_key key;
        const char *value;
};

struct settings {
        char main[CONFIG_PATH_MAX];
        bool required;               /* the main file must exist */
        char dirs[SETTINGS_DIRS][CONFIG_PATH_MAX];
        unsigned n_dirs;
        struct settings_runtime *runtime;
        struct config *config;       /* the one in force */
        struct identities identities;
        const char *proc;            /* where /proc is: sections about slices need it */
};

/* 0 or -ENAMETOOLONG. */
int settings_init(struct settings *s, const struct options *o, const struct places *p);
void settings_done(struct settings *s);

/* Read everything anew. 0 with the new configuration in *ret; -EINVAL with *ret_problem; -ENOMEM.
 * What is in force does not change. */
int settings_read(const struct settings *s, struct config **ret,
                  struct config_problem *ret_problem);

/* Change the quota of one user, until the next start or (persistent) in a drop-in of the last
 * folder, and read everything anew, as settings_read does. A persistent change takes out what was
 * set for the same keys until the next start. The whole is read with the change before anything is
 * kept: when the change or a file is wrong, or there is nothing to take back, nothing changes. */
int settings_change(struct settings *s, uid_t uid, const struct settings_change *changes, size_t n,
                    bool persistent, struct config **ret, struct config_problem *ret_problem);

/* The quota of an account by a configuration, with what decided each value (may be NULL). Asks the
 * user database only when the configuration names users or groups. 0, or -EAGAIN when it gave no
 * answer: then sections with names do not count yet. */
int settings_resolve(const struct config *c, struct identities *identities,
                     const struct account_id *id, struct limits *ret,
                     struct config_origin ret_origins[_QUOTA_MAX]);

/* The configuration in force names slices: only then is the slice of anybody looked for. */
bool settings_want_slices(const struct settings *s);
/* The account of a uid in this slice (slices.h). */
void settings_account(const struct settings *s, uid_t uid, const char *slice,
                      struct account_id *ret);
/* The same of whoever connected this socket, a uid by SO_PEERCRED. 0, or a negative errno: his
 * slice counts and is not known, and he is to be refused with ERROR_SLICE_UNKNOWN. */
int settings_account_of(const struct settings *s, int fd, uid_t uid, struct account_id *ret);
