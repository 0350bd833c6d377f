/* Memory pressure of the machine, as the kernel measures it (PSI): the share of time in which some
 * task had to wait for memory. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

/* What is to be given back, in this order. While pressure lasts, each window takes one step more;
 * a step includes those before it. */
enum pressure_step { PRESSURE_NONE, PRESSURE_CACHES, PRESSURE_WORKERS, PRESSURE_WEIGHTS };

struct pressure;

/* path: of a file in PSI format; NULL: the machine's (or container's) own. 0; -ENOENT when there is
 * none, and then nobody watches. */
int pressure_new(struct pressure **ret, sd_event *event, const char *path,
                 void (*react)(enum pressure_step step, void *userdata), void *userdata);
struct pressure *pressure_free(struct pressure *p);

/* Microseconds that some task has waited since the start, from the text of such a file. 0 or
 * -EBADMSG. */
int pressure_parse(const char *text, uint64_t *ret_usec);
