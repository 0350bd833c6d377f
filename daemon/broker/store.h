/* The catalogue of models and their packed files. The broker opens, hashes and hands over
 * descriptors; it never looks into a model file. Each model is prepared once per start: the source
 * is hashed, the packed file of that digest is verified against its own recorded digest, or written
 * anew by a throw-away worker. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "daemon/broker/hash.h"
#include "daemon/broker/spawn.h"
#include "daemon/wire/proto.h"
#include "policy/error.h"

struct store;

struct store_model {
        char name[WIRE_NAME_MAX];
        uint64_t created;        /* modification time of the source, seconds */
        uint64_t size;           /* of the packed file, 0 until ready */
        enum error_code state;   /* ERROR_NONE ready, ERROR_MODEL_LOADING, ERROR_MODEL_BAD */
        int packed;              /* read-only descriptor when ready, else -1 */
        uint8_t digest[HASH_SIZE];      /* of the packed file, when ready */
        uint32_t model_error;    /* enum model_error_code, with its numbers, when bad */
        uint64_t position, value, limit;
};

struct store_settings {
        const char *state_dir;   /* exists, 0700, ours */
        const struct spawn *spawn;
        uint32_t cpu_mask;
        enum wire_i2s i2s;       /* of every model that has I2_S tensors */
        enum wire_packing packing; /* of the same */
        /* A model changed its state, or the set of models changed. */
        void (*changed)(void *userdata);
        /* What was begun for a model is over: well (ERROR_NONE), badly (its state says why) or
         * cancelled (ERROR_CANCELLED), after which one that was being installed is gone. */
        void (*settled)(const struct store_model *model, enum error_code how, void *userdata);
        void *userdata;
};

int store_new(struct store **ret, sd_event *event, const struct store_settings *settings);
struct store *store_free(struct store *s);

/* One file named by the administrator. 0, -EEXIST (the name is taken), -EINVAL (no legal name),
 * or an errno of opening it. */
int store_add_file(struct store *s, const char *path);
/* All *.gguf of a folder; files without a legal name are passed over, links are not followed.
 * 0 or an errno of opening the folder. */
int store_add_dir(struct store *s, const char *path);
/* All models that were installed. 0 or an errno of opening their folder. */
int store_add_installed(struct store *s);
/* Install a file that a client passed (duplicated; a regular file): it is copied to where it is
 * found at the next start, and prepared. 0, -EEXIST (the name is taken), -EINVAL (no legal name, or
 * no file with something in it), -ENOSPC (too many models), or an errno of the folder. */
int store_install(struct store *s, const char *name, int fd);
/* Take away what was installed. -ENOENT, -EPERM (it was not installed: a file of somebody else), or
 * -EBUSY (it is being prepared). Whoever has it loaded keeps it until then. */
int store_remove(struct store *s, const char *name);
/* Read the packed file again and compare its hash; a model that was refused is tried anew. The
 * state is loading until then. -ENOENT. */
int store_verify(struct store *s, const char *name);
/* End what store_install or store_verify has begun; settled follows, now or soon. Of an
 * installation nothing stays, a verified model is as before. -ENOENT, or -EPERM: nothing of that
 * kind goes on. */
int store_cancel(struct store *s, const char *name);

enum store_stage { STORE_NOTHING, STORE_WAITING, STORE_COPYING, STORE_HASHING, STORE_PACKING };
struct store_progress {
        enum store_stage stage;
        uint64_t done, size;     /* bytes of the file that this stage reads; packing: that it has
                                  * written, and those of the source */
        double part;             /* of all stages, 0..1 */
};
struct store_progress store_progress(const struct store *s, const char *name);
/* Prepare whatever is not ready yet, one after the other. */
void store_start(struct store *s);

/* A model is being prepared. */
bool store_busy(const struct store *s);
/* Let the page cache forget the packed files of models that nobody uses. */
void store_forget_unused(struct store *s,
                         bool (*in_use)(const struct store_model *model, void *userdata),
                         void *userdata);
/* Somebody is about to load this model: when its file is no longer in memory, it is read (and
 * verified) again in order, and until then the model is loading. */
void store_wanted(struct store *s, const struct store_model *model);

/* Name from the configuration, "" = choose. Unknown names are kept: the file may come later. */
void store_set_default(struct store *s, const char *name);

uint32_t store_count(const struct store *s);
const struct store_model *store_get(const struct store *s, uint32_t index);
/* "" = the default. NULL when there is none. */
const struct store_model *store_find(const struct store *s, const char *name);
/* The same for one user, who may have a default of his own ("" or unknown: everybody's). */
const struct store_model *store_choose(const struct store *s, const char *own_default,
                                       const char *name);
