/* start.c : programs beside the command, which load libtorch so that nothing else has to. */
#include "cli.h"
#include "cmd.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* BIN/../libexec/NAME, BIN being where this program really is. */
int cmd_start(const char *name, char **argv)
{
    char    path[PATH_MAX + 64];
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 1);
    char   *slash;
    if (len < 0) return cli_fail("cannot read /proc/self/exe: %s", strerror(errno));
    path[len] = 0;
    for (int up = 0; up < 2; up++)
        if ((slash = strrchr(path, '/')) != NULL) *slash = 0;
    len = (ssize_t)strlen(path);
    snprintf(path + len, sizeof path - (size_t)len, "/libexec/%.48s", name);
    argv[0] = path;
    execv(path, argv);
    if (errno != ENOENT) return cli_fail("cannot start %s: %s", path, strerror(errno));
    return cli_fail("%s is not there: this taut was built without libtorch.\n"
                    "Install it (launch/setup on Debian and Ubuntu, or give make TORCH_DIR=.../include/torch) and "
                    "build again; `make print-config` shows what is found.",
                    path);
}
