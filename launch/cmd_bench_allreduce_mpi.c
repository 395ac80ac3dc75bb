/* cmd_bench_allreduce_mpi.c : `mpirun -n P taut bench allreduce`: compressed against native, on the same buffers, in
 * turn, so that both see the same network. What is timed is the public interface, as any program would use it.
 *
 * A repetition: copy the input, barrier, MPI_Allreduce; copy the input, barrier, taut_allreduce, taut_step_end; every
 * other repetition the other way round, because whoever comes second finds warmer caches. A time is that of the slowest
 * rank. Checks run outside the clock: the result's hash on all ranks after every repetition,
 * its error against the float64 sum of the inputs once more at the end. */
#include "bench_allreduce.h"
#include "cmd.h"
#include "floats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { REPEAT_MIN = 3 };

static const char *const defaults[] = {"none", "quant:bits=4", "grid:rel=0.03"};
static const char *const all[] = {
    "none",
    "fp16",
    "bf16",
    "quant:bits=4",
    "quant:bits=4,round=nearest",
    "quant:bits=2",
    "grid:rel=0.03",
    "grid:rel=0.03,code=rans",
    "topk:density=0.1",
    "topk:density=0.01",
    "randk:density=0.1",
    "powersgd:rank=4",
    "stack:topk:density=0.01+quant:bits=2",
    "auto",
};

/* ---- all ranks together ---- */

int bench_agree(bench_job *j, taut_status s, const char *what)
{
    struct {
        int value, rank;
    } mine = {s == TAUT_OK ? 0 : -1, j->rank}, worst;
    bool usage = s == TAUT_E_INVALID || s == TAUT_E_RANGE; /* a value that the library refuses */
    if (usage) mine.value = -2;
    if (s == TAUT_E_PEER || s == TAUT_E_TIMEOUT || s == TAUT_E_TRANSPORT) {
        cli_speak(true);
        cli_status(s, "rank %d: %s", j->rank, what);
        MPI_Abort(MPI_COMM_WORLD, CLI_FAILED);
    }
    MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MINLOC, MPI_COMM_WORLD);
    if (worst.value == 0) return CLI_OK;
    cli_speak(j->rank == worst.rank);
    if (j->rank == worst.rank) (usage ? cli_bad : cli_status)(s, "rank %d: %s", j->rank, what);
    return worst.value == -2 ? CLI_USAGE : CLI_FAILED;
}

