/* What a client hands over to be read to its end: a memory file, a pipe, a stream socket or a
 * regular file. Descriptors are hostile: nothing here waits for one. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "daemon/worker/poller.h"
#include "daemon/worker/request_error.h"
#include "daemon/worker/secure_buf.h"

enum fd_kind { KIND_NONE, KIND_FILE, KIND_PIPE, KIND_SOCKET };

/* The kind of a descriptor, of which calls do not wait from here on. KIND_NONE: another one. */
enum fd_kind fd_prepare(int fd);

struct input {
        int fd;                  /* -1: none any more */
        enum fd_kind kind;
        int place;               /* in the poller */
        uint64_t deadline;       /* of the next byte */
        off_t offset;            /* KIND_FILE */
        struct secure_buf bytes; /* read so far */
};

/* Takes fd. Nothing is done with it before input_start. */
void input_init(struct input *in, int fd);
void input_done(struct input *in);
/* 0, or -EBADMSG with *e: no kind that can be read. */
int input_start(struct input *in, uint64_t now, struct request_error *e);
void input_poll(struct input *in, struct poller *p);
enum { INPUT_END = 1 };
/* Read what is there, `limit` bytes in all. 0: there may be more; INPUT_END: there is no more and
 * the descriptor is closed; -EBADMSG with *e: the input failed, is too large, or 30 seconds brought
 * no byte; -ENOMEM. */
int input_handle(struct input *in, const struct poller *p, uint64_t limit, uint64_t now,
                 struct request_error *e);
