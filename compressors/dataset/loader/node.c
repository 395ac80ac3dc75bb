/* node.c : see node.h. */
#include "node.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static size_t aligned(size_t bytes) { return taut__ceil_div(bytes, TAUT__NODE_ALIGN) * TAUT__NODE_ALIGN; }

/* Where things lie; false if the sum overflows. */
static bool lay_out(taut__node *n, uint32_t ranks, uint64_t slots, size_t slot_bytes)
{
    size_t blocks;
    *n = (taut__node){.ranks = ranks, .slots = slots, .slot_bytes = aligned(slot_bytes), .fd = -1};
    n->bytes = aligned(sizeof *n->words) + aligned(ranks * sizeof *n->done) + aligned((size_t)slots * sizeof *n->ready);
    return taut__mul_ok((size_t)slots, n->slot_bytes, &blocks) && taut__add_ok(n->bytes, blocks, &n->bytes) &&
           n->bytes < SIZE_MAX / 2;
}

static taut_status map(taut__node *n, int fd)
{
    uint8_t *at = mmap(NULL, n->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return taut__fail(TAUT_E_NOMEM, "loader: %zu bytes of shared memory: %s", n->bytes, strerror(errno));
    n->words = (taut__node_words *)(void *)at;
    n->done = (_Atomic uint64_t *)(void *)(at + aligned(sizeof *n->words));
    n->ready = (_Atomic uint64_t *)(void *)(at + aligned(sizeof *n->words) + aligned(n->ranks * sizeof *n->done));
    n->slot = at + n->bytes - (size_t)n->slots * n->slot_bytes;
    return TAUT_OK;
}

taut_status taut__node_create(taut__node *n, uint32_t ranks, uint64_t slots, size_t slot_bytes, uint64_t start,
                              taut__node_ticket *ticket)
{
    int         why;
    taut_status s;
    if (!lay_out(n, ranks, slots, slot_bytes))
        return taut__fail(TAUT_E_RANGE, "loader: %llu blocks of %zu bytes: more than this machine can address",
                          (unsigned long long)slots, slot_bytes);
    n->fd = memfd_create("taut-loader", MFD_CLOEXEC);
    if (n->fd < 0) return taut__fail(TAUT_E_IO, "loader: shared memory: %s", strerror(errno));
    /* allocated now: memory that is missing is an error here, not SIGBUS at the first touch */
    why = ftruncate(n->fd, (off_t)n->bytes) != 0 ? errno : posix_fallocate(n->fd, 0, (off_t)n->bytes);
    s = why ? taut__fail(TAUT_E_NOMEM, "loader: %zu bytes of shared memory: %s", n->bytes, strerror(why))
            : map(n, n->fd);
    if (s != TAUT_OK) {
        taut__node_seal(n);
        return s;
    }
    for (uint32_t i = 0; i < ranks; i++) atomic_store(&n->done[i], start);
    *ticket = (taut__node_ticket){getpid(), n->fd};
    return TAUT_OK;
}

taut_status taut__node_open(taut__node *n, uint32_t ranks, uint64_t slots, size_t slot_bytes, taut__node_ticket ticket)
{
    char        path[64];
    struct stat st;
    int         fd;
    taut_status s;
    if (!lay_out(n, ranks, slots, slot_bytes))
        return taut__fail(TAUT_E_RANGE,
                          "loader: %u ranks and %llu blocks of %zu bytes: more than this machine can address", ranks,
                          (unsigned long long)slots, slot_bytes);
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)ticket.pid, (long long)ticket.fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return taut__fail(TAUT_E_IO, "loader: the memory of process %lld of this node (%s): %s", (long long)ticket.pid,
                          path, strerror(errno));
    if (fstat(fd, &st) != 0 || (size_t)st.st_size != n->bytes)
        s = taut__fail(TAUT_E_MISMATCH, "loader: %s: %lld bytes of shared memory: must be %zu", path,
                       (long long)st.st_size, n->bytes);
    else s = map(n, fd);
    close(fd);
    return s;
}

void taut__node_seal(taut__node *n)
{
    if (n->fd >= 0) close(n->fd);
    n->fd = -1;
}

void taut__node_unmap(taut__node *n)
{
    taut__node_seal(n);
    if (n->words) munmap(n->words, n->bytes);
    memset(n, 0, sizeof *n);
    n->fd = -1;
}

/* ---- events ---- */

uint32_t taut__node_event(const taut__node *n) { return atomic_load(&n->words->event); }

void taut__node_signal(taut__node *n)
{
    atomic_fetch_add(&n->words->event, 1);
    if (atomic_load(&n->words->waiters)) syscall(SYS_futex, &n->words->event, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void taut__node_wait(taut__node *n, uint32_t event)
{
    struct timespec most = {0, 20000000};
    atomic_fetch_add(&n->words->waiters, 1);
    syscall(SYS_futex, &n->words->event, FUTEX_WAIT, event, &most, NULL, 0);
    atomic_fetch_sub(&n->words->waiters, 1);
}

uint64_t taut__node_done(const taut__node *n)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < n->ranks; i++) {
        uint64_t d = atomic_load_explicit(&n->done[i], memory_order_acquire);
        if (d < least) least = d;
    }
    return least;
}

void taut__node_fail(taut__node *n, taut_status s, const char *text)
{
    int32_t none = 0;
    if (!atomic_compare_exchange_strong(&n->words->failing, &none, 1)) return;
    snprintf(n->words->text, sizeof n->words->text, "%s", text);
    atomic_store_explicit(&n->words->failed, (int32_t)s, memory_order_release);
    taut__node_signal(n);
}

taut_status taut__node_failure(const taut__node *n)
{
    int32_t s = atomic_load_explicit(&n->words->failed, memory_order_acquire);
    return s == TAUT_OK ? TAUT_OK : taut__fail((taut_status)s, "%s", n->words->text);
}
