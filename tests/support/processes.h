/* processes.h : ranks as processes, forked by the test and connected over TCP on the loopback interface. */
#ifndef TAUT_TEST_PROCESSES_H
#define TAUT_TEST_PROCESSES_H

#include "comm/taut_tcp.h"
#include "ranks.h"
#include <sys/types.h>

/* What a rank leaves behind, in shared memory. */
typedef struct process {
    pid_t           pid;
    int             rank, size;
    taut_status     status;
    char            error[512];
    double          seconds;  /* of the body */
    _Atomic int     at;       /* how far the body is, for others to see */
    uint64_t        hash[64]; /* the body's */
    void           *arg;
    struct process *all;
    taut_tcp        where; /* rank, ranks and root are filled in */
    int             wait;  /* of the process: waitpid's status */
} process;

/* comm: created; NULL with raw. Destroyed behind the body, unless that has set it to NULL. */
typedef taut_status (*process_body)(process *p, taut_comm **comm);

/* size processes run body; raw: without a communicator. The result: size of them, until the next call. */
process *processes_run(int size, const taut_config *cfg, process_body body, void *arg, bool raw);
void     processes_ok(const process *p, int size); /* all returned TAUT_OK */
int      processes_port(void);                     /* one of the loopback interface that is free now */

#endif
