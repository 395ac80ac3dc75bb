/* mock_pinned.c : host memory that the mock device reaches by itself, as a GPU reaches pinned memory; and a count of what is copied elsewhere. */
#include "mock_work.h"
#include <pthread.h>
#include <stdlib.h>

typedef struct piece {
    struct piece *next;
    size_t        bytes;
    _Alignas(64) char memory[];
} piece;

static piece          *pieces;
static _Atomic size_t  held;
static _Atomic size_t  pageable;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void *mock_host_alloc(taut_place p, size_t bytes)
{
    piece *new;
    (void)p;
    if (mock_fails(MOCK_PIN)) return NULL;
    new = aligned_alloc(64, (sizeof *new + bytes + 63) / 64 * 64);
    mock_ensure(new != NULL, "out of memory");
    for (size_t i = 0; i < bytes; i++) new->memory[i] = 0;
    pthread_mutex_lock(&lock);
    new->bytes = bytes;
    new->next = pieces, pieces = new, held++;
    pthread_mutex_unlock(&lock);
    return new->memory;
}

void mock_host_release(taut_place p, void *memory)
{
    (void)p;
    pthread_mutex_lock(&lock);
    piece **at = &pieces, *gone;
    while (*at && (void *)(*at)->memory != memory) at = &(*at)->next;
    mock_ensure(*at != NULL, "release of pinned memory that was not allocated, or twice");
    gone = *at, *at = gone->next, held--;
    pthread_mutex_unlock(&lock);
    free(gone);
}

void mock_note_copy(const void *host, size_t bytes)
{
    bool known = false;
    pthread_mutex_lock(&lock);
    for (const piece *at = pieces; at && !known; at = at->next)
        known = (const char *)host >= at->memory && (const char *)host < at->memory + at->bytes;
    pthread_mutex_unlock(&lock);
    if (!known) pageable += bytes;
}

size_t mock_pinned_pieces(void) { return held; }
size_t mock_pageable_bytes(void) { return pageable; }
