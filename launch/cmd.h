/* cmd.h : the subcommands of taut. Each has the form of main(), argv[0] being its last word, and returns an exit code. */
#ifndef TAUT_CMD_H
#define TAUT_CMD_H

int cmd_info(int argc, char **argv);
int cmd_encode(int argc, char **argv);
int cmd_decode(int argc, char **argv);
int cmd_bench_codec(int argc, char **argv);
int cmd_bench_allreduce(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_data(int argc, char **argv); /* finds its own subcommand: cmd_data.h */

/* Becomes libexec/NAME, with the same arguments; returns only where it cannot: an exit code. (start.c) */
int cmd_start(const char *name, char **argv);

#endif
