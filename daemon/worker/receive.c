/* Start-up and pack mode have nothing else to do than wait; anything but the expected message is
 * fatal. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <unistd.h>

#include "daemon/worker/receive.h"

int receive_type(int sock, uint32_t type, union wire_message *ret, int *ret_fd) {
        struct pollfd p = { .fd = sock, .events = POLLIN };
        int r, fd = -1;

        while ((r = wire_receive(sock, ret, &fd)) == -EAGAIN)
                if (ppoll(&p, 1, NULL, NULL) < 0 && errno != EINTR)
                        return -errno;
        if (r < 0)
                return r;
        if (ret->h.type != type) {
                if (fd >= 0)
                        close(fd);
                return -EBADMSG;
        }
        if (ret_fd)
                *ret_fd = fd;
        return 0;
}
