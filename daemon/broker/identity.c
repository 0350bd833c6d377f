/* Names and groups of a uid, by the functions of the C library. They may ask a server, so answers
 * are remembered until the configuration is read anew, and nobody is asked for unless it names
 * users or groups. Until there is an answer a uid has the limits that its number gives it.
 * Group membership is that of the user database, not of the calling process: an account is one for
 * all processes of a uid, and a process can drop groups. Whoever has no entry is matched by number
 * alone. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/clock.h"
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

static int load_groups(struct identity *who, gid_t first, char *buf) {
        _cleanup_free_ gid_t *gids = calloc(GROUPS_MAX, sizeof(*gids));
        struct identity_group *groups;
        int n = GROUPS_MAX;

        if (!gids)
                return -ENOMEM;
        if (getgrouplist(who->name, first, gids, &n) < 0)
                return -E2BIG;
        groups = calloc((size_t)n, sizeof(*groups));
        if (!groups)
                return -ENOMEM;
        for (int i = 0; i < n; i++)
                groups[i] = (struct identity_group){ gids[i], group_name(gids[i], buf) };
        who->groups = groups;
        who->n_groups = (size_t)n;
        return 0;
}

static int load(struct identity *who) {
        _cleanup_free_ char *buf = malloc(ENTRY_MAX_BYTES);
        struct passwd entry, *found = NULL;
        gid_t gid;
        int r;

        if (!buf)
                return -ENOMEM;
        r = getpwuid_r(who->uid, &entry, buf, ENTRY_MAX_BYTES, &found);
        if (r != 0 || !found)
                return -r;
        gid = who->gid = entry.pw_gid;
        who->name = strdup(entry.pw_name);
        return who->name ? load_groups(who, gid, buf) : -ENOMEM;
}

static void identity_done(struct identity *who) {
        for (size_t i = 0; i < who->n_groups; i++)
                free((char *)who->groups[i].name);
        free((void *)who->groups);
        free((char *)who->name);
        *who = (struct identity){ .uid = who->uid };
}

/* The place of a uid; an empty or the oldest one when it has none. */
static struct known_identity *place_of(struct identities *i, uid_t uid) {
        struct known_identity *k = NULL;

        for (unsigned j = 0; j < LIMIT_ACCOUNTS; j++) {
                if (i->known[j].asked_usec && i->known[j].who.uid == uid)
                        return &i->known[j];
                if (!i->known[j].asked_usec && !k)
                        k = &i->known[j];
        }
        if (!k) {
                k = &i->known[i->next];
                i->next = (i->next + 1) % LIMIT_ACCOUNTS;
        }
        identity_done(&k->who);
        *k = (struct known_identity){ .who.uid = uid };
        return k;
}

static void ask(struct known_identity *k) {
        int r = load(&k->who);

        k->asked_usec = now_monotonic();
        k->answered = r == 0;
        if (r == 0)
                return;
        log_event(LOG_IDENTITY_UNKNOWN, k->who.uid, (uint64_t)-r, 0);
        identity_done(&k->who);
}

int identities_get(struct identities *i, uid_t uid, const struct identity **ret) {
        struct known_identity *k = place_of(i, uid);

        if (!k->answered && (k->asked_usec == 0 ||
                             now_monotonic() - k->asked_usec >= IDENTITY_AGAIN_USEC))
                ask(k);
        *ret = &k->who;
        return k->answered ? 0 : -EAGAIN;
}

void identities_forget(struct identities *i) {
        for (unsigned j = 0; j < LIMIT_ACCOUNTS; j++)
                identity_done(&i->known[j].who);
        *i = (struct identities){};
}
