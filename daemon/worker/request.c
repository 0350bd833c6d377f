/* A request on top of http_parser, which splits messages and refuses ambiguous lengths (both
 * Content-Length and chunked, two lengths). What is added: hard limits on header and body bytes,
 * the few headers that matter, and a stop after each message so that pipelined requests are
 * answered one at a time. Header values are cut, never interpreted beyond a comparison.
 *
 * The parser is lenient where two readers of the same bytes could disagree about the end of a
 * message: folded headers, several transfer codings, chunks in HTTP/1.0, a CR inside a line, lines
 * of chunks that end with something else than CR LF. So outside of bodies it gets its bytes line
 * by line, and each line is looked at before (line_error). */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "daemon/worker/request.h"
#include "engine/base/macro.h"

static int refuse(struct request *r, unsigned status, const char *detail) {
        if (r->status == 0) {
                r->status = status;
                r->detail = detail;
        }
        return -1;
}

static struct request *self(http_parser *parser) {
        return parser->data;
}

static int add_header_bytes(struct request *r, struct secure_buf *to, const char *p, size_t n) {
        r->header_bytes += n;
        if (r->header_bytes > REQUEST_HEADER_MAX)
                return refuse(r, 431, "The request headers have more than 32768 bytes.");
        secure_buf_append(to, p, n);
        return to->failed ? refuse(r, 503, "There is no memory for the request.") : 0;
}

static int on_url(http_parser *parser, const char *p, size_t n) {
        return add_header_bytes(self(parser), &self(parser)->url, p, n);
}

static bool name_is(const struct request *r, const char *name) {
        return r->name.n == strlen(name) && strncasecmp(r->name.p, name, r->name.n) == 0;
}

/* Keep a header in lower case, up to a character of `end`. */
static void keep(const struct request *r, char *to, char end) {
        size_t n = 0;

        for (size_t i = 0; i < r->value.n && n < REQUEST_TYPE_MAX - 1; i++) {
                unsigned char c = (unsigned char)r->value.p[i];

                if (end && c == end)
                        break;
                if (c != ' ' && c != '\t')
                        to[n++] = (char)tolower(c);
        }
        to[n] = '\0';
}

static bool is_chunked(const struct secure_buf *value) {
        size_t n = value->n;

        while (n > 0 && (value->p[n - 1] == ' ' || value->p[n - 1] == '\t'))
                n--;
        return n == 7 && strncasecmp(value->p, "chunked", 7) == 0;
}

static void finish_header(struct request *r) {
        if (!r->headers_done && r->name.n > 0) {
                if (name_is(r, "content-type"))
                        keep(r, r->content_type, ';');
                else if (name_is(r, "accept"))
                        keep(r, r->accept, '\0');
                else if (name_is(r, "transfer-encoding"))
                        r->bad_transfer |= r->transfer++ > 0 || !is_chunked(&r->value);
                else if (name_is(r, "expect"))
                        r->bad_expect = !(r->expect_continue =
                                                  r->value.n == 12 &&
                                                  strncasecmp(r->value.p, "100-continue", 12) == 0);
        }
        secure_buf_done(&r->name);
        secure_buf_done(&r->value);
        r->value_open = false;
}

static int on_header_field(http_parser *parser, const char *p, size_t n) {
        struct request *r = self(parser);

        if (r->value_open)
                finish_header(r);
        if (memchr(p, ' ', n)) /* the parser lets it pass */
                return refuse(r, 400, "A header name contains a space.");
        return add_header_bytes(r, &r->name, p, n);
}

static int on_header_value(http_parser *parser, const char *p, size_t n) {
        self(parser)->value_open = true;
        return add_header_bytes(self(parser), &self(parser)->value, p, n);
}

