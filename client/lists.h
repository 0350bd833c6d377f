/* What runs, as the daemon lists it: jobs, sessions and workers as JSON objects. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <systemd/sd-bus.h>

/* Arrays of objects. Jobs: job, uid, state, verb, model, priority, created_usec, tokens_in,
 * tokens_out; sessions: session, uid, model, created_usec, expires_usec, tokens_used, tokens_max,
 * kv_bytes, turns, busy; workers: the keys of Manager.ListWorkers with _ for -. 0 with a new
 * reference in *ret, or an exit status (the message is printed). all: everybody's, for
 * administrators. */
int list_jobs(sd_bus *bus, int all, json_t **ret);
int list_workers(sd_bus *bus, int all, json_t **ret);
int list_sessions(sd_bus *bus, int all, json_t **ret);

/* Members of such an object; 0 and "" when missing. */
long long list_number(const json_t *object, const char *key);
const char *list_text(const json_t *object, const char *key);
/* A table with its head. */
void list_print_workers(FILE *out, const json_t *workers);
void list_print_sessions(FILE *out, const json_t *sessions);
/* A job that has ended is still listed for a while. */
bool list_ended(const json_t *job);
