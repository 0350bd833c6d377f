/* BLAKE2b of a whole file in a thread of its own, so that a gigabyte does not stop the loop; and a
 * copy of the file, where one is wanted. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

enum { HASH_SIZE = 32 };

struct hash;
/* error: 0 or a negative errno. */
typedef void hash_done_fn(void *userdata, int error, const uint8_t digest[HASH_SIZE]);

/* Hash `fd` (borrowed until the end) after an eight-byte prefix `salt`. written: the file was
 * written just now and is to be brought to the disk first. done is called once from the loop
 * unless hash_cancel came first; the hash is freed after it. */
int hash_start(struct hash **ret, sd_event *event, int fd, uint64_t salt, bool written,
               hash_done_fn *done, void *userdata);
/* The same, and what is hashed is written to `copy` (borrowed, empty) and brought to the disk. -EIO
 * or -EFBIG when the file does not have exactly `size` bytes, -ESTALE when it was changed
 * meanwhile. */
int hash_start_copy(struct hash **ret, sd_event *event, int fd, uint64_t salt, int copy,
                    uint64_t size, hash_done_fn *done, void *userdata);
/* Bytes that were read so far. */
uint64_t hash_done(const struct hash *h);
/* done comes soon, with whatever it was then. */
void hash_stop(struct hash *h);
/* Stops the thread and waits for it (milliseconds). NULL is fine; returns NULL. */
struct hash *hash_cancel(struct hash *h);
