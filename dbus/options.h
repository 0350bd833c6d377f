/* a{sv} options of a verb into a wire_job: known keys, exact types, ranges. */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/wire/proto.h"
#include "policy/error.h"

/* The defaults of a job that names nothing. */
struct wire_job options_default(enum wire_verb verb);

enum { OPTION_KEY_MAX = 32 };

/* Reads the array the message stands at. On an error ret_key names the option if its name is
 * harmless ([a-z0-9-], at most 32 bytes), else it is "". *ret_token: the token, or NULL. */
enum error_code options_read(sd_bus_message *m, struct wire_job *job, const char **ret_token,
                             char ret_key[OPTION_KEY_MAX + 1]);
/* The value of an option "token", found legal (token.h); as long as the message. */
enum error_code options_read_token(sd_bus_message *m, const char **ret);
/* The same for an input that is only counted. */
enum error_code options_read_count(sd_bus_message *m, struct wire_job *job,
                                   char ret_key[OPTION_KEY_MAX + 1]);
/* Error reply that names the option, if there is a name. */
int option_error(sd_bus_error *e, enum error_code code, const char *key);
/* Which jobs or workers: {"all": true} (for administrators) or nothing. 0 or a negative errno. */
int options_filter(sd_bus_message *m, bool *ret_all);
