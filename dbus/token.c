/* The sender is part of the path, so nobody can take a name that another client counts on: a
 * message bus gives each connection its own name, never again to another. A private connection has
 * the name that Hello tells it, which is random: it says nothing of how many others there are.
 * Whether an object may be seen is not decided by its path, but by its owner's uid. */
#include <stdio.h>
#include <string.h>

#include "dbus/token.h"
#include "engine/base/macro.h"

enum { TOKEN_MAX = 64 };

bool token_valid(const char *token) {
        size_t n = strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

        return n >= 1 && n <= TOKEN_MAX && token[n] == '\0';
}

char *token_path(const char *prefix, const struct peer *p, sd_bus_message *m, const char *token) {
        const char *sender = p->message_bus ? sd_bus_message_get_sender(m) : p->name;
        char *path;

        if (asprintf(&path, "%s/%s/%s", prefix, sender + 1, token) < 0)
                return NULL;
        for (char *c = path + strlen(prefix) + 1; *c != '/'; c++)
                if (*c == '.' || *c == '-')
                        *c = '_';
        return path;
}
