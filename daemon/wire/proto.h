/* Messages between broker and worker: SOCK_SEQPACKET, one fixed-size little-endian struct each, at
 * most one descriptor, never text of a user. Both sides check length, type, state and range; an
 * illegal message ends the worker. `ref` names a job before and after the broker gives it an id:
 * jobs from the bus use their job id, jobs from HTTP a number of the worker, top bit set. */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/limits.h"
#include "policy/name.h"

enum { WIRE_VERSION = 2, WIRE_NAME_MAX = MODEL_NAME_SIZE, WIRE_MAX_MESSAGE = 256 };

/* Version of the packed file: PACK_VERSION of the engine, which the broker does not link. Packed
 * files of another version are written anew. */
enum { WIRE_PACK_VERSION = 5 };

/* Ranges the framing checks. */
enum { WIRE_MAX_THREADS = LIMIT_THREADS, WIRE_MAX_MODELS = 256, WIRE_MAX_LEASE_USEC = 1000000,
       WIRE_ERRORS_MAX = 48, WIRE_MAX_REFUSALS = 10000 };

#define WIRE_REF_WORKER (UINT64_C(1) << 63)

enum wire_type {
        /* broker to worker */
        WIRE_HELLO = 1,
        WIRE_CATALOG,    /* one model of the catalogue; sent for all after READY and on change */
        WIRE_CONN,       /* + descriptor: an accepted client connection */
        WIRE_JOB,        /* + descriptor: input of a job from the bus */
        WIRE_JOB_OUTPUT, /* + descriptor: its output, directly after WIRE_JOB */
        WIRE_MODEL,      /* + descriptor unless error: answer to WANT_MODEL (packed file), in pack
                          * mode the source file */
        WIRE_PACK_OUTPUT,/* + descriptor: pack mode, the file to write */
        WIRE_QUEUED,     /* answer to ADMIT: the job waits; again when its place has changed */
        WIRE_ADMITTED,   /* answer to ADMIT: the job may run */
        WIRE_REFUSED,    /* answer to ADMIT: it may not */
        WIRE_LEASE,
        WIRE_CANCEL,
        WIRE_SET_LIMITS,
        WIRE_DROP_CACHES,
        WIRE_SHUTDOWN,
        WIRE_RATES,      /* what is left of this minute; before an answer to ADMIT, and on change */
        WIRE_SET_PRIORITY,
        WIRE_PREPARE,    /* keep a model loaded, or no longer */
        WIRE_SESSION_OPEN,   /* a conversation; answered, like the next two, before another one */
        WIRE_SESSION_APPEND, /* + descriptor: messages for it (chat-json) */
        WIRE_SESSION_CLEAR,  /* back to its initial messages */
        WIRE_SESSION_FORGET, /* keep no keys and values of it; the text stays */
        WIRE_SESSION_CLOSE,  /* wipe it; at any time, also during a turn */
        WIRE_TAKE_OUTPUT,/* + descriptor: who reads a detached job from now on, from the start */
        WIRE_DISCARD,    /* forget the result of a detached job that has ended */
        WIRE_COUNT,      /* + descriptor: how many tokens this input has; answered by COUNTED */
        WIRE_PASSED,     /* answer to ADMIT of what is only counted: it may be told */
        WIRE_USER_GONE,  /* nothing of this user is left here: keep nothing for him */
        /* worker to broker */
        WIRE_READY = 64,
        WIRE_WANT_MODEL,
        WIRE_ADMIT,
        WIRE_PROGRESS,
        WIRE_DONE,
        WIRE_USED,
        WIRE_FAULT,
        WIRE_CONN_CLOSED,
        WIRE_PACKED,     /* pack mode: finished */
        WIRE_RESIDENT,   /* what it keeps in memory and for how long; on change */
        WIRE_SESSION,    /* what has happened to a session, and how it is now */
        WIRE_COUNTED,
        WIRE_REFUSALS,   /* requests that it refused by itself, since it told of some before */
        WIRE_SHARES,     /* for whom a shared worker has computed; before USED */
};

