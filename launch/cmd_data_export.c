#include "cli.h"
#include "cmd_data.h"
int cmd_data_export(int argc, char **argv) { (void)argc, (void)argv; return cli_fail("not yet"); }
