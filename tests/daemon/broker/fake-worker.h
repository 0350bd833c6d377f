/* What tests and the fake worker have agreed on. */
#pragma once

#define FAKE_ANSWER "fixed answer\n"
#define FAKE_PACKED "packed weights"

enum {
        FAKE_SOURCE_BAD = 'B',   /* first byte of a model file the packer refuses */
        FAKE_SOURCE_CRASH = 'X', /* and of one it dies from */
        FAKE_ILLEGAL_KINDS = 13,
        /* what a job of the bus says of itself, and how often "flood" reports */
        FAKE_TOKENS_IN = 5, FAKE_TOKENS_OUT = 1000, FAKE_FLOOD_OUT = 100000, FAKE_FLOOD = 400,
        /* --threads: behaviour at the start */
        FAKE_THREADS_OPEN = 13,   /* READY without a filter */
        FAKE_THREADS_SILENT = 14, /* never READY */
        FAKE_THREADS_EXIT = 15,   /* ends at once */
#ifdef BITNETD_SANITIZING
        FAKE_SECCOMP = 0,
#else
        FAKE_SECCOMP = 2,
#endif
};
