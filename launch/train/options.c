/* options.c : see options.h. */
#include "options.h"
#include "data.h"
#include "shards.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool options_is(const char *value, const char *word) { return value && strcmp(value, word) == 0; }

size_t options_layer_codec(const char *item, const char **spec)
{
    size_t n = strcspn(item, "=");
    *spec = item[n] ? item + n + 1 : item + n;
    return n;
}

uint64_t options_hash(const options *o)
{
    const int64_t size[] = {o->ctx, o->dim, o->blocks, o->heads, o->batch};
    const int64_t plan[] = {o->warmup, o->steps, o->eval_every, o->eval_samples, o->checkpoint_every};
    const int64_t more[] = {
        (int64_t)o->seed,      o->resume,        o->checkpoint != NULL,  o->global_batch, o->rounds, o->plan != NULL,
        o->validation != NULL, o->score != NULL, (int64_t)o->data_cache, o->nccl};
    const double real[] = {o->lr, o->momentum, o->beta2, o->weight_decay, o->clip, o->scale_floor};
    const char  *text[] = {o->tokens,   o->optimizer, o->codec, o->budget,  o->objective, o->metric,
                           o->feedback, o->algorithm, o->scale, o->compare, o->schedule,  o->basis};
    uint64_t     h = data_hash(data_hash(0, size, sizeof size), plan, sizeof plan);
    h = data_hash(data_hash(h, more, sizeof more), real, sizeof real);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        h = data_hash(h, text[i] ? text[i] : "", text[i] ? strlen(text[i]) + 1 : 1);
    for (size_t i = 0; i < o->layer_codecs.n; i++)
        h = data_hash(h, o->layer_codecs.item[i], strlen(o->layer_codecs.item[i]));
    return h;
}

double options_rate(const options *o, int64_t step)
{
    double done =
        o->steps > o->warmup && step > o->warmup ? (double)(step - o->warmup) / (double)(o->steps - o->warmup) : 0;
    if (step < o->warmup) return (double)(step + 1) / (double)o->warmup;
    if (options_is(o->schedule, "linear")) return 1 - done;
    return options_is(o->schedule, "cosine") ? 0.5 * (1 + cos(3.14159265358979323846 * done)) : 1;
}

static void set_defaults(options *o)
{
    memset(o, 0, sizeof *o);
    o->model = "gpt";
    o->device = "cpu";
    o->tokens = "chars";
    o->ctx = 64, o->heads = 4;
    o->optimizer = "adam";
    o->momentum = 0.9, o->beta2 = 0.999, o->clip = 1;
    o->warmup = 20, o->batch = 8;
    o->schedule = "constant";
    o->eval_every = 100, o->eval_samples = 512;
    o->seed = 1;
    o->codec = "auto";
    o->scale = "auto";
    o->scale_floor = 0.03;
    o->basis = "results";
}

static const char *const details =
    "--data: for gpt a text file or a folder of them (default: the licence texts of this machine); for mlp a folder\n"
    "with IDX images and labels, plain or .gz. A script model is trained on whichever it is: tokens [batch,ctx], or\n"
    "images [batch,1,height,width]. Shards (A.taut,B.taut or a folder of *.taut, from `taut data pack`) serve all "
    "models: gpt learns\n"
    "the bytes or tokens of the first text field, the others the first image, bytes or float field and the labels.\n"
    "--layer-codec: the first pattern (as in a shell) that fits a parameter's name decides, as in\n"
    "'b.*.qkv.weight=quant:bits=4'.\n"
    "--scale: what Adam divides by becomes the unit in which a layer's error counts and grid's step is measured;\n"
    "auto = element with Adam, for codecs that use it, unless --metric says plain or layer.\n"
    "--checkpoint FILE keeps the last two complete sets: FILE and FILE.prev name them, FILE.G.model (model, optimizer) "
    "and\n"
    "FILE.G.rankN (residuals and plan of rank N) are them. SIGINT, SIGTERM and SIGUSR1 save at the end\n"
    "of the step; exit 130, 143, 138: start again with --resume.\n"
    "TAUT_CODEC, TAUT_BUDGET, TAUT_OBJECTIVE, TAUT_METRIC, TAUT_FEEDBACK and TAUT_ALGORITHM win over options.\n"
    "Fields of --json: loss_* in nats; loss_train is the mean of the last 20 steps; bytes_* are sums over ranks;\n"
    "comm_ms is the time per step during which communication was under way, exposed_ms what the step waited for it.\n"
    "\nexamples:\n"
    "  mpirun -n 2 taut train --model gpt --data input.txt --codec quant:bits=4 --steps 300\n"
    "  mpirun -n 2 taut train --model mlp --data mnist/ --optimizer sgd --codec auto --budget rel=0.05\n";

