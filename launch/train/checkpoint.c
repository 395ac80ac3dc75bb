/* checkpoint.c : see checkpoint.h. A rank's file is one line of text, "taut-state STEP RANK RANKS BYTES", and the bytes
 * of taut_state_save().
 *
 * Saving, in phases; between them all ranks agree, and one that failed makes all remove what they wrote:
 *   1  every rank writes its state, rank 0 the model too, under names that no earlier set has
 *   2  rank 0 gathers the checksums, writes the old manifest to FILE.prev and then the new one to FILE
 *   3  rank 0 removes the files of generations that neither names */
#include "checkpoint.h"
#include "generations.h"
#include "ranks.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAVING  "--checkpoint"
#define LOADING "--resume"

static void model_path(char *dst, const char *file, uint64_t generation)
{
    snprintf(dst, PATH_MAX, "%s.%" PRIu64 ".model", file, generation);
}
static void rank_path(char *dst, const char *file, uint64_t generation, int rank)
{
    snprintf(dst, PATH_MAX, "%s.%" PRIu64 ".rank%d", file, generation, rank);
}
static void previous_path(char *dst, const char *file) { snprintf(dst, PATH_MAX, "%s.prev", file); }

int checkpoint_probe(const options *o)
{
    char        path[PATH_MAX];
    generations g;
    int         code;
    if (!o->checkpoint) return 0;
    if (strlen(o->checkpoint) + 64 > PATH_MAX)
        return fault(CLI_USAGE, SAVING "=%s: at most %d characters", o->checkpoint, PATH_MAX - 64);
    if (ranks_rank() == 0 && !o->resume) {
        if ((code = generations_open(&g, o->checkpoint)) != 0) return code;
        generations_close(&g);
    }
    rank_path(path, o->checkpoint, 0, ranks_rank());
    if ((code = stored_write(SAVING, path, "", "", 0)) == 0) unlink(path);
    return code;
}

/* ---- save ---- */

static int save_state(const char *path, int64_t step, const taut_comm *comm)
{
    char        head[96];
    size_t      n = 0;
    void       *state = NULL;
    int         code;
    taut_status s = taut_state_save(comm, NULL, 0, &n);
    if (s == TAUT_OK && !(state = malloc(n + 1))) return fault(CLI_FAILED, SAVING ": out of memory");
    if (s == TAUT_OK) s = taut_state_save(comm, state, n, &n);
    if (s != TAUT_OK) code = fault_status(CLI_FAILED, SAVING, taut_last_error(), s);
    else {
        snprintf(head, sizeof head, "taut-state %" PRId64 " %d %d %zu\n", step, ranks_rank(), ranks_count(), n);
        code = stored_write(SAVING, path, head, state, n);
    }
    free(state);
    return code;
}

static int save_model(const char *path, int64_t step, const taut_torch_model *model, const taut_torch_optim *optim)
{
    char        note[96];
    taut_status s;
    snprintf(note, sizeof note, "taut train, step %" PRId64 ", %d ranks", step, ranks_count());
    s = taut_torch_save(model, optim, note, path);
    return s == TAUT_OK ? 0 : fault_status(CLI_FAILED, SAVING, taut_torch_last_error(), s);
}

/* Rank 0: FILE.prev and FILE, from the checksums of all. */
static int save_manifest(const options *o, manifest *m, const generations *g)
{
    char  path[PATH_MAX];
    char *text = manifest_print(m);
    int   code = text ? 0 : fault(CLI_FAILED, SAVING ": out of memory");
    if (!code && g->text) {
        previous_path(path, o->checkpoint);
        code = stored_replace(SAVING, path, g->text);
    }
    if (!code) code = stored_replace(SAVING, o->checkpoint, text);
    free(text);
    return code;
}

int checkpoint_save(const options *o, const checkpoint_place *at, const taut_torch_model *model,
                    const taut_torch_optim *optim, const taut_comm *comm)
{
    char        own[PATH_MAX], shared[PATH_MAX];
    int64_t     step = at->step;
    manifest    m = {.step = (uint64_t)step,
                     .ranks = (uint64_t)ranks_count(),
                     .seed = o->seed,
                     .batch = (uint64_t)o->batch,
                     .samples = at->samples,
                     .data_bytes = at->data_bytes};
    generations g = {0};
    stored_sum  sum = {0};
    bool        first = ranks_rank() == 0;
    int         code = first ? generations_open(&g, o->checkpoint) : 0;
    memcpy(m.data, at->data, sizeof m.data);
    if ((code = ranks_agree(code)) != 0) return code;
    m.generation = g.next;
    ranks_broadcast(&m.generation, sizeof m.generation);
    rank_path(own, o->checkpoint, m.generation, ranks_rank());
    model_path(shared, o->checkpoint, m.generation);

    code = save_state(own, step, comm);
    if (!code) code = stored_checksum(SAVING, own, &sum);
    if (!code && first) code = save_model(shared, step, model, optim);
    if (!code && first) code = stored_checksum(SAVING, shared, &m.model);
    if (!code && first && !(m.rank = calloc(m.ranks, sizeof *m.rank)))
        code = fault(CLI_FAILED, SAVING ": out of memory");
    code = ranks_agree(code);
    if (!code) {
        ranks_gather(&sum, sizeof sum, m.rank);
        code = ranks_agree(first ? save_manifest(o, &m, &g) : 0);
    }
    if (code) {
        unlink(own);
        if (first) unlink(shared);
    } else if (first) {
        generations_drop(&g, o->checkpoint, m.generation);
    }
    manifest_free(&m);
    generations_close(&g);
    return code;
}

