/* nccl_calls.c : see nccl_calls.h. */
#include "nccl_calls.h"
#include "../../../compressors/vectors.h"
#include "../../reduce/at_once.h"
#include "../site.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INTERNAL_ERROR = 3, WAIT_S = 20 };

typedef struct place {    /* a communicator of the program's */
    taut__nccl_comm comm; /* NULL: gone */
    taut__data     *data;
    int             busy; /* calls of it that are being made */
} place;

typedef struct site {
    taut__site         row;
    taut__nccl_call    call; /* of its first call: what it is known by */
    taut__at_once     *exchange;
    taut__at_once_cost past;  /* of exchanges that have gone with their communicators */
    const char        *exact; /* why it is never compressed; NULL: it is */
} site;

taut_space taut__nccl_space = TAUT_CUDA;
/* Of the tables below. Not held while a call is made: NCCL's may wait for other ranks, which may be threads of this process, at calls of their own. Who makes
 * a call has its communicator to itself, as NCCL wants it, but for an abort, which waits until the call has come back. */
static pthread_mutex_t       lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t        idle = PTHREAD_COND_INITIALIZER;
static taut__preload_options options;
static taut_spec             spec;
static const char           *nothing; /* why no call is ever compressed; NULL: some are */
static char                  config[96], version[48];
static bool                  ready;
static double                began;
/* As long as need be: a table that is full on one rank only would have ranks make different calls. */
static void   **places, **sites;
static size_t   n_places, n_sites;
static uint64_t passed;
static int      rank_of_all, ranks_of_all;

static place *place_at(size_t i) { return places[i]; }
static site  *site_at(size_t i) { return sites[i]; }
static void   say(const char *text) { fprintf(stderr, "taut: %s\n", text); }

/* What compresses: the codec that the user names, or whose error is the budget. NULL: none is named. */
static const char *codec_named(void)
{
    static const char like[] = "like:";
    const char       *codec = getenv("TAUT_CODEC"), *budget = getenv("TAUT_BUDGET");
    if (codec && *codec && strcmp(codec, "auto") != 0) return codec;
    return budget && strncmp(budget, like, sizeof like - 1) == 0 ? budget + sizeof like - 1 : NULL;
}

