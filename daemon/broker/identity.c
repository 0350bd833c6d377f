/* Names and groups of a uid, by the functions of the C library. They may ask a server, so this is
 * called once for each uid that appears, and only when the configuration names users or groups.
 * Group membership is that of the user database, not of the calling process: an account is one for
 * all processes of a uid, and a process can drop groups. Whoever has no entry is matched by number
 * alone. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/identity.h"
#include "daemon/broker/log.h"
#include "engine/base/macro.h"

enum { ENTRY_MAX_BYTES = 64 * 1024, GROUPS_MAX = 4096 };

static char *group_name(gid_t gid, char *buf) {
        struct group entry, *found;

        return getgrgid_r(gid, &entry, buf, ENTRY_MAX_BYTES, &found) == 0 && found
                       ? strdup(found->gr_name)
                       : NULL;
}

static void load_groups(struct identity *who, gid_t first, char *buf) {
        _cleanup_free_ gid_t *gids = calloc(GROUPS_MAX, sizeof(*gids));
        struct identity_group *groups;
        int n = GROUPS_MAX;

        if (!gids || getgrouplist(who->name, first, gids, &n) < 0)
                return;
        groups = calloc((size_t)n, sizeof(*groups));
        if (!groups)
                return;
        for (int i = 0; i < n; i++)
                groups[i] = (struct identity_group){ gids[i], group_name(gids[i], buf) };
        who->groups = groups;
        who->n_groups = (size_t)n;
}

void identity_load(struct identity *who) {
        _cleanup_free_ char *buf = malloc(ENTRY_MAX_BYTES);
        struct passwd entry, *found = NULL;
        gid_t gid;
        int r;

        if (!buf)
                return;
        r = getpwuid_r(who->uid, &entry, buf, ENTRY_MAX_BYTES, &found);
        if (r != 0)
                log_event(LOG_IDENTITY_UNKNOWN, who->uid, (uint64_t)r, 0);
        if (!found)
                return;
        gid = entry.pw_gid;
        who->name = strdup(entry.pw_name);
        if (who->name)
                load_groups(who, gid, buf);
}

void identity_done(struct identity *who) {
        for (size_t i = 0; i < who->n_groups; i++)
                free((char *)who->groups[i].name);
        free((void *)who->groups);
        free((char *)who->name);
}
