/* The secret that digests in receipts are keyed with, one for each user. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

enum { RECEIPT_KEY_SIZE = 32 };

/* The secret of this installation, from the state directory; made and kept there the first time.
 * 0 or a negative errno. */
int receipt_key_load(const char *state_dir, uint8_t ret[RECEIPT_KEY_SIZE]);
/* A user's key. */
void receipt_key_of(const uint8_t secret[RECEIPT_KEY_SIZE], uid_t uid,
                    uint8_t ret[RECEIPT_KEY_SIZE]);
