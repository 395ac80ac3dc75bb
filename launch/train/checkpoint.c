/* checkpoint.c : see checkpoint.h. A rank's file is one line of text, "taut-state STEP RANK RANKS BYTES", and the bytes
 * of taut_state_save(). Every file is written beside its target and renamed. */
#include "checkpoint.h"
#include "ranks.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void rank_path(char *dst, size_t cap, const char *file, int rank, const char *tail)
{
    snprintf(dst, cap, "%s.rank%d%s", file, rank, tail);
}

int checkpoint_probe(const options *o)
{
    char  path[PATH_MAX];
    FILE *f;
    if (!o->checkpoint) return 0;
    rank_path(path, sizeof path, o->checkpoint, ranks_rank(), ".part");
    if (!(f = fopen(path, "wb"))) return fault(CLI_FAILED, "--checkpoint: %s: %s", path, strerror(errno));
    fclose(f);
    unlink(path);
    return 0;
}

static int write_state(const char *file, int64_t step, const void *state, size_t n)
{
    char  path[PATH_MAX], part[PATH_MAX];
    FILE *f;
    bool  ok;
    rank_path(path, sizeof path, file, ranks_rank(), "");
    rank_path(part, sizeof part, file, ranks_rank(), ".part");
    if (!(f = fopen(part, "wb"))) return fault(CLI_FAILED, "--checkpoint: %s: %s", part, strerror(errno));
    ok = fprintf(f, "taut-state %" PRId64 " %d %d %zu\n", step, ranks_rank(), ranks_count(), n) > 0;
    ok = ok && fwrite(state, 1, n, f) == n;
    ok = fclose(f) == 0 && ok;
    if (ok && rename(part, path) == 0) return 0;
    unlink(part);
    return fault(CLI_FAILED, "--checkpoint: %s: could not be written: %s", path, strerror(errno));
}

int checkpoint_save(const options *o, int64_t step, const taut_torch_model *model, const taut_torch_optim *optim,
                    const taut_comm *comm)
{
    char        note[160];
    size_t      n = 0;
    void       *state = NULL;
    taut_status s = taut_state_save(comm, NULL, 0, &n);
    int         code = 0;
    if (s == TAUT_OK && !(state = malloc(n + 1))) return fault(CLI_FAILED, "--checkpoint: out of memory");
    if (s == TAUT_OK) s = taut_state_save(comm, state, n, &n);
    if (s != TAUT_OK) code = fault_status(CLI_FAILED, "--checkpoint", taut_last_error(), s);
    if (!code) code = write_state(o->checkpoint, step, state, n);
    free(state);
    if (code || ranks_rank() != 0) return code;
    snprintf(note, sizeof note, "{\"step\": %" PRId64 ", \"ranks\": %d, \"seed\": %llu, \"batch\": %" PRId64 "}",
             step, ranks_count(), (unsigned long long)o->seed, o->batch);
    s = taut_torch_save(model, optim, note, o->checkpoint);
    return s == TAUT_OK ? 0 : fault_status(CLI_FAILED, "--checkpoint", taut_torch_last_error(), s);
}

/* Reads the file of saved rank `from` and gives it to the communicator; join: only what all ranks share. */
static int read_state(const char *file, int from, int saved, int64_t step, bool join, taut_comm *comm)
{
    char        path[PATH_MAX];
    FILE       *f;
    int64_t     at;
    int         rank, ranks, code = 0;
    size_t      n = 0;
    void       *state = NULL;
    taut_status s;
    rank_path(path, sizeof path, file, from, "");
    if (!(f = fopen(path, "rb"))) return fault(CLI_FAILED, "--resume: %s: %s", path, strerror(errno));
    if (fscanf(f, "taut-state %" SCNd64 " %d %d %zu", &at, &rank, &ranks, &n) != 4 || fgetc(f) != '\n' ||
        rank != from)
        code = fault(CLI_FAILED, "--resume: %s: not a state file of rank %d", path, from);
    else if (at != step || ranks != saved)
        code = fault(CLI_FAILED, "--resume: %s is of step %" PRId64 " and %d ranks, %s of step %" PRId64 " and %d",
                     path, at, ranks, file, step, saved);
    else if (n > SIZE_MAX / 2 || !(state = malloc(n + 1)))
        code = fault(CLI_FAILED, "--resume: %s: out of memory for %zu bytes", path, n);
    else if (fread(state, 1, n, f) != n) code = fault(CLI_FAILED, "--resume: %s: truncated", path);
    else if ((s = join ? taut_state_join(comm, state, n) : taut_state_load(comm, state, n)) != TAUT_OK)
        code = fault_status(CLI_FAILED, path, taut_last_error(), s);
    free(state);
    fclose(f);
    return code;
}

static int read_note(const options *o, const char *note, int64_t *step, int *saved)
{
    json_t *j = json_loads(note ? note : "", 0, NULL);
    *step = json_integer_value(json_object_get(j, "step"));
    *saved = (int)json_integer_value(json_object_get(j, "ranks"));
    json_decref(j);
    if (*step < 1 || *saved < 1)
        return fault(CLI_FAILED, "--resume: %s was not written by taut train", o->checkpoint);
    if (*step >= o->steps)
        return fault(CLI_USAGE, "--steps=%" PRId64 ": %s is of step %" PRId64 " already: must be above that",
                     o->steps, o->checkpoint, *step);
    return 0;
}

int checkpoint_load(const options *o, int64_t *step, taut_torch_model *model, taut_torch_optim *optim,
                    taut_comm *comm)
{
    char       *note;
    int         saved, code;
    taut_status s = taut_torch_load(model, optim, o->checkpoint, &note);
    if (s != TAUT_OK) return fault_status(CLI_FAILED, "--resume", taut_torch_last_error(), s);
    code = read_note(o, note, step, &saved);
    taut_torch_note_free(note);
    for (int from = ranks_rank(); !code && from < saved; from += ranks_count())
        code = read_state(o->checkpoint, from, saved, *step, false, comm);
    if (!code && ranks_rank() >= saved) code = read_state(o->checkpoint, ranks_rank() % saved, saved, *step, true, comm);
    return code;
}
