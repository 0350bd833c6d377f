/* One client connection: bytes in, requests one at a time, bytes out, and all deadlines. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/poller.h"
#include "daemon/worker/request.h"
#include "daemon/worker/worker.h"

struct exchange;
struct user;

enum {
        CONN_OUT_HIGH = 256 * 1024, /* pending bytes that pause the generation */
        CONN_OUT_LOW = 64 * 1024,   /* and that let it go on */
};

enum conn_state {
        CONN_READING,  /* a request, or nothing yet */
        CONN_BUSY,     /* a request is being answered; its successor waits in `in` or the socket */
        CONN_DRAINING, /* the last answer is on its way; what still comes is thrown away */
};

struct conn {
        struct conn *next;
        struct worker *w;
        struct user *user;          /* whose it is */
        int fd, place;
        uint64_t id, answers;       /* the broker's number; answers begun */
        enum conn_state state;
        bool eof;                   /* the client sends no more (it may still read) */
        bool dead;                  /* to be closed and freed at the end of the pass */
        bool shutting_down;         /* no request after this one */
        uint64_t deadline;          /* of reading or draining; 0: none */
        uint64_t write_deadline;    /* while `out` holds bytes */
        struct request request;
        struct secure_buf in, out;
        struct exchange *exchange;  /* CONN_BUSY: who answers */
        void (*waiting)(struct conn *c); /* CONN_BUSY: call again in the next pass, or NULL */
        bool plain_errors;          /* errors as {"error": "text"} (Ollama) */
};

/* Takes fd. 0, -ENOMEM or -EBADMSG (an unknown user); a connection over the limit is closed at
 * once. */
int conn_new(struct worker *w, const struct wire_conn *m, int fd);
struct conn *conn_next(struct conn *c);
/* Answer what runs, then close. */
void conn_shutdown(struct conn *c);

/* The request cannot be answered yet: try the handler again after the next message. */
void conn_wait(struct conn *c, void (*handler)(struct conn *c));
/* The answer is complete in `out`; close: the connection ends after it. */
void conn_answered(struct conn *c, bool close);

void conns_poll(struct worker *w, struct poller *p);
void conns_handle(struct worker *w, const struct poller *p);
/* Close the dead ones and tell the broker. */
void conns_reap(struct worker *w);
