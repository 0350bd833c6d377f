/* Files of the configuration and of /proc. The size that a file says it has is not asked for: those
 * of /proc say none. A path that leads to something else than a file does not hold the loop up. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/broker/text_file.h"
#include "engine/base/macro.h"

int text_file_read(const char *path, char *buf, size_t size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        size_t n = 0;
        ssize_t r;

        if (fd < 0)
                return -errno;
        while (n < size - 1 && (r = read(fd, buf + n, size - 1 - n)) != 0) {
                if (r < 0)
                        return -errno;
                n += (size_t)r;
        }
        buf[n] = '\0';
        if (n == size - 1)
                return -EFBIG;
        return strlen(buf) == n ? 0 : -EILSEQ;
}