enum wire_mode { WIRE_MODE_SERVE = 1, WIRE_MODE_PACK = 2 };
enum wire_kv { WIRE_KV_S16 = 0, WIRE_KV_F16, WIRE_KV_S8, _WIRE_KV_MAX }; /* keys and values */
enum wire_verb { WIRE_VERB_CHAT = 1, WIRE_VERB_COMPLETE, WIRE_VERB_SUMMARIZE,
                 WIRE_VERB_EMBED, WIRE_VERB_REWRITE, WIRE_VERB_PROOFREAD, WIRE_VERB_EXTRACT,
                 WIRE_VERB_CLASSIFY, _WIRE_VERB_MAX };
enum wire_priority { WIRE_PRIORITY_INTERACTIVE = 0, WIRE_PRIORITY_BACKGROUND = 1 };
enum wire_input_format { WIRE_INPUT_TEXT = 0, WIRE_INPUT_CHAT_JSON, WIRE_INPUT_REQUEST_JSON,
                         _WIRE_INPUT_MAX };
enum wire_output_format { WIRE_OUTPUT_TEXT = 0, WIRE_OUTPUT_EVENTS,
                          WIRE_OUTPUT_RECEIPT, /* events, the last one with a receipt */
                          _WIRE_OUTPUT_MAX };
enum wire_summary_type { WIRE_SUMMARY_TLDR = 0, WIRE_SUMMARY_TEASER, WIRE_SUMMARY_KEY_POINTS,
                         WIRE_SUMMARY_HEADLINE, _WIRE_SUMMARY_TYPE_MAX };
enum wire_summary_length { WIRE_LENGTH_SHORT = 0, WIRE_LENGTH_MEDIUM, WIRE_LENGTH_LONG,
                           _WIRE_LENGTH_MAX };
enum wire_text_format { WIRE_FORMAT_PLAIN = 0, WIRE_FORMAT_MARKDOWN, _WIRE_FORMAT_MAX };
/* A rewrite: how its tone, length and format differ from those of the text. 0: not at all. */
enum wire_rewrite_tone { WIRE_TONE_AS_IS = 0, WIRE_TONE_MORE_FORMAL, WIRE_TONE_MORE_CASUAL,
                         _WIRE_TONE_MAX };
enum wire_rewrite_length { WIRE_REWRITE_LENGTH_AS_IS = 0, WIRE_REWRITE_SHORTER,
                           WIRE_REWRITE_LONGER, _WIRE_REWRITE_LENGTH_MAX };
enum wire_rewrite_format { WIRE_REWRITE_FORMAT_AS_IS = 0, WIRE_REWRITE_MARKDOWN,
                           WIRE_REWRITE_PLAIN, _WIRE_REWRITE_FORMAT_MAX };

/* States of a job, in the words of the bus interface (wire_state_name). */
enum wire_job_state {
        WIRE_STATE_QUEUED = 0, WIRE_STATE_LOADING, WIRE_STATE_READING, WIRE_STATE_PREFILL,
        WIRE_STATE_GENERATING, WIRE_STATE_MERGING, WIRE_STATE_PAUSED, WIRE_STATE_DONE,
        WIRE_STATE_CANCELLED, WIRE_STATE_FAILED,
        /* of the broker's own jobs, which no worker may say */
        WIRE_STATE_COPYING, WIRE_STATE_HASHING, WIRE_STATE_PACKING, _WIRE_STATE_MAX,
};

struct wire_header {
        uint32_t type;    /* enum wire_type */
        uint32_t version; /* WIRE_VERSION */
};

