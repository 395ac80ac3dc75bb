/* readers.c : the threads that read and decode ahead, in the order of the schedule. */
#include "../../../comm/base/thread.h"
#include "loader.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct reader {
    taut_loader  *l;
    taut_reader **shard; /* one per shard, made when it is needed */
    uint8_t      *stored;
    size_t        room;
} reader;

/* ---- ahead ---- */

/* Tells the kernel what the loads from `first` on will read; the ranks of a node share that out. */
static void advise(taut_loader *l, uint64_t first)
{
    for (uint64_t k = first; k < taut__schedule_loads(l->schedule); k++) {
        const taut__load *load = taut__schedule_load(l->schedule, k);
        size_t            s;
        taut_extent       e;
        if (k % l->node_ranks != l->node_index) continue;
        s = taut__run_of(l->first_block, l->data.plan.shards, load->block);
        e = taut__shard_block_extent(l->data.shard[s], load->block - l->first_block[s]);
        (void)posix_fadvise(taut__shard_fd(l->data.shard[s]), (off_t)e.offset, (off_t)e.bytes,
                            POSIX_FADV_WILLNEED); /* advice only */
    }
}

taut_status taut__schedule_until(taut_loader *l, uint64_t step)
{
    while (l->schedule_failed == TAUT_OK && taut__schedule_next(l->schedule) <= step) {
        uint64_t first = taut__schedule_loads(l->schedule);
        l->schedule_failed = taut__schedule_advance(l->schedule);
        if (l->schedule_failed != TAUT_OK) snprintf(l->schedule_text, sizeof l->schedule_text, "%s", taut_last_error());
        else advise(l, first);
    }
    return l->schedule_failed == TAUT_OK ? TAUT_OK : taut__fail(l->schedule_failed, "%s", l->schedule_text);
}

/* Load k, if it may be begun now: it is computed, and its slot is free. */
static bool startable(taut_loader *l, uint64_t k, taut__load *load)
{
    const taut__load *found;
    pthread_mutex_lock(&l->lock);
    while (taut__schedule_loads(l->schedule) <= k &&
           taut__schedule_next(l->schedule) < taut__schedule_steps(l->schedule) &&
           taut__schedule_next(l->schedule) < l->step + (uint64_t)l->config.ahead - 1)
        if (taut__schedule_until(l, taut__schedule_next(l->schedule)) != TAUT_OK) break; /* next() will say so */
    found = taut__schedule_load(l->schedule, k);
    if (found) *load = *found;
    pthread_mutex_unlock(&l->lock);
    return found && taut__node_done(&l->node) >= load->release;
}

/* ---- one load ---- */

