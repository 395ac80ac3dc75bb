/* main.c : `taut train`, started by the command as libexec/taut-train. Uses the public headers only, as any training
 * program would. */
#include "../cli.h"
#include "job.h"
#include "ranks.h"

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv);
    cli_speak(ranks_rank() == 0);
    int code = job_run(argc, argv);
    ranks_end();
    return cli_leave(code);
}
