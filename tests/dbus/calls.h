/* Calls on the bus, for tests that start the broker with the fake worker. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "tests/daemon/broker/harness.h"

#define NAME "org.bitnetd.Bitnetd1"
#define ROOT "/org/bitnetd/Bitnetd1"
#define ERROR_NAME(x) NAME ".Error." x

/* A memory file that holds text; the caller's. */
int input_of(const char *text);
/* A connection to the private socket, as that user (0: as we are). */
sd_bus *private_bus(const struct daemon *d, uid_t uid);
/* Start a job; returns its output, the path in path. Or -1 with the error's name in path. */
int generate(sd_bus *bus, const char *method, const char *text, const char *key, const char *word,
             char path[128]);
/* Wait(): the result word, and the error's name from the details. */
void wait_job(sd_bus *bus, const char *path, char result[128], char error[128]);
void assert_ends(sd_bus *bus, const char *path, const char *result, const char *error);

/* How many jobs the caller has. */
unsigned count_jobs(sd_bus *bus);

/* Properties of a job. */
void assert_string_property(sd_bus *bus, const char *path, const char *property,
                            const char *expected);
uint64_t number(sd_bus *bus, const char *path, const char *property);
unsigned position(sd_bus *bus, const char *path);
void wait_for_state(sd_bus *bus, const char *path, const char *expected);
void wait_for_number(sd_bus *bus, const char *path, const char *property, uint64_t expected);

/* error: the name that is expected, NULL: success. */
void set_priority(sd_bus *bus, const char *path, const char *word, const char *error);
void call_expecting(sd_bus *bus, const char *path, const char *interface, const char *method,
                    const char *error);
/* Handle what comes for so long. */
void pump(sd_bus *bus, unsigned milliseconds);
