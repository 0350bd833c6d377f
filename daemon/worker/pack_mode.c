/* Pack mode: two messages in, one out. The source is mapped read-only; a client that shortens it
 * meanwhile raises SIGBUS, which ends the process with a FAULT. Which of the three known layouts an
 * I2_S tensor has cannot be told from the file, so the most common one is taken. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/wire/frame.h"
#include "daemon/worker/pack_mode.h"
#include "daemon/worker/packing.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/receive.h"
#include "engine/base/macro.h"
#include "engine/model/pack.h"

struct mapping {
        void *p;
        size_t n;
};

static void unmap(struct mapping *m) {
        if (m->p)
                munmap(m->p, m->n);
}

static int map_source(int fd, struct mapping *ret, struct model_error *err) {
        off_t size = lseek(fd, 0, SEEK_END);
        void *p;

        if (size <= 0)
                return model_fail(err, size == 0 ? MODEL_E_TRUNCATED : MODEL_E_IO, 0, 0, 0, NULL,
                                  0);
        p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
                return model_fail(err, MODEL_E_IO, 0, 0, 0, NULL, 0);
        *ret = (struct mapping){ p, (size_t)size };
        return 0;
}

static_assert((int)WIRE_I2S_64_16 == I2S_64_16 && (int)WIRE_I2S_1X4 == I2S_1X4, "same numbers");

static enum ternary_packing packing_of(uint32_t asked, unsigned cpu_flags) {
        if (asked == WIRE_PACKING_AUTO)
                return packing_measure(cpu_flags);
        return asked == WIRE_PACKING_2 ? TERNARY_2_BITS : TERNARY_BASE_3;
}

static int pack(int source, int output, const struct wire_pack_output *how, unsigned cpu_flags,
                uint64_t *ret_size, struct model_error *err) {
        const struct pack_options options = { .i2s = (enum i2s_layout)how->i2s,
                                              .ternary = packing_of(how->packing, cpu_flags),
                                              .float_head_as_s8 = true };
        _cleanup_(unmap) struct mapping m = {};
        int r = map_source(source, &m, err);

        if (r < 0)
                return r;
        return pack_model((struct view){ m.p, m.n }, output, &options, ret_size, err);
}

int pack_mode(int link_fd, unsigned cpu_flags) {
        _cleanup_close_ int source = -1, output = -1;
        struct model_error err = {};
        union wire_message m;
        uint64_t size = 0;
        int r;

        r = receive_type(link_fd, WIRE_MODEL, &m, &source);
        if (r < 0 || source < 0)
                return r < 0 ? r : -EBADMSG;
        r = receive_type(link_fd, WIRE_PACK_OUTPUT, &m, &output);
        if (r < 0)
                return r;
        r = pack(source, output, &m.pack_output, cpu_flags, &size, &err);
        if (r < 0 && err.code == MODEL_OK)
                err.code = r == -ENOMEM ? MODEL_E_MEMORY : MODEL_E_IO;
        m = (union wire_message){ .packed = { .h.type = WIRE_PACKED,
                                              .model_error = r < 0 ? err.code : MODEL_OK,
                                              .position = err.position, .value = err.value,
                                              .limit = err.limit, .size = r < 0 ? 0 : size } };
        return wire_send(link_fd, &m, -1);
}
