/* checkpoint_sets.c : damaged checkpoints of taut train, many in one process. Run by test_checkpoint.sh, alone or under mpirun:
 *
 *   checkpoint_sets GOOD FOREIGN WORK COUNT SEED OPTIONS...
 *
 * GOOD and FOREIGN: folders with a set of two runs, "ck" and what belongs to it, both from at least two ranks. COUNT times a copy of GOOD
 * with one thing wrong is written into WORK and resumed by the function that `taut train --resume` calls, with OPTIONS. It must be refused
 * with the damaged file's name, or end with the loss of the whole set. Last line: what happened to how many; exit code 0 if none was
 * wrong. */
#include "launch/cli.h"
#include "launch/train/data.h"
#include "launch/train/options.h"
#include "launch/train/ranks.h"
#include "launch/train/run.h"
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FILES_MAX = 24, NAME_MAX_BYTES = 48, TEXT_MAX = 2048 };

/* ---- sets in memory ---- */

typedef struct file {
    char           name[NAME_MAX_BYTES]; /* "": removed */
    unsigned char *data;
    size_t         bytes;
} file;
typedef struct file_set {
    file               f[FILES_MAX];
    int                n;
    unsigned long long now, old; /* generations of ck and ck.prev */
    int                ranks;
} file_set;

