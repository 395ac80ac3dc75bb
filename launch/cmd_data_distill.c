/* cmd_data_distill.c : `taut data distill`, a program of its own (launch/distill). */
#include "cmd.h"
#include "cmd_data.h"

int cmd_data_distill(int argc, char **argv)
{
    (void)argc;
    return cmd_start("taut-distill", argv);
}
