/* Test help: run a function in a fresh process that looks like a worker about to lock itself in. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What a child tells its parent, in shared memory: it survives a kill. */
struct report {
        volatile bool reached;  /* the forbidden call came back */
        volatile long result, error;
        volatile long value[8];
};

/* Fork, run fn(report, userdata) in the child, wait. Core files are off, and the child dies after
 * ten seconds. Returns the wait status. When fn returns, the child exits with 0. */
int child_run(void (*fn)(struct report *report, void *userdata), void *userdata,
              struct report *ret);

/* In a child: become an ordinary user without capabilities; root turns into `nobody`. */
void child_drop_privileges(void);

/* In a child: a SEQPACKET socket as descriptor 3. Returns its other end (a high number). */
int child_make_link(void);

/* "killed by signal 31", "exited 7". Returns buf. */
const char *child_status(int status, char *buf, size_t size);

/* Did the process die of the filter? */
bool child_was_filtered(int status);
