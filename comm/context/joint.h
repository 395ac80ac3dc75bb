/* joint.h : codec calls of pieces that are under way at once, of whatever jobs, made as one.
 *
 * Outside the host a piece of work is done by one of the lane's threads, which asks for one codec operation after the other and waits for each.
 * Whoever asks waits until all threads that are at work have asked: then one of them makes one call for all that asked for the same operation of
 * the same codec (taut__ask_all), on a GPU one launch, and waits once for the device. Each goes on with its own afterwards.
 *
 *     layer a  | form x  ask encode |                                    | seal, done
 *     layer b  |   form x  ask encode | encode(pieces of a, b and c), wait | seal, done
 *     layer c  | form x    ask encode |                                    | seal, add ...
 *
 * Nobody is waited for for long: a thread at work asks, or ends its piece, without waiting for another one; and since the lane has one stream, what a
 * thread waits for meanwhile would have been before the call in any case. On the host there is nothing to be gained: each thread does its own. */
#ifndef TAUT_JOINT_H
#define TAUT_JOINT_H

#include "context.h"

enum { TAUT_JOINT_THREADS = 4 }; /* of a lane outside the host, at least: so many pieces can go into one call */

typedef struct taut__joint taut__joint;
taut_status                taut__joint_create(size_t workers, taut__joint **j);
void                       taut__joint_destroy(taut__joint *j); /* NULL is fine */
/* A thread begins, and ends, a piece of work in which it may ask. Lanes of the host: nothing. */
void taut__joint_enter(const taut__lane *lane);
void taut__joint_leave(const taut__lane *lane);
/* Between these. As taut__enqueue() of one piece, waited for. len: NULL, or the payload's bytes. */
taut_status taut__joint_ask(const taut__lane *lane, taut__op op, const taut_codec *codec, const taut_piece *p,
                            size_t *len);

typedef struct taut__joint_counts {
    uint64_t calls, pieces;
} taut__joint_counts;
taut__joint_counts taut__joint_counted(void); /* of this process, so far */

#endif
