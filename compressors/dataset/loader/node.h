/* node.h : the memory that the ranks of a node share: decoded blocks, and a few words beside them.
 *
 * It has no name at any time: rank node[0] makes an anonymous file (memfd_create), the others open it through
 * /proc/PID/fd/N, and the kernel takes it back when the last process is gone, however that ended.
 *
 * Protocol. All words are atomics, no lock is held across processes, so a killed rank cannot hold one.
 *   next_load  : a reader that wants load k first waits until release(k) is met, then takes k by compare-and-swap: k is
 *                decoded once. Loads are taken in order, so whatever a step waits for is never behind what waits for the step.
 *   ready[slot]: load number + 1 of what lies there, stored with release order after the last byte.
 *   done[i]    : steps that rank node[i] has finished; a slot is overwritten only when all are beyond its last use.
 *   event      : counts every change that somebody could wait for; waiting is a futex on it, with a timeout, so a lost
 *                wake-up costs milliseconds.
 *   failed     : the first failure of any reader, its text before it; ends next() of all ranks of the node. */
#ifndef TAUT_LOADER_NODE_H
#define TAUT_LOADER_NODE_H

#include "../../../comm/base/base.h"
#include <stdatomic.h>

enum { TAUT__NODE_TEXT = 512, TAUT__NODE_ALIGN = 64 };

typedef struct taut__node_words {
    _Atomic uint32_t event, waiters;
    _Atomic uint64_t next_load;
    _Atomic uint64_t decodes, read_bytes, decoded_bytes;
    _Atomic int32_t  failing, failed; /* taken; a taut_status */
    char             text[TAUT__NODE_TEXT];
} taut__node_words;

typedef struct taut__node {
    taut__node_words *words;
    _Atomic uint64_t *done, *ready; /* node_ranks; slots */
    uint8_t          *slot;
    size_t            slot_bytes; /* a multiple of TAUT__NODE_ALIGN */
    uint64_t          slots;
    uint32_t          ranks;
    size_t            bytes; /* of the mapping */
    int               fd;    /* of the maker until all have mapped it; else -1 */
} taut__node;

/* What the maker tells the others. */
typedef struct taut__node_ticket {
    int64_t pid, fd;
} taut__node_ticket;

/* taut__node_create() : memory for `slots` blocks, done[] = start. TAUT_E_NOMEM when the machine has not got it.
 *  taut__node_open() : the same memory in another process (or again in this one). */
taut_status taut__node_create(taut__node *n, uint32_t ranks, uint64_t slots, size_t slot_bytes, uint64_t start,
                              taut__node_ticket *ticket);
taut_status taut__node_open(taut__node *n, uint32_t ranks, uint64_t slots, size_t slot_bytes, taut__node_ticket ticket);
void        taut__node_seal(taut__node *n); /* all have mapped it: close the file */
void        taut__node_unmap(taut__node *n);

static inline uint8_t *taut__node_slot(const taut__node *n, uint32_t slot)
{
    return n->slot + (size_t)slot * n->slot_bytes;
}

/* ---- events ---- read event(), look at the words, then wait for it to move on. */
uint32_t taut__node_event(const taut__node *n);
void     taut__node_signal(taut__node *n);
void     taut__node_wait(taut__node *n, uint32_t event); /* returns when it differs, or after some milliseconds */

uint64_t    taut__node_done(const taut__node *n); /* steps that all ranks have finished */
void        taut__node_fail(taut__node *n, taut_status s, const char *text);
taut_status taut__node_failure(const taut__node *n); /* the failure, as this thread's last error; TAUT_OK = none */

#endif
