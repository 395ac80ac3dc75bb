/* agreement.h : statistics that ranks agree on before an operand is coded. A run: begin, look at all of x, ask, then advance until
 * agreed; AGAIN: look at all of x once more, and ask. */
#ifndef TAUT_AGREEMENT_H
#define TAUT_AGREEMENT_H

#include "../base/bytes.h"
#include "reduction.h"

typedef enum taut__agreed { TAUT_AGREE_WAITING, TAUT_AGREED, TAUT_AGREE_AGAIN } taut__agreed;

bool        taut__agree_wanted(const taut_spec *spec);
taut_status taut__agree_prepare(taut__reduction *red);
void        taut__agree_release(taut__reduction *red);
void        taut__agree_begin(taut__reduction *red);
taut_status taut__agree_look(taut__reduction *red, taut__range r, const float *x); /* x: of r */
bool taut__agree_knows_norms(const taut__reduction *red); /* ... of x, then, and they are in the record after ask */
taut_status taut__agree_ask(taut__reduction *red, bool *calibrated);
taut_status taut__agree_advance(taut__reduction *red, bool *moved, taut__agreed *outcome);
void        taut__agree_save(const taut__reduction *red, taut__writer *w);
taut_status taut__agree_check(const void *src, size_t len);
void taut__agree_load(taut__reduction *red, const void *src, size_t len); /* what check found good; len 0: forget */

/* ---- between agreement.c and agree_there.c ---- */
struct taut__agree_there **taut__agree_data(const taut__reduction *red); /* NULL: no agreement is wanted */
typedef struct taut__agreed_before {
    bool                    wants_all; /* what this rank has of earlier calls does not do */
    bool                    stands;    /* `earlier` and its calibration are there, as they were left */
    bool                    same_keys; /* `calibrated` is under the stage in force */
    const double           *earlier;   /* TAUT_STATS_MAX */
    const taut_calibration *calibrated;
} taut__agreed_before;
taut__agreed_before taut__agree_before(taut__reduction *red);
typedef struct taut__agreed_now {
    const double           *own; /* this rank's, the first ones at least */
    const double           *all; /* NULL: the earlier ones stay */
    const taut_calibration *calibrated, *calibration;
} taut__agreed_now;
void taut__agree_settle(taut__reduction *red, const taut__agreed_now *now); /* red->calibration is the call's */

/* ---- agree_there.c ---- ranks agree on statistics where their operands lie, without the host: what agreement.c does with messages, enqueued, with the same
 * numbers.
 *
 *      collect own statistics, all of them | every rank's to every rank | add the few; do they want all? rebase and add all; a calibration
 *      of these, and one of the earlier ones, adapted; the one that counts goes where encoders read it
 *
 * Both calibrations are made, since nobody can ask which it will be. What has become of it lies in memory of the device, and is told with the ledger;
 * then a tensor that should have gone raw, because some rank's holds a NaN, is put back as it was (kept in the stream before it was encoded, and only
 * then), and goes the other way. Codecs that need no other ranks' statistics go as far as they need. */
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