static void set_up(const taut__nccl *real)
{
    int v = 0;
    if (ready) return;
    ready = true;
    began = taut__now();
    taut__preload_options_load(&options);
    const char *codec = codec_named();
    nothing = options.off ? "TAUT_CODEC=none" : codec ? NULL : "no codec is named, as in TAUT_CODEC=quant:bits=4";
    if (!nothing && taut__spec_parse(codec, &spec) != TAUT_OK) {
        say(taut_last_error());
        nothing = "the codec cannot be read";
    }
    snprintf(config, sizeof config, "%.90s", nothing ? "none" : codec);
    real->version(&v);
    snprintf(version, sizeof version, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
}

/* ---- communicators ---- */

/* One more entry of a table, cleared; NULL: out of memory. */
static void *one_more(void ***table, size_t *n, size_t bytes)
{
    void **more = *n & (*n - 1) ? *table : realloc(*table, (*n ? 2 * *n : 1) * sizeof *more);
    if (!more) return NULL;
    *table = more;
    more[*n] = calloc(1, bytes);
    return more[*n] ? more[(*n)++] : NULL;
}

static place *place_of(const taut__nccl *real, taut__nccl_comm comm)
{
    place *free_one = NULL;
    if (!comm) return NULL; /* NCCL says so */
    for (size_t i = 0; i < n_places; i++) {
        place *p = place_at(i);
        if (p->comm == comm) return p;
        if (!p->comm && !free_one) free_one = p;
    }
    if (!free_one) free_one = one_more(&places, &n_places, sizeof *free_one);
    if (!free_one || taut__data_nccl(real, comm, false, &free_one->data) != TAUT_OK) return NULL;
    free_one->comm = comm;
    if (!ranks_of_all || free_one->data->rank < rank_of_all)
        ranks_of_all = free_one->data->size, rank_of_all = free_one->data->rank;
    return free_one;
}

/* ---- which calls ---- */

static size_t bytes_of(int type)
{
    return type == TAUT__NCCL_F32 ? 4 : type == TAUT__NCCL_F16 || type == TAUT__NCCL_BF16 ? 2 : 0;
}
static taut_dtype dtype_of(int type)
{
    return type == TAUT__NCCL_F32 ? TAUT_F32 : type == TAUT__NCCL_F16 ? TAUT_F16 : TAUT_BF16;
}

static bool eligible(const taut__nccl_call *c, int ranks)
{
    size_t all = c->count * (c->scatter ? (size_t)ranks : 1);
    return ranks > 1 && bytes_of(c->type) && (c->op == TAUT__NCCL_SUM || c->op == TAUT__NCCL_AVG) &&
           all * bytes_of(c->type) >= options.threshold;
}

static bool same(const taut__nccl_call *a, const taut__nccl_call *b)
{
    return a->scatter == b->scatter && a->count == b->count && a->type == b->type && a->op == b->op &&
           a->comm == b->comm && a->stream == b->stream;
}

static taut__at_once_kind kind_of(const taut__nccl_call *c, const taut__data *d)
{
    return (taut__at_once_kind){
        .place = {.space = taut__nccl_space, .device = taut__data_nccl_device(d), .stream = c->stream},
        .dtype = dtype_of(c->type),
        .n = c->count * (c->scatter ? (size_t)d->size : 1),
        .scatter = c->scatter,
        .spec = spec,
        .seed = taut__seed(c->count, (uint64_t)c->scatter * 7 + (uint64_t)c->type)};
}

/* Why calls like this one stay as they are; NULL: they do not. */
static const char *why_exact(const site *s, const taut__at_once_kind *k, int ranks)
{
    const taut__preload_options *o = &options;
    uint64_t                     bytes = taut__site_bytes(&s->row);
    if (nothing) return nothing;
    if (o->dry_run) return "dry run";
    if (taut__preload_picked(o->exclude, o->excludes, s->row.number, bytes)) return "excluded";
    if (o->includes && !taut__preload_picked(o->include, o->includes, s->row.number, bytes)) return "not included";
    if (!taut__memory_of(k->place.space)) return "no CUDA device can be used";
    return taut__at_once_cannot(k, ranks);
}

/* A program that makes its communicators anew goes on in the rows that it had. */
static site *gone_before(const taut__nccl_call *c, const taut__data *d)
{
    for (size_t i = 0; i < n_sites; i++) {
        site           *s = site_at(i);
        taut__nccl_call as = s->call;
        as.comm = c->comm, as.stream = c->stream;
        if (!s->call.comm && s->row.ranks == d->size && same(&as, c)) return s;
    }
    return NULL;
}

static site *site_of(const taut__nccl_call *c, const taut__data *d)
{
    for (size_t i = 0; i < n_sites; i++)
        if (same(&site_at(i)->call, c)) return site_at(i);
    site              *s = gone_before(c, d);
    taut__at_once_kind k = kind_of(c, d);
    if (s) return s->call = *c, s;
    if (!(s = one_more(&sites, &n_sites, sizeof *s))) return NULL;
    s->call = *c;
    s->row = (taut__site){.number = n_sites,
                          .kind = c->scatter ? TAUT_KIND_REDUCE_SCATTER : TAUT_KIND_ALLREDUCE,
                          .count = k.n,
                          .elem_bytes = (uint32_t)bytes_of(c->type),
                          .ranks = d->size};
    s->exact = why_exact(s, &k, d->size);
    s->row.excluded = s->exact && strcmp(s->exact, "excluded") == 0;
    if (!s->exact) taut__spec_print(&spec, s->row.codec, sizeof s->row.codec);
    return s;
}

/* ---- a call ---- */

static bool on_device(const taut__nccl_call *c, taut_place p)
{
    const taut__space *space = taut__memory_of(p.space);
    return space->check(p, c->from, "sendbuff") == TAUT_OK && space->check(p, c->to, "recvbuff") == TAUT_OK;
}

static bool captured(taut_place p)
{
    const taut__space *space = taut__memory_of(p.space);
    bool               is = false;
    if (space->capturing && space->capturing(p, &is) != TAUT_OK) return true;
    return is;
}

static taut_status compress_here(site *s, const taut__nccl_call *c, const taut__at_once_kind *k, taut__data *d)
{
    taut_op op = c->op == TAUT__NCCL_AVG ? TAUT_MEAN : TAUT_SUM;
    if (!s->exchange) TAUT_TRY(taut__at_once_create(k, d, &s->exchange));
    if (c->scatter) return taut__at_once_enqueue(s->exchange, c->stream, op, (void *)(uintptr_t)c->from, c->to);
    if (c->from != c->to)
        TAUT_TRY(taut__memory_of(k->place.space)->copy(k->place, c->to, c->from, c->count * bytes_of(c->type)));
    return taut__at_once_enqueue(s->exchange, c->stream, op, c->to, NULL);
}

/* On the communicator's device, as NCCL does it; the program's own stays what it was. */
static taut_status compress(site *s, const taut__nccl_call *c, taut__data *d)
{
    taut__at_once_kind k = kind_of(c, d);
    taut__kept_device  was = taut__keep_device();
    taut_status        status = taut__space_use(taut__memory_of(k.place.space), k.place);
    if (status == TAUT_OK) status = compress_here(s, c, &k, d);
    taut__restore_device(was);
    return status;
}

static int count_plain(site *s)
{
    if (s) s->row.calls++, s->row.shadowed += options.dry_run;
    else passed++;
    return -1;
}

/* What the device cannot do it says before anything has been sent, on all ranks alike. */
static int leave_exact(site *s)
{
    s->exact = "the codec cannot be had on this device";
    s->row.coded_calls = 0;
    snprintf(s->row.codec, sizeof s->row.codec, "none");
    return -1;
}

/* With the lock. NULL: it has none, since nothing of its kind is compressed. */
static site *find_site(const taut__nccl *real, const taut__nccl_call *c, place **at)
{
    set_up(real);
    *at = place_of(real, c->comm);
    return *at && eligible(c, (*at)->data->size) ? site_of(c, (*at)->data) : NULL;
}

/* With the lock: the call's site if it is to be compressed, and its communicator is busy from now on; else it is counted. together: it is one of a group on
 * several devices, by one thread, which cannot be in two exchanges at once. */
static site *take(const taut__nccl *real, const taut__nccl_call *c, bool together, place **at)
{
    site *s = find_site(real, c, at);
    if (s && !s->exact && together) s->exact = "it is in a group on several devices, made by one thread";
    taut_place where = s ? kind_of(c, (*at)->data).place : (taut_place){0};
    if (!s || s->exact || captured(where) || !on_device(c, where)) return count_plain(s), NULL;
    s->row.calls++, s->row.coded_calls++;
    (*at)->busy++;
    return s;
}

/* -1: as it is. What fails now, other ranks wait for: it is the call's error. */
static int try_compress(const taut__nccl *real, const taut__nccl_call *c, bool together)
{
    place *at;
    int    r = -1;
    pthread_mutex_lock(&lock);
    site *s = take(real, c, together, &at);
    if (s) {
        pthread_mutex_unlock(&lock);
        taut_status status = compress(s, c, at->data);
        pthread_mutex_lock(&lock);
        at->busy--;
        pthread_cond_broadcast(&idle);
        r = status == TAUT_OK ? TAUT__NCCL_OK : INTERNAL_ERROR;
        if (status != TAUT_OK) say(taut_last_error());
        if (status == TAUT_E_UNSUPPORTED && s->row.coded_calls == 1) r = leave_exact(s);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

int taut__nccl_plain(const taut__nccl *real,
                     int (*real_scatter)(const void *, void *, size_t, int, int, taut__nccl_comm, struct CUstream_st *),
                     const taut__nccl_call *c)
{
    if (c->scatter ? !real_scatter : !real->all_reduce) return INTERNAL_ERROR;
    return (c->scatter ? real_scatter : real->all_reduce)(c->from, c->to, c->count, c->type, c->op, c->comm, c->stream);
}

int taut__nccl_make(const taut__nccl *real,
                    int (*real_scatter)(const void *, void *, size_t, int, int, taut__nccl_comm, struct CUstream_st *),
                    const taut__nccl_call *c, bool together)
{
    int r = try_compress(real, c, together);
    return r >= 0 ? r : taut__nccl_plain(real, real_scatter, c);
}

bool taut__nccl_stays(const taut__nccl *real, const taut__nccl_call *c)
{
    place *at;
    pthread_mutex_lock(&lock);
    site *s = find_site(real, c, &at);
    bool  stays = !s || s->exact;
    if (stays) count_plain(s);
    pthread_mutex_unlock(&lock);
    return stays;
}

void taut__nccl_settle(const taut__nccl *real, taut__nccl_comm comm)
{
    bool taken = false;
    pthread_mutex_lock(&lock);
    place *p = place_of(real, comm);
    if (p) p->busy++;
    pthread_mutex_unlock(&lock);
    if (!p) return;
    while (!taken && p->data->ops->ready(p->data, &taken) == TAUT_OK)
        if (!taken) sched_yield();
    pthread_mutex_lock(&lock);
    p->busy--;
    pthread_cond_broadcast(&idle);
    pthread_mutex_unlock(&lock);
}

/* ---- the end ---- */

static void gather_cost(site *s)
{
    taut__at_once_cost cost;
    if (!s->exchange || taut__at_once_look(s->exchange, &cost) != TAUT_OK) return;
    s->row.bytes_sent = s->past.sent + cost.sent, s->row.bytes_dense = s->past.dense + cost.dense;
    s->row.error2 = s->past.error2 + cost.error2, s->row.norm2 = s->past.norm2 + cost.norm2;
}

static bool is_busy(taut__nccl_comm comm)
{
    for (size_t i = 0; i < n_places; i++)
        if (place_at(i)->comm == comm && place_at(i)->busy > 0) return true;
    return false;
}

void taut__nccl_abandon(taut__nccl_comm comm)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_places; i++)
        if (comm && place_at(i)->comm == comm) taut__data_nccl_gone(place_at(i)->data);
    pthread_mutex_unlock(&lock);
}

void taut__nccl_forget(taut__nccl_comm comm)
{
    taut__kept_device was = taut__keep_device();
    pthread_mutex_lock(&lock);
    while (is_busy(comm)) pthread_cond_wait(&idle, &lock);
    for (size_t i = 0; i < n_sites; i++) {
        site *at = site_at(i);
        if (at->call.comm != comm) continue;
        if (at->exchange && taut__at_once_wait(at->exchange, WAIT_S) != TAUT_OK)
            at->exchange = NULL; /* its memory is still in use */
        gather_cost(at);
        at->past = (taut__at_once_cost){
            .sent = at->row.bytes_sent, .dense = at->row.bytes_dense, .error2 = at->row.error2, .norm2 = at->row.norm2};
        taut__at_once_destroy(at->exchange);
        at->exchange = NULL;
        at->call.comm = NULL; /* another one may get its address */
    }
    for (size_t i = 0; i < n_places; i++) {
        place *p = place_at(i);
        if (comm && p->comm == comm) p->data->ops->destroy(p->data), *p = (place){0};
    }
    pthread_mutex_unlock(&lock);
    taut__restore_device(was);
}

/* The MPI preload library, where it is loaded too, writes its own report to TAUT_REPORT. */
static taut_status write_report(const taut__job_report *r)
{
    const char *loaded = getenv("LD_PRELOAD");
    char        path[4096];
    bool        two = loaded && strstr(loaded, "libtaut-preload-mpi");
    if (!options.report || !*options.report) return TAUT_OK;
    snprintf(path, sizeof path, "%s%s", options.report, two ? ".nccl" : "");
    return taut__report_write(r, path);
}

void taut__nccl_report(void)
{
    pthread_mutex_lock(&lock);
    const taut__site **rows = calloc(n_sites + 1, sizeof *rows);
    for (size_t i = 0; i < n_sites; i++) {
        if (!is_busy(site_at(i)->call.comm)) gather_cost(site_at(i));
        if (rows) rows[i] = &site_at(i)->row;
    }
    taut__job_report r = {.site = rows,
                          .sites = rows ? n_sites : 0,
                          .mpi = version,
                          .ranks = ranks_of_all,
                          .wall_s = taut__now() - began,
                          .small_calls = passed};
    snprintf(r.config, sizeof r.config, "%s", config);
    bool none = options.report && strcmp(options.report, "-") == 0;
    if (ready && rank_of_all == 0 && ranks_of_all && !none) {
        taut__report_print(&r);
        if (write_report(&r) != TAUT_OK) say(taut_last_error());
        for (size_t i = 0; i < n_sites; i++)
            if (site_at(i)->exact && !site_at(i)->row.excluded)
                fprintf(stderr, "taut: site %zu stayed exact: %s\n", i + 1, site_at(i)->exact);
    }
    free(rows);
    pthread_mutex_unlock(&lock);
}