static int check_specs(const options *o)
{
    const char *spec;
    taut_status s;
    if (strcmp(o->codec, "auto") != 0 && (s = taut_spec_check(o->codec, 0, NULL)) != TAUT_OK)
        return cli_bad(s, "--codec=%s", o->codec);
    if (o->compare && (s = taut_spec_check(o->compare, 0, NULL)) != TAUT_OK)
        return cli_bad(s, "--compare=%s", o->compare);
    if (o->budget && strncmp(o->budget, "like:", 5) == 0 && (s = taut_spec_check(o->budget + 5, 0, NULL)) != TAUT_OK)
        return cli_bad(s, "--budget=%s", o->budget);
    for (size_t i = 0; i < o->layer_codecs.n; i++) {
        const char *item = o->layer_codecs.item[i];
        if (options_layer_codec(item, &spec) == 0 || !*spec)
            return cli_usage("--layer-codec=%s: must be PATTERN=SPEC, as in 'b.*.fc.weight=quant:bits=4'", item);
        if ((s = taut_spec_check(spec, 0, NULL)) != TAUT_OK) return cli_bad(s, "--layer-codec=%s", item);
    }
    return CLI_RUN;
}

/* The library lets these variables win over what a program asks for; what is checked, decided and reported here has to
 * be what runs. */
static void environment_wins(options *o)
{
    const struct {
        const char *name, **value;
    } both[] = {{"TAUT_CODEC", &o->codec},   {"TAUT_BUDGET", &o->budget},     {"TAUT_OBJECTIVE", &o->objective},
                {"TAUT_METRIC", &o->metric}, {"TAUT_FEEDBACK", &o->feedback}, {"TAUT_ALGORITHM", &o->algorithm}};
    for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
        const char *set = getenv(both[i].name);
        if (set && *set) *both[i].value = set;
    }
}

/* -1: it is none. "cuda" is every rank's own, "cuda:N" the same for all. */
static int check_device(const options *o)
{
    int  digits = strncmp(o->device, "cuda:", 5) == 0 ? (int)strspn(o->device + 5, "0123456789") : 0;
    bool cuda = options_is(o->device, "cuda") || (digits > 0 && digits < 5 && !o->device[5 + digits]);
    if (!cuda && !options_is(o->device, "cpu")) return cli_usage("--device=%s: must be cpu, cuda or cuda:N", o->device);
    if (o->nccl && !cuda) return cli_usage("--nccl: needs --device cuda or cuda:N");
    return CLI_RUN;
}

/* Would a file of this name be read with the folder, as shards, images or text? */
static bool read_with(const options *o, const char *folder, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t      n = strlen(name);
    if (!cli_lies_in(path, folder) || name[0] == '.') return false;
    if (shards_named(folder)) return n > 5 && strcmp(name + n - 5, ".taut") == 0;
    return !options_is(o->model, "gpt") && data_is_idx(folder) ? strstr(name, "-idx") != NULL : true;
}

/* What is written is none of what is read. */
static int check_apart(const options *o)
{
    const char *read[] = {o->data, o->validation, o->plan, strncmp(o->model, "script:", 7) ? NULL : o->model + 7,
                          o->score};
    const struct {
        const char *option, *path;
        size_t      n;
    } written[] = {{"--log", o->log, 5}, {"--score", o->score, 4}, {"--checkpoint", o->checkpoint, 4}};
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        const char *option = written[i].option, *path = written[i].path;
        if (cli_apart_lists(option, path, written[i].n, read) != CLI_OK) return CLI_USAGE;
        for (size_t k = 0; path && k < 2; k++)
            if (read[k] && read_with(o, read[k], path))
                return cli_usage("%s %s: lies in %s, whose files are read: name another folder", option, path, read[k]);
    }
    return CLI_RUN;
}

