/* generations.c : see generations.h. */
#include "generations.h"
#include "../cli.h"
#include "manifest.h"
#include "ranks.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool digits(const char *s) { return *s && strspn(s, "0123456789") == strlen(s); }

/* The generation of a file called NAME.G.model or NAME.G.rankN; 0 = it is no such file. */
static uint64_t generation_of(const char *entry, const char *name)
{
    size_t n = strlen(name), len;
    char   number[24];
    if (strncmp(entry, name, n) != 0 || entry[n] != '.') return 0;
    entry += n + 1;
    len = strspn(entry, "0123456789");
    if (len == 0 || len >= sizeof number - 4 || entry[len] != '.') return 0;
    snprintf(number, sizeof number, "%.*s", (int)len, entry);
    entry += len + 1;
    if (strcmp(entry, "model") != 0 && strcmp(entry, "model.part") != 0 &&
        !(strncmp(entry, "rank", 4) == 0 && digits(entry + 4)))
        return 0;
    return strtoull(number, NULL, 10);
}

static const char *split(const char *file, char *dir)
{
    const char *slash = strrchr(file, '/');
    if (!slash) strcpy(dir, ".");
    else snprintf(dir, PATH_MAX, "%.*s", (int)(slash - file) + 1, file);
    return slash ? slash + 1 : file;
}

/* Calls for each file of a generation. */
static int each(const char *file, void (*call)(void *self, const char *path, uint64_t generation), void *self)
{
    char           dir[PATH_MAX], path[PATH_MAX + 300];
    const char    *name = split(file, dir);
    struct dirent *entry;
    DIR           *d = opendir(dir);
    if (!d) return fault(CLI_FAILED, "--checkpoint: %s: %s", dir, strerror(errno));
    while ((entry = readdir(d)) != NULL) {
        uint64_t generation = generation_of(entry->d_name, name);
        if (!generation) continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        call(self, path, generation);
    }
    closedir(d);
    return 0;
}

static void raise_next(void *self, const char *path, uint64_t generation)
{
    generations *g = self;
    (void)path;
    if (generation >= g->next) g->next = generation + 1;
}

int generations_open(generations *g, const char *file)
{
    manifest m = {0};
    size_t   n;
    int      code = 0;
    *g = (generations){.next = 1};
    if (access(file, F_OK) == 0) {
        code = stored_read("--checkpoint", file, MANIFEST_BYTES_MAX, &g->text, &n);
        if (!code) code = manifest_parse(&m, "--checkpoint", file, g->text, n);
        g->current = m.generation;
        manifest_free(&m);
    }
    if (!code) code = each(file, raise_next, g);
    if (code) generations_close(g);
    return code;
}

typedef struct drop {
    uint64_t newest, kept;
} drop;

static void remove_old(void *self, const char *path, uint64_t generation)
{
    const drop *d = self;
    if (generation != d->newest && generation != d->kept) unlink(path);
}

void generations_drop(const generations *g, const char *file, uint64_t newest)
{
    drop d = {newest, g->current};
    (void)each(file, remove_old, &d);
}

void generations_close(generations *g)
{
    free(g->text);
    *g = (generations){0};
}
