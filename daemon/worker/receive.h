/* Waiting for one message, for the phases that know what must come next. */
#pragma once

#include "daemon/wire/frame.h"

/* Blocks until a message of this type comes. *ret_fd may be NULL for types without descriptor.
 * 0, -ECONNRESET at end of file, -EBADMSG for anything else. */
int receive_type(int sock, uint32_t type, union wire_message *ret, int *ret_fd);
