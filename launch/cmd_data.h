/* cmd_data.h : the subcommands of `taut data`. Each has the form of main(), argv[0] being its last word. */
#ifndef TAUT_CMD_DATA_H
#define TAUT_CMD_DATA_H

int cmd_data_pack(int argc, char **argv);
int cmd_data_index(int argc, char **argv);
int cmd_data_export(int argc, char **argv);
int cmd_data_info(int argc, char **argv);
int cmd_data_verify(int argc, char **argv);
int cmd_data_cat(int argc, char **argv);
int cmd_data_bench(int argc, char **argv);
int cmd_data_plan(int argc, char **argv);
int cmd_data_distill(int argc, char **argv); /* starts libexec/taut-distill */
int cmd_data_compare(int argc, char **argv);

#endif
