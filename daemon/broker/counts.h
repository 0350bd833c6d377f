/* Inputs that are being counted for callers on the bus. A count is no job: it is charged as a
 * request and, while it lasts, as an object; the broker sees its numbers only. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "daemon/wire/proto.h"
#include "policy/account.h"
#include "policy/error.h"

struct counts;
struct worker;
struct workers;

struct count {
        struct counts *owner;
        struct count *next;
        struct worker *worker;      /* borrowed; a count ends with it */
        struct charge charge;       /* has the account */
        struct wire_count request;
        int input;                  /* until it is sent */
        uint64_t deadline;          /* monotonic; of the worker's answer */
        void *face;                 /* of the bus side, NULL: nobody waits any more */
};

struct count_answer {
        struct refusal why;         /* ERROR_NONE: it was counted */
        uint64_t tokens, context;
};

int counts_new(struct counts **ret, sd_event *event);
/* All counts must have gone, as they do with their workers. */
struct counts *counts_free(struct counts *all);
/* answered: the end of a count, which is freed after it. Once for each. */
void counts_set_sink(struct counts *all,
                     void (*answered)(struct count *c, const struct count_answer *answer,
                                      void *userdata),
                     void *userdata);

/* Count an input (duplicated) for this user. request: model, verb and input_format. ERROR_NONE:
 * answered() follows, within LIMIT_COUNT_USEC and LIMIT_CANCEL_USEC. */
enum error_code counts_start(struct counts *all, struct workers *workers,
                             const struct account_id *who, const struct wire_count *request,
                             int input, struct count **ret, struct refusal *ret_refusal);

/* First of a list. */
struct count *counts_first(const struct counts *all);

/* For the modules of workers. */
bool counts_of_worker(const struct counts *all, const struct worker *w,
                      const struct account *account);
void counts_worker_open(struct counts *all, struct worker *w);
void counts_worker_gone(struct counts *all, struct worker *w, enum error_code why);
/* 0, or -EBADMSG: it may not say that. */
int counts_event(struct counts *all, struct worker *w, const struct wire_counted *m);
