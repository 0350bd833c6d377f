/* Submitting and cancelling. A cancelled job that the worker has not seen yet ends here at once;
 * any other is ended by the worker's DONE, for which it has a fixed time, after which the worker is
 * ended instead: every wait has a deadline. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/control.h"
#include "daemon/broker/queue.h"
#include "engine/base/macro.h"

static bool stream_socket(int fd) {
        int type, listening;
        socklen_t n = sizeof(type);

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || type != SOCK_STREAM)
                return false;
        n = sizeof(listening);
        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && !listening;
}

/* What the kernel knows of the file already: a file on a network or in user space whose server
 * does not answer would stop the loop if it were asked. The worker counts what it really reads. */
static int look_at(int fd, struct statx *ret) {
        return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_SIZE, ret);
}

enum error_code control_check_input(int fd, uint64_t max_bytes, struct refusal *ret) {
        int flags = fcntl(fd, F_GETFL);
        struct statx st;

        *ret = (struct refusal){ .code = ERROR_INVALID_INPUT };
        if (flags < 0 || (flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY ||
            look_at(fd, &st) < 0)
                return ret->code;
        if (!S_ISREG(st.stx_mode) && !S_ISFIFO(st.stx_mode) &&
            !(S_ISSOCK(st.stx_mode) && stream_socket(fd)))
                return ret->code;
        if (S_ISREG(st.stx_mode) && st.stx_size > max_bytes) {
                *ret = (struct refusal){ .code = ERROR_INPUT_TOO_LARGE, .value = st.stx_size,
                                         .limit = max_bytes };
                return ret->code;
        }
        ret->code = ERROR_NONE;
        return ERROR_NONE;
}

/* Several users' worker must not wait for one of them. Whoever shares a pipe or a socket can make a
 * read of it block, whatever flags were set, and whoever serves a file system in user space a read
 * of its files. Only files in memory can be sealed, so only they answer this. */
enum error_code control_check_client_input(const struct workers *workers,
                                           const struct account *account, int fd,
                                           struct refusal *ret) {
        uint64_t max_bytes = account->limits.v[QUOTA_MAX_INPUT_BYTES];

        if (control_check_input(fd, max_bytes, ret) == ERROR_NONE &&
            workers_share(workers, account) && fcntl(fd, F_GET_SEALS) < 0)
                *ret = (struct refusal){ .code = ERROR_INVALID_INPUT,
                                         .text = "Where users share a worker (IsolationDomain) the "
                                                 "input must be a memory file." };
        return ret->code;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct job *job = userdata;

        if (job->cancelling)
                worker_doom(job->worker, FAILURE_TIMEOUT);
        else
                control_cancel(job, ERROR_DEADLINE);
        return 0;
}

static int set_timer(struct job *job, uint64_t usec) {
        sd_event *event = workers_settings(job->worker->owner)->event;

        job->timer = sd_event_source_disable_unref(job->timer);
        return sd_event_add_time_relative(event, &job->timer, CLOCK_MONOTONIC, usec, 0, on_timer,
                                          job);
}

static int output_pair(int *ret_worker, int *ret_client) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
                close(pair[0]);
                close(pair[1]);
                return -errno;
        }
        *ret_worker = pair[0];
        *ret_client = pair[1];
        return 0;
}

/* Descriptors for both ends of a job: the input's duplicate and the output pair. */
static int job_descriptors(struct job *job, int input, int *ret_output) {
        job->input = fcntl(input, F_DUPFD_CLOEXEC, 3);
        return job->input < 0 ? -errno : output_pair(&job->output, ret_output);
}

enum error_code control_begin(struct workers *workers, const struct account_id *who, int input,
                              struct account **ret_account, struct member **ret_member,
                              struct refusal *ret_refusal) {
        struct accounts *accounts = workers_settings(workers)->accounts;

        *ret_refusal = (struct refusal){ .code = ERROR_STOPPING };
        if (workers_stopping(workers))
                return ERROR_STOPPING;
        *ret_refusal = (struct refusal){ .code = ERROR_OVERLOADED };
        if (accounts_get(accounts, who, ret_account) != 0)
                return ERROR_OVERLOADED;
        if (input >= 0 && control_check_client_input(workers, *ret_account, input, ret_refusal) !=
                                  ERROR_NONE)
                return ret_refusal->code;
        ret_refusal->code = workers_get(workers, *ret_account, ret_member) < 0 ? ERROR_OVERLOADED
                                                                               : ERROR_NONE;
        return ret_refusal->code;
}

