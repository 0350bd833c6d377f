/* One random secret in a file that only the daemon can read; users' keys are derived from it, so
 * that a receipt can be compared after a restart, and no user can compute what another's would be.
 * The secret says nothing about any text: who has it can only try out texts against a receipt. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "daemon/broker/receipt_key.h"
#include "engine/base/macro.h"

static const char file_name[] = "receipt-key", new_name[] = "receipt-key.new";

static int make(int dir, uint8_t ret[RECEIPT_KEY_SIZE]) {
        _cleanup_close_ int fd = -1;

        unlinkat(dir, new_name, 0);
        fd = openat(dir, new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        randombytes_buf(ret, RECEIPT_KEY_SIZE);
        errno = EIO; /* for a write that was cut */
        if (write(fd, ret, RECEIPT_KEY_SIZE) != RECEIPT_KEY_SIZE || fsync(fd) < 0 ||
            renameat(dir, new_name, dir, file_name) < 0)
                return -errno;
        return 0;
}

int receipt_key_load(const char *state_dir, uint8_t ret[RECEIPT_KEY_SIZE]) {
        _cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;

        if (dir < 0)
                return -errno;
        fd = openat(dir, file_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 && errno != ENOENT)
                return -errno;
        if (fd >= 0 && read(fd, ret, RECEIPT_KEY_SIZE) == RECEIPT_KEY_SIZE)
                return 0;
        return make(dir, ret);
}

void receipt_key_of(const uint8_t secret[RECEIPT_KEY_SIZE], uid_t uid,
                    uint8_t ret[RECEIPT_KEY_SIZE]) {
        uint32_t id = uid;

        crypto_generichash(ret, RECEIPT_KEY_SIZE, (const uint8_t *)&id, sizeof(id), secret,
                           RECEIPT_KEY_SIZE);
}