struct wire_limits {
        uint64_t max_input_bytes;   /* per job */
        uint64_t kv_bytes;          /* of keys and values, all jobs together */
        uint32_t max_output_tokens; /* per job */
        uint32_t max_connections;
        uint32_t max_sequences;     /* generated at once */
        uint32_t idle_timeout_ms;   /* of a silent client connection */
        uint32_t max_context_tokens;/* prompt and answer of a job, 0 = what the model allows */
        uint32_t model_idle_sec;    /* an unused model is unloaded */
        uint32_t max_keep_sec;      /* longest time that a client may ask for instead */
        uint32_t weight;            /* of the user beside others of the worker, 1..10000 */
};

struct wire_hello {
        struct wire_header h;
        uint32_t mode;      /* enum wire_mode */
        uint32_t uid;       /* whom this worker serves, or the first of them */
        uint32_t threads;   /* 1..64 */
        uint32_t cpu_mask;  /* for cpu_flags() */
        uint64_t fsize;     /* pack mode: RLIMIT_FSIZE */
        uint32_t kv;        /* enum wire_kv */
        uint32_t shared;    /* 1: other users come, each with a SET_LIMITS before all else */
        struct wire_limits limits; /* shared: of the whole worker */
};

enum { WIRE_CATALOG_DEFAULT = 1 };
struct wire_catalog {
        struct wire_header h;
        uint32_t index, count;        /* which of how many; 0 of 0: there is none any more */
        char name[WIRE_NAME_MAX];     /* ^[a-z0-9][a-z0-9._-]*$, NUL-terminated */
        uint64_t size;                /* bytes of the packed file, 0 when not packed yet */
        uint64_t created;             /* seconds since the epoch */
        uint32_t flags;               /* WIRE_CATALOG_* */
        uint32_t state;               /* enum error_code: 0 ready, ERROR_MODEL_LOADING, _BAD */
};

struct wire_conn {
        struct wire_header h;
        uint64_t conn;      /* id, unique in this worker */
        uint32_t uid;       /* of the client: HELLO's, or one that SET_LIMITS has named */
        uint32_t reserved;
};

/* Options of a job from the bus. Fields that were not given hold the default named here. */
struct wire_job {
        struct wire_header h;
        uint64_t ref;                 /* the job id */
        char model[WIRE_NAME_MAX];    /* "" = default */
        uint32_t verb;                /* enum wire_verb */
        uint32_t priority;
        uint32_t input_format, output_format;
        uint32_t summary_type, summary_length, text_format; /* rewrite: its tone, length, format */
        uint32_t max_output_tokens;   /* 0 = the verb's default */
        double temperature;           /* < 0 = the model's default */
        double top_p;                 /* < 0 = default */
        double min_p;                 /* < 0 = default */
        uint32_t top_k;               /* UINT32_MAX = default */
        uint32_t has_seed;
        uint64_t seed;
        uint64_t deadline_usec;       /* from now, 0 = none */
        uint64_t session;             /* a turn of this one (chat only), 0 = none */
        uint64_t keep_usec;           /* 0: it ends with its reader; else it is detached, and its
                                       * output is kept until DISCARD (not after a cancel) */
        uint64_t client;              /* a number for who asked on the bus; no connection's */
        uint32_t uid;                 /* as in struct wire_conn */
        uint32_t reserved;
};

struct wire_job_output { struct wire_header h; uint64_t ref; };

/* An input that is counted as a job with these options would read it; it is no job. */
struct wire_count {
        struct wire_header h;
        uint64_t ref;                 /* of the broker's, for the answer; no job's */
        char model[WIRE_NAME_MAX];    /* "" = default */
        uint32_t verb;                /* chat or complete */
        uint32_t input_format;
        uint64_t deadline_usec;       /* from now */
        uint32_t uid, reserved;       /* as in struct wire_conn */
};

struct wire_take_output { struct wire_header h; uint64_t job; };
struct wire_discard { struct wire_header h; uint64_t job; };

