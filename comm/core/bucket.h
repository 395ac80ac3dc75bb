/* bucket.h : the inside of a bucket, shared by fusion.c, which runs it, and bundle.c, which makes a layer of it. */
#ifndef TAUT_BUCKET_H
#define TAUT_BUCKET_H

#include "communicator.h"

struct taut__bucket {
    taut__job                 job; /* first */
    taut_comm                *comm;
    taut__small_allreduce     exchange;
    taut__plain_sum           plain;
    taut__slots               slots;
    double                    begin_s;   /* of the round's sum */
    bool                      closed;    /* takes no more members */
    _Atomic bool              elsewhere; /* members lie outside the host */
    size_t                    members, room, floats, words;
    taut_layer              **member;   /* NULL: has left */
    float                    *x;        /* all members, back to back */
    float                    *packed;   /* those of the round, back to back */
    taut__staging             made[2];  /* what x and packed are */
    size_t                    in_round; /* floats of it */
    taut_layer               *bundle;   /* NULL: it has none */
    size_t                    scaled;   /* members with a scale, which is in the bundle's */
    bool                      coded;    /* the round, or the last one, goes as the bundle */
    _Atomic uint64_t         *started;  /* bit set of members; set by callers after the copy, cleared by the round */
    uint64_t                 *round, *scratch;
    bool                      coming, going; /* copies are under way, and the round waits for them */
    bool                      voting;
    const taut_layer *_Atomic wanted; /* somebody waits for it */
    const taut_layer *_Atomic asked;  /* on another rank, the last one asked for */
    const taut_layer *tested; /* last tested and not done; when others are asked for it, and how much later again */
    double            ask_at, ask_gap;
    char              label[32];
};

#endif
