/* checkpoint.h : the state of a run on disk. A generation is a set of files, written completely on all ranks before
 * anything refers to it:
 *
 *   FILE.G.model          model, optimizer and the step (shim/torch.h)
 *   FILE.G.rankN          what Taut carries from step to step on rank N
 *   FILE                  the manifest (manifest.h): which generation, and the checksum of each of its files
 *   FILE.prev             the manifest of the generation before, whose files are kept as well
 *
 * Whenever a process dies, FILE names a complete set: it changes in one step, after the new set is on the disk, and older
 * sets are dropped after that. `cp FILE.prev FILE` goes back by one. All ranks must see the same folder.
 *
 * A resumed run continues as if it had not stopped; with another number of ranks the residuals are handed out so that
 * none is lost. All calls are collective and return the same on all ranks: 0, or an exit code after rank 0 printed why
 * (checkpoint_probe() returns each rank's own after fault()). */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "manifest.h"
#include "options.h"
#include "../../shim/torch.h"

/* How far a run is: what is saved of it and found again. */
typedef struct checkpoint_place {
    int64_t  step;    /* steps done */
    uint64_t samples; /* that they took, all ranks together: where the next one begins in the order of samples */
    uint8_t  data[MANIFEST_DATA_MAX]; /* of shards: taut_loader_state() */
    size_t   data_bytes;
} checkpoint_place;

int checkpoint_probe(
    const options *o); /* can its folder be written to? Asked before the first step, not after the last */
int checkpoint_save(const options *o, const checkpoint_place *at, const taut_torch_model *model,
                    const taut_torch_optim *optim, const taut_comm *comm);

/* checkpoint_load() : checks every file before the first is loaded. */
int checkpoint_load(const options *o, checkpoint_place *at, taut_torch_model *model, taut_torch_optim *optim,
                    taut_comm *comm);

/* checkpoint_place_of() : where the manifest says that the run was, for rank 0 alone, before there is a model; 0, or an exit code after
 *  fault(). */
int checkpoint_place_of(const options *o, checkpoint_place *at);

#endif
