/* creation.c : see creation.h. */
#include "creation.h"
#include "comm/base/thread.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const double SOON_S = 15; /* the timeout is four times as long */

static taut_config config(void)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = "quant:bits=8";
    cfg.timeout_ms = 60000;
    cfg.threads = 3;
    return cfg;
}

static int entries(const char *dir)
{
    int  n = 0;
    DIR *d = opendir(dir);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

/* ---- what is held ---- */

typedef struct held {
    size_t bytes;
    int    threads, files;
} held;

static held look(void) { return (held){taut__alloc_bytes(), entries("/proc/self/task"), entries("/proc/self/fd")}; }

/* A thread that has been joined may be listed a little longer. */
static taut_status nothing_kept(const held *before)
{
    held now = look();
    for (int i = 0; i < 1000 && now.threads > before->threads; i++) usleep(1000), now = look();
    if (now.bytes <= before->bytes && now.threads <= before->threads && now.files <= before->files) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "kept: %zu bytes, %d threads, %d files, of %zu, %d, %d", now.bytes, now.threads,
                      now.files, before->bytes, before->threads, before->files);
}

/* ---- one attempt ---- */

/* status: what the one who fails returns, and with it all others. */
static taut_status judge(creation *c, const char *how, int who, taut_status s, taut_status status, const void *comm,
                         double seconds)
{
    char name[32], text[512];
    snprintf(name, sizeof name, "rank %d: ", who);
    snprintf(text, sizeof text, "%s", taut_last_error());
    bool named = c->rank == who || c->size == 1 || strstr(text, name);
    if (s == status && named && !comm && seconds < SOON_S) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "%s on rank %d: rank %d returns %s after %.1f s%s: %s", how, who, c->rank,
                      taut_status_name(s), seconds, comm ? " and a communicator" : "", text);
}

static taut_status attempt(creation *c, const taut_config *cfg, taut_comm **comm, double *seconds)
{
    double      begin = taut__now();
    taut_status s = c->create(c, cfg, comm);
    *seconds = taut__now() - begin;
    return s;
}

static taut_status succeeds(creation *c)
{
    taut_config cfg = config();
    taut_comm  *comm;
    double      seconds;
    TAUT_TRY(attempt(c, &cfg, &comm, &seconds));
    NEED(taut_comm_rank(comm) == c->rank && taut_comm_size(comm) == c->size);
    taut_comm_destroy(comm);
    c->least(c, 0); /* gone on all of them */
    return TAUT_OK;
}

/* The n-th of what `arm` counts fails, for n = 0, step, 2 * step ... until there are no more. */
static taut_status until_it_succeeds(creation *c, const char *what, void (*arm)(int n), int step, int who)
{
    taut_config cfg = config();
    for (int n = 0;; n += step) {
        char       how[64];
        double     seconds;
        taut_comm *comm = NULL;
        const held before = look();
        if (c->rank == who) arm(n);
        taut_status s = attempt(c, &cfg, &comm, &seconds);
        arm(-1);
        int some = -c->least(c, -(s == TAUT_OK)), all = c->least(c, s == TAUT_OK);
        snprintf(how, sizeof how, "%s number %d", what, n);
        if (some != all) return taut__fail(TAUT_E_INVALID, "%s: some ranks have a communicator", how);
        if (all) {
            taut_comm_destroy(comm);
            c->least(c, 0);
            return n > 0 ? TAUT_OK : taut__fail(TAUT_E_INVALID, "%s: nothing fails", what);
        }
        TAUT_TRY(judge(c, how, who, s, TAUT_E_NOMEM, comm, seconds));
        TAUT_TRY(nothing_kept(&before));
    }
}

static void no_memory(int n) { taut__alloc_fail_after(n); }
static void no_thread(int n) { taut__thread_fail_after(n); }

taut_status creation_without_memory(creation *c)
{
    TAUT_TRY(succeeds(c)); /* what is allocated once and for all */
    for (int who = 0; who<c->size; who += c->size> 1 ? c->size - 1 : 1)
        TAUT_TRY(until_it_succeeds(c, "allocation", no_memory, c->every, who));
    return TAUT_OK;
}

/* ---- and the rest ---- */

enum { WRONG_CODEC, WRONG_NUMBER, NO_METRICS, NO_TRACE, NOWHERE, KINDS };

static taut_status fails_alone(creation *c, int kind, int who, const char *dir)
{
    static const char *const how[] = {"a wrong codec", "a wrong number", "metrics", "a trace", "no place"};
    static const taut_status status[] = {TAUT_E_INVALID, TAUT_E_RANGE, TAUT_E_IO, TAUT_E_IO, TAUT_E_INVALID};
    taut_config              cfg = config();
    char                     path[128], trace[160];
    taut_comm               *comm = NULL;
    double                   seconds;
    bool                     odd = c->rank == who;
    const held               before = look();
    snprintf(path, sizeof path, "%s/%%r/taut.prom", dir);
    snprintf(trace, sizeof trace, "%s/%%r/trace.json", dir);
    if (kind == WRONG_CODEC && odd) cfg.codec = "no-such-codec";
    if (kind == WRONG_NUMBER && odd) cfg.slice_kib = 3;
    if (kind == NO_METRICS) setenv("TAUT_METRICS", path, 1);
    if (kind == NO_TRACE) cfg.trace = trace;
    taut_status s = attempt(c, &cfg, kind == NOWHERE && odd ? NULL : &comm, &seconds);
    unsetenv("TAUT_METRICS");
    TAUT_TRY(judge(c, how[kind], who, s, status[kind], comm, seconds));
    return nothing_kept(&before);
}

/* A folder with one of each rank's own, but not of who. */
static taut_status folders(const creation *c, int who, char *dir, size_t cap)
{
    char path[160];
    snprintf(dir, cap, "/tmp/taut-creation-%ld", (long)getpid());
    NEED(mkdir(dir, 0700) == 0);
    snprintf(path, sizeof path, "%s/%d", dir, c->rank);
    if (c->rank != who) NEED(mkdir(path, 0700) == 0);
    return TAUT_OK;
}

static void remove_folders(const creation *c, const char *dir)
{
    static const char *const file[] = {"/taut.prom", "/trace.json", ""};
    char                     path[160];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%d%s", dir, c->rank, file[i]);
        remove(path);
    }
    remove(dir);
}

taut_status creation_otherwise(creation *c)
{
    TAUT_TRY(succeeds(c));
    for (int who = 0; who<c->size; who += c->size> 1 ? c->size - 1 : 1) {
        char dir[64];
        TAUT_TRY(until_it_succeeds(c, "thread", no_thread, 1, who));
        TAUT_TRY(folders(c, who, dir, sizeof dir));
        taut_status s = TAUT_OK;
        for (int kind = 0; s == TAUT_OK && kind < KINDS; kind++) s = fails_alone(c, kind, who, dir);
        remove_folders(c, dir);
        TAUT_TRY(s);
        TAUT_TRY(succeeds(c));
    }
    return TAUT_OK;
}
