/* Connections. Bounded memory: at most READ_SIZE bytes of the next request wait here (the rest
 * stays in the socket), a body is limited by the request parser, and output beyond CONN_OUT_HIGH
 * pauses the generation that makes it.
 *
 * A client that hangs up (POLLHUP) cancels its job; one that only finished sending (end of file on
 * reading) still gets its answer. Every wait has a deadline: a silent connection, a slow header, a
 * stalled body, a reader that does not read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker/api.h"
#include "daemon/worker/conn.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/link.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"

enum { READ_SIZE = 16 * 1024 };

static const uint64_t HEADER_USEC = 10 * USEC_PER_SEC;
static const uint64_t BODY_STALL_USEC = 30 * USEC_PER_SEC;
static const uint64_t READER_STALL_USEC = 60 * USEC_PER_SEC;
static const uint64_t DRAIN_USEC = 2 * USEC_PER_SEC;

static uint64_t idle_deadline(const struct conn *c) {
        uint32_t ms = c->user->limits.idle_timeout_ms;

        return ms ? c->w->now + ms * USEC_PER_MSEC : 0;
}

/* A connection that still has output to be read is not idle: its time begins when that is gone. */
static void read_next(struct conn *c) {
        request_done(&c->request);
        request_init(&c->request, c->user->limits.max_input_bytes);
        c->state = CONN_READING;
        c->deadline = c->out.n > 0 ? 0 : idle_deadline(c);
}

static void tell_closed(struct worker *w, uint64_t id) {
        union wire_message m = { .conn_closed = { .h.type = WIRE_CONN_CLOSED, .conn = id } };

        link_send(w->link, &m);
}

int conn_new(struct worker *w, const struct wire_conn *m, int fd) {
        struct user *u = user_find(w, m->uid);
        struct conn *c;

        if (!u) {
                close(fd);
                return -EBADMSG;
        }
        if (w->stop_by || (u->limits.max_connections && u->n_conns >= u->limits.max_connections)) {
                close(fd);
                tell_closed(w, m->conn);
                return 0;
        }
        c = calloc(1, sizeof(*c));
        if (!c) {
                close(fd);
                return -ENOMEM;
        }
        c->w = w;
        c->user = user_ref(u);
        c->fd = fd;
        c->place = POLLER_NONE;
        c->id = m->conn;
        read_next(c);
        c->next = w->conns;
        w->conns = c;
        u->n_conns++;
        return 0;
}

struct conn *conn_next(struct conn *c) {
        return c->next;
}

void conn_shutdown(struct conn *c) {
        c->shutting_down = true;
        if (c->state != CONN_READING)
                return;
        if (c->out.n > 0)
                conn_answered(c, true);
        else
                c->dead = true;
}

void conn_wait(struct conn *c, void (*handler)(struct conn *c)) {
        c->waiting = handler;
}

/* Ask a handler that could not answer again. */
static void resume(struct conn *c) {
        void (*handler)(struct conn *c) = TAKE_PTR(c->waiting);

        if (handler)
                handler(c);
}

void conn_answered(struct conn *c, bool close) {
        if (!close) {
                read_next(c);
                return;
        }
        c->state = CONN_DRAINING;
        c->deadline = 0; /* set when the output is gone */
}

/* Refused by the HTTP parser: answer, then end (the place in the byte stream is lost). */
static void refuse(struct conn *c) {
        c->state = CONN_BUSY;
        reply_plain_error(c, c->request.status, c->request.detail);
}

/* Parse what is in `in`, answering requests until one takes longer. */
static void process(struct conn *c) {
        while (c->state == CONN_READING && c->in.n > 0 && c->out.n < CONN_OUT_LOW) {
                struct request *r = &c->request;
                bool fresh = !r->started;

                secure_buf_consume(&c->in, request_feed(r, c->in.p, c->in.n));
                if (r->status != 0) {
                        refuse(c);
                } else if (r->complete) {
                        c->state = CONN_BUSY;
                        c->deadline = 0;
                        api_dispatch(c);
                } else {
                        if (r->headers_done)
                                c->deadline = c->w->now + BODY_STALL_USEC;
                        else if (fresh)
                                c->deadline = c->w->now + HEADER_USEC;
                        if (r->headers_done && r->expect_continue && r->body.n == 0) {
                                secure_buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
                                r->expect_continue = false;
                        }
                }
        }
}

static void receive(struct conn *c) {
        char *to = secure_buf_reserve(&c->in, READ_SIZE);
        ssize_t n;

        if (!to) {
                c->dead = true;
                return;
        }
        n = recv(c->fd, to, READ_SIZE, MSG_DONTWAIT);
        if (n > 0) {
                c->in.n += (size_t)n;
                process(c);
        } else if (n == 0) {
                c->eof = true;
                if (c->state == CONN_READING && c->out.n == 0)
                        c->dead = true;
        } else if (errno != EAGAIN && errno != EINTR) {
                c->dead = true;
        }
}

