/* agree_there.h : ranks agree on statistics where their operands lie, without the host: what agreement.c does with messages, enqueued, with the same
 * numbers.
 *
 *      collect own statistics, all of them | every rank's to every rank | add the few; do they want all? rebase and add all; a calibration
 *      of these, and one of the earlier ones, adapted; the one that counts goes where encoders read it
 *
 * Both calibrations are made, since nobody can ask which it will be. What has become of it lies in memory of the device, and is told with the ledger;
 * then a tensor that should have gone raw, because some rank's holds a NaN, is put back as it was (kept in the stream before it was encoded, and only
 * then), and goes the other way. Codecs that need no other ranks' statistics go as far as they need. */
#ifndef TAUT_AGREE_THERE_H
#define TAUT_AGREE_THERE_H

#include "reduction.h"

typedef struct taut__agree_there taut__agree_there;

/* Is this call's agreement made there? The same answer on all ranks. */
bool        taut__agrees_there(const taut__reduction *red);
taut_status taut__agree_there_prepare(taut__reduction *red); /* once per layer and spec, of those that may */
void        taut__agree_there_release(taut__reduction *red);
size_t      taut__agree_there_bytes(const taut__reduction *red); /* of the exchange's memory, for the call */
/* Stages, like an exchange's: enqueued one after the other, each when the data half is ready. memory: of so many bytes. */
size_t      taut__agree_there_stages(const taut__reduction *red);
taut_status taut__agree_there_enqueue(taut__reduction *red, size_t stage, void *memory);
taut_status taut__agree_there_end(taut__reduction *red); /* what has become of it, on its way to the host */
bool        taut__goes_raw(const taut__reduction *red);  /* what ranks have agreed on says so */
/* An event behind that has passed. TAUT_E_CORRUPT: numbers of some rank are not those that it sent, so whatever was made of them means nothing. */
taut_status taut__agree_there_intact(const taut__reduction *red);
/* The same. Where the tensor goes raw, x is on its way back to where it was. */
taut_status taut__agree_there_told(taut__reduction *red, void *memory);

#endif
