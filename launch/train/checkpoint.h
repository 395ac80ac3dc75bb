/* checkpoint.h : FILE holds model, optimizer and the step (shim/torch.h), FILE.rankN what Taut carries from step to
 * step on rank N. A resumed run continues as if it had not stopped; with another number of ranks the residuals are
 * handed out so that none is lost. All are collective, return 0 or an exit code after fault(), and want
 * ranks_agree() after them. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "options.h"
#include "../../shim/torch.h"

int checkpoint_probe(const options *o); /* can FILE be written? Asked before the first step, not after the last */
int checkpoint_save(const options *o, int64_t step, const taut_torch_model *model, const taut_torch_optim *optim,
                    const taut_comm *comm);
int checkpoint_load(const options *o, int64_t *step, taut_torch_model *model, taut_torch_optim *optim, taut_comm *comm);

#endif
