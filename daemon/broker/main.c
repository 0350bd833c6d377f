/* Parses arguments, blocks the signals the loop handles (before any thread exists), runs. */
#include <signal.h>
#include <sodium.h>
#include <stddef.h>
#include <sysexits.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/log.h"

static void prepare_signals(void) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGCHLD);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv) {
        struct broker b = { .spawn.binary = -1 };
        int r = options_parse(argc, argv, &b.options);

        if (r != 0)
                return r == OPTIONS_E_SHOWN ? 0 : 2;
        if (sodium_init() < 0)
                return EX_OSERR;
        prepare_signals();
        log_to_journal(!b.options.user);
        return broker_run(&b);
}