static double slowest(double seconds)
{
    double all_ranks;
    MPI_Allreduce(&seconds, &all_ranks, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return all_ranks;
}

bool bench_same_everywhere(const float *buf, size_t n)
{
    uint64_t h = XXH3_64bits(buf, n * sizeof *buf), ends[2] = {h, ~h}, top[2];
    MPI_Allreduce(ends, top, 2, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD); /* max(h) and ~min(h) */
    return top[0] == h && top[1] == ~h;
}

double bench_error_of_sum(const bench_job *j, size_t n)
{
    double err = 0, norm = 0;
    for (size_t i = 0; i < n && j->rank == 0; i++) {
        double d = j->buf[i] - j->exact[i];
        err += d * d;
        norm += j->exact[i] * j->exact[i];
    }
    return err == 0 ? 0 : err / norm;
}

/* ---- one codec, one size ---- */

void bench_native_once(bench_job *j, size_t n, double *ms)
{
    double      begin;
    taut_status s = bench_place_put(j, n);
    if (s == TAUT_OK && j->at) memcpy(j->buf, j->x, n * sizeof(float)); /* without NCCL, native is MPI's, on the host */
    MPI_Barrier(MPI_COMM_WORLD);
    begin = cli_now();
    if (s == TAUT_OK) s = bench_place_native(j, n);
    *ms = 1e3 * slowest(cli_now() - begin);
    if (s != TAUT_OK) bench_agree(j, TAUT_E_TRANSPORT, taut_last_error());
}

int bench_taut_once(bench_job *j, taut_comm *comm, taut_layer *layer, size_t n, double *ms, double *step_ms)
{
    double      begin, done;
    taut_status s;
    s = bench_place_put(j, n);
    MPI_Barrier(MPI_COMM_WORLD);
    begin = cli_now();
    if (s == TAUT_OK) s = bench_place_taut(j, layer);
    done = cli_now();
    if (s == TAUT_OK) s = taut_step_end(comm);
    *step_ms = 1e3 * slowest(cli_now() - begin);
    j->own_ms = 1e3 * (done - begin);
    *ms = slowest(j->own_ms);
    if (s == TAUT_OK) s = bench_place_get(j, n);
    return bench_agree(j, s, "taut_allreduce");
}

/* own: what this rank's timed calls took in all, ms */
static void over_ranks(const bench_job *j, double own, bench_result *r)
{
    double mean = 1e3 * own / r->repeats, ends[2] = {mean, -mean}, top[2], sum;
    MPI_Allreduce(&mean, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    MPI_Allreduce(ends, top, 2, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    r->mean_us[0] = sum / j->ranks, r->mean_us[1] = -top[1], r->mean_us[2] = top[0];
}

static int repeat(bench_job *j, taut_comm *comm, taut_layer *layer, bench_result *r)
{
    size_t           n = r->bytes / 4;
    taut_layer_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    double           begin = 0, own = 0;
    uint64_t         sent;
    int              go = 1;
    r->identical = true;
    for (int k = -(int)j->warmup; go; k++) {
        double ms[3];
        int    rc;
        if (k % 2 == 0) bench_native_once(j, n, &ms[0]);
        if ((rc = bench_taut_once(j, comm, layer, n, &ms[1], &ms[2])) != CLI_OK) return rc;
        r->identical &= bench_same_everywhere(j->buf, n);
        if (k % 2 != 0) bench_native_once(j, n, &ms[0]);
        if (k < 0) continue;
        if (k == 0) begin = cli_now();
        for (int t = 0; t < 3; t++) j->ms[t][k] = ms[t];
        own += j->own_ms;
        r->repeats = k + 1;
        go = r->repeats < (int)j->repeat && (r->repeats < REPEAT_MIN || cli_now() - begin < j->seconds);
        MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
        if (r->repeats == 1 && taut_layer_get_stats(layer, &before) != TAUT_OK) return CLI_FAILED;
    }
    if (taut_layer_get_stats(layer, &after) != TAUT_OK) return CLI_FAILED;
    /* bytes of the calls after the first timed one; of that one, all so far, where there is no other */
    sent = r->repeats > 1 ? (after.bytes_sent - before.bytes_sent) / (uint64_t)(r->repeats - 1)
                          : after.bytes_sent / after.calls;
    over_ranks(j, own, r);
    MPI_Allreduce(&sent, &r->wire_bytes, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
    r->bits = after.bits_per_element;
    snprintf(r->algorithm, sizeof r->algorithm, "%s", after.algorithm);
    snprintf(r->in_force, sizeof r->in_force, "%s", after.codec);
    return CLI_OK;
}

int bench_open(bench_job *j, const char *codec, size_t bytes, taut_comm **comm, taut_layer **layer)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    size_t      shape[2];
    taut_status s;
    int         rc;
    cfg.codec = codec;
    cfg.algorithm = j->algorithm;
    cfg.hierarchy = j->hierarchy;
    cfg.feedback = j->feedback;
    cfg.budget = j->budget;
    cfg.seed = j->seed;
    cfg.threads = (int32_t)j->threads;
    shape_square(bytes / 4, shape);
    *comm = NULL;
    s = taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, comm);
    if ((rc = bench_agree(j, s, codec)) != CLI_OK) return rc;
    s = bench_place_attach(j, *comm);
    if ((rc = bench_agree(j, s, "--nccl")) != CLI_OK) return rc;
    s = taut_layer_register(*comm, "bench", TAUT_F32, 2, shape, layer);
    /* by name, so that small layers do not travel uncompressed; auto is the communicator's to decide */
    if (s == TAUT_OK && strcmp(codec, "auto") != 0) s = taut_layer_codec(*layer, codec);
    return bench_agree(j, s, codec);
}

static int measure(bench_job *j, bench_result *r)
{
    taut_comm  *comm = NULL;
    taut_layer *layer = NULL;
    double      ms[2];
    int         rc;
    if ((rc = bench_open(j, r->codec, r->bytes, &comm, &layer)) != CLI_OK) goto out;
    if ((rc = repeat(j, comm, layer, r)) != CLI_OK) goto out;
    if ((rc = bench_taut_once(j, comm, layer, r->bytes / 4, &ms[0], &ms[1])) != CLI_OK) goto out;
    r->rel_err2 = bench_error_of_sum(j, r->bytes / 4);
    r->native_ms = median(j->ms[0], (size_t)r->repeats);
    r->median_ms = median(j->ms[1], (size_t)r->repeats);
    r->step_ms = median(j->ms[2], (size_t)r->repeats);
out:
    taut_comm_destroy(comm);
    return rc;
}

/* ---- report, on rank 0 ---- */

static void print_row(bench_job *j, const bench_result *r)
{
    if (j->printed++ == 0)
        printf("%d ranks; ms: median of the slowest rank; x: faster than MPI_Allreduce in the same rounds\n\n"
               "%-34s %10s %-9s %10s %10s %7s %12s %10s %s\n",
               j->ranks, "codec", "bytes", "algorithm", "ms", "native ms", "x", "wire B/rank", "rel_err2", "identical");
    printf("%-34s %10zu %-9s %10.3f %10.3f %6.2fx %12llu %10.3e %s\n", r->codec, r->bytes, r->algorithm, r->median_ms,
           r->native_ms, r->native_ms / r->median_ms, (unsigned long long)r->wire_bytes, r->rel_err2,
           r->identical ? "yes" : "NO");
    fflush(stdout);
}

/* The lines of osu_allreduce, which many scripts read: comments begin with #, then bytes and microseconds. A table for each codec. */
static void print_osu(bench_job *j, const bench_result *r, bool first)
{
    bool full = strcmp(j->format, "osu-full") == 0;
    if (first) {
        printf("\n# OSU MPI Allreduce Latency Test (printed by taut %d.%d.%d, codec %s, %d ranks, float32)\n",
               TAUT_VERSION_MAJOR, TAUT_VERSION_MINOR, TAUT_VERSION_PATCH, r->codec, j->ranks);
        printf("%-10s%18s", "# Size", "Avg Latency(us)");
        if (full) printf("%18s%18s%12s", "Min Latency(us)", "Max Latency(us)", "Iterations");
        printf("\n");
    }
    printf("%-10zu%18.2f", r->bytes, r->mean_us[0]);
    if (full) printf("%18.2f%18.2f%12d", r->mean_us[1], r->mean_us[2], r->repeats);
    printf("\n");
    fflush(stdout);
}

static void add_json(bench_job *j, const bench_result *r)
{
    json_t *o = json_object();
    jsn_text(o, "codec", r->codec);
    jsn_int(o, "ranks", (uint64_t)j->ranks);
    jsn_int(o, "bytes", r->bytes);
    jsn_text(o, "algorithm", r->algorithm);
    jsn_real(o, "median_ms", r->median_ms);
    jsn_real(o, "native_ms", r->native_ms);
    jsn_int(o, "wire_bytes_per_rank", r->wire_bytes);
    jsn_real(o, "rel_err2", r->rel_err2);
    jsn_bool(o, "bit_identical", r->identical);
    jsn_real(o, "step_ms", r->step_ms);
    jsn_text(o, "codec_in_force", r->in_force);
    jsn_real(o, "bits_per_element", r->bits);
    jsn_int(o, "repeats", (uint64_t)r->repeats);
    json_array_append_new(j->results, o);
}

/* ---- set-up ---- */

/* Once for all codecs and sizes: on a slow network it takes longer than what is measured. On rank 0. */
static void make_exact(bench_job *j, size_t n, double *part)
{
    for (size_t at = 0; at < n; at += BENCH_CHUNK) {
        size_t m = n - at < BENCH_CHUNK ? n - at : BENCH_CHUNK;
        for (size_t i = 0; i < m; i++) part[i] = j->x[at + i];
        MPI_Reduce(part, j->exact ? j->exact + at : NULL, (int)m, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    }
}

/* Rank r takes input r mod inputs. Ranks that share a file see it rotated by another multiple of 4096 elements. */
static int make_input(bench_job *j)
{
    size_t  n = (size_t)j->sizes.to / 4, m, turn;
    float  *part = NULL;
    double *chunk = calloc(BENCH_CHUNK, sizeof *chunk);
    int     rc = CLI_OK, worst;
    j->x = floats_alloc(n);
    j->buf = floats_alloc(n);
    if (j->rank == 0) j->exact = calloc(n, sizeof *j->exact);
    for (int i = 0; i < 3; i++) j->ms[i] = calloc((size_t)j->repeat, sizeof(double));
    if (!j->x || !j->buf || !chunk || (j->rank == 0 && !j->exact) || !j->ms[0] || !j->ms[1] || !j->ms[2])
        rc = cli_fail("out of memory for buffers of %llu bytes", (unsigned long long)j->sizes.to);
    if (rc == CLI_OK && j->inputs.n) {
        cli_speak(true); /* files may be missing on some hosts only */
        rc = floats_read(j->inputs.item[(size_t)j->rank % j->inputs.n], &part, &m);
        cli_speak(j->rank == 0);
        if (rc == CLI_OK) {
            turn = (size_t)j->rank / j->inputs.n * 4096 % m;
            for (size_t at = 0; at < n; at += m) {
                size_t left = n - at < m ? n - at : m, head = left < m - turn ? left : m - turn;
                memcpy(j->x + at, part + turn, head * sizeof(float));
                memcpy(j->x + at + head, part, (left - head) * sizeof(float));
            }
        }
    } else if (rc == CLI_OK) {
        floats_synthetic(j->x, n, j->seed, j->rank);
    }
    free(part);
    MPI_Allreduce(&rc, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (worst == CLI_OK) make_exact(j, n, chunk);
    free(chunk);
    return worst;
}

/* Of --all, what nobody typed is left out where it cannot be: low rank of what makes no matrix. */
static bool suits(const bench_job *j, const char *codec, size_t bytes)
{
    size_t shape[2];
    shape_square(bytes / 4, shape);
    return !j->every || strcmp(codec, "auto") == 0 || taut_spec_check(codec, 2, shape) == TAUT_OK;
}

static int bench_one(bench_job *j, const char *codec, uint64_t bytes, cli_progress *progress, bool *identical)
{
    bench_result r = {.codec = codec, .bytes = (size_t)bytes & ~(size_t)3};
    int          rc;
    if (!suits(j, codec, r.bytes)) return CLI_OK;
    cli_progress_show(progress, "%s, %zu bytes", r.codec, r.bytes);
    if ((rc = measure(j, &r)) != CLI_OK) return rc;
    cli_progress_end(progress);
    *identical &= r.identical;
    if (j->rank == 0 && strcmp(j->format, "table") == 0) print_row(j, &r);
    else if (j->rank == 0) print_osu(j, &r, bytes == j->sizes.from);
    if (j->rank == 0 && j->json) add_json(j, &r);
    return CLI_OK;
}

static int bench(bench_job *j)
{
    const char *const *codec = j->codecs.item;
    size_t             n = j->codecs.n;
    cli_progress       progress = {0};
    bool               identical = true, table = strcmp(j->format, "table") == 0;
    int                rc;
    if (j->every) codec = all, n = sizeof all / sizeof *all;
    if (n == 0)
        codec = table ? defaults : &all[sizeof all / sizeof *all - 1],
        n = table ? sizeof defaults / sizeof *defaults : 1;
    if ((rc = make_input(j)) != CLI_OK) return rc;
    if ((rc = bench_place_open(j)) != CLI_OK) return rc;
    blas_threads((int)j->threads);
    if (j->regret) return bench_regret(j);
    for (uint64_t bytes = j->sizes.from; bytes <= j->sizes.to && table; bytes *= j->sizes.factor)
        for (size_t i = 0; i < n; i++)
            if ((rc = bench_one(j, codec[i], bytes, &progress, &identical)) != CLI_OK) return rc;
    for (size_t i = 0; i < n && !table; i++)
        for (uint64_t bytes = j->sizes.from; bytes <= j->sizes.to; bytes *= j->sizes.factor)
            if ((rc = bench_one(j, codec[i], bytes, &progress, &identical)) != CLI_OK) return rc;
    if (j->rank == 0 && j->json) {
        json_t *o = json_object();
        json_object_set(o, "results", j->results);
        jsn_print(o);
    }
    return identical ? CLI_OK : cli_fail("ranks hold different bytes: see the lines that say NO");
}

static int parse(bench_job *j, int argc, char **argv)
{
    const cli_option options[] = {
        {"codec", "SPEC", CLI_LIST, &j->codecs, "may be repeated; default: a selection", 0, 0, NULL},
        {"all", NULL, CLI_FLAG, &j->every, "every codec family, and auto", 0, 0, NULL},
        {"regret", NULL, CLI_FLAG, &j->regret,
         "auto against every fixed setting within its budget, and MPI_Allreduce, in turns", 0, 0, NULL},
        {"budget", "BUDGET", CLI_TEXT, &j->budget, "error budget of auto: rel=X or like:SPEC", 0, 0, NULL},
        {"sizes", "FROM:TO", CLI_RANGE, &j->sizes, "bytes of float32, FROM:TO[:FACTOR]", 4, 0x1p32, NULL},
        {"algorithm", "NAME", CLI_TEXT, &j->algorithm, "auto, native, sra, ring or gather", 0, 0, NULL},
        {"hierarchy", "WHEN", CLI_WORD, &j->hierarchy, "reduce inside a host first", 0, 0, "auto|on|off"},
        {"feedback", "WHEN", CLI_WORD, &j->feedback, "error feedback", 0, 0, "auto|on|off|momentum"},
        {"device", "WHERE", CLI_TEXT, &j->device,
         "host; cuda: buffers on a GPU, that of the local rank's number; or cuda:N", 0, 0, NULL},
        {"nccl", NULL, CLI_FLAG, &j->nccl, "they travel by NCCL, and native is ncclAllReduce", 0, 0, NULL},
        {"input", "F.f32", CLI_LIST, &j->inputs, "float32 file, repeated to the size; one per rank, or shared", 0, 0,
         NULL},
        {"format", "NAME", CLI_WORD, &j->format, "osu: the two columns of osu_allreduce; osu-full: its five", 0, 0,
         "table|osu|osu-full"},
        {"repeat", "N", CLI_INT, &j->repeat, "timed repetitions at most", 1, BENCH_REPEAT_MAX, NULL},
        {"seconds", "S", CLI_REAL, &j->seconds, "per codec and size, from three repetitions on", 0, 3600, NULL},
        {"warmup", "N", CLI_INT, &j->warmup, "untimed repetitions before", 0, 1000, NULL},
        {"threads", "N", CLI_INT, &j->threads, "codec threads per rank", 1, 256, NULL},
        {"seed", "N", CLI_SIZE, &j->seed, "of data and stochastic rounding", 1, 0x1p53, NULL},
        CLI_JSON(&j->json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut bench allreduce",
        "",
        "compressed against native allreduce; run it under mpirun",
        "--json: {\"results\": [{codec ranks bytes algorithm median_ms native_ms wire_bytes_per_rank rel_err2\n"
        "bit_identical step_ms codec_in_force bits_per_element repeats}, ...]}. native_ms is MPI_Allreduce of the "
        "same\n"
        "buffer in the same rounds; step_ms adds taut_step_end; wire bytes are those of the rank that sends most;\n"
        "rel_err2 is against the float64 sum of the inputs. Each codec gets a nearly square matrix. With error\n"
        "feedback on, the error of one step contains what feedback moves between steps.\n"
        "--regret: all settings take turns in rounds; auto has 30 to 300 steps before. Regret is the median over "
        "rounds of its time over\n"
        "the best setting's in the same round; regret_step is that with taut_step_end. --json adds \"regret\": [{bytes "
        "ranks budget auto_ms auto_step_ms\n"
        "auto_codec best best_ms regret regret_step}, ...], regret_median and regret_worst; rows have within_budget.\n"
        "--format osu: mean microseconds of taut_allreduce over repetitions and ranks; auto, --sizes 4:1M:2 --warmup "
        "30\n--repeat 100 unless given otherwise.\n\n"
        "  mpirun -n 4 taut bench allreduce --codec quant:bits=4 --sizes 64K:64M --json\n",
        options,
        0,
        0};
    return cli_parse(&cmd, argc, argv, &argc);
}

static bool given(int argc, char **argv, const char *option) /* as --option or --option=value */
{
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], option, strlen(option)) == 0) return true;
    return false;
}

static int check(bench_job *j)
{
    bool table = strcmp(j->format, "table") == 0;
    if (!table && (j->json || j->regret))
        return cli_usage("--format=%s: not together with --json or --regret", j->format);
    if (strcmp(j->device, "host") != 0 && !bench_place_device(j->device, NULL))
        return cli_usage("--device=%s: must be host, cuda or cuda:N", j->device);
    for (size_t i = 0; i < j->codecs.n; i++) {
        taut_status s = strcmp(j->codecs.item[i], "auto") == 0 ? TAUT_OK : taut_spec_check(j->codecs.item[i], 0, NULL);
        if (s != TAUT_OK) return cli_bad(s, "--codec=%s", j->codecs.item[i]);
    }
    return CLI_RUN;
}

int cmd_bench_allreduce(int argc, char **argv)
{
    bench_job j = {.sizes = {64u << 10, 16u << 20, 4},
                   .hierarchy = "auto",
                   .feedback = "off",
                   .algorithm = "auto",
                   .format = "table",
                   .device = "host",
                   .repeat = 20,
                   .warmup = 3,
                   .seconds = 2,
                   .threads = 1,
                   .seed = 1};
    int       level, rc;
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS)
        return cli_fail("MPI does not start");
    MPI_Comm_rank(MPI_COMM_WORLD, &j.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &j.ranks);
    cli_speak(j.rank == 0);
    bool sizes = given(argc, argv, "--sizes"), warmup = given(argc, argv, "--warmup"),
         repeat = given(argc, argv, "--repeat");
    rc = parse(&j, argc, argv);
    if (strcmp(j.format, "table") != 0) { /* what that benchmark does, and a plan before the clock starts */
        if (!sizes) j.sizes = (cli_range){4, 1 << 20, 2};
        if (!warmup) j.warmup = 30;
        if (!repeat) j.repeat = 100;
    }
    if (rc == CLI_RUN) rc = check(&j);
    if (rc == CLI_RUN) {
        j.results = json_array();
        rc = bench(&j);
        json_decref(j.results);
    }
    bench_place_close(&j);
    free(j.x);
    free(j.buf);
    free(j.exact);
    for (int i = 0; i < 3; i++) free(j.ms[i]);
    MPI_Finalize();
    return rc;
}