/* Throw away what still comes, so that the client can finish writing and read the answer. */
static void discard(struct conn *c) {
        char *to;
        ssize_t n;

        secure_buf_consume(&c->in, c->in.n);
        to = secure_buf_reserve(&c->in, READ_SIZE);
        n = to ? recv(c->fd, to, READ_SIZE, MSG_DONTWAIT) : 0;
        if (n > 0)
                explicit_bzero(to, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                c->eof = true;
}

static void flush(struct conn *c) {
        size_t before = c->out.n;

        while (c->out.n > 0 && !c->dead) {
                ssize_t n = send(c->fd, c->out.p, c->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n >= 0)
                        secure_buf_consume(&c->out, (size_t)n);
                else if (errno == EAGAIN)
                        break;
                else if (errno != EINTR)
                        c->dead = true;
        }
        if (c->out.n == 0) {
                c->write_deadline = 0;
                if (before > 0 && c->state == CONN_READING && !c->request.started)
                        c->deadline = idle_deadline(c);
        } else if (c->out.n < before || c->write_deadline == 0) {
                c->write_deadline = c->w->now + READER_STALL_USEC;
        }
}

/* The answer is sent: with nothing more to read the connection can go at once. */
static void drained(struct conn *c) {
        bool rest = !c->request.complete && !c->eof; /* a refused request, still being written */

        if (!rest)
                c->dead = true;
        else if (c->deadline == 0)
                c->deadline = c->w->now + DRAIN_USEC;
}

static void expire(struct conn *c) {
        if (c->write_deadline && c->w->now >= c->write_deadline)
                c->dead = true;
        if (c->deadline == 0 || c->w->now < c->deadline)
                return;
        if (c->state == CONN_READING && c->request.started) {
                c->request.status = 408;
                c->request.detail = c->request.headers_done
                                            ? "The request body stopped for 30 seconds."
                                            : "The request headers took more than 10 seconds.";
                c->deadline = 0;
                refuse(c);
        } else {
                c->dead = true;
        }
}

static short wanted_events(const struct conn *c) {
        bool read = !c->eof && c->state != CONN_BUSY &&
                    (c->state == CONN_DRAINING || c->in.n == 0);

        return (short)((read ? POLLIN : 0) | (c->out.n > 0 ? POLLOUT : 0));
}

void conns_poll(struct worker *w, struct poller *p) {
        for (struct conn *c = w->conns; c; c = c->next) {
                c->place = poller_add(p, c->fd, wanted_events(c));
                poller_deadline(p, c->deadline);
                poller_deadline(p, c->write_deadline);
                if (c->out.failed)
                        poller_deadline(p, w->now);
                if (c->exchange)
                        exchange_poll(c->exchange, p);
        }
}

static void handle(struct conn *c, short events) {
        if (events & (POLLERR | POLLHUP | POLLNVAL)) {
                c->dead = true;
                return;
        }
        if (events & POLLIN) {
                if (c->state == CONN_READING)
                        receive(c);
                else if (c->state == CONN_DRAINING)
                        discard(c);
        }
        expire(c);
        if (!c->dead)
                resume(c);
        if (c->out.failed)
                c->dead = true;
        do {
                flush(c);
                process(c); /* a pipelined request may be waiting */
        } while (c->out.n > 0 && c->write_deadline == 0 && !c->dead);
        if (c->exchange)
                exchange_tick(c->exchange); /* after the flush, which may end a pause */
        if (c->state == CONN_READING && c->eof && c->out.n == 0)
                c->dead = true;
        if (c->state == CONN_DRAINING && c->out.n == 0)
                drained(c);
}

void conns_handle(struct worker *w, const struct poller *p) {
        for (struct conn *c = w->conns; c; c = c->next) {
                /* a connection that came in this pass has no place yet */
                handle(c, poller_events(p, c->place));
                c->place = POLLER_NONE;
        }
}

void conns_reap(struct worker *w) {
        for (struct conn **p = &w->conns; *p;) {
                struct conn *c = *p;

                if (!c->dead) {
                        p = &c->next;
                        continue;
                }
                *p = c->next;
                c->user->n_conns--;
                exchange_abandon(c->exchange);
                close(c->fd);
                tell_closed(w, c->id);
                request_done(&c->request);
                secure_buf_done(&c->in);
                secure_buf_done(&c->out);
                user_unref(c->user);
                free(c);
        }
}
