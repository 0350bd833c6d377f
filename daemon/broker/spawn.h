/* Getting a fresh worker process: from systemd (connect to its socket) or by fork and exec. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn {
        bool system;          /* connect to WORKER_SOCKET instead of forking */
        bool keep_stderr;
        int binary;           /* user mode: the worker program, O_PATH */
};

/* Distinct unprivileged uids for workers of a broker that runs as root. */
enum { SPAWN_UID_FIRST = 61184, SPAWN_UID_COUNT = 4096, SPAWN_SLOT_PACK = 0 };

/* Sanitizers cannot live under the filter; such a build of the worker says that it has none, and
 * only such a build of the broker takes it. */
#ifdef BITNETD_SANITIZING
enum { SPAWN_SECCOMP = 0 };
#else
enum { SPAWN_SECCOMP = 2 };
#endif

#define WORKER_SOCKET "/run/bitnetd/worker.sock"

/* Finds the worker program: $BITNETD_WORKER, beside this program, or the install folder. */
int spawn_init(struct spawn *s, bool system, bool keep_stderr);
void spawn_done(struct spawn *s);

/* A connected SOCK_SEQPACKET socket, and the process (0 in system mode, where closing the socket
 * ends it). slot < SPAWN_UID_COUNT picks the uid. */
int spawn_worker(const struct spawn *s, uint32_t slot, int *ret_sock, pid_t *ret_pid);