static int check_together(const options *o)
{
    bool sgd = options_is(o->optimizer, "sgd"), scaled = !options_is(o->scale, "auto") && !options_is(o->scale, "none");
    bool builtin = options_is(o->model, "gpt") || options_is(o->model, "mlp");
    if (!builtin && (strncmp(o->model, "script:", 7) != 0 || !o->model[7]))
        return cli_usage("--model=%s: must be gpt, mlp or script:FILE", o->model);
    if (sgd && scaled)
        return cli_usage("--scale=%s: sgd divides by nothing: must be none or auto with --optimizer sgd", o->scale);
    if (options_is(o->metric, "optimizer") && (sgd || options_is(o->scale, "none")))
        return cli_usage(
            "--metric=optimizer: needs the optimizer's scale: --optimizer adam or adamw, and --scale not none");
    if (options_is(o->basis, "momentum") && sgd && o->momentum == 0)
        return cli_usage("--basis=momentum: needs one: --optimizer adam or adamw, or --momentum above 0");
    if (!shards_named(o->data) && (o->plan || o->validation || o->score || o->rounds || o->global_batch))
        return cli_usage(
            "--plan, --validation, --score, --rounds and --global-batch: need --data with shards, files *.taut");
    if (check_device(o) != CLI_RUN) return CLI_USAGE;
    if (check_apart(o) != CLI_RUN) return CLI_USAGE;
    if (o->resume && !o->checkpoint) return cli_usage("--resume: needs --checkpoint FILE to resume from");
    if (o->compare && o->checkpoint) return cli_usage("--compare: not together with --checkpoint: one file, two runs");
    if (o->score && (o->compare || o->resume))
        return cli_usage("--score: not together with --compare or --resume: it needs one run from its first step");
    return CLI_RUN;
}