static int on_headers_complete(http_parser *parser) {
        struct request *r = self(parser);

        finish_header(r);
        r->headers_done = true;
        parser->upgrade = 0; /* an offer that we do not take */
        if (parser->http_major < 2 && parser->http_minor == 0)
                r->expect_continue = r->bad_expect = false; /* HTTP/1.0 has no expectations */
        if (parser->method == HTTP_CONNECT)
                return refuse(r, 405, "This is no proxy.");
        if (r->bad_expect)
                return refuse(r, 417, "The only expectation is 100-continue.");
        if (r->bad_transfer)
                return refuse(r, 400, "The only Transfer-Encoding is chunked, once.");
        if (r->transfer && parser->http_major < 2 && parser->http_minor == 0)
                return refuse(r, 400, "HTTP/1.0 has no Transfer-Encoding.");
        if (parser->content_length != UINT64_MAX && parser->content_length > r->max_body)
                return refuse(r, 413, NULL);
        return 0;
}

/* The next bytes are a chunk's, all of which are left. */
static int on_chunk_header(http_parser *parser) {
        self(parser)->chunk_left = parser->content_length;
        return 0;
}

static int on_body(http_parser *parser, const char *p, size_t n) {
        struct request *r = self(parser);

        r->chunk_left -= r->transfer ? n : 0;
        if (n > r->max_body - r->body.n)
                return refuse(r, 413, NULL);
        secure_buf_append(&r->body, p, n);
        return r->body.failed ? refuse(r, 503, "There is no memory for the request.") : 0;
}

static int on_message_complete(http_parser *parser) {
        self(parser)->complete = true;
        http_parser_pause(parser, 1);
        return 0;
}

static const http_parser_settings settings = {
        .on_url = on_url,
        .on_header_field = on_header_field,
        .on_header_value = on_header_value,
        .on_headers_complete = on_headers_complete,
        .on_chunk_header = on_chunk_header,
        .on_body = on_body,
        .on_message_complete = on_message_complete,
};

void request_init(struct request *r, uint64_t max_body) {
        *r = (struct request){ .max_body = max_body };
        http_parser_init(&r->parser, HTTP_REQUEST);
        http_parser_set_max_header_size(REQUEST_HEADER_MAX);
        r->parser.data = r;
}

void request_done(struct request *r) {
        secure_buf_done(&r->url);
        secure_buf_done(&r->name);
        secure_buf_done(&r->value);
        secure_buf_done(&r->body);
        explicit_bzero(r, sizeof(*r));
}

/* The next byte outside of a body: NULL, or what is wrong with it. */
static const char *line_error(struct request *r, char c) {
        char before = r->before;
        bool chunk_ended = r->chunk_ended;

        r->before = c;
        r->chunk_ended = false;
        if (before == '\n' && (c == ' ' || c == '\t'))
                return "A header must not be folded.";
        if (before == '\r' && c != '\n')
                return "A line must not have a CR before its end.";
        if (r->headers_done && ((before != '\r' && c == '\n') || (chunk_ended && c != '\r')))
                return "The lines of a chunked body must end with CR LF.";
        return NULL;
}

/* How many of the bytes the parser may have at once: what is left of a body, or to the end of the
 * line. 0: refused. */
static size_t next_piece(struct request *r, const char *p, size_t n) {
        if (r->headers_done && !r->transfer)
                return n;
        if (r->chunk_left > 0) {
                r->before = '\0';
                r->chunk_ended = true;
                return MIN((uint64_t)n, r->chunk_left);
        }
        for (size_t i = 0; i < n; i++) {
                const char *error = line_error(r, p[i]);

                if (error) {
                        refuse(r, 400, error);
                        return 0;
                }
                if (p[i] == '\n')
                        return i + 1;
        }
        return n;
}

