/* One message in, one message out, over the worker link. Never blocks (the socket is non-blocking
 * or MSG_DONTWAIT is used). Works inside the worker's sandbox: sendmsg and recvmsg only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/wire/proto.h"

union wire_message {
        struct wire_header h;
        struct wire_hello hello;
        struct wire_catalog catalog;
        struct wire_conn conn;
        struct wire_job job;
        struct wire_job_output job_output;
        struct wire_model model;
        struct wire_pack_output pack_output;
        struct wire_queued queued;
        struct wire_admitted admitted;
        struct wire_refused refused;
        struct wire_lease lease;
        struct wire_cancel cancel;
        struct wire_set_limits set_limits;
        struct wire_user_gone user_gone;
        struct wire_rates rates;
        struct wire_set_priority set_priority;
        struct wire_prepare prepare;
        struct wire_count count;
        struct wire_passed passed;
        struct wire_take_output take_output;
        struct wire_discard discard;
        struct wire_plain plain;
        struct wire_session_open session_open;
        struct wire_session_append session_append;
        struct wire_session_command session_command;
        struct wire_ready ready;
        struct wire_want_model want_model;
        struct wire_admit admit;
        struct wire_progress progress;
        struct wire_done done;
        struct wire_used used;
        struct wire_fault fault;
        struct wire_conn_closed conn_closed;
        struct wire_packed packed;
        struct wire_resident resident;
        struct wire_session session;
        struct wire_counted counted;
        struct wire_refusals refusals;
        struct wire_shares shares;
        uint8_t bytes[WIRE_MAX_MESSAGE];
};

/* Send a message (message->h.version is filled in) and at most one descriptor (-1: none; it stays
 * the caller's). Returns 0, -EAGAIN when the peer does not read, -EINVAL when the peer would refuse
 * it, or another negative errno. */
int wire_send(int sock, union wire_message *message, int fd);

/* Receive one message. The length must be exactly that of its type, a descriptor must be there
 * exactly when the type takes one (WIRE_MODEL: unless error is set), strings must be terminated,
 * enumerations in range. *ret_fd is -1 or the caller's to close. Returns 0; -EAGAIN when nothing is
 * there; -ECONNRESET at end of file; -EBADMSG for anything illegal (nothing is leaked). */
int wire_receive(int sock, union wire_message *ret, int *ret_fd);

/* The checks of wire_receive on n bytes that are already there, with the descriptor that came with
 * them (-1: none). Returns 0 or -EBADMSG. */
int wire_check(const union wire_message *message, size_t n, int fd);

/* Size of a message type, 0 for an unknown type. */
size_t wire_size(uint32_t type);