int options_parse(options *o, int argc, char **argv)
{
    const cli_option table[] = {
        {"model", "MODEL", CLI_TEXT, &o->model, "gpt, mlp or script:FILE (TorchScript)", 0, 0, NULL},
        {"data", "PATH", CLI_TEXT, &o->data, "text, IDX images, or shards; see below", 0, 0, NULL},
        {"tokens", "UNIT", CLI_WORD, &o->tokens, "what a token of text is", 0, 0, "chars|bytes"},
        {"device", "WHERE", CLI_TEXT, &o->device, "cpu, cuda (the GPU of the local rank's number) or cuda:N", 0, 0,
         NULL},
        {"nccl", NULL, CLI_FLAG, &o->nccl, "with --device cuda: gradients travel by NCCL, else by MPI", 0, 0, NULL},
        {"codec", "SPEC", CLI_TEXT, &o->codec, "codec of all layers; `taut info` lists them", 0, 0, NULL},
        {"layer-codec", "PATTERN=SPEC", CLI_LIST, &o->layer_codecs, "codec of some layers; repeatable", 0, 0, NULL},
        {"budget", "BUDGET", CLI_TEXT, &o->budget, "of codec auto: rel=X or like:SPEC [like:quant:bits=4]", 0, 0, NULL},
        {"objective", "WHAT", CLI_WORD, &o->objective, "what auto minimises [time]", 0, 0, "time|bytes"},
        {"metric", "WHICH", CLI_WORD, &o->metric, "how errors are weighted [optimizer, else layer]", 0, 0,
         "plain|layer|optimizer"},
        {"scale", "UNIT", CLI_WORD, &o->scale, "the optimizer's scale", 0, 0, "auto|none|layer|row|element"},
        {"scale-floor", "X", CLI_REAL, &o->scale_floor, "least scale, relative to the layer's mean", 0.0001, 1, NULL},
        {"basis", "SOURCE", CLI_WORD, &o->basis, "what bases of codecs (basis=R) are made from", 0, 0,
         "results|momentum"},
        {"feedback", "MODE", CLI_WORD, &o->feedback, "error feedback [auto]", 0, 0, "auto|on|off|momentum"},
        {"algorithm", "NAME", CLI_WORD, &o->algorithm, "allreduce algorithm [auto]", 0, 0,
         "auto|native|sra|ring|gather"},
        {"optimizer", "NAME", CLI_WORD, &o->optimizer, "sgd has momentum", 0, 0, "sgd|adam|adamw"},
        {"lr", "X", CLI_REAL, &o->lr, "learning rate; 0 = gpt 0.002, else 0.001; sgd 0.15 and 0.05", 0, 1000, NULL},
        {"momentum", "X", CLI_REAL, &o->momentum, "of sgd", 0, 0.9999, NULL},
        {"beta2", "X", CLI_REAL, &o->beta2, "of adam", 0.1, 0.999999, NULL},
        {"weight-decay", "X", CLI_REAL, &o->weight_decay, "of the optimizer", 0, 10, NULL},
        {"clip", "X", CLI_REAL, &o->clip, "largest norm of the mean gradient; 0 = no clipping", 0, 1e9, NULL},
        {"warmup", "N", CLI_INT, &o->warmup, "steps of linear warm-up of the learning rate", 0, 1e9, NULL},
        {"steps", "N", CLI_INT, &o->steps,
         "training steps, those before --resume included; 0 = 300, or all of the plan", 0, 1e9, NULL},
        {"batch", "N", CLI_INT, &o->batch, "samples per rank and step", 1, 65536, NULL},
        {"plan", "P.plan", CLI_TEXT, &o->plan, "of shards: which samples, from `taut data plan` [all]", 0, 0, NULL},
        {"validation", "SHARDS", CLI_TEXT, &o->validation, "of shards: what to validate on [training samples]", 0, 0,
         NULL},
        {"score", "FILE", CLI_TEXT, &o->score,
         "of shards: loss, EL2N and forgetting of every sample, for `taut data plan --scores`", 0, 0, NULL},
        {"rounds", "N", CLI_INT, &o->rounds, "of shards: visits; 0 = the plan's", 0, 1e9, NULL},
        {"global-batch", "N", CLI_INT, &o->global_batch,
         "of shards: samples per step, all ranks together; 0 = --batch times ranks", 0, 1e9, NULL},
        {"data-cache", "BYTES", CLI_SIZE, &o->data_cache, "of shards: decoded blocks that a node keeps; 0 = automatic",
         0, 0x1p50, NULL},
        {"data-threads", "N", CLI_INT, &o->data_threads, "of shards: reader threads of a rank; 0 = 2", 0, 64, NULL},
        {"data-ahead", "N", CLI_INT, &o->data_ahead, "of shards: steps to read ahead; 0 = 16", 0, 1024, NULL},
        {"read-delay-us", "N", CLI_INT, &o->read_delay_us, "of shards: slows every read down, to test a slow disk", 0,
         1e7, NULL},
        {"schedule", "NAME", CLI_WORD, &o->schedule, "of the learning rate over all steps, after the warm-up", 0, 0,
         "constant|linear|cosine"},
        {"ctx", "N", CLI_INT, &o->ctx, "tokens per sample", 2, 8192, NULL},
        {"dim", "N", CLI_INT, &o->dim, "width; 0 = gpt 128, mlp 256", 0, 65536, NULL},
        {"blocks", "N", CLI_INT, &o->blocks, "gpt blocks, mlp hidden layers; 0 = gpt 4, mlp 2", 0, 1024, NULL},
        {"heads", "N", CLI_INT, &o->heads, "gpt attention heads; must divide --dim", 1, 1024, NULL},
        {"seed", "N", CLI_SIZE, &o->seed, "of parameters, sample order and codecs", 0, 9e15, NULL},
        {"eval-every", "N", CLI_INT, &o->eval_every, "steps between evaluations; 0 = at the end only", 0, 1e9, NULL},
        {"eval-samples", "N", CLI_INT, &o->eval_samples, "validation samples, evenly spread", 1, 1e9, NULL},
        {"checkpoint", "FILE", CLI_TEXT, &o->checkpoint, "write model, optimizer and codec state here", 0, 0, NULL},
        {"checkpoint-every", "N", CLI_INT, &o->checkpoint_every, "steps; 0 = at the end only", 0, 1e9, NULL},
        {"resume", NULL, CLI_FLAG, &o->resume, "go on from --checkpoint", 0, 0, NULL},
        {"log", "RUN.jsonl", CLI_TEXT, &o->log, "a line per step, evaluation and plan", 0, 0, NULL},
        {"compare", "SPEC", CLI_TEXT, &o->compare, "then the same run with this codec, side by side", 0, 0, NULL},
        CLI_JSON(&o->json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut train", "", "train a model, gradients through a compressed allreduce", details, table, 0, 0};
    int  operands, code;
    bool gpt, sgd;
    set_defaults(o);
    code = cli_parse(&cmd, argc, argv, &operands);
    environment_wins(o);
    if (code == CLI_RUN) code = check_specs(o);
    if (code == CLI_RUN) code = check_together(o);
    gpt = options_is(o->model, "gpt"), sgd = options_is(o->optimizer, "sgd");
    if (code == CLI_RUN && o->lr == 0) o->lr = gpt ? (sgd ? 0.15 : 0.002) : (sgd ? 0.05 : 0.001);
    return code;
}
