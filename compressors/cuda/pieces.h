/* pieces.h : from the pieces of ops.h to the launches of cuda.h. A codec says how its operations launch; cutting a list of pieces into
 * launches, checking pointers, descriptors and scratch are done here. All memory comes and goes in stream order; nobody waits. */
#ifndef TAUT_CUDA_PIECES_H
#define TAUT_CUDA_PIECES_H

#include "../vectors.h"
#include "cuda.h"

enum { TAUT__LAUNCH_MAX = 256 }; /* pieces in one launch */

/* taut__launch : one launch under way: jobs that share a stage's parameters. */
typedef struct taut__launch {
    const taut__cuda *c;
    taut_place        place;
    taut__op          op;
    const taut_codec *codec;
    const taut_stage *stage; /* of all pieces */
    const taut_piece *pieces;
    taut__cuda_job   *jobs; /* on the host */
    uint64_t          list; /* topk: taut__cuda_list() */
    taut__cuda_batch  b;
} taut__launch;

typedef struct taut__device_codec {
    size_t unit;     /* elements of a unit of work, as cuda.h says */
    bool   any_spec; /* looks at no parameter of the spec */
    /* (optional) What the host can tell is wrong with a piece, with its text; and what of the job is not copied from the piece. */
    taut_status (*fill)(const taut__launch *l, const taut_piece *p, taut__cuda_job *j);
    size_t (*work)(taut__launch *l); /* (optional) scratch, in bytes; may number lists */
    taut_status (*run)(const taut__launch *l);
} taut__device_codec;

/* Launches all pieces; what ops.h calls enqueue. */
taut_status taut__launch_pieces(const taut__device_codec *d, taut__op op, const taut_codec *codec,
                                const taut_piece *pieces, size_t n, taut_place place);

/* Scratch in stream order, for codecs that launch by themselves. */
taut_status taut__scratch(const taut__cuda *c, taut_place place, size_t bytes, void **p);
/* TAUT_E_INVALID unless p, of that name, is device memory; NULL passes. */
taut_status taut__on_device(const taut__cuda *c, const taut_codec *codec, const void *p, const char *what);
taut_status taut__payload_room(const taut_codec *codec, const taut_piece *p); /* of what encode writes: capacity() */

/* Host bytes that stay on the device, brought there once (which waits); and given back, all of them, when nothing runs. */
taut_status taut__device_table(const taut__cuda *c, taut_place place, const void *host, size_t bytes,
                               const void **there);
void        taut__device_tables_release(void);

extern const taut__space   taut__space_cuda;
extern const taut__vectors taut__vectors_cuda;

#endif
