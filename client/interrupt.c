/* The one global of this program: a signal handler has no other place to leave a note. */

#include <signal.h>
#include <unistd.h>

#include "client/interrupt.h"

static volatile sig_atomic_t count;

static void on_signal(int signal) {
        if (count++ > 0)
                _exit(EXIT_INTERRUPTED);
}

void interrupt_install(void) {
        struct sigaction action = {.sa_handler = on_signal};

        sigemptyset(&action.sa_mask);
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        action.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &action, NULL);
}

bool interrupted(void) {
        return count > 0;
}

void interrupt_clear(void) {
        count = 0;
}