struct wire_model {
        struct wire_header h;
        char name[WIRE_NAME_MAX];     /* as asked for; never "" (a default is resolved) */
        char asked[WIRE_NAME_MAX];    /* the name in WANT_MODEL, "" for the default */
        uint32_t error;               /* enum error_code; no descriptor unless 0 */
        uint32_t model_error;         /* enum model_error_code for ERROR_MODEL_BAD */
        uint64_t position, value, limit;
        uint32_t uid;                 /* of WANT_MODEL: nobody else may use it yet */
        uint32_t reserved;
};

/* How I2_S tensors are laid out, which their file does not say (formats-and-models 2.5). */
enum wire_i2s { WIRE_I2S_128_32 = 0, WIRE_I2S_64_16, WIRE_I2S_1X4, _WIRE_I2S_MAX };
/* Bits of a ternary weight with one scale per row; AUTO: what the packer measures to be faster. */
enum wire_packing { WIRE_PACKING_AUTO = 0, WIRE_PACKING_2, WIRE_PACKING_1_6, _WIRE_PACKING_MAX };
struct wire_pack_output {
        struct wire_header h;
        uint64_t source_size;
        uint32_t i2s;             /* enum wire_i2s */
        uint32_t packing;         /* enum wire_packing */
};

struct wire_queued {
        struct wire_header h;
        uint64_t ref, job;
        uint32_t position;       /* 1: the next one */
        uint32_t reserved;
        uint64_t tokens_ahead;   /* at most, of the jobs before it */
        uint64_t wait_usec;      /* until it starts, by estimate; 0: not known */
};
struct wire_admitted {
        struct wire_header h;
        uint64_t ref, job;
        uint8_t receipt_key[32];  /* for digests of texts of the user whose job it is */
        uint8_t model_digest[32]; /* of the packed file */
};
struct wire_passed { struct wire_header h; uint64_t ref; };
struct wire_refused {
        struct wire_header h;
        uint64_t ref;
        uint32_t error;          /* enum error_code */
        uint32_t retry_after_ms; /* 0 = do not retry */
        uint64_t value, limit;
};

/* May compute until `usec` after receipt. A lease for a running lease extends it. */
struct wire_lease { struct wire_header h; uint64_t seq; uint64_t usec; };
/* reason: enum error_code, the one that DONE shall carry (ERROR_CANCELLED, ERROR_DEADLINE). */
struct wire_cancel { struct wire_header h; uint64_t job; uint32_t reason; uint32_t reserved; };
struct wire_set_priority { struct wire_header h; uint64_t job; uint32_t priority, reserved; };
/* A user comes, or his limits have changed. */
struct wire_set_limits {
        struct wire_header h;
        struct wire_limits limits;
        char default_model[WIRE_NAME_MAX]; /* instead of the catalogue's, if it has it; or "" */
        uint32_t uid, reserved;
};
struct wire_user_gone { struct wire_header h; uint32_t uid, reserved; };
/* A bucket of the account (policy/bucket.h) as it is when this is sent. */
struct wire_rate { uint64_t per_minute, level, debt; };
struct wire_rates {
        struct wire_header h;
        struct wire_rate requests, tokens;
        uint32_t uid, reserved;
};
struct wire_plain { struct wire_header h; }; /* DROP_CACHES, SHUTDOWN */
/* The whole will of this user about this model: a later message replaces it. */
struct wire_prepare { struct wire_header h; char name[WIRE_NAME_MAX]; uint32_t keep, uid; };

/* Sessions have ids of the broker's, never 0 and without the top bit. */
struct wire_session_open {
        struct wire_header h;
        uint64_t session;
        char model[WIRE_NAME_MAX];    /* resolved, never "" */
        uint32_t uid, reserved;       /* as in struct wire_conn */
};
struct wire_session_append {
        struct wire_header h;
        uint64_t session;
        uint32_t initial;             /* 1: CLEAR keeps these messages */
        uint32_t reserved;
};
struct wire_session_command { struct wire_header h; uint64_t session; }; /* CLEAR, FORGET, CLOSE */

struct wire_ready {
        struct wire_header h;
        uint32_t cpu_flags;      /* in use */
        uint32_t threads;
        uint32_t landlock_abi;   /* 0: the kernel has none */
        uint32_t seccomp;        /* must be 2 */
};