/* ---- load ---- */

/* Rank 0 reads the manifest, all parse the same bytes. */
static int load_manifest(const options *o, manifest *m)
{
    char  *text = NULL;
    size_t n = 0;
    int    code = ranks_rank() == 0 ? stored_read(LOADING, o->checkpoint, MANIFEST_BYTES_MAX, &text, &n) : 0;
    if ((code = ranks_agree(code)) != 0) return code;
    ranks_broadcast(&n, sizeof n);
    if (ranks_rank() != 0 && !(text = calloc(n + 1, 1))) code = fault(CLI_FAILED, LOADING ": out of memory");
    if ((code = ranks_agree(code)) == 0) {
        ranks_broadcast(text, n);
        code = ranks_agree(manifest_parse(m, LOADING, o->checkpoint, text, n));
    }
    free(text);
    if (code || (int64_t)m->step < o->steps) return code;
    return ranks_agree(fault(CLI_USAGE, "--steps=%" PRId64 ": %s is of step %" PRIu64 " already: must be above that",
                             o->steps, o->checkpoint, m->step));
}

/* The file of saved rank `from`, its line checked; the blob is *state, n bytes, inside *data. */
static int read_state(const char *path, const manifest *m, int from, char **data, const char **state, size_t *n)
{
    uint64_t at, rank, ranks, bytes;
    size_t   all;
    int      used = 0, code = stored_read(LOADING, path, SIZE_MAX / 2, data, &all);
    if (code) return code;
    /* NOLINTNEXTLINE(cert-err34-c): every number is compared with what is known */
    if (sscanf(*data, "taut-state %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 "%n", &at, &rank, &ranks, &bytes,
               &used) != 4 ||
        used == 0 || (*data)[used] != '\n' || rank != (uint64_t)from || at != m->step || ranks != m->ranks ||
        bytes != all - (size_t)used - 1)
        return fault(CLI_FAILED, LOADING ": %s: not the state of rank %d of %" PRIu64 " at step %" PRIu64, path, from,
                     m->ranks, m->step);
    *state = *data + used + 1;
    *n = (size_t)bytes;
    return 0;
}

/* join: only what all ranks share, for ranks that no file was saved for. */
static int load_state(const char *path, const manifest *m, int from, bool join, taut_comm *comm)
{
    char       *data = NULL;
    const char *state = NULL;
    size_t      n = 0;
    taut_status s;
    int         code = read_state(path, m, from, &data, &state, &n);
    if (!code && (s = join ? taut_state_join(comm, state, n) : taut_state_load(comm, state, n)) != TAUT_OK)
        code = fault_status(CLI_FAILED, path, taut_last_error(), s);
    free(data);
    return code;
}

static void place_from(const manifest *m, checkpoint_place *at)
{
    *at = (checkpoint_place){.step = (int64_t)m->step, .samples = m->samples, .data_bytes = m->data_bytes};
    memcpy(at->data, m->data, sizeof at->data);
}

int checkpoint_place_of(const options *o, checkpoint_place *at)
{
    char    *text = NULL;
    size_t   n = 0;
    manifest m = {0};
    int      code = stored_read(LOADING, o->checkpoint, MANIFEST_BYTES_MAX, &text, &n);
    if (!code) code = manifest_parse(&m, LOADING, o->checkpoint, text, n);
    if (!code) place_from(&m, at);
    manifest_free(&m);
    free(text);
    return code;
}

int checkpoint_load(const options *o, checkpoint_place *at, taut_torch_model *model, taut_torch_optim *optim,
                    taut_comm *comm)
{
    char        path[PATH_MAX];
    manifest    m = {0};
    taut_status s;
    int         code = load_manifest(o, &m);
    model_path(path, o->checkpoint, m.generation);
    if (!code) {
        code = stored_verify(LOADING, path, &m.model);
        for (int from = ranks_rank(); !code && from < (int)m.ranks; from += ranks_count()) {
            char own[PATH_MAX];
            rank_path(own, o->checkpoint, m.generation, from);
            code = stored_verify(LOADING, own, &m.rank[from]);
        }
        code = ranks_agree(code);
    }
    if (!code) {
        if ((s = taut_torch_load(model, optim, path, NULL)) != TAUT_OK)
            code = fault_status(CLI_FAILED, LOADING, taut_torch_last_error(), s);
        for (int from = ranks_rank(); !code && from < (int)m.ranks; from += ranks_count()) {
            rank_path(path, o->checkpoint, m.generation, from);
            code = load_state(path, &m, from, false, comm);
        }
        if (!code && ranks_rank() >= (int)m.ranks) {
            int from = ranks_rank() % (int)m.ranks;
            rank_path(path, o->checkpoint, m.generation, from);
            code = stored_verify(LOADING, path, &m.rank[from]);
            if (!code) code = load_state(path, &m, from, true, comm);
        }
        code = ranks_agree(code);
    }
    if (!code) place_from(&m, at);
    manifest_free(&m);
    return code;
}
