/* cmd_data_compare.c : `taut data compare`: the same model, trained equally many steps on different choices of the same shards. */
#include "cli.h"
#include "cmd_data.h"
#include "data/compare.h"
#include <string.h>

int cmd_data_compare(int argc, char **argv)
{
    compare          c = {.model = "mlp",
                          .budget = "10%",
                          .schedule = "cosine",
                          .optimizer = "adam",
                          .rounds = 20,
                          .seeds = 3,
                          .batch = 64,
                          .ranks = 1,
                          .eval_samples = 10000};
    const cli_option options[] = {
        {"validation", "SHARDS", CLI_TEXT, &c.validation, "what the models are judged by (required)", 0, 0, NULL},
        {"budget", "SHARE", CLI_TEXT, &c.budget, "samples of a round: 10%, or a number", 0, 0, NULL},
        {"rounds", "N", CLI_INT, &c.rounds, "rounds of so many samples; all methods take as many steps", 1, 1e6, NULL},
        {"seeds", "N", CLI_INT, &c.seeds, "runs of each method: seeds 1..N of model, choice and order", 1, 100, NULL},
        {"method", "RULE", CLI_LIST, &c.method,
         "beside full; may be repeated [rs2, static]; `taut data plan --help` has the rules", 0, 0, NULL},
        {"plan", "P.plan", CLI_LIST, &c.plan,
         "a plan of `taut data plan` for these shards, in a row of its own; may be repeated", 0, 0, NULL},
        {"distilled", "FILE", CLI_LIST, &c.distilled,
         "a shard of few samples, as of `taut data distill`, in a row of its own; may be repeated", 0, 0, NULL},
        {"soft-labels", NULL, CLI_FLAG, &c.soft,
         "a row of random samples with a teacher's soft labels: images with labels", 0, 0, NULL},
        {"teacher-steps", "N", CLI_INT, &c.teacher_steps, "of that teacher; 0 = as of taut data distill", 0, 1e7, NULL},
        {"whole", NULL, CLI_FLAG, &c.whole,
         "a row of all rounds over all samples: as many times more steps as the budget is smaller", 0, 0, NULL},
        {"target", "FILE", CLI_TEXT, &c.target, "for methods that need one", 0, 0, NULL},
        {"scores", "FILE", CLI_TEXT, &c.scores, "for methods that need them", 0, 0, NULL},
        {"model", "MODEL", CLI_TEXT, &c.model, "as of taut train", 0, 0, NULL},
        {"batch", "N", CLI_INT, &c.batch, "samples of a step, all ranks together", 1, 65536, NULL},
        {"ranks", "N", CLI_INT, &c.ranks, "MPI ranks that train; 1: without mpirun", 1, 1024, NULL},
        {"optimizer", "NAME", CLI_WORD, &c.optimizer, "as of taut train", 0, 0, "sgd|adam|adamw"},
        {"lr", "X", CLI_REAL, &c.lr, "learning rate; 0 = that of taut train", 0, 1000, NULL},
        {"schedule", "NAME", CLI_WORD, &c.schedule, "of the learning rate, over these steps", 0, 0,
         "constant|linear|cosine"},
        {"eval-samples", "N", CLI_INT, &c.eval_samples, "validation samples", 1, 1e9, NULL},
        {"train-option", "NAME=VALUE", CLI_LIST, &c.more,
         "one more option of taut train, as in dim=512; may be repeated", 0, 0, NULL},
        {"figure", "OUT.svg", CLI_TEXT, &c.figure, "accuracy (text: loss) after each round; needs gnuplot", 0, 0, NULL},
        {"csv", "OUT.csv", CLI_TEXT, &c.csv, "the same as numbers", 0, 0, NULL},
        CLI_JSON(&c.json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut data compare",
        "SHARD.taut...",
        "train on a choice of samples, beside its honest twins",
        "rs2 takes another random subset in every round, static always the same one; full takes all samples in random "
        "order, for as many\n"
        "steps and under the same schedule of the learning rate: what a method gains has to show against that column.\n"
        "A set with fewer samples than --batch is trained in batches of all of it.\n"
        "Columns: samples of a round; different samples seen; steps; accuracy and loss on --validation, mean and "
        "spread over seeds; points\n"
        "against full; seconds to choose and to train; bytes of the shards, bytes read from them and bytes decoded for "
        "each one used.\n"
        "--json: budget rounds steps batch seeds shard_bytes results[]: method rule samples different steps bytes "
        "accuracy accuracy_min\n"
        "accuracy_max loss_val against_full plan_s train_s read_bytes decoded_per_used runs[]\n\n"
        "  taut data compare mnist.taut --validation t10k.taut --budget 10% --rounds 20 --seeds 3 --figure rs2.svg\n",
        options,
        1,
        64};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (!c.validation)
        return cli_usage(
            "--validation SHARDS is missing: on its own training samples a static subset always looks good");
    for (size_t i = 0; i < c.more.n; i++)
        if (!strchr(c.more.item[i], '=')) return cli_usage("--train-option=%s: must be NAME=VALUE", c.more.item[i]);
    if (c.figure && (rc = cli_writable("--figure", c.figure)) != CLI_OK) return rc;
    if (c.csv && (rc = cli_writable("--csv", c.csv)) != CLI_OK) return rc;
    c.path = argv;
    c.shards = argc;
    return compare_run(&c);
}
