/* basis.h : coordinates in which a matrix's gradients have most of their energy in few places.
 *
 * Of a matrix of rows x cols, the vectors along its shorter side (n long; there are `vectors` of them) are written in an orthonormal basis Q:
 * z = x / scale, y = z Q, the same for every vector. The first `r` coordinates are those of the leading directions, in falling order of
 * energy; the other n - r are coordinates of what is left, in some basis of it. Q is a product of r reflections, so the change costs 4 r
 * operations per element, keeps squared norms (of z) to float32's precision whatever it was made from, and is undone by its transpose.
 *
 * Where Q comes from: orthogonal iteration for the leading eigenvectors of C = sum over time of keep^age Z^T Z, one iteration each time,
 * started from where the last one ended (Golub and Van Loan, Matrix Computations, section 8.2.4; C is remembered through its last
 * eigenvectors V and values s^2 alone: A = keep V s^2 + Z^T (Z V), and Q R = A gives the next). Z is what all ranks hold in the same bits, results
 * or an optimizer's momentum, and every operation has a fixed order on every machine, so all ranks make the same Q and none is sent.
 *
 * Float32. Directions are made on the host (renew); whole tensors are turned, and learnt from, where they lie: with the same bits everywhere. */
#ifndef TAUT_BASIS_H
#define TAUT_BASIS_H

#include "../codec.h"
#include "basis_there.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { BASIS_MOST = 256 }; /* directions */

typedef struct taut_axes taut_axes; /* of one tensor */

/* most: directions; there are no more than the shorter side. seed: the same on all ranks. TAUT_E_UNSUPPORTED where there is no matrix: the
 * shorter side has one element. */
taut_status taut__axes_create(const taut_tensor *t, size_t most, uint64_t seed, taut_axes **out);
void        taut__axes_destroy(taut_axes *a); /* NULL is fine */
bool        taut__axes_suit(const taut_tensor *t);
size_t      taut__axes_most(const taut_axes *a);  /* as created */
bool        taut__axes_ready(const taut_axes *a); /* there is a basis: something was learnt */
bool        taut__axes_given(
           const taut_axes *a); /* made from what the caller gives, not from results: a note, which is saved, too */
void     taut__axes_give(taut_axes *a, bool given);
uint64_t taut__axes_digest(const taut_axes *a); /* of the basis, as it is in memory; 0: there is none */

/* Changes of basis, in tiles 0..tiles-1 of 64 vectors, which may be done in any order; the others' elements are not touched. Coordinates lie in
 * the tile's elements, those of one direction after those of the one before. x: the whole tensor; t: its
 * shape, and the scale by which x is divided before (turn) or multiplied after (back) where that has more than one value. */
size_t taut__axes_tiles(const taut_axes *a);
void   taut__axes_turn(taut_axes *a, const taut_tensor *t, size_t tile, float *x);
void   taut__axes_back(taut_axes *a, const taut_tensor *t, size_t tile, float *x);

/* A tile by itself: its run i of consecutive elements of the tensor begins at *at, and has so many; 0: there is none. x: the tile's runs, one after
 * the other, as they are; afterwards over their scale. y: the same room, their coordinates, in the order in which turn leaves them. */
size_t taut__axes_run(const taut_axes *a, size_t tile, size_t i, size_t *at);
void   taut__axes_look(taut_axes *a, const taut_tensor *t, size_t tile, float *x, float *y);

/* Learning: begin, all tiles of x in order, then renew. keep: what the past counts, 0..1; 0: only x. Renew makes the next basis; where x was not
 * finite the old one stays, and it returns false. */
void taut__axes_learn_begin(taut_axes *a, double keep);
void taut__axes_learn(taut_axes *a, const taut_tensor *t, size_t tile, const float *x);
bool taut__axes_renew(taut_axes *a);

/* Whole tensors in memory of a place that is not the host: x, and t's scale, lie there. Calls enqueue on its stream. place: memory for the basis
 * there, which follows when it is used, as often as there is another one; the host: none. learn_all: begin and all tiles; what is learnt is on
 * its way to the host: renew once the stream has been waited for. Before that axes do not change. */
taut_status taut__axes_place(taut_axes *a, taut_place p);
taut_status taut__axes_change(taut_axes *a, const taut_tensor *t, float *x, bool back);
taut_status taut__axes_learn_all(taut_axes *a, const taut_tensor *t, const float *x, double keep);
/* On the host with somebody's matrices: the host's functions of vectors.h. */
taut_status taut__axes_change_here(const taut__axes_there *m, const taut_tensor *t, float *x, bool back);
taut_status taut__axes_learn_here(const taut__axes_there *m, const taut_tensor *t, const float *x);

/* Checkpoints: what was saved by axes of another shape or number of directions, or is damaged, is an error, and changes nothing. */
taut_status taut__axes_save(const taut_axes *a, void *dst, size_t cap, size_t *len);
taut_status taut__axes_check(const taut_tensor *t, const void *src, size_t len, size_t *most); /* most: as saved */
taut_status taut__axes_load(taut_axes *a, const void *src, size_t len);

#ifdef __cplusplus
}
#endif

#endif
