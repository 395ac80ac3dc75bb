/* job.c : see job.h. */
#include "job.h"
#include "../json.h"
#include "data.h"
#include "interrupt.h"
#include "options.h"
#include "ranks.h"
#include "report.h"
#include "run.h"
#include "shards.h"
#include <stdlib.h>

/* One thread per rank unless the user asks for more: ranks share the cores. */
static int set_threads(void)
{
    taut_status s = taut_torch_threads(cli_threads(1));
    return s == TAUT_OK ? 0 : fault_status(CLI_USAGE, "OMP_NUM_THREADS", taut_torch_last_error(), s);
}

static int open_data(options *o, data *d)
{
    data_want want = options_is(o->model, "gpt") ? DATA_TEXT : options_is(o->model, "mlp") ? DATA_IMAGES : DATA_ANY;
    int       code;
    if (shards_named(o->data)) return shards_open(d, o);
    if (o->steps == 0) o->steps = OPTIONS_STEPS;
    if ((code = ranks_agree(data_open(d, o->data, want, o->tokens, o->ctx))) != 0) return code;
    if (!ranks_same(d->hash))
        return ranks_agree(fault(CLI_FAILED, "--data: the ranks read different data under the same name"));
    return 0;
}

/* The run, and with --compare the same run with the other codec, from the same seed. */
static int train(const options *o, const data *d)
{
    result  a, b = {0};
    options other = *o;
    json_t *j;
    int     code = run_train(o, d, &a);
    if (code) return code;
    if (o->compare) {
        other.codec = o->compare;
        other.layer_codecs.n = 0;
        other.log = NULL;
        unsetenv("TAUT_CODEC"); /* else it would win over both */
        if (ranks_rank() == 0) report_table(&a, o, d, true);
        code = run_train(&other, d, &b);
    }
    if (!code && ranks_rank() == 0) {
        report_table(o->compare ? &b : &a, o, d, !o->compare);
        if (o->compare) report_compare(&a, &b);
        if (o->json) {
            j = report_object(&a, o);
            if (o->compare) json_object_set_new(j, "compare", report_object(&b, &other));
            jsn_print(j);
        }
    }
    if (!code && (a.diverged || b.diverged))
        code = ranks_agree(
            fault(CLI_FAILED, "diverged: the training loss ends at %.4g, having begun at %.4g; --lr is %g",
                  a.diverged ? a.loss_train : b.loss_train, a.diverged ? a.loss_first : b.loss_first, o->lr));
    if (!code && !(a.identical && (!o->compare || b.identical))) code = CLI_FAILED;
    run_free(&a);
    run_free(&b);
    return code;
}

int job_run(int argc, char **argv)
{
    options o;
    data    d = {0};
    int     code = options_parse(&o, argc, argv);
    if (!ranks_same(code == CLI_RUN ? options_hash(&o) : (uint64_t)code))
        code = ranks_agree(fault(CLI_USAGE, "the ranks were started with different options"));
    if (code != CLI_RUN) return code;
    interrupt_watch();
    code = ranks_agree(set_threads());
    if (!code) code = open_data(&o, &d);
    if (!code) code = train(&o, &d);
    data_close(&d);
    return code;
}
