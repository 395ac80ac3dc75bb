/* interrupt.c : see interrupt.h. */
#include "interrupt.h"
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t seen;

static void note(int signal) { seen = signal; }

void interrupt_watch(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = note;
    a.sa_flags = SA_RESTART | (int)SA_RESETHAND; /* the next one finds the default */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGXFSZ, SIG_IGN);
}

int interrupt_seen(void) { return seen; }

const char *interrupt_name(int signal) { return signal == SIGINT ? "SIGINT" : "SIGTERM"; }
