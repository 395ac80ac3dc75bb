/* debug.c : in MODE=debug and the sanitizer builds, catch a program that writes to a buffer, or frees it, between start and
 * wait. start() takes checksums of blocks of 64 elements (slices begin at multiples of that); a block must still have its
 * checksum when the library comes to read it, and again, with the result in it, when the program gets it back. What goes
 * through MPI or by raw sums, straight from and into the buffer, is not seen. */
#include "communicator.h"

#ifdef TAUT_DEBUG
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

enum { BLOCK = 64 };

static size_t elem_bytes(const taut_layer *l) { return l->operand.dtype == TAUT_F32 ? 4 : 2; }

static uint32_t sum_of(const taut_layer *l, size_t block)
{
    size_t first = block * BLOCK, n = taut__min(BLOCK, l->operand.tensor.elems - first);
    return (uint32_t)XXH3_64bits((const char *)l->reduction.buf + first * elem_bytes(l), n * elem_bytes(l));
}

/* Memory that has gone back to the system cannot be read: say whose it was, instead of crashing somewhere below. */
static void need_mapped(const taut_layer *l, size_t first, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)l->reduction.buf + first * elem_bytes(l);
    uintptr_t from = at / page * page;
    if (n == 0 || msync((void *)from, at + n * elem_bytes(l) - from, MS_ASYNC) == 0) return;
    taut__log(TAUT_LOG_ERROR, "comm", "layer '%s': its buffer was freed between start and wait", l->name);
    abort();
}

taut_status taut__debug_lend(taut_layer *l)
{
    size_t blocks = taut__ceil_div(l->operand.tensor.elems, BLOCK);
    if (!l->lent_checksums) l->lent_checksums = taut__alloc(blocks, sizeof *l->lent_checksums);
    if (!l->lent_checksums) return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
    for (size_t b = 0; b < blocks; b++) l->lent_checksums[b] = sum_of(l, b);
    atomic_store(&l->spoilt, false);
    return TAUT_OK;
}

void taut__debug_read(taut_layer *l, size_t first, size_t n)
{
    need_mapped(l, first, n);
    for (size_t b = first / BLOCK; l->lent_checksums && b * BLOCK < first + n; b++)
        if (l->lent_checksums[b] != sum_of(l, b)) atomic_store(&l->spoilt, true);
}

void taut__debug_wrote(taut_layer *l, size_t first, size_t n)
{
    for (size_t b = first / BLOCK; l->lent_checksums && b * BLOCK < first + n; b++) l->lent_checksums[b] = sum_of(l, b);
}

taut_status taut__debug_return(taut_layer *l)
{
    bool codec =
        l->reduction.phase == TAUT_PHASE_DONE && l->reduction.halves == TAUT_BOTH && l->reduction.g &&
        l->reduction.g->size > 1 && l->reduction.g == &l->comm->ctx.all &&
        (l->reduction.via == &taut__sra || l->reduction.via == &taut__ring || l->reduction.via == &taut__gather);
    if (codec && l->lent_checksums && !l->reduction.calibration.raw) taut__debug_read(l, 0, l->operand.tensor.elems);
    if (!atomic_exchange(&l->spoilt, false)) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "layer '%s': its buffer was written to, or freed, between start and wait",
                      l->name);
}

#else

taut_status taut__debug_lend(taut_layer *l)
{
    (void)l;
    return TAUT_OK;
}
void        taut__debug_read(taut_layer *l, size_t first, size_t n) { (void)l, (void)first, (void)n; }
void        taut__debug_wrote(taut_layer *l, size_t first, size_t n) { (void)l, (void)first, (void)n; }
taut_status taut__debug_return(taut_layer *l)
{
    (void)l;
    return TAUT_OK;
}

#endif
