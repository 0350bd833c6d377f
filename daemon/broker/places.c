/* In user mode the runtime folder decides who can connect at all, so its owner and mode are checked
 * before anything is put there; clients check the same from their side. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/broker/places.h"
#include "engine/base/macro.h"

/* Ours, a real folder, and closed to writers other than us. */
static int check_dir(const char *path) {
        struct stat st;

        if (lstat(path, &st) < 0)
                return -errno;
        if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
                return -EPERM;
        return 0;
}

static int make_dir(const char *path, mode_t mode) {
        if (mkdir(path, mode) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}

int places_make_dirs(const char *path, mode_t mode) {
        char part[PATH_MAX];

        for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
                int r;

                snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
                r = make_dir(part, mode);
                if (r < 0)
                        return r;
        }
        return make_dir(path, mode);
}

static int user_runtime_dir(char *buf, size_t size, mode_t mode) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        int r;

        if (!runtime || runtime[0] != '/')
                snprintf(buf, size, "/tmp/bitnetd-%u", (unsigned)geteuid());
        else if (snprintf(buf, size, "%s/bitnetd", runtime) >= (int)size)
                return -ENAMETOOLONG;
        r = make_dir(buf, mode);
        if (r == 0)
                r = check_dir(buf);
        /* Of an earlier start with another --socket-mode. */
        return r == 0 && chmod(buf, mode) < 0 ? -errno : r;
}

static int socket_paths(struct places *p, const struct options *o) {
        /* Others may pass through the folder only if they may connect. */
        mode_t mode = o->socket_mode & 077 ? 0711 : 0700;
        char dir[96] = "/run/bitnetd";
        int r = 0;

        if (o->socket) {
                snprintf(p->api_socket, sizeof(p->api_socket), "%s", o->socket);
                snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(o->socket, '/') - o->socket),
                         o->socket);
                r = dir[0] ? places_make_dirs(dir, mode) : 0;
        } else {
                if (o->user)
                        r = user_runtime_dir(dir, sizeof(dir), mode);
                snprintf(p->api_socket, sizeof(p->api_socket), "%s/api.sock", dir);
        }
        snprintf(p->bus_socket, sizeof(p->bus_socket), "%s/bus.sock", dir);
        snprintf(p->admin_socket, sizeof(p->admin_socket), "%s/admin.sock", dir);
        return r;
}

static void usual_state_dir(char *buf, size_t size, bool user) {
        const char *given = getenv("STATE_DIRECTORY"), *cache = getenv("XDG_CACHE_HOME"),
                   *home = getenv("HOME");

        if (!user)
                snprintf(buf, size, "%.*s", given ? (int)strcspn(given, ":") : 16,
                         given ? given : "/var/lib/bitnetd");
        else if (cache && cache[0] == '/')
                snprintf(buf, size, "%s/bitnetd", cache);
        else if (home && home[0] == '/')
                snprintf(buf, size, "%s/.cache/bitnetd", home);
        else
                snprintf(buf, size, "/tmp/bitnetd-cache-%u", (unsigned)geteuid());
}

int places_init(struct places *p, const struct options *o) {
        int r = socket_paths(p, o);

        if (r < 0)
                return r;
        if (o->state_dir)
                snprintf(p->state_dir, sizeof(p->state_dir), "%s", o->state_dir);
        else
                usual_state_dir(p->state_dir, sizeof(p->state_dir), o->user);
        r = places_make_dirs(p->state_dir, 0700);
        return r < 0 ? r : check_dir(p->state_dir);
}

static bool somebody_answers(const struct sockaddr_un *sa) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        return fd >= 0 && (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 ||
                           errno == EAGAIN);
}

/* The socket appears under its name only when it listens already: whoever sees it can connect. */
int places_listen(const char *path, mode_t mode, int *ret_fd) {
        struct sockaddr_un final = { .sun_family = AF_UNIX }, sa = final;
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        mode_t old;
        int r;

        if (fd < 0)
                return -errno;
        snprintf(final.sun_path, sizeof(final.sun_path), "%s", path);
        if (somebody_answers(&final))
                return -EADDRINUSE;
        if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s~", path) >= (int)sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        unlink(sa.sun_path);
        old = umask(0177);
        r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
        umask(old);
        if (r < 0)
                return r;
        if (chmod(sa.sun_path, mode) < 0 || listen(fd, 128) < 0 ||
            rename(sa.sun_path, path) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static bool ends_with(const char *s, const char *end) {
        size_t n = strlen(s), m = strlen(end);

        return n >= m && strcmp(s + n - m, end) == 0;
}

int places_inherited(int *ret_api, int *ret_bus, int *ret_admin) {
        char **names = NULL;
        int n = sd_listen_fds_with_names(1, &names);

        *ret_api = *ret_bus = *ret_admin = -1;
        if (n < 0)
                return n;
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;
                struct sockaddr_un sa = {};
                socklen_t size = sizeof(sa) - 1;

                fcntl(fd, F_SETFL, O_NONBLOCK);
                getsockname(fd, (struct sockaddr *)&sa, &size);
                if (strcmp(names[i], "api") == 0 || ends_with(sa.sun_path, "/api.sock"))
                        *ret_api = fd;
                else if (strcmp(names[i], "bus") == 0 || ends_with(sa.sun_path, "/bus.sock"))
                        *ret_bus = fd;
                else if (strcmp(names[i], "admin") == 0 || ends_with(sa.sun_path, "/admin.sock"))
                        *ret_admin = fd;
                else
                        close(fd);
                free(names[i]);
        }
        free(names);
        return 0;
}
