/* shard_list.c : see shard_list.h. */
#include "shard_list.h"
#include "ranks.h"
#include "shards.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef TAUT_HAVE_ZSTD
#include "../../comm/taut_data.h"
#endif

static bool ends_in_taut(const char *name, size_t n) { return n > 5 && memcmp(name + n - 5, ".taut", 5) == 0; }

static int shard_name(const struct dirent *e)
{
    return e->d_name[0] != '.' && ends_in_taut(e->d_name, strlen(e->d_name));
}

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

/* Is the first of these files of another format, with an index beside it? An index that does not open says why later. */
static bool indexed(const char *text)
{
#ifdef TAUT_HAVE_ZSTD
    size_t          n = strcspn(text, ",");
    char            name[4096];
    taut_shard     *s;
    taut_shard_info info = {.size = sizeof info};
    if (n + 6 > sizeof name) return false;
    snprintf(name, sizeof name, "%.*s.taut", (int)n, text);
    if (access(name, F_OK) != 0) return false;
    if (taut_shard_open(name, &s) != TAUT_OK) return true;
    taut_shard_get_info(s, &info);
    taut_shard_close(s);
    return info.foreign;
#else
    return (void)text, false;
#endif
}

bool shards_named(const char *text)
{
    struct dirent **e;
    int             n;
    if (!text) return false;
    if (!is_folder(text)) return ends_in_taut(text, strlen(text)) || indexed(text);
    n = scandir(text, &e, shard_name, alphasort);
    for (int i = 0; i < n; i++) free(e[i]);
    if (n >= 0) free(e);
    return n > 0;
}

static int append(char ***path, size_t *n, const char *folder, const char *name, size_t length)
{
    char **more = realloc(*path, (*n + 1) * sizeof *more);
    size_t room = strlen(folder) + length + 2;
    if (more) *path = more;
    if (!more || !(more[*n] = malloc(room))) return fault(CLI_FAILED, "out of memory");
    snprintf(more[(*n)++], room, "%s%s%.*s", folder, *folder ? "/" : "", (int)length, name);
    return 0;
}

static int list_folder(const char *folder, char ***path, size_t *n, const char *option)
{
    struct dirent **e;
    int             found = scandir(folder, &e, shard_name, alphasort), code = 0;
    if (found < 0) return fault(CLI_FAILED, "%s=%s: %s", option, folder, strerror(errno));
    for (int i = 0; i < found; i++) {
        if (!code) code = append(path, n, folder, e[i]->d_name, strlen(e[i]->d_name));
        free(e[i]);
    }
    free(e);
    return code ? code : found ? 0 : fault(CLI_FAILED, "%s=%s: no *.taut in this folder", option, folder);
}

int shard_list(const char *text, char ***path, size_t *n, const char *option)
{
    *path = NULL;
    *n = 0;
    if (is_folder(text)) return list_folder(text, path, n, option);
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        int    code;
        if (length == 0) return fault(CLI_USAGE, "%s=%s: an empty name between commas", option, text);
        if ((code = append(path, n, "", at, length)) != 0) return code;
        at += length;
        if (!*at) return 0;
    }
}

void shard_list_free(char **path, size_t n)
{
    for (size_t i = 0; path && i < n; i++) free(path[i]);
    free(path);
}
