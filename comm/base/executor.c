/* executor.c : see executor.h. Workers sleep on `wake`; numbers of pieces are handed out under the lock, which is cheap next to a piece
 * (a frame of up to a MiB). Who runs a batch and waits works too, on that batch. */
#include "executor.h"
#include "thread.h"
#include <stdio.h>

struct taut__executor {
    int             threads; /* the caller included */
    int             made;
    pthread_t      *thread;
    pthread_mutex_t lock;
    pthread_cond_t  wake, finished;
    taut__batch    *first; /* under way, in order of submission */
    bool            quit;
};

typedef struct seat {
    taut__executor *pool;
    int             worker;
} seat;

/* One piece of a batch that has one left. Called and returns with the lock held. */
static void work(taut__executor *p, taut__batch *b, int worker)
{
    size_t i = b->next++;
    pthread_mutex_unlock(&p->lock);
    b->piece(b->ctx, i, worker);
    pthread_mutex_lock(&p->lock);
    if (++b->done == b->n) pthread_cond_broadcast(&p->finished);
}

static taut__batch *unbegun(const taut__executor *p)
{
    taut__batch *b = p->first;
    while (b && b->next == b->n) b = b->after;
    return b;
}

static void *worker_main(void *arg)
{
    seat            s = *(seat *)arg;
    taut__executor *p = s.pool;
    taut__free(arg);
    pthread_mutex_lock(&p->lock);
    while (!p->quit) {
        taut__batch *b = unbegun(p);
        if (b) work(p, b, s.worker);
        else pthread_cond_wait(&p->wake, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static taut_status add_worker(taut__executor *p)
{
    char  what[48];
    seat *s = taut__alloc(1, sizeof *s);
    if (!s) return taut__fail(TAUT_E_NOMEM, "out of memory for %d codec threads", p->threads);
    *s = (seat){p, p->made + 1};
    snprintf(what, sizeof what, "codec thread %d of %d", p->made + 2, p->threads);
    taut_status status = taut__thread_start(&p->thread[p->made], worker_main, s, what);
    if (status == TAUT_OK) p->made++;
    else taut__free(s);
    return status;
}

taut_status taut__executor_create(int threads, taut__executor **pool)
{
    taut__executor *p = taut__alloc(1, sizeof *p);
    *pool = NULL;
    if (!p) return taut__fail(TAUT_E_NOMEM, "pool: out of memory");
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->finished, NULL);
    p->thread = taut__alloc((size_t)threads, sizeof *p->thread);
    taut_status s = p->thread ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "out of memory for %d codec threads", threads);
    while (s == TAUT_OK && p->made < threads - 1) s = add_worker(p);
    if (s == TAUT_OK) *pool = p;
    else taut__executor_destroy(p);
    return s;
}

void taut__executor_destroy(taut__executor *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->made; i++) pthread_join(p->thread[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->finished);
    taut__free(p->thread);
    taut__free(p);
}

int taut__executor_threads(const taut__executor *p) { return p->threads; }

/* ---- with the lock held: a batch, from its beginning to its end ---- */

static void begin(taut__executor *p, taut__batch *b, taut__task piece, void *ctx, size_t n)
{
    taut__batch **at = &p->first;
    *b = (taut__batch){.piece = piece, .ctx = ctx, .n = n, .under_way = true};
    while (*at) at = &(*at)->after;
    *at = b;
    pthread_cond_broadcast(&p->wake);
}

static void await(taut__executor *p, const taut__batch *b)
{
    while (b->done < b->n) pthread_cond_wait(&p->finished, &p->lock);
}

static void end(taut__executor *p, taut__batch *b)
{
    taut__batch **at = &p->first;
    while (*at != b) at = &(*at)->after;
    *at = b->after;
    b->under_way = false;
}

/* ---- callers ---- */

void taut__executor_run(taut__executor *p, taut__task piece, void *ctx, size_t n)
{
    taut__batch b;
    if (p->threads == 1 || n == 1) {
        for (size_t i = 0; i < n; i++) piece(ctx, i, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    begin(p, &b, piece, ctx, n);
    while (b.next < b.n) work(p, &b, 0);
    await(p, &b);
    end(p, &b);
    pthread_mutex_unlock(&p->lock);
}

void taut__executor_submit(taut__executor *p, taut__batch *b, taut__task piece, void *ctx, size_t n)
{
    pthread_mutex_lock(&p->lock);
    begin(p, b, piece, ctx, n);
    pthread_mutex_unlock(&p->lock);
}

bool taut__executor_poll(taut__executor *p, taut__batch *b)
{
    pthread_mutex_lock(&p->lock);
    while (p->threads == 1 && b->next < b->n) work(p, b, 0);
    bool done = b->done == b->n;
    if (done) end(p, b);
    pthread_mutex_unlock(&p->lock);
    return done;
}

void taut__executor_settle(taut__executor *p, taut__batch *b)
{
    if (!b->under_way) return;
    while (!taut__executor_poll(p, b)) {
        pthread_mutex_lock(&p->lock);
        await(p, b);
        pthread_mutex_unlock(&p->lock);
    }
}

void taut__executor_quiet(taut__executor *p)
{
    pthread_mutex_lock(&p->lock);
    for (const taut__batch *b = p->first; b && p->threads > 1; b = b->after) await(p, b);
    pthread_mutex_unlock(&p->lock);
}
