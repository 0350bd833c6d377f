/* bnctl chat: a conversation that lives in this process only and is forgotten at its end. When the
 * context is full the oldest whole turns go, and the person is told. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/chat.h"
#include "client/commands.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/term.h"
#include "engine/base/macro.h"

static const char help[] = "/clear forgets the conversation, /exit (or Ctrl-D) ends, "
                           "/help shows this.\n";

static size_t first_turn(const json_t *messages) {
        const char *role = json_string_value(json_object_get(json_array_get(messages, 0), "role"));
        return role && strcmp(role, "system") == 0 ? 1 : 0;
}

/* Remove the oldest question and its answer. False when only the newest question is left. */
static bool drop_oldest_turn(json_t *messages) {
        size_t at = first_turn(messages);

        if (json_array_size(messages) < at + 3)
                return false;
        json_array_remove(messages, at);
        json_array_remove(messages, at);
        return true;
}

static int answer(const struct options *o, json_t *messages) {
        struct chat_reply reply = {0};
        struct http_failure failure = {0};
        unsigned dropped = 0;
        int r;

        r = chat_run(o, messages, NULL, &reply, &failure);
        while (r == 1 && failure.code == ERROR_CONTEXT_TOO_LONG && drop_oldest_turn(messages)) {
                dropped++;
                chat_reply_done(&reply);
                r = chat_run(o, messages, NULL, &reply, &failure);
        }
        if (dropped > 0)
                fprintf(stderr, "%s(the context is full: the oldest %u turn(s) were forgotten)",
                        reply.text.n > 0 ? "\n" : "", dropped);
        putchar('\n');
        fflush(stdout);
        if (r == 0 || (r == -ECANCELED && reply.text.n > 0))
                chat_add_message(messages, "assistant", reply.text.p ? reply.text.p : "",
                                 reply.text.n);
        else
                json_array_remove(messages, json_array_size(messages) - 1);
        if (r == 1)
                report_failure(&failure);
        if (r == -ECANCELED)
                interrupt_clear();
        chat_reply_done(&reply);
        return r == 1 ? error_row(failure.code)->exit_status : 0;
}

static void clear(const struct options *o, json_t *messages) {
        json_array_clear(messages);
        if (o->system)
                chat_add_message(messages, "system", o->system, strlen(o->system));
}

/* One line of the person. Returns false at the end of the conversation. */
static bool take_line(const struct options *o, json_t *messages, char *line, size_t n,
                      int *status) {
        if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0)
                return false;
        if (strcmp(line, "/clear") == 0) {
                clear(o, messages);
                return true;
        }
        if (strcmp(line, "/help") == 0 || strcmp(line, "/?") == 0) {
                fputs(help, stderr);
                return true;
        }
        if (n > 0 && chat_add_message(messages, "user", line, n) == 0)
                *status = answer(o, messages);
        return true;
}

int cmd_chat(struct options *o) {
        json_t *messages = json_array();
        json_t *check = json_object();
        bool terminal = isatty(STDIN_FILENO);
        char *line = NULL;
        size_t room = 0;
        ssize_t n;
        int status = chat_add_options(check, o);

        json_decref(check);
        if (status)
                return status;
        clear(o, messages);
        if (terminal && !o->quiet)
                fputs(help, stderr);
        for (;;) {
                if (terminal)
                        fputs("> ", stderr);
                n = getline(&line, &room, stdin);
                if (n < 0)
                        break;
                if (n > 0 && line[n - 1] == '\n')
                        line[--n] = 0;
                if (!take_line(o, messages, line, (size_t)n, &status))
                        break;
        }
        if (terminal && n < 0)
                fputc('\n', stderr);
        if (line)
                explicit_bzero(line, room);
        free(line);
        json_decref(messages);
        return interrupted() ? EXIT_INTERRUPTED : status;
}
