/* Leaving when nobody needs the daemon: it is started again by the next connection or bus call. */
#pragma once

#include <stdint.h>

struct broker;

/* What "a while" is when nothing says otherwise and systemd has given us our sockets. */
enum { IDLE_EXIT_SEC = 1800 };

/* 0 or a negative errno; seconds 0: never. */
int idle_watch(struct broker *b, uint64_t seconds);
