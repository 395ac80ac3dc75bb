/* interrupt.h : SIGINT, SIGTERM and SIGUSR1 as wishes: a run ends at the end of its step. A second SIGINT or SIGTERM kills. */
#ifndef TRAIN_INTERRUPT_H
#define TRAIN_INTERRUPT_H

/* interrupt_watch() : from now on. A write beyond the file size limit becomes an error, too, instead of a signal. */
void interrupt_watch(void);

int         interrupt_seen(void); /* whichever of them came last; 0 = none */
const char *interrupt_name(int signal);

#endif
