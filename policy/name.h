/* Names of models: what may stand in the configuration, in a file name, on the bus, in HTTP and on
 * the worker link alike. */
#pragma once

enum { MODEL_NAME_SIZE = 64 }; /* with the NUL */

/* 1 when a string is a legal name: ^[a-z0-9][a-z0-9._-]*$, at most MODEL_NAME_SIZE - 1 bytes. Looks
 * at MODEL_NAME_SIZE bytes at most, so it may be asked of an array that is not terminated. */
int model_name_valid(const char *name);
