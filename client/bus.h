/* The daemon over D-Bus: its private socket beside the API socket when that exists (no bus daemon
 * needed), else the session bus, else the system bus. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "client/options.h"

#define BUS_NAME "org.bitnetd.Bitnetd1"
#define BUS_ROOT "/org/bitnetd/Bitnetd1"
#define BUS_MANAGER "org.bitnetd.Bitnetd1.Manager"
#define BUS_JOB "org.bitnetd.Bitnetd1.Job"
#define BUS_QUOTA "org.bitnetd.Bitnetd1.Quota"

/* 0 with an open connection, or an exit status with the message printed. */
int bus_open(const struct options *o, sd_bus **ret);
/* The same for what administrators may do: by way of the system bus, where polkit can be asked, for
 * those whom the daemon does not know as one already. */
int bus_open_admin(const struct options *o, sd_bus **ret);

/* Run something over a connection, for administrators when everybody's is to be shown (o->all).
 * Its exit status, or why there is no connection. */
int bus_run(const struct options *o, int (*run)(const struct options *o, sd_bus *bus));

/* Print a D-Bus error and give its exit status. */
int bus_report(const sd_bus_error *error);
/* The same for a call that returned r; the error, if there is one, says more. */
int bus_failed(sd_bus_error *error, int r);

/* What Properties.GetAll of a job says, as far as bnctl shows it. */
struct bus_job {
        char path[192];
        char id[160];         /* what follows /job/ in the path */
        char state[24], verb[24], model[64], priority[24];
        uint32_t uid, queue_position;
        uint64_t created_usec, tokens_in, tokens_out;
        uint64_t estimated_start_usec;
        uint64_t bytes_in, bytes_covered;
        int progress_valid, detached;
        double progress;
};

/* Fill in all but path and id of the job at j->path. 0 or a negative errno. */
int bus_get_job(sd_bus *bus, struct bus_job *j);
/* The id of a job by its path: what follows /job/. */
const char *bus_job_id(const char *path);
/* The path of a job by its id. 0, or an exit status with the message printed. */
int bus_job_path(const char *id, char *path, size_t size);

/* Until the job has ended (progress on a terminal). Its exit status, or EXIT_INTERRUPTED. */
int wait_for_job(const struct options *o, sd_bus *bus, const char *path);

/* Call each(job) for the jobs that Manager.ListJobs names. Returns 0 or an exit status. */
int bus_each_job(sd_bus *bus, int all, void (*each)(void *userdata, const struct bus_job *job),
                 void *userdata);
