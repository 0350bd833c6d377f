/* Starts bitnetd --user with the fake worker in a folder of its own, talks to it, and ends it with
 * a check that nothing is left behind. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct daemon {
        pid_t pid;
        char dir[64];
        char api[96], bus[96];
        unsigned descriptors;    /* 0: as many as there are */
        bool config;             /* it has a file of its own: dir/conf */
};

/* options: NULL-terminated further arguments, may be NULL. config: text of a file, may be NULL. */
void daemon_start(struct daemon *d, const char *const *options, const char *config);
/* The same with so many descriptors. */
void daemon_start_limited(struct daemon *d, unsigned descriptors);
/* Stopped and started again in the same folder, with its configuration, without options. */
void daemon_restart(struct daemon *d);
/* The same in two steps. */
void daemon_pause(struct daemon *d);
void daemon_resume(struct daemon *d);
/* Exit status 0, no socket file, no process. */
void daemon_stop(struct daemon *d);

/* What it has logged so far. */
void read_log(const struct daemon *d, char *buf, size_t size);
/* Until it has logged that. */
void wait_for_log(const struct daemon *d, const char *text);

/* The i-th look at something that must come: five milliseconds; fails after a minute. */
void wait_a_little(unsigned i);
void remove_tree(const char *dir);

/* In a child: no output. */
void quiet(void);

/* Connect to a socket, as uid if it is not (uid_t)-1 (root only). */
int unix_connect(const char *path, uid_t uid);
int api_connect(const struct daemon *d, uid_t uid);
void say(int fd, const char *line);
/* Up to a newline or end of file, NUL-terminated; fails after a minute. */
const char *hear(int fd, char *buf, size_t size);
/* Everything until end of file. */
const char *hear_all(int fd, char *buf, size_t size);
/* Pid of the worker behind a connection. */
pid_t worker_pid(int fd, uid_t *ret_process_uid, uid_t *ret_served_uid);
void wait_until_gone(pid_t pid);