enum error_code control_submit(struct workers *workers, const struct account_id *who,
                               const struct wire_job *request, int input, struct job **ret,
                               int *ret_output, struct refusal *ret_refusal) {
        const struct workers_settings *s = workers_settings(workers);
        _cleanup_(account_unrefp) struct account *account = NULL;
        _cleanup_close_ int output = -1;
        struct wire_job wanted;
        struct member *member;
        struct job *job;
        int r;

        if (control_begin(workers, who, input, &account, &member, ret_refusal) != ERROR_NONE)
                return ret_refusal->code;
        wanted = *request;
        if (wanted.keep_usec && jobs_detached(s->jobs, who->uid) >= LIMIT_DETACHED_PER_UID) {
                *ret_refusal = (struct refusal){ .code = ERROR_OBJECTS,
                                                 .value = LIMIT_DETACHED_PER_UID,
                                                 .limit = LIMIT_DETACHED_PER_UID };
                return ret_refusal->code;
        }
        ret_refusal->code = member_allows(member, wanted.verb, wanted.model, &wanted.priority);
        if (ret_refusal->code != ERROR_NONE || !account_request(account, ret_refusal))
                return ret_refusal->code;
        r = jobs_add(s->jobs, account, &job, ret_refusal);
        if (r != 0) {
                account_take_back_request(account);
                if (r < 0)
                        *ret_refusal = (struct refusal){ .code = ERROR_OVERLOADED };
                ret_refusal->retry_after_ms = queue_retry_ms(member);
                return ret_refusal->code;
        }
        job->verb = (enum wire_verb)wanted.verb;
        job->priority = (enum wire_priority)wanted.priority;
        job->request = wanted;
        job->request.h.type = WIRE_JOB;
        job->request.ref = job->id;
        snprintf(job->model, sizeof(job->model), "%s",
                 member_model(member, request->model)->name);
        if (job_descriptors(job, input, &output) < 0) {
                job_end(job, ERROR_OVERLOADED, 0, 0, NULL);
                return ret_refusal->code = ERROR_OVERLOADED;
        }
        member_send_rates(member);
        worker_add_job(member, job);
        if (request->deadline_usec > 0)
                set_timer(job, request->deadline_usec);
        *ret = job;
        *ret_output = TAKE_FD(output);
        return ERROR_NONE;
}

void control_cancel(struct job *job, enum error_code reason) {
        union wire_message m = { .cancel = { .h.type = WIRE_CANCEL, .job = job->id,
                                             .reason = reason } };

        if (job->keeper)
                worker_discard(job);
        if (job_finished(job) || job->cancelling)
                return;
        if (job->task.verb) {
                job->task.cancel(job, reason);
                return;
        }
        if (job->input >= 0) {
                worker_job_ended(job, reason, 0, 0, NULL);
                return;
        }
        job->cancelling = true;
        set_timer(job, LIMIT_CANCEL_USEC);
        worker_send(job->worker, &m, -1);
}

enum error_code control_set_priority(struct job *job, enum wire_priority priority) {
        uint32_t allowed = priority;
        enum error_code error;

        if (job_finished(job))
                return ERROR_NONE;
        if (job->task.verb)
                return ERROR_UNSUPPORTED;
        error = member_allows(job->member, job->verb, job->model, &allowed);
        if (error != ERROR_NONE || allowed != priority)
                return ERROR_NOT_AUTHORIZED;
        worker_set_priority(job, priority);
        return ERROR_NONE;
}

enum error_code control_take_output(struct job *job, int *ret) {
        union wire_message take = { .take_output = { .h.type = WIRE_TAKE_OUTPUT, .job = job->id } };
        const struct member *m = job_finished(job) ? job->keeper : job->member;
        _cleanup_close_ int output = -1, client = -1;

        /* The timer that wipes it may be a moment late. */
        if (!m || !job_detached(job) || (job->keeper && job->keep_until <= now_monotonic()))
                return ERROR_NO_SUCH_OBJECT;
        if (output_pair(&output, &client) < 0)
                return ERROR_OVERLOADED;
        if (job->input >= 0) { /* the worker has not seen it yet */
                close(job->output);
                job->output = TAKE_FD(output);
        } else
                worker_send(m->worker, &take, output);
        *ret = TAKE_FD(client);
        return ERROR_NONE;
}

/* The unfinished jobs of a uid, or (uid_t)-1: of all. */
static uint32_t cancel_jobs(struct workers *workers, uid_t uid, enum error_code reason) {
        struct jobs *jobs = workers_settings(workers)->jobs;
        struct job *job;
        uint32_t n = 0, i = 0;

        while ((job = jobs_at(jobs, i))) {
                uint64_t id = job->id;

                if ((uid == (uid_t)-1 || job->uid == uid) && !job_finished(job) &&
                    !job->cancelling) {
                        control_cancel(job, reason);
                        n++;
                }
                /* Ending a job may forget older ones and move this one. */
                for (i = 0; (job = jobs_at(jobs, i)) && job->id <= id; i++)
                        continue;
        }
        return n;
}

uint32_t control_cancel_all(struct workers *workers, uid_t uid) {
        return cancel_jobs(workers, uid, ERROR_CANCELLED);
}

void control_stop(struct workers *workers) {
        workers_set_stopping(workers);
        cancel_jobs(workers, (uid_t)-1, ERROR_STOPPING);
        workers_shut_down(workers);
}
