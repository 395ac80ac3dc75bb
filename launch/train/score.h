/* score.h : `taut train --score FILE`: what a run found about every sample of its shards, for plans (taut_scores_save()).
 *
 *  loss, el2n : of the model as it is at the end of the run, in evaluation mode, over all samples; el2n is meant for a run of a few rounds.
 *  forgetting : how often a sample that was right when it was trained on was wrong the next time; a sample that never was right counts its visits plus 1,
 *               one that was never visited 0.
 * Of text, a sample's numbers are the means over its tokens, and it is right where more than half of them are. */
#ifndef TRAIN_SCORE_H
#define TRAIN_SCORE_H

#include "data.h"
#include "feed.h"
#include "options.h"

typedef struct score score;

/* score_open() : collective; *s is NULL without --score. 0, or an exit code. */
int  score_open(score **s, const data *d, const options *o, taut_torch_model *model);
void score_close(score *s);

/* score_step() : after the step's forward: notes who was right. Collective once a round. 0, or an exit code after fault(). */
int score_step(score *s, const feed *f, int64_t step);

/* score_write() : collective; at the end. 0, or an exit code on all ranks. */
int score_write(score *s);

#endif
