/* The quota of one user at this moment, for those who show it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/account.h"
#include "policy/config.h"

struct broker;

struct quota_view {
        struct account_id id;
        struct limits limits;
        uint64_t used[_QUOTA_NUMBERS];
        bool counted[_QUOTA_NUMBERS]; /* used says something: it is a limit on a sum */
        uint64_t reset_usec;          /* real time, when the budgets of the day begin anew */
        uint64_t next_allowed_usec;   /* real time, 0: a small request is not refused now */
        uint64_t virtual_counter;
        uint32_t weight;
};

/* Everybody has a quota, also who was never seen. Valid until the loop goes on. */
void quota_view_read(struct broker *b, const struct account_id *id, struct quota_view *ret);
/* What decided its limits. Texts belong to the configuration in force. */
void quota_view_origins(struct broker *b, const struct account_id *id,
                        struct config_origin ret[_QUOTA_MAX]);
