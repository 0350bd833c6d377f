/* HTTP over the Unix socket. A reply of status 200 streams through; any other reply is small, so
 * it is collected (bounded) and its error object becomes a code of the error table, which decides
 * the exit status. */

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/http.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "engine/base/macro.h"

enum { ERROR_BODY_MAX = 16 * 1024 };

struct transfer {
        const struct http_request *request;
        CURL *curl;
        char error_body[ERROR_BODY_MAX];
        size_t error_size;
        bool hung_up;
};

static long reply_status(CURL *curl) {
        long status = 0;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        return status;
}

static size_t on_data(char *p, size_t size, size_t count, void *userdata) {
        struct transfer *t = userdata;
        size_t n = size * count;

        if (reply_status(t->curl) != 200) {
                size_t take = MIN(n, sizeof(t->error_body) - t->error_size);
                memcpy(t->error_body + t->error_size, p, take);
                t->error_size += take;
                return n;
        }
        if (t->request->data && !t->request->data(t->request->userdata, p, n)) {
                t->hung_up = true;
                return 0;
        }
        return n;
}

static int on_idle(void *userdata, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
        struct transfer *t = userdata;

        if (t->request->idle && !t->request->idle(t->request->userdata)) {
                t->hung_up = true;
                return 1;
        }
        return 0;
}

void http_parse_failure(const char *json, size_t n, struct http_failure *failure) {
        json_t *root = json_loadb(json, n, JSON_DISABLE_EOF_CHECK, NULL);
        json_t *error = json_object_get(root, "error");
        const char *message = json_string_value(json_object_get(error, "message"));
        const char *code = json_string_value(json_object_get(error, "code"));

        failure->code = code ? error_from_http_code(code) : ERROR_FAILED;
        snprintf(failure->text, sizeof(failure->text), "%s",
                 message ? message : error_row(failure->code)->text);
        json_decref(root);
}

static void fail_connect(struct http_failure *failure, const char *socket) {
        failure->code = ERROR_UNAVAILABLE;
        snprintf(failure->text, sizeof(failure->text),
                 "cannot reach bitnetd at %.180s: is it running?", socket);
}

static struct curl_slist *make_headers(const struct http_request *r) {
        struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
        char line[128];

        if (r->content_type) {
                snprintf(line, sizeof(line), "Content-Type: %s", r->content_type);
                headers = curl_slist_append(headers, line);
        }
        if (r->accept) {
                snprintf(line, sizeof(line), "Accept: %s", r->accept);
                headers = curl_slist_append(headers, line);
        }
        return headers;
}

static void set_options(struct transfer *t, const char *url, struct curl_slist *headers) {
        const struct http_request *r = t->request;

        curl_easy_setopt(t->curl, CURLOPT_URL, url);
        curl_easy_setopt(t->curl, CURLOPT_UNIX_SOCKET_PATH, r->socket);
        curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(t->curl, CURLOPT_PROXY, "");
        curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_idle);
        curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
        if (!r->body)
                return;
        curl_easy_setopt(t->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_size);
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS, r->body);
}

static int outcome(struct transfer *t, CURLcode code, struct http_failure *failure) {
        long status = reply_status(t->curl);

        if (t->hung_up)
                return -ECANCELED;
        if (status != 200 && status != 0) {
                http_parse_failure(t->error_body, t->error_size, failure);
                return 1;
        }
        if (code == CURLE_OK)
                return 0;
        if (status == 0 && (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)) {
                fail_connect(failure, t->request->socket);
                return 1;
        }
        failure->code = ERROR_WORKER_FAILED;
        snprintf(failure->text, sizeof(failure->text), "%s",
                 error_row(ERROR_WORKER_FAILED)->text);
        return 1;
}

int http_perform(const struct http_request *r, struct http_failure *failure) {
        struct curl_slist *headers;
        struct transfer *t;
        _cleanup_free_ char *url = NULL;
        int result;

        t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->request = r;
        t->curl = curl_easy_init();
        if (!t->curl || asprintf(&url, "http://localhost%s", r->path) < 0) {
                curl_easy_cleanup(t->curl);
                free(t);
                return -ENOMEM;
        }
        headers = make_headers(r);
        set_options(t, url, headers);
        result = outcome(t, curl_easy_perform(t->curl), failure);
        curl_slist_free_all(headers);
        curl_easy_cleanup(t->curl);
        free(t);
        return result;
}

bool http_body_add(struct http_body *b, const char *p, size_t n) {
        if (b->n + n + 1 > b->room) {
                size_t room = (b->n + n + 1) * 2;
                char *bigger = malloc(room);

                if (!bigger)
                        return false;
                if (b->n > 0)
                        memcpy(bigger, b->p, b->n);
                n += b->n;
                memcpy(bigger + b->n, p, n - b->n);
                http_body_done(b);
                *b = (struct http_body){.p = bigger, .n = n, .room = room};
        } else {
                memcpy(b->p + b->n, p, n);
                b->n += n;
        }
        b->p[b->n] = 0;
        return true;
}

static bool keep(void *userdata, const char *p, size_t n) {
        return http_body_add(userdata, p, n);
}

void http_body_done(struct http_body *b) {
        if (b->p)
                explicit_bzero(b->p, b->n);
        free(b->p);
        *b = (struct http_body){0};
}

static bool go_on(void *userdata) {
        return !interrupted();
}

int http_fetch(const char *socket, const char *path, const char *accept, const json_t *request,
               struct http_body *ret, struct http_failure *failure) {
        char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
        struct http_request r = {.socket = socket, .path = path, .body = text,
                                 .body_size = text ? strlen(text) : 0,
                                 .content_type = text ? "application/json" : NULL,
                                 .accept = accept, .data = keep, .idle = go_on, .userdata = ret};
        int result = request && !text ? -ENOMEM : http_perform(&r, failure);

        input_free(text, r.body_size);
        if (result >= 0 || interrupted())
                return result < 0 ? -ECANCELED : result;
        failure->code = ERROR_FAILED;
        snprintf(failure->text, sizeof(failure->text), "out of memory");
        return 1;
}

int http_json(const char *socket, const char *path, const json_t *request, json_t **ret,
              struct http_failure *failure) {
        struct http_body body = {0};
        int result = http_fetch(socket, path, NULL, request, &body, failure);

        *ret = result == 0 ? json_loadb(body.p ? body.p : "", body.n, 0, NULL) : NULL;
        http_body_done(&body);
        return result;
}