/* For one user: another one who wants the same asks for himself. */
struct wire_want_model {
        struct wire_header h;
        char name[WIRE_NAME_MAX]; /* "" = default */
        uint32_t uid, reserved;
};

struct wire_admit {
        struct wire_header h;
        uint64_t ref;
        uint64_t conn;            /* HTTP: the connection, bus: 0 */
        char model[WIRE_NAME_MAX];
        uint32_t verb, priority;
        uint64_t input_bytes;
        uint64_t tokens_in;
        uint64_t tokens_wanted;
        uint32_t count;           /* 1: costs a request, and is no job; from HTTP only */
        uint32_t reserved;
};

struct wire_progress {
        struct wire_header h;
        uint64_t job;
        uint32_t state;           /* enum wire_job_state */
        uint32_t pieces, pieces_done, rounds;
        uint64_t tokens_in;       /* to be read in all, as far as known */
        uint64_t tokens_read;     /* prefilled so far */
        uint64_t tokens_out;
        uint64_t bytes_in;
        uint64_t bytes_covered;
};

/* The only end of a job. A bus job that failed before ADMIT is ended by it too. */
struct wire_done {
        struct wire_header h;
        uint64_t job;             /* id, or ref when it was never admitted */
        uint32_t error;           /* enum error_code; ERROR_NONE = success */
        uint32_t finish;          /* 0 stop, 1 length */
        uint32_t pieces, rounds;
        uint64_t tokens_in, tokens_out;
        uint64_t bytes_in, bytes_covered;
        uint64_t value, limit;    /* for the error text */
        uint64_t tokens_cached;   /* of tokens_in: kept from before, not computed */
};

enum { WIRE_USED_WANT = 1,        /* has work: wants a lease, or more of it */
       WIRE_USED_STOPPED = 2 };   /* computes no more: the lease is given back */
struct wire_used { struct wire_header h; uint64_t seq; uint32_t flags; uint32_t reserved; };

/* Microseconds of steps since the last message, as far as a list of eight reaches; more are in the
 * next one. Only told where there are several users. */
enum { WIRE_SHARES_MAX = 8 };
struct wire_share { uint32_t uid, usec; };
struct wire_shares {
        struct wire_header h;
        uint32_t n, reserved;
        struct wire_share list[WIRE_SHARES_MAX];
};

struct wire_fault { struct wire_header h; uint32_t code; uint32_t reserved; uint64_t arg[4]; };
struct wire_conn_closed { struct wire_header h; uint64_t conn; };
struct wire_packed {
        struct wire_header h;
        uint32_t model_error;     /* enum model_error_code; 0 = success */
        uint32_t reserved;
        uint64_t position, value, limit;
        uint64_t size;            /* bytes written */
};

/* Bytes are what the worker has asked the kernel for, of which it may not have touched all. */
struct wire_resident {
        struct wire_header h;
        char name[WIRE_NAME_MAX]; /* the model used last, "" = none is loaded */
        uint32_t models;          /* loaded */
        uint32_t reserved;
        uint64_t keep_usec;       /* from now on, until the last model is unloaded; 0 = none is */
        uint64_t weights_bytes;   /* mapped files, shared with other workers */
        uint64_t private_bytes;   /* everything else: heap, scratch, keys and values */
        uint64_t kv_bytes;        /* of those: keys and values in use or kept */
        uint64_t kv_kept_bytes;   /* of those: only kept for reuse */
};

