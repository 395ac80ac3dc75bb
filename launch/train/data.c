/* data.c : opening, the order of samples, filling batches. */
#include "data.h"
#include "../cli.h"
#include "ranks.h"
#include "shards.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HAVE_ON_DEBIAN "/usr/share/common-licenses"

uint64_t data_hash(uint64_t h, const void *p, size_t n)
{
    const unsigned char *c = p;
    h ^= 0xcbf29ce484222325u;
    for (; n >= 8; c += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, c, 8);
        h = (h ^ w) * 0x100000001b3u;
        h ^= h >> 32;
    }
    for (; n > 0; c++, n--) h = (h ^ *c) * 0x100000001b3u;
    return h;
}

int data_open(data *d, const char *path, data_want want, const char *units, int64_t ctx)
{
    struct stat s;
    bool        idx;
    memset(d, 0, sizeof *d);
    if (!path) {
        if (want == DATA_IMAGES)
            return fault(CLI_USAGE, "--data is needed: a folder with IDX images (train-images-idx3-ubyte[.gz] ...)");
        path = HAVE_ON_DEBIAN;
        if (stat(path, &s) != 0)
            return fault(CLI_USAGE, "--data is needed: this machine has no %s to train on instead", path);
    }
    if (stat(path, &s) != 0) return fault(CLI_FAILED, "--data=%s: %s", path, strerror(errno));
    idx = want != DATA_TEXT && data_is_idx(path);
    if (want == DATA_IMAGES && !idx)
        return fault(CLI_FAILED,
                     "--data=%s: expected IDX images: a folder with train-images-idx3-ubyte[.gz] and "
                     "train-labels-idx1-ubyte[.gz], or one images file with its labels beside it",
                     path);
    return idx ? data_open_idx(d, path) : data_open_text(d, path, units, ctx);
}

void data_close(data *d)
{
    free(d->tokens);
    free(d->pixels);
    free(d->labels);
    shards_close(d);
    memset(d, 0, sizeof *d);
}

/* ---- order ---- */

static uint64_t mix(uint64_t x) /* splitmix64's finaliser */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* A four-round Feistel network on the next even power of two, applied until the result falls below n (cycle walking,
 * Black & Rogaway 2002): a permutation of 0..n-1, at most four network evaluations on average. */
size_t data_permute(size_t n, uint64_t key, size_t i)
{
    unsigned half = 1;
    uint64_t x = i, mask;
    while (half < 32 && ((uint64_t)1 << (2 * half)) < n) half++;
    mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (unsigned r = 0; r < 4; r++) {
            uint64_t next = left ^ (mix(key + r + (right << 3)) & mask);
            left = right, right = next;
        }
        x = (left << half) | right;
    } while (x >= n);
    return (size_t)x;
}

/* ---- batches ---- */

int data_room_create(const data *d, int64_t batch, data_room *room)
{
    size_t n = (size_t)batch;
    memset(room, 0, sizeof *room);
    room->batch = (taut_torch_batch)TAUT_TORCH_BATCH_INIT;
    room->targets = calloc(n * d->targets, sizeof *room->targets);
    if (d->text) room->tokens = calloc(n * d->elems, sizeof *room->tokens);
    else room->values = calloc(n * d->elems, sizeof *room->values);
    room->weights = calloc(n * d->targets, sizeof *room->weights);
    if (shards_soft(d)) room->soft = calloc(n * (size_t)d->classes, sizeof *room->soft);
    if (!room->targets || !room->weights || (!room->tokens && !room->values) || (shards_soft(d) && !room->soft)) {
        data_room_destroy(room);
        return fault(CLI_FAILED, "out of memory for a batch of %lld samples", (long long)batch);
    }
    room->batch.tokens = room->tokens;
    room->batch.values = room->values;
    room->batch.targets = room->targets;
    room->batch.ndim = d->ndim + 1;
    for (int i = 0; i < d->ndim; i++) room->batch.shape[i + 1] = d->shape[i];
    return 0;
}

void data_room_destroy(data_room *room)
{
    free(room->tokens);
    free(room->values);
    free(room->weights);
    free(room->soft);
    free(room->targets);
    memset(room, 0, sizeof *room);
}

/* Sample `place` (text: first token; image: number in the file) becomes sample k of the batch. */
static void put(const data *d, data_room *room, size_t k, size_t place)
{
    if (d->text) {
        for (size_t j = 0; j < d->elems; j++) {
            room->tokens[k * d->elems + j] = d->tokens[place + j];
            room->targets[k * d->elems + j] = d->tokens[place + j + 1];
        }
        return;
    }
    for (size_t j = 0; j < d->elems; j++)
        room->values[k * d->elems + j] = ((float)d->pixels[place * d->elems + j] - d->mean) * d->unit;
    room->targets[k] = d->labels[place];
}

static void set_count(const data *d, data_room *room, size_t n)
{
    room->batch.shape[0] = (int64_t)n;
    room->batch.n_targets = n * d->targets;
}

void data_fill_train(const data *d, data_room *room, uint64_t seed, uint64_t first, int64_t batch)
{
    for (int64_t k = 0; k < batch; k++) {
        uint64_t at = first + (uint64_t)k, round = at / d->n_train;
        put(d, room, (size_t)k, data_permute(d->n_train, mix(mix(seed) ^ round), at % d->n_train));
    }
    set_count(d, room, (size_t)batch);
}

void data_fill_val(const data *d, data_room *room, size_t first, size_t n, size_t of)
{
    room->batch.soft = NULL; /* validation is by labels */
    for (size_t k = 0; k < n; k++) {
        if (d->shards) {
            shards_put_val(d, room, k, first + k);
            continue;
        }
        size_t i = (size_t)((double)(first + k) * (double)d->n_val / (double)of);
        put(d, room, k, d->text ? d->first_val + i * d->elems : d->n_train + i);
    }
    set_count(d, room, n);
}