static void must(bool ok, const char *what)
{
    if (ok) return;
    ranks_abort(fault(CLI_FAILED, "checkpoint_sets: %s", what));
}
static file *find(file_set *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->f[i].name, name) == 0) return &s->f[i];
    must(false, name);
    return NULL;
}
static unsigned long long number_behind(file_set *s, const char *name, const char *word)
{
    const file        *f = find(s, name);
    const char        *at = strstr((const char *)f->data, word);
    unsigned long long n = 0;
    must(at && sscanf(at + strlen(word), "%llu", &n) == 1, word);
    return n;
}
static void read_set(file_set *s, const char *folder)
{
    DIR           *d = opendir(folder);
    struct dirent *e;
    char           path[PATH_MAX];
    memset(s, 0, sizeof *s);
    must(d != NULL, folder);
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.') continue;
        must(s->n < FILES_MAX && strlen(e->d_name) < NAME_MAX_BYTES, "too many files, or too long a name");
        file *f = &s->f[s->n++];
        snprintf(f->name, sizeof f->name, "%s", e->d_name);
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *in = fopen(path, "rb");
        must(in && fseek(in, 0, SEEK_END) == 0, path);
        f->bytes = (size_t)ftell(in);
        f->data = calloc(f->bytes + 1, 1);
        rewind(in);
        must(f->data && fread(f->data, 1, f->bytes, in) == f->bytes, path);
        fclose(in);
    }
    closedir(d);
    s->now = number_behind(s, "ck", "generation ");
    s->old = number_behind(s, "ck.prev", "generation ");
    s->ranks = (int)number_behind(s, "ck", "ranks ");
}
static void write_set(const file_set *s, const char *folder)
{
    DIR           *d = opendir(folder);
    struct dirent *e;
    char           path[PATH_MAX];
    must(d != NULL, folder);
    while ((e = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    closedir(d);
    for (int i = 0; i < s->n; i++) {
        if (!s->f[i].name[0]) continue;
        snprintf(path, sizeof path, "%s/%s", folder, s->f[i].name);
        FILE *out = fopen(path, "wb");
        must(out && fwrite(s->f[i].data, 1, s->f[i].bytes, out) == s->f[i].bytes && fclose(out) == 0, path);
    }
}

/* ---- one thing wrong ---- */

static uint64_t draw(uint64_t *state, uint64_t below) /* splitmix64 (Steele et al. 2014) */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}
static void name_of(char *dst, unsigned long long generation,
                    int part) /* part: 0 the manifest, 1 the model, 2... a rank's */
{
    if (part == 0) snprintf(dst, NAME_MAX_BYTES, "ck");
    else if (part == 1) snprintf(dst, NAME_MAX_BYTES, "ck.%llu.model", generation);
    else snprintf(dst, NAME_MAX_BYTES, "ck.%llu.rank%d", generation, part - 2);
}
static void put(file *f, const file *from) { f->data = from->data, f->bytes = from->bytes; }

enum which { WHOLE, OLDER, FOREIGN, SETS }; /* whose loss a set that loads must end with */
typedef struct wrong {
    const char *kind;
    char        expect[NAME_MAX_BYTES]; /* a refusal names a file that begins so */
    enum which  same;
    bool        both; /* loads or is refused by chance (same bytes after all); else it must be refused, or must load */
    bool        loads;
} wrong;

enum kind {
    FLIP,
    FLIPS,
    CUT,
    LONGER,
    HOLE,
    GONE,
    OTHER_STEP,
    OTHER_RANK,
    SWAPPED,
    OTHER_RUN,
    OTHER_SET,
    BACK,
    UNSET,
    KINDS
};

/* *s: a shallow copy of good; what is changed gets bytes of its own in *own, freed by the caller. */
static wrong damage(file_set *s, file_set *good, file_set *foreign, uint64_t *random, unsigned char **own)
{
    static const char *const name[KINDS] = {"a bit",
                                            "some bits",
                                            "cut",
                                            "longer",
                                            "a hole",
                                            "gone",
                                            "of another step",
                                            "another rank's",
                                            "two swapped",
                                            "of another run",
                                            "another set",
                                            "a step back",
                                            "a step back, and gone"};
    enum kind                kind = (enum kind)draw(random, KINDS);
    int   part = (int)draw(random, 2 + (uint64_t)good->ranks), rank = (int)draw(random, (uint64_t)good->ranks);
    wrong w = {.kind = name[kind]};
    char  other[NAME_MAX_BYTES];
    if (kind == OTHER_RANK || kind == SWAPPED) part = 2 + rank;
    name_of(w.expect, good->now, part);
    file *f = find(s, w.expect);
    *own = calloc(f->bytes + 64, 1);
    must(*own != NULL, "memory");
    memcpy(*own, f->data, f->bytes);
    switch (kind) {
    case FLIP:
    case FLIPS:
        for (uint64_t k = kind == FLIP ? 1 : 1 + draw(random, 9); k > 0; k--) {
            uint64_t bit = draw(random, 8 * f->bytes);
            (*own)[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
        w.both = kind == FLIPS; /* a bit may be flipped back */
        f->data = *own;
        break;
    case CUT: f->data = *own, f->bytes = draw(random, f->bytes); break;
    case LONGER:
        f->data = *own;
        for (uint64_t k = 1 + draw(random, 63); k > 0; k--) (*own)[f->bytes++] = (unsigned char)draw(random, 256);
        break;
    case HOLE: { /* a block that never reached the disk */
        size_t from = draw(random, (f->bytes + 511) / 512) * 512, n = f->bytes - from < 512 ? f->bytes - from : 512;
        memset(*own + from, 0, n);
        f->data = *own;
        w.both = true;
        break;
    }
    case GONE: f->name[0] = 0; break;
    case OTHER_STEP:
        if (part == 0) part = 1, name_of(w.expect, good->now, part), f = find(s, w.expect);
        name_of(other, good->old, part);
        put(f, find(good, other));
        break;
    case OTHER_RANK:
        name_of(other, good->now, 2 + (rank + 1) % good->ranks);
        put(f, find(good, other));
        break;
    case SWAPPED:
        name_of(other, good->now, 2 + (rank + 1) % good->ranks);
        put(f, find(good, other));
        put(find(s, other), find(good, w.expect));
        snprintf(w.expect, sizeof w.expect, "ck.%llu.rank", good->now);
        break;
    case OTHER_RUN:
        name_of(other, foreign->now, part);
        put(f, find(foreign, other));
        if (part == 0) snprintf(w.expect, sizeof w.expect, "ck.%llu.", foreign->now);
        break;
    case OTHER_SET: *s = *foreign, w.same = FOREIGN, w.loads = true; break;
    case BACK: put(find(s, "ck"), find(good, "ck.prev")), w.same = OLDER, w.loads = true; break;
    case UNSET:
        put(find(s, "ck"), find(good, "ck.prev"));
        name_of(w.expect, good->old, part == 0 ? 1 : part);
        find(s, w.expect)->name[0] = 0;
        break;
    case KINDS: break;
    }
    return w;
}

/* ---- resuming ---- */

static options set_options;
static data    set_data;

/* Resumes what lies in `folder`; what rank 0 says goes to text. */
static int resume(const char *folder, double *loss, char *text)
{
    char   path[PATH_MAX];
    result out;
    int    to = dup(STDERR_FILENO), fd = memfd_create("said", MFD_CLOEXEC);
    snprintf(path, sizeof path, "%s/ck", folder);
    set_options.checkpoint = path, set_options.resume = true;
    must(to >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0, "standard error");
    int code = run_train(&set_options, &set_data, &out);
    fflush(stderr);
    must(dup2(to, STDERR_FILENO) >= 0, "standard error");
    *loss = code ? 0 : out.loss_val;
    if (!code) run_free(&out);
    ssize_t got = pread(fd, text, TEXT_MAX - 1, 0);
    text[got > 0 ? got : 0] = 0;
    close(fd), close(to);
    return code;
}
static void place(const file_set *s, const char *folder)
{
    if (ranks_rank() == 0) write_set(s, folder);
    ranks_agree(0); /* it lies there before anybody reads */
}

static bool is_right(const wrong *w, int code, double loss, const double *want, const char *text, const char *folder)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, w->expect);
    bool refused = code == CLI_FAILED && strstr(text, path) != NULL, same = code == 0 && loss == want[w->same];
    return w->both ? refused || same : w->loads ? same : refused;
}

static int campaign(const char *good_at, const char *foreign_at, const char *work, long count, uint64_t seed)
{
    static file_set good, foreign, s;
    double          want[SETS];
    char            text[TEXT_MAX];
    long            refused = 0, loaded = 0, bad = 0;
    read_set(&good, good_at);
    read_set(&foreign, foreign_at);
    must(good.ranks >= 2 && foreign.ranks == good.ranks, "sets of at least two ranks are needed, of as many");
    for (int k = 0; k < SETS; k++) {
        s = k == FOREIGN ? foreign : good;
        if (k == OLDER) put(find(&s, "ck"), find(&good, "ck.prev"));
        place(&s, work);
        if (resume(work, &want[k], text) != 0) {
            if (ranks_rank() == 0) fprintf(stderr, "a whole set was refused: %s", text);
            return 1;
        }
    }
    /* that of an older one is the same where as many ranks resume as wrote it */
    must(want[WHOLE] != want[FOREIGN] && want[OLDER] != want[FOREIGN], "the sets of two runs end with the same loss");
    for (long i = 0; i < count; i++) {
        uint64_t       random = seed + (uint64_t)i * 0x632be59bd9b4e019u;
        unsigned char *own = NULL;
        double         loss;
        s = good;
        wrong w = damage(&s, &good, &foreign, &random, &own);
        place(&s, work);
        int code = resume(work, &loss, text);
        free(own);
        if (ranks_rank() != 0) continue;
        if (is_right(&w, code, loss, want, text, work)) {
            if (code == 0) loaded++;
            else refused++;
            continue;
        }
        bad++;
        fprintf(stderr, "FAIL set %ld of seed %" PRIu64 " (%s, %s): exit %d, loss %.17g: %s\n", i, seed, w.expect,
                w.kind, code, loss, text);
    }
    if (ranks_rank() == 0)
        printf("%ld mutated sets on %d ranks: %ld refused with the file's name, %ld loaded right, %ld wrong\n", count,
               ranks_count(), refused, loaded, bad);
    return bad != 0;
}

int main(int argc, char **argv)
{
    int code;
    ranks_start(&argc, &argv);
    cli_speak(ranks_rank() == 0);
    if (argc < 6) code = fault(CLI_USAGE, "checkpoint_sets GOOD FOREIGN WORK COUNT SEED OPTIONS...");
    else if ((code = options_parse(&set_options, argc - 5, argv + 5)) == CLI_RUN) {
        code = ranks_agree(data_open(&set_data, set_options.data, DATA_TEXT, set_options.tokens, set_options.ctx));
        if (!code) code = campaign(argv[1], argv[2], argv[3], atol(argv[4]), strtoull(argv[5], NULL, 10));
        data_close(&set_data);
    }
    ranks_end();
    return cli_end(code);
}
