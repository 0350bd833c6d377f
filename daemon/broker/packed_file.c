/* Names, opening and the order of writes. The digest takes its name first and the packed file last,
 * so a packed file that exists always has its digest beside it; a crash in between leaves files
 * that the next start overwrites. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/packed_file.h"
#include "engine/base/macro.h"

struct name {
        char s[2 * HASH_SIZE + 16];
};

static struct name file_name(const uint8_t source[HASH_SIZE], const char *suffix) {
        struct name n;

        sodium_bin2hex(n.s, 2 * HASH_SIZE + 1, source, HASH_SIZE);
        strcat(n.s, suffix);
        return n;
}

static int open_regular(int dir, const char *name) {
        int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;

        if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
                close(fd);
                return -ENOENT;
        }
        return fd;
}

int packed_file_open(int dir, const uint8_t source[HASH_SIZE], int *ret_fd,
                     uint8_t ret_digest[HASH_SIZE]) {
        _cleanup_close_ int record = open_regular(dir, file_name(source, ".digest").s);
        _cleanup_close_ int packed = open_regular(dir, file_name(source, ".packed").s);
        uint8_t digest[HASH_SIZE];

        if (record < 0 || packed < 0 || read(record, digest, sizeof(digest)) != sizeof(digest))
                return -ENOENT;
        memcpy(ret_digest, digest, sizeof(digest));
        *ret_fd = TAKE_FD(packed);
        return 0;
}

static int create(int dir, const char *name) {
        int fd;

        unlinkat(dir, name, 0);
        fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        return fd < 0 ? -errno : fd;
}

int packed_file_create(int dir, const uint8_t source[HASH_SIZE], int *ret_fd) {
        int fd = create(dir, file_name(source, ".new").s);

        if (fd < 0)
                return fd;
        *ret_fd = fd;
        return 0;
}

void packed_file_abandon(int dir, const uint8_t source[HASH_SIZE]) {
        unlinkat(dir, file_name(source, ".new").s, 0);
}

void packed_file_remove(int dir, const uint8_t source[HASH_SIZE]) {
        unlinkat(dir, file_name(source, ".packed").s, 0);
        unlinkat(dir, file_name(source, ".digest").s, 0);
}

static int rename_in(int dir, struct name from, struct name to) {
        return renameat(dir, from.s, dir, to.s) < 0 ? -errno : 0;
}

int packed_file_commit(int dir, const uint8_t source[HASH_SIZE], int fd,
                       const uint8_t digest[HASH_SIZE]) {
        _cleanup_close_ int record = create(dir, file_name(source, ".digest-new").s);
        int r;

        if (record < 0)
                return record;
        if (write(record, digest, HASH_SIZE) != HASH_SIZE)
                return -EIO;
        if (fsync(record) < 0 || fsync(fd) < 0)
                return -errno;
        r = rename_in(dir, file_name(source, ".digest-new"), file_name(source, ".digest"));
        if (r == 0)
                r = rename_in(dir, file_name(source, ".new"), file_name(source, ".packed"));
        if (r == 0 && fsync(dir) < 0)
                r = -errno;
        return r;
}

/* Looks at the file in parts, so that a large one takes no large list. The kernel answers for a
 * file of our own. */
bool packed_file_cached(int fd, uint64_t size) {
        enum { PAGE = 4096, PART = 1 << 16 };
        _cleanup_free_ unsigned char *list = malloc(PART);
        uint64_t pages = 0, here = 0;

        for (uint64_t at = 0; list && at < size; at += (uint64_t)PART * PAGE) {
                size_t n = (size_t)MIN(size - at, (uint64_t)PART * PAGE);
                void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, (off_t)at);
                int r = map == MAP_FAILED ? -1 : mincore(map, n, list);

                if (map != MAP_FAILED)
                        munmap(map, n);
                if (r < 0)
                        return true;
                for (size_t i = 0; i < (n + PAGE - 1) / PAGE; i++)
                        here += list[i] & 1;
                pages += (n + PAGE - 1) / PAGE;
        }
        return here >= pages - pages / 8;
}
