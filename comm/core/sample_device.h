/* sample_device.h : samples of a layer whose buffers lie on a device: picked there, block by block, in the order of the stream, and brought to the
 * host together once the layer's work is done, so that taking them waits for nothing. */
#ifndef TAUT_SAMPLE_DEVICE_H
#define TAUT_SAMPLE_DEVICE_H

#include "communicator.h"

typedef enum taut__sampled { TAUT_SAMPLED_X, TAUT_SAMPLED_LOST, TAUT_SAMPLED_WIDE } taut__sampled;

taut_status taut__there_begin(taut_layer *l); /* blocks have been chosen */
void        taut__there_keep(taut_layer *l, taut__sampled what, taut__range r, const float *from, float factor);
void        taut__there_fetch(taut_layer *l); /* enqueues: the result's blocks, and all to the host */
void        taut__there_result(
           taut_layer *l); /* they are there; waits, unless the reduction has settled since they were fetched */
void taut__there_release(taut_layer *l);

#endif