enum wire_session_event {
        WIRE_SESSION_DONE = 1, /* the answer to OPEN, APPEND, CLEAR; an error: all is as before */
        WIRE_SESSION_TURN,     /* a turn has ended; its DONE, which has the error, follows */
        WIRE_SESSION_KV,       /* keys and values have gone */
        WIRE_SESSION_CLOSED,   /* wiped; the id is unknown from here on */
        _WIRE_SESSION_EVENT_MAX,
};
struct wire_session {
        struct wire_header h;
        uint64_t session;
        uint32_t event;           /* enum wire_session_event */
        uint32_t error;           /* enum error_code, of OPEN, APPEND and CLEAR only */
        uint64_t value, limit;    /* of the error */
        uint64_t tokens;          /* of the conversation, as the next turn would read it */
        uint64_t tokens_max;      /* that and the answer together */
        uint64_t turns;
        uint64_t kv_bytes;        /* of keys and values kept, at most: short memory takes them */
};

/* The answer to COUNT. */
struct wire_counted {
        struct wire_header h;
        uint64_t ref;
        uint64_t tokens;          /* 0 with an error */
        uint64_t context;         /* what prompt and answer may have together */
        uint64_t value, limit;    /* of the error */
        uint32_t error;           /* enum error_code */
        uint32_t reserved;
};

/* Requests that never became a job, by enum error_code; WIRE_MAX_REFUSALS of each at most. */
struct wire_refusals { struct wire_header h; uint32_t counts[WIRE_ERRORS_MAX]; };

static_assert(sizeof(struct wire_header) == 8, "wire");
static_assert(sizeof(struct wire_limits) == 48, "wire");
static_assert(sizeof(struct wire_hello) == 88, "wire");
static_assert(sizeof(struct wire_catalog) == 104, "wire");
static_assert(sizeof(struct wire_conn) == 24, "wire");
static_assert(sizeof(struct wire_job) == 192, "wire");
static_assert(sizeof(struct wire_take_output) == 16, "wire");
static_assert(sizeof(struct wire_discard) == 16, "wire");
static_assert(sizeof(struct wire_model) == 176, "wire");
static_assert(sizeof(struct wire_pack_output) == 24, "wire");
static_assert(sizeof(struct wire_queued) == 48, "wire");
static_assert(sizeof(struct wire_admitted) == 88, "wire");
static_assert(sizeof(struct wire_refused) == 40, "wire");
static_assert(sizeof(struct wire_lease) == 24, "wire");
static_assert(sizeof(struct wire_cancel) == 24, "wire");
static_assert(sizeof(struct wire_set_priority) == 24, "wire");
static_assert(sizeof(struct wire_rates) == 64, "wire");
static_assert(sizeof(struct wire_set_limits) == 128, "wire");
static_assert(sizeof(struct wire_user_gone) == 16, "wire");
static_assert(sizeof(struct wire_want_model) == 80, "wire");
static_assert(sizeof(struct wire_shares) == 80, "wire");
static_assert(sizeof(struct wire_ready) == 24, "wire");
static_assert(sizeof(struct wire_admit) == 128, "wire");
static_assert(sizeof(struct wire_progress) == 72, "wire");
static_assert(sizeof(struct wire_done) == 88, "wire");
static_assert(sizeof(struct wire_used) == 24, "wire");
static_assert(sizeof(struct wire_fault) == 48, "wire");
static_assert(sizeof(struct wire_packed) == 48, "wire");
static_assert(sizeof(struct wire_prepare) == 80, "wire");
static_assert(sizeof(struct wire_resident) == 120, "wire");
static_assert(sizeof(struct wire_session_open) == 88, "wire");
static_assert(sizeof(struct wire_session_append) == 24, "wire");
static_assert(sizeof(struct wire_session_command) == 16, "wire");
static_assert(sizeof(struct wire_session) == 72, "wire");
static_assert(sizeof(struct wire_count) == 104, "wire");
static_assert(sizeof(struct wire_passed) == 16, "wire");
static_assert(sizeof(struct wire_counted) == 56, "wire");
static_assert(sizeof(struct wire_refusals) == 200, "wire");

/* "queued", "loading", …; never NULL. */
const char *wire_state_name(uint32_t state);
/* 1 when a string is a legal model name (policy/name.h). */
static inline int wire_name_valid(const char *name) {
        return model_name_valid(name);
}
