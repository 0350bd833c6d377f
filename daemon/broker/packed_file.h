/* Files of the state directory: HEX.packed and HEX.digest for each source digest HEX. */
#pragma once

#include <stdbool.h>

#include <stdint.h>

#include "daemon/broker/hash.h"

/* The packed file of a source and the digest recorded for it. 0 with a read-only descriptor, or
 * -ENOENT when one of them is missing or malformed. */
int packed_file_open(int dir, const uint8_t source[HASH_SIZE], int *ret_fd,
                     uint8_t ret_digest[HASH_SIZE]);
/* A new empty file to pack into. */
int packed_file_create(int dir, const uint8_t source[HASH_SIZE], int *ret_fd);
/* Forget the file being packed into. */
void packed_file_abandon(int dir, const uint8_t source[HASH_SIZE]);
/* The new file is complete and has this digest: both reach the disk, then take their names. */
int packed_file_commit(int dir, const uint8_t source[HASH_SIZE], int fd,
                       const uint8_t digest[HASH_SIZE]);
/* The packed file of a source is not wanted any more. */
void packed_file_remove(int dir, const uint8_t source[HASH_SIZE]);
/* Most of the file is in the page cache (or the kernel does not say). */
bool packed_file_cached(int fd, uint64_t size);