static taut_status read_at(reader *r, const taut_shard *s, uint64_t block, taut_extent e)
{
    int  fd = taut__shard_fd(s);
    long delay = r->l->config.read_delay_us;
    if (e.bytes > r->room) {
        size_t   room = (size_t)e.bytes + (size_t)e.bytes / 8;
        uint8_t *more = e.bytes > SIZE_MAX / 4 ? NULL : taut__alloc(room, 1);
        if (!more)
            return taut__fail(TAUT_E_NOMEM, "%s: block %llu: out of memory for its %llu stored bytes",
                              taut_shard_path(s), (unsigned long long)block, (unsigned long long)e.bytes);
        taut__free(r->stored);
        r->stored = more;
        r->room = room;
    }
    if (delay) nanosleep(&(struct timespec){delay / 1000000, delay % 1000000 * 1000}, NULL);
    for (size_t at = 0; at < e.bytes;) {
        ssize_t n = pread(fd, r->stored + at, (size_t)e.bytes - at, (off_t)(e.offset + at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return taut__fail(TAUT_E_IO, "%s: block %llu: %s%s", taut_shard_path(s), (unsigned long long)block,
                              n < 0 ? strerror(errno) : "the file ends before its bytes",
                              taut__shard_changed(s) ? "; the file was replaced or changed since it was opened" : "");
        at += (size_t)n;
    }
    atomic_fetch_add_explicit(&r->l->mine.reads, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->l->mine.read_bytes, e.bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->l->node.words->read_bytes, e.bytes, memory_order_relaxed);
    return TAUT_OK;
}

/* Fields f .. whose extents follow each other are read at once. Returns the field behind them. */
static taut_status load_run(reader *r, size_t s, uint64_t block, size_t f, uint8_t *slot, size_t *next)
{
    taut_loader      *l = r->l;
    const taut_shard *shard = l->data.shard[s];
    size_t            shards = l->data.plan.shards;
    taut_extent       all = taut__shard_extent(shard, l->field[f * shards + s], block);
    size_t            end = f + 1;
    for (; end < l->fields; end++) {
        taut_extent e = taut__shard_extent(shard, l->field[end * shards + s], block);
        if (e.offset != all.offset + all.bytes) break;
        all.bytes += e.bytes;
    }
    TAUT_TRY(read_at(r, shard, block, all));
    for (size_t at = 0; f < end; f++) {
        uint32_t number = l->field[f * shards + s];
        size_t   bytes = (size_t)taut__shard_extent(shard, number, block).bytes,
               image = taut__image_bytes(shard, number, block);
        TAUT_TRY(taut__reader_decode(r->shard[s], number, block, r->stored + at, bytes, slot + l->image_at[f],
                                     l->image_at[f + 1] - l->image_at[f]));
        atomic_fetch_add_explicit(&l->mine.decoded_bytes, image, memory_order_relaxed);
        atomic_fetch_add_explicit(&l->node.words->decoded_bytes, image, memory_order_relaxed);
        at += bytes;
    }
    *next = end;
    return TAUT_OK;
}

static taut_status do_load(reader *r, const taut__load *load)
{
    taut_loader *l = r->l;
    uint8_t     *slot = taut__node_slot(&l->node, load->slot);
    size_t       s = taut__run_of(l->first_block, l->data.plan.shards, load->block);
    uint64_t     reads, bytes, reads_then, bytes_then;
    if (!r->shard[s]) TAUT_TRY(taut_reader_create(l->data.shard[s], &r->shard[s]));
    taut__reader_foreign(r->shard[s], &reads, &bytes);
    for (size_t f = 0; f < l->fields;) TAUT_TRY(load_run(r, s, load->block - l->first_block[s], f, slot, &f));
    taut__reader_foreign(r->shard[s], &reads_then, &bytes_then);
    atomic_fetch_add_explicit(&l->mine.reads, reads_then - reads, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->mine.read_bytes, bytes_then - bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->node.words->read_bytes, bytes_then - bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->mine.decodes, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->node.words->decodes, 1, memory_order_relaxed);
    return TAUT_OK;
}

/* ---- threads ---- */

static void read_ahead(reader *r)
{
    taut_loader *l = r->l;
    taut__node  *n = &l->node;
    while (!atomic_load(&l->stop) && taut__node_failure(n) == TAUT_OK) {
        uint32_t    event = taut__node_event(n);
        uint64_t    k = atomic_load(&n->words->next_load);
        taut__load  load;
        taut_status s;
        if (!startable(l, k, &load)) {
            taut__node_wait(n, event);
            continue;
        }
        if (!atomic_compare_exchange_strong(&n->words->next_load, &k, k + 1)) continue; /* another reader has it */
        if ((s = do_load(r, &load)) != TAUT_OK) {
            taut__node_fail(n, s, taut_last_error());
            return;
        }
        atomic_store_explicit(&n->ready[load.slot], k + 1, memory_order_release);
        taut__node_signal(n);
    }
}

static void *reader_thread(void *arg)
{
    taut_loader *l = arg;
    reader       r = {.l = l, .shard = taut__alloc(l->data.plan.shards, sizeof *r.shard)};
    if (r.shard) read_ahead(&r);
    else taut__node_fail(&l->node, TAUT_E_NOMEM, "loader: out of memory for a reader");
    for (size_t i = 0; r.shard && i < l->data.plan.shards; i++) taut_reader_destroy(r.shard[i]);
    taut__free(r.shard);
    taut__free(r.stored);
    return NULL;
}

taut_status taut__readers_start(taut_loader *l)
{
    while (l->threads < l->config.threads) {
        char what[48];
        snprintf(what, sizeof what, "reader thread %d of %d", l->threads + 1, l->config.threads);
        TAUT_TRY(taut__thread_start(&l->thread[l->threads], reader_thread, l, what));
        l->threads++;
    }
    return TAUT_OK;
}

void taut__readers_stop(taut_loader *l)
{
    atomic_store(&l->stop, true);
    if (l->threads) taut__node_signal(&l->node);
    while (l->threads > 0) pthread_join(l->thread[--l->threads], NULL);
}
