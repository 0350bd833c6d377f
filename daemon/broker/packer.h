/* One throw-away worker in pack mode: source descriptor in, packed file out. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/broker/spawn.h"
#include "daemon/wire/frame.h"

struct packer;

struct packer_request {
        const char *name;      /* legal model name */
        int source;            /* read-only, borrowed */
        uint64_t source_size;
        int output;            /* empty and writable, borrowed */
        uint32_t cpu_mask;
        enum wire_i2s i2s;
        enum wire_packing packing;
        /* Once: error is 0 and packed says what the worker said (which may be a refusal), or
         * error is a negative errno and packed is NULL. The packer is freed after it. */
        void (*done)(void *userdata, int error, const struct wire_packed *packed);
        void *userdata;
};

int packer_start(struct packer **ret, sd_event *event, const struct spawn *spawn,
                 const struct packer_request *request);
/* Ends the worker without calling done. NULL is fine; returns NULL. */
struct packer *packer_cancel(struct packer *p);
