/* interrupt.h : SIGINT and SIGTERM as wishes: a run ends at the end of its step. A second signal of the kind kills. */
#ifndef TRAIN_INTERRUPT_H
#define TRAIN_INTERRUPT_H

/* interrupt_watch() : from now on. A write beyond the file size limit becomes an error, too, instead of a signal. */
void interrupt_watch(void);

int         interrupt_seen(void);      /* SIGINT or SIGTERM, whichever came last; 0 = none */
const char *interrupt_name(int signal);

#endif
