/* tally.cpp : launches and blocks by kernel, for tests; see block.h. */
#include "block.h"
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace cuda_host
{

static std::mutex                   tally_mutex;
static std::map<std::string, tally> tallies;
void (*launch_begins)(const char *kernel);
void (*memory_is_set)(void *p, size_t bytes);

void count_launch(const launch &l, size_t blocks)
{
    if (launch_begins) launch_begins(l.kernel);
    std::lock_guard<std::mutex> hold(tally_mutex);
    tally                      &t = tallies[l.kernel];
    const char                 *path = getenv("CUDA_HOST_TALLY"); /* a line per kernel and process */
    if (path && t.launches == 0) {
        FILE *f = fopen(path, "a");
        if (f) fprintf(f, "%s\n", l.kernel), fclose(f);
    }
    t.launches++;
    t.blocks += blocks;
    t.threads += blocks * l.block.x * l.block.y * l.block.z;
}

tally kernel_tally(const char *kernel)
{
    std::lock_guard<std::mutex> hold(tally_mutex);
    auto                        found = tallies.find(kernel);
    return found == tallies.end() ? tally{0, 0, 0} : found->second;
}

size_t kernels_seen(const char **names, size_t cap)
{
    std::lock_guard<std::mutex> hold(tally_mutex);
    size_t                      n = 0;
    for (auto &p : tallies) {
        if (n < cap) names[n] = p.first.c_str();
        n++;
    }
    return n;
}

} // namespace cuda_host
