/* Which jobs of one uid run and which wait. At most max_running run at once, where those in the
 * background do not count against interactive ones, for which they pause: so there are up to twice
 * as many, and of those in the background one may run in any case. The others wait, interactive
 * before background, clients in turns, each client's jobs in order of arrival. How many may exist
 * at all is the account's business (CHARGE_JOB), so that the answer does not depend on timing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum admission_state {
        ADMISSION_NONE = 0,
        ADMISSION_ENTERED,  /* exists, its input is still being read */
        ADMISSION_WAITING,
        ADMISSION_RUNNING,
};

struct admission_entry {
        enum admission_state state;
        bool background;
        uint64_t client;                 /* a connection, or a name on the bus */
        uint64_t round;                  /* in which it is the client's turn */
        struct admission_entry *next;
};

struct admission {
        struct admission_entry *waiting; /* in the order they will run */
        uint32_t entered, running, background; /* background: of those that run */
        uint64_t round[2];               /* of the last that ran after waiting, of each class */
};

void admission_enter(struct admission *a, struct admission_entry *e, uint64_t client,
                     bool background);
/* The entry could run now: runs (true) if there is room, else waits. */
bool admission_ready(struct admission *a, struct admission_entry *e, uint32_t max_running);
/* Another class: one that waits goes to the end of it. */
void admission_set_background(struct admission *a, struct admission_entry *e, bool background);
/* The job has ended, in whatever state it was. */
void admission_leave(struct admission *a, struct admission_entry *e);
/* The next waiting entry that may run now (it runs then), or NULL. Call until NULL. */
struct admission_entry *admission_next(struct admission *a, uint32_t max_running);
/* Entries that run before this one: 0 when it runs. */
uint32_t admission_position(const struct admission *a, const struct admission_entry *e);
uint32_t admission_waiting(const struct admission *a);
