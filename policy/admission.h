/* Which jobs of one uid run and which wait. At most max_running run at once; the others wait in
 * order of arrival, interactive before background. How many may exist at all is the account's
 * business (CHARGE_JOB), so that the answer does not depend on timing. */
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
        struct admission_entry *next;
};

struct admission {
        struct admission_entry *waiting; /* in the order they will run */
        uint32_t entered, running;
};

void admission_enter(struct admission *a, struct admission_entry *e, bool background);
/* The entry could run now: runs (true) if fewer than max_running do, else waits. */
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
