/* processes.c : see processes.h. */
#include "processes.h"
#include "suite.h"
#include <check.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <signal.h>

enum { MOST = 16, LIMIT_S = 60 };

int processes_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t          n = sizeof a;
    int                fd = socket(AF_INET, SOCK_STREAM, 0), rc = bind(fd, (void *)&a, sizeof a);
    if (rc == 0) getsockname(fd, (void *)&a, &n);
    close(fd);
    return ntohs(a.sin_port);
}

static void be_rank(process *p, const taut_config *cfg, process_body body, bool raw)
{
    taut_comm *comm = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(LIMIT_S);
    double begin = taut__now();
    p->status = raw ? TAUT_OK : taut_comm_create_tcp(&p->where, cfg, &comm);
    if (p->status == TAUT_OK) begin = taut__now(), p->status = body(p, &comm);
    p->seconds = taut__now() - begin;
    snprintf(p->error, sizeof p->error, "%s", p->status == TAUT_OK ? "" : taut_last_error());
    taut_comm_destroy(comm);
    fflush(stdout);
    suite_leave(0);
}

process *processes_run(int size, const taut_config *cfg, process_body body, void *arg, bool raw)
{
    static process *p;
    static char     root[32];
    if (p) munmap(p, MOST * sizeof *p);
    p = mmap(NULL, MOST * sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(p != MAP_FAILED && size <= MOST);
    snprintf(root, sizeof root, "127.0.0.1:%d", processes_port());
    fflush(stdout), fflush(stderr);
    for (int r = 0; r < size; r++) {
        p[r].rank = r, p[r].size = size, p[r].arg = arg, p[r].all = p, p[r].status = TAUT_STATUS_END_;
        p[r].where = (taut_tcp)TAUT_TCP_INIT;
        p[r].where.rank = r, p[r].where.ranks = size, p[r].where.root = root;
    }
    for (int r = 0; r < size; r++) {
        pid_t pid = fork(); /* the memory is the child's, too */
        ck_assert(pid >= 0);
        if (pid == 0) be_rank(&p[r], cfg, body, raw);
        p[r].pid = pid;
    }
    for (int r = 0; r < size; r++) waitpid(p[r].pid, &p[r].wait, 0);
    return p;
}

void processes_ok(const process *p, int size)
{
    for (int r = 0; r < size; r++)
        ck_assert_msg(p[r].status == TAUT_OK, "rank %d of %d: %s: %s (process ended with %x)", r, size,
                      taut_status_name(p[r].status), p[r].error, (unsigned)p[r].wait);
}
