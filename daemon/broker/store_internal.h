/* Between the parts of the store: store.c has the catalogue, store_install.c the folder of
 * installed models, store_prepare.c what makes a model ready. Descriptors in models belong to the
 * store. */
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include "daemon/broker/packer.h"
#include "daemon/broker/store.h"

/* What somebody waits for and may cancel. */
enum operation { OPERATION_NONE, OPERATION_INSTALL, OPERATION_VERIFY };

struct model {
        struct store_model public;
        int source;
        struct stat stat;
        bool named;              /* given by name: comes first in the choice of the default */
        bool installed;          /* the source is in the folder of installed models */
        bool arriving;           /* the source is a client's, to be copied there first */
        enum operation operation;
        bool cancelled;          /* the operation, which has not noticed yet */
        bool verifying;          /* the packed file, or the new one, is being hashed */
        enum error_code before;  /* state before a verification */
        int copy;                /* what is written meanwhile, else -1 */
        unsigned attempts;
        uint8_t digest[HASH_SIZE]; /* of the source and the pack version */
        uint64_t read_at;        /* when the packed file was last read as a whole */
};

struct store {
        struct store_settings settings;
        sd_event *event;
        int dir;
        int installed;           /* the folder, -1: none yet */
        struct model **models;
        uint32_t count;
        char wanted_default[WIRE_NAME_MAX];
        /* the model in preparation */
        struct model *current;
        struct hash *hash;
        struct packer *packer;
        sd_event_source *retry;
        int output;                    /* being packed into, or being verified */
        uint8_t recorded[HASH_SIZE];
};

/* store.c. Of the name, NULL: none; its place; the default, NULL: no model at all. */
struct model *model_find(const struct store *s, const char *name);
uint32_t model_index(const struct store *s, const struct model *m);
const struct model *model_preferred(const struct store *s);
/* Takes the descriptors of the model on success. 0, -ENOSPC, -ENOMEM. */
int model_append(struct store *s, const struct model *m);
/* Out of the catalogue. */
void model_drop(struct store *s, struct model *m);
/* Every *.gguf in it; takes the folder, NULL with errno when it could not be opened. */
int store_add_open_dir(struct store *s, DIR *folder, bool installed);

/* store_install.c. The file that a model is copied to, its one writer (0 or an errno) and its end:
 * taken as the model's source (0 or an errno), or removed. */
int model_open_copy(struct store *s, struct model *m);
int model_take_copy(struct store *s, struct model *m);
void model_drop_copy(struct store *s, struct model *m);
/* A model that was being installed leaves nothing. */
void model_remove_files(struct store *s, const struct model *m);
