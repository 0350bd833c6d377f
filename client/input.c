/* Reading the user's own files happens here, in the user's process: the daemon never opens a path
 * that a client names. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/input.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_NO_INPUT = 66, CHUNK = 64 * 1024 };

bool input_given(void) {
        struct stat st;

        if (fstat(STDIN_FILENO, &st) < 0)
                return false;
        return S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode);
}

void input_free(char *text, size_t size) {
        if (text)
                explicit_bzero(text, size);
        free(text);
}

/* Like realloc, but leaves no copy behind. */
static char *grow(char *old, size_t used, size_t room) {
        char *bigger = malloc(room);

        if (bigger && used > 0)
                memcpy(bigger, old, used);
        input_free(old, used);
        return bigger;
}

static int read_all(int fd, char **ret, size_t *ret_size) {
        size_t n = 0, room = 0;
        char *buf = NULL;

        for (;;) {
                ssize_t k;

                if (room - n < CHUNK) {
                        room = room * 2 + 2 * CHUNK;
                        buf = grow(buf, n, room);
                        if (!buf)
                                return -ENOMEM;
                }
                k = read(fd, buf + n, room - n - 1);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0) {
                        input_free(buf, n);
                        return -errno;
                }
                if (k == 0)
                        break;
                n += (size_t)k;
        }
        buf[n] = 0;
        *ret = buf;
        *ret_size = n;
        return 0;
}

int input_read(const char *path, char **ret, size_t *ret_size) {
        bool standard = strcmp(path, "-") == 0;
        _cleanup_close_ int opened = -1;
        int r;

        if (!standard) {
                opened = open(path, O_RDONLY | O_CLOEXEC);
                if (opened < 0) {
                        fprintf(stderr, "bnctl: cannot open %s: %s\n", path, strerror(errno));
                        return EXIT_NO_INPUT;
                }
        }
        r = read_all(standard ? STDIN_FILENO : opened, ret, ret_size);
        if (r < 0) {
                fprintf(stderr, "bnctl: cannot read %s: %s\n",
                        standard ? "standard input" : path, strerror(-r));
                return EXIT_NO_INPUT;
        }
        return 0;
}

char *input_join(char **args, int n) {
        size_t size = 1;
        char *text, *p;

        for (int i = 0; i < n; i++)
                size += strlen(args[i]) + 1;
        p = text = malloc(size);
        if (!text)
                return NULL;
        for (int i = 0; i < n; i++) {
                if (i > 0)
                        *p++ = ' ';
                p = stpcpy(p, args[i]);
        }
        *p = 0;
        return text;
}
