/* cli_files.c : files that options name. See cli.h. */
#include "cli.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of where a file of this name lies or would lie; NULL: out of memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
}

const char *cli_unwritable(const char *path)
{
    struct stat st;
    const char *why = NULL;
    char       *folder = folder_of(path);
    if (!folder) why = "out of memory";
    else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) why = "it is a folder";
    else if (access(folder, W_OK | X_OK) != 0) why = strerror(errno);
    free(folder);
    return why;
}

const char *cli_unreplaceable(const char *path)
{
    struct stat st;
    const char *why = cli_unwritable(path);
    return !why && stat(path, &st) == 0 && !S_ISREG(st.st_mode) ? "it is there and not a regular file" : why;
}

static int writable(const char *option, const char *path, const char *why)
{
    return why ? cli_fail("%s %s: cannot be written: %s", option, path, why) : CLI_OK;
}

int cli_writable(const char *option, const char *path) { return writable(option, path, cli_unwritable(path)); }
int cli_replaceable(const char *option, const char *path) { return writable(option, path, cli_unreplaceable(path)); }

int cli_apart(const char *option, const char *path, size_t n, char *const *input)
{
    struct stat out, in;
    if (stat(path, &out) != 0) return CLI_OK;
    for (size_t i = 0; i < n; i++)
        if (stat(input[i], &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return cli_usage("%s %s: is %s, which is read: name another", option, path, input[i]);
    return CLI_OK;
}

int cli_apart_lists(const char *option, const char *path, size_t n, const char *const *list)
{
    int rc = CLI_OK;
    for (size_t i = 0; path && i < n && rc == CLI_OK; i++) {
        char *whole = list[i] ? strdup(list[i]) : NULL, *rest = whole, *part;
        if (whole) rc = cli_apart(option, path, 1, &whole); /* a file with commas in its name */
        while (rc == CLI_OK && (part = strsep(&rest, ","))) rc = cli_apart(option, path, 1, &part);
        free(whole);
    }
    return rc;
}

bool cli_lies_in(const char *path, const char *folder)
{
    struct stat a, b;
    char       *own = folder_of(path);
    bool same = own && stat(own, &a) == 0 && stat(folder, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    free(own);
    return same;
}