size_t request_feed(struct request *r, const char *p, size_t n) {
        size_t used = 0;

        while (used < n && !r->complete && r->status == 0) {
                size_t piece = next_piece(r, p + used, n - used), taken;
                enum http_errno error;

                r->started = true;
                taken = piece ? http_parser_execute(&r->parser, &settings, p + used, piece) : 0;
                used += taken;
                error = HTTP_PARSER_ERRNO(&r->parser);
                if (error == HPE_HEADER_OVERFLOW)
                        refuse(r, 431, "The request headers have more than 32768 bytes.");
                else if (error != HPE_OK && !(error == HPE_PAUSED && r->complete))
                        refuse(r, 400, "This is not a valid HTTP request.");
        }
        return used;
}

bool request_keep_alive(const struct request *r) {
        return r->complete && http_should_keep_alive(&r->parser);
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char)tolower((unsigned char)c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode(const char *p, size_t n, bool plus, char *to, size_t size) {
        size_t out = 0;

        for (size_t i = 0; i < n; i++) {
                char c = p[i];

                if (c == '%') {
                        int high = i + 1 < n ? hex_digit(p[i + 1]) : -1;
                        int low = i + 2 < n ? hex_digit(p[i + 2]) : -1;

                        if (high < 0 || low < 0)
                                return -EINVAL;
                        c = (char)(high * 16 + low);
                        i += 2;
                } else if (plus && c == '+') {
                        c = ' ';
                }
                if (c == '\0' || out + 1 >= size)
                        return -EINVAL;
                to[out++] = c;
        }
        to[out] = '\0';
        return 0;
}

/* The target starts at the path: "http://host/path" is cut to "/path". */
static void split_target(const struct request *r, const char **path, size_t *n_path,
                         const char **query, size_t *n_query) {
        const char *p = r->url.p, *end = r->url.p + r->url.n, *mark;

        if (r->url.n > 7 && strncasecmp(p, "http://", 7) == 0) {
                mark = memchr(p + 7, '/', r->url.n - 7);
                p = mark ? mark : end;
        }
        mark = memchr(p, '#', (size_t)(end - p));
        if (mark)
                end = mark;
        mark = memchr(p, '?', (size_t)(end - p));
        *path = p;
        *n_path = (size_t)((mark ? mark : end) - p);
        *query = mark ? mark + 1 : end;
        *n_query = (size_t)(end - *query);
}

int request_path(const struct request *r, char *path, size_t size) {
        const char *p, *q;
        size_t n, nq;

        if (r->url.n == 0)
                return -EINVAL;
        split_target(r, &p, &n, &q, &nq);
        return decode(p, n, false, path, size);
}

int request_query(const struct request *r, const char *name, char *value, size_t size) {
        const char *p, *q, *end;
        size_t n, nq, length = strlen(name);

        if (r->url.n == 0)
                return 0;
        split_target(r, &p, &n, &q, &nq);
        for (end = q + nq; q < end; q++) {
                const char *next = memchr(q, '&', (size_t)(end - q));
                size_t take = (size_t)((next ? next : end) - q);

                if (take > length && memcmp(q, name, length) == 0 && q[length] == '=') {
                        int e = decode(q + length + 1, take - length - 1, true, value, size);

                        return e < 0 ? e : 1;
                }
                q += take;
        }
        return 0;
}

bool request_query_name(const struct request *r, size_t *at, const char **ret, size_t *ret_size) {
        const char *p, *q, *next, *equals;
        size_t n, nq, take = 0;

        if (r->url.n == 0)
                return false;
        split_target(r, &p, &n, &q, &nq);
        while (*at < nq && take == 0) {
                *ret = q + *at;
                next = memchr(*ret, '&', nq - *at);
                take = next ? (size_t)(next - *ret) : nq - *at;
                *at += take + 1;
        }
        equals = take > 0 ? memchr(*ret, '=', take) : NULL;
        *ret_size = equals ? (size_t)(equals - *ret) : take;
        return take > 0;
}

bool request_accepts_first(const struct request *r, const char *type) {
        size_t n = strlen(type);

        return strncmp(r->accept, type, n) == 0 &&
               (r->accept[n] == '\0' || r->accept[n] == ',' || r->accept[n] == ';');
}
