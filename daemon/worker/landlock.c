/* An empty Landlock rule set: every right that the kernel knows is handled, none is given back.
 * Descriptors that were handed over keep working, opening anything does not. The level depends on
 * the kernel and is reported, never assumed. By system call, because C libraries have no wrappers
 * and older headers lack the younger rights. */
#include "daemon/worker/landlock.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/macro.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif

enum { CREATE_RULESET_VERSION = 1 };

/* struct landlock_ruleset_attr of the newest ABI known here. */
struct ruleset {
        uint64_t fs, net, scoped;
};

struct landlock_rights landlock_rights(unsigned abi) {
        struct landlock_rights r = { 0 };

        if (abi >= 1) {
                r.fs = (UINT64_C(1) << 13) - 1; /* execute, read, write, list, remove, make */
                r.size = sizeof(uint64_t);
        }
        if (abi >= 2)
                r.fs |= UINT64_C(1) << 13; /* link and rename between directories */
        if (abi >= 3)
                r.fs |= UINT64_C(1) << 14; /* truncate */
        if (abi >= 4) {
                r.net = 3; /* TCP bind and connect */
                r.size = 2 * sizeof(uint64_t);
        }
        if (abi >= 5)
                r.fs |= UINT64_C(1) << 15; /* ioctl of devices */
        if (abi >= 6) {
                r.scoped = 3; /* abstract sockets, signals */
                r.size = 3 * sizeof(uint64_t);
        }
        if (abi >= 9)
                r.fs |= UINT64_C(1) << 16; /* connecting to sockets by path */
        return r;
}

unsigned landlock_abi(void) {
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

        return abi > 0 ? (unsigned)abi : 0;
}

int landlock_enter(void) {
        unsigned abi = MIN(landlock_abi(), (unsigned)LANDLOCK_ABI_KNOWN);
        struct landlock_rights rights = landlock_rights(abi);
        struct ruleset attr = { rights.fs, rights.net, rights.scoped };

        if (abi == 0)
                return 0;
        _cleanup_close_ int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, rights.size, 0);
        if (fd < 0)
                return -errno;
        if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
                return -errno;
        return (int)abi;
}
