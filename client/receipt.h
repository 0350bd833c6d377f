/* Receipts of answers: kept in a file, and compared with the one of the same request made again. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "client/options.h"

/* The receipt in the object of an answer (its last event), or NULL. Borrowed. */
const json_t *receipt_of(const json_t *answer);
/* Write a receipt where o->receipt says; NULL or another failure: the message is printed. 0 or an
 * exit status. */
int receipt_save(const struct options *o, const json_t *receipt);
