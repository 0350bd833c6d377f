/* What the bus side may ask for. The caller has established who asks from the kernel. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "daemon/broker/jobs.h"
#include "daemon/broker/worker.h"
#include "policy/error.h"

/* A descriptor a client passed as input. 0, or a positive enum error_code in *ret: wrong kind,
 * not readable, or a file larger than allowed. Nothing is read. */
enum error_code control_check_input(int fd, uint64_t max_bytes, struct refusal *ret);
/* The same for what his worker is to read; one of several users reads only memory files. */
enum error_code control_check_client_input(const struct workers *workers,
                                           const struct account *account, int fd,
                                           struct refusal *ret);

/* What jobs, counts and new sessions over the bus begin with: the account of who asks (a new
 * reference, also when this fails later), and him in a worker, which is started if there is none.
 * input: checked as above; -1: there is none. ERROR_NONE, or an error code: also when the daemon
 * ends. */
enum error_code control_begin(struct workers *workers, const struct account_id *who, int input,
                              struct account **ret_account, struct member **ret_member,
                              struct refusal *ret_refusal);

/* Start a job. request: options, ref is filled in. input is duplicated. On success the job, and the
 * client's end of the output in *ret_output (the caller's). Else an error code. */
enum error_code control_submit(struct workers *workers, const struct account_id *who,
                               const struct wire_job *request, int input, struct job **ret,
                               int *ret_output, struct refusal *ret_refusal);

/* Ask for the end of a job (ERROR_CANCELLED or ERROR_DEADLINE). Of one that has ended, what is kept
 * is wiped. */
void control_cancel(struct job *job, enum error_code reason);
/* Change the class of a job. ERROR_NONE (also when it has ended), or ERROR_NOT_AUTHORIZED: its user
 * may not have that one. */
enum error_code control_set_priority(struct job *job, enum wire_priority priority);
/* A new stream of a detached job's output, from its start; whoever read before reads no more.
 * *ret: the caller's end. ERROR_NO_SUCH_OBJECT: nothing is kept (any more). */
enum error_code control_take_output(struct job *job, int *ret);
/* All unfinished jobs of a uid. Returns how many. */
uint32_t control_cancel_all(struct workers *workers, uid_t uid);
/* The daemon ends: all jobs are asked to end with ERROR_STOPPING, then all workers. Nothing new is
 * taken; struct workers_settings tells when nobody is left. */
void control_stop(struct workers *workers);
