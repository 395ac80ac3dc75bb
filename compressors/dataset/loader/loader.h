/* loader.h : the inside of a taut_loader, shared by its files: loader.c (open, next, state), readers.c (threads),
 * loader_setup.c (what open() builds). */
#ifndef TAUT_LOADER_H
#define TAUT_LOADER_H

#include "../shard/shard.h"
#include "node.h"
#include "package.h"
#include "schedule.h"
#include <pthread.h>
#include <sys/types.h>

enum { TAUT__READERS_MAX = 64 };

typedef struct taut__counters {
    _Atomic uint64_t reads, read_bytes, decodes, decoded_bytes;
} taut__counters;

struct taut_loader {
    taut_loader_config config; /* pointers in it are not used after open */
    taut__package      data;
    uint32_t           rank, ranks, node_ranks, node_index;
    uint32_t          *node_list;
    uint64_t           rounds, batch;

    size_t    fields;
    uint32_t *field;    /* numbers in the shards: field[f * shards + shard] */
    size_t   *image_at; /* where an image lies in its slot; fields of them */
    size_t    slot_bytes;
    uint64_t *first_sample, *first_block, *per_block; /* the geometry, with blocks per shard */

    taut__sampler  *sampler;
    taut__schedule *schedule;
    pthread_mutex_t lock; /* of the schedule */
    bool            lock_made;
    taut_status     schedule_failed; /* advance() failed; its text */
    char            schedule_text[TAUT__NODE_TEXT];

    taut__node   node;
    pthread_t    thread[TAUT__READERS_MAX];
    int          threads;
    _Atomic bool stop;

    pid_t                  owner;   /* the process that has the threads: none that it forks */
    uint64_t               step;    /* the next one */
    bool                   holding; /* step-1 is in the caller's hands */
    uint64_t              *id;      /* the batch's arrays; most samples of a step each */
    float                 *weight;
    const uint8_t        **pointer; /* fields * most */
    size_t                *length;
    const uint8_t *const **data_rows; /* fields */
    const size_t         **length_rows;

    taut__counters mine;
    uint64_t       steps_taken, samples_taken, used_bytes, node_blocks;
    double         stall_s, first_stall_s;
};

/* loader_setup.c : on every rank, after the package is there. */
taut_status taut__loader_setup(taut_loader *l);
taut_status taut__loader_memory(taut_loader *l, uint64_t *slots); /* how many blocks the node holds */
taut_status taut__loader_schedule(taut_loader *l, uint64_t slots);

/* readers.c */
taut_status taut__readers_start(taut_loader *l);
void        taut__readers_stop(taut_loader *l); /* loads that were begun are finished */
/* With the lock held: compute steps until `step` is there. */
taut_status taut__schedule_until(taut_loader *l, uint64_t step);

#endif
