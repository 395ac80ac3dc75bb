/* memory.cpp : see memory.h. */
#include "memory.h"
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace cuda_host
{

enum {
    SLACK = 256,
    SPARSE = 1 << 30
}; /* buffers above the latter are zeros, not poison, so that untouched parts take no memory */
static const unsigned char FRESH = 0xa5, FREED = 0xdb, CANARY = 0x5e;

static CUmemPoolHandle_st                driver_pool;
static std::vector<CUmemPoolHandle_st *> all_pools = {&driver_pool};
static size_t                            mappings, held, limit;
static int                               elsewhere;
static std::map<uintptr_t, region>       regions;
static std::deque<region>                graves; /* freed, not accessible, not reused yet */

size_t memory_mapped() { return mappings; }
void   set_elsewhere(int device) { elsewhere = device; }
void   set_memory_limit(size_t bytes) { limit = bytes; }
size_t memory_held() { return held; }
size_t memory_limit() { return limit; }

CUmemPoolHandle_st *pool_of_driver() { return &driver_pool; }
CUmemPoolHandle_st *make_pool()
{
    all_pools.push_back(new CUmemPoolHandle_st);
    return all_pools.back();
}
void give_memory_back()
{
    for (CUmemPoolHandle_st *p : all_pools)
        if (p->unused > p->threshold) p->unused = 0;
}

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

void *take(size_t bytes, bool device, CUmemPoolHandle_st *pool)
{
    if (bytes > SIZE_MAX / 4 || (device && limit && held + bytes > limit)) return nullptr;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    region r = {bytes, up(bytes + SLACK, page) + 2 * page, nullptr, device, (draw() >> 33 & 1) != 0, pool, elsewhere};
    r.map = (char *)mmap(nullptr, r.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r.map == MAP_FAILED) return nullptr;
    mprotect(r.map, page, PROT_NONE);
    mprotect(r.map + r.mapped - page, page, PROT_NONE);
    char *first = r.map + page, *end = r.map + r.mapped - page;
    char *at = r.high ? end - up(bytes, 16) : first;
    memset(first, CANARY, (size_t)(at - first));
    memset(at + bytes, CANARY, (size_t)(end - at) - bytes);
    if (bytes <= SPARSE) memset(at, FRESH, bytes);
    regions[(uintptr_t)at] = r;
    if (device) held += bytes;
    if (pool && pool->unused >= bytes) pool->unused -= bytes;
    else if (pool) mappings++;
    return at;
}

bool is_taken(const void *p) { return regions.count((uintptr_t)p) > 0; }

static void check_canary(char *at, const region &r)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (char *q = r.map + page; q < r.map + r.mapped - page; q++) {
        if (q == at) q += r.bytes;
        if (q == r.map + r.mapped - page) break;
        if ((unsigned char)*q == CANARY) continue;
        misuse("written outside a buffer of %zu bytes: at byte %td", r.bytes, q - at);
    }
}

void bury(char *at)
{
    auto   found = regions.find((uintptr_t)at);
    region r = found->second;
    check_canary(at, r);
    if (r.bytes <= SPARSE) memset(at, FREED, r.bytes);
    mprotect(r.map, r.mapped, PROT_NONE);
    if (r.device) held -= r.bytes;
    if (r.pool) r.pool->unused += r.bytes;
    regions.erase(found);
    graves.push_back(r);
    while (graves.size() > 64) {
        munmap(graves.front().map, graves.front().mapped);
        graves.pop_front();
    }
}

const region *region_of(const void *p, uintptr_t *base)
{
    auto next = regions.upper_bound((uintptr_t)p);
    if (next == regions.begin()) return nullptr;
    --next;
    if ((uintptr_t)p >= next->first + next->second.bytes) return nullptr;
    if (base) *base = next->first;
    return &next->second;
}

bool is_device(const void *p, size_t bytes, bool *inside)
{
    uintptr_t     base = 0;
    const region *r = region_of(p, &base);
    bool          device = r && r->device;
    *inside = !device || (uintptr_t)p + bytes <= base + r->bytes;
    return device;
}

} // namespace cuda_host
