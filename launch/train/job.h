/* job.h : one job of `taut train`, all that its command line asks for: one process may run several, one after the other. */
#ifndef TRAIN_JOB_H
#define TRAIN_JOB_H

/* Between ranks_start() and ranks_end(), on all ranks. Operands are moved to the front of argv. Returns the exit code. */
int job_run(int argc, char **argv);

#endif
