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
    sigemptyset(&a.sa_mask);
    a.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &a, NULL);    /* may come twice, from a batch system and through a launcher */
    a.sa_flags |= (int)SA_RESETHAND; /* the next one finds the default */
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGXFSZ, SIG_IGN);
}

int interrupt_seen(void) { return seen; }

const char *interrupt_name(int signal)
{
    return signal == SIGINT ? "SIGINT" : signal == SIGUSR1 ? "SIGUSR1" : "SIGTERM";
}
