#!/bin/sh
# NCCL itself, as it is installed or comes in a wheel, where there need be no GPU: what comm/transport/nccl_table.h writes down of its interface is what its
# header says; every function of the table is in the library; its version is read; and without a driver everything that would use it says
# so, on all ranks, and waits for nothing. TAUT_TEST_NCCL: libraries to look at, apart by spaces; else those of the loader, CUDA's folders and python's wheels;
# else the wheel nvidia-nccl-cu13 is fetched.
set -u
BUILD=${BUILD:-build/release}
CC=${CC:-cc}
PYTHON=${PYTHON:-python3}
MPIRUN=${MPIRUN:-mpirun}
. tests/support/shell.sh

found() { # every libnccl.so.2 there is, once
    if [ -n "${TAUT_TEST_NCCL:-}" ]; then
        printf '%s\n' $TAUT_TEST_NCCL
        return
    fi
    {
        ldconfig -p 2>/dev/null | sed -n 's/.*libnccl\.so\.2 .* => //p'
        ls /usr/local/cuda*/lib*/libnccl.so.2 2>/dev/null
        $PYTHON -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null
    } | while read -r l; do readlink -f "$l"; done | sort -u
}
libraries=$(found)
if [ -z "$libraries" ] && $PYTHON -m pip download -q --no-deps -d "$dir/wheel" nvidia-nccl-cu13 >"$dir/log" 2>&1; then
    $PYTHON -m zipfile -e "$dir"/wheel/*.whl "$dir/wheel" && libraries=$(find "$dir/wheel" -name libnccl.so.2)
fi
[ -n "$libraries" ] || { skip 'no libnccl.so.2, and no wheel of it to be had' && finish; }

# ---- what is written down, against the header ----
cat >"$dir/abi.c" <<'END'
#include <nccl.h>
#include "comm/transport/nccl_table.h"
#include <stddef.h>
#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)
SAME(TAUT__NCCL_OK, ncclSuccess);
SAME(TAUT__NCCL_IN_PROGRESS, ncclInProgress);
SAME(TAUT__NCCL_I8, ncclInt8);
SAME(TAUT__NCCL_I32, ncclInt32);
SAME(TAUT__NCCL_U32, ncclUint32);
SAME(TAUT__NCCL_F16, ncclFloat16);
SAME(TAUT__NCCL_F32, ncclFloat32);
SAME(TAUT__NCCL_F64, ncclFloat64);
SAME(TAUT__NCCL_BF16, ncclBfloat16);
SAME(TAUT__NCCL_SUM, ncclSum);
SAME(TAUT__NCCL_AVG, ncclAvg);
_Static_assert(sizeof(taut__nccl_id) == sizeof(ncclUniqueId), "the id travels by value");
_Static_assert(sizeof(taut__nccl_config) <= sizeof(ncclConfig_t), "a shorter one is an older one");
_Static_assert(offsetof(taut__nccl_config, size) == offsetof(ncclConfig_t, size) && offsetof(taut__nccl_config, magic) == offsetof(ncclConfig_t, magic) &&
                   offsetof(taut__nccl_config, version) == offsetof(ncclConfig_t, version) && offsetof(taut__nccl_config, blocking) == offsetof(ncclConfig_t, blocking), "configuration");
static const ncclConfig_t initial = NCCL_CONFIG_INITIALIZER;
int main(void) { return initial.magic != (unsigned)TAUT__NCCL_CONFIG_MAGIC || initial.version < TAUT__NCCL_CONFIG_VERSION; }
/* the same arguments in the same order, an enumeration being as an int: pointers between them convert without a cast but for that */
typedef ncclResult_t (*reduce)(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t);
typedef ncclResult_t (*gather)(const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t);
typedef ncclResult_t (*one_way)(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
typedef ncclResult_t (*other_way)(void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
const reduce all_reduce = ncclAllReduce;
const gather all_gather = ncclAllGather;
#if NCCL_VERSION_CODE >= 22800
const gather all_to_all = ncclAlltoAll;
#endif
const one_way   sends = ncclSend;
const other_way receives = ncclRecv;
ncclResult_t (*const init)(ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *) = ncclCommInitRankConfig;
ncclResult_t (*const number[])(const ncclComm_t, int *) = {ncclCommCount, ncclCommCuDevice, ncclCommUserRank};
ncclResult_t (*const ends[])(ncclComm_t) = {ncclCommDestroy, ncclCommAbort};
ncclResult_t (*const state)(ncclComm_t, ncclResult_t *) = ncclCommGetAsyncError;
const char *(*const words)(ncclResult_t) = ncclGetErrorString;
const char *(*const last)(ncclComm_t) = ncclGetLastError;
END

# ---- the table over the library ----
cat >"$dir/table.c" <<'END'
#include "comm/transport/nccl_table.h"
#include <stdio.h>
int main(int n, char **a)
{
    taut__nccl    t;
    taut__nccl_id id;
    int           version = 0, mine = 0;
    if (n != 2 || taut__nccl_open(a[1], &t, &version) != TAUT_OK) return fprintf(stderr, "%s\n", taut_last_error()), 1;
    void **f = (void **)&t;
    size_t there = 0;
    for (size_t i = 0; i < sizeof t / sizeof *f; i++) there += f[i] != NULL;
    printf("version %d, %d of %d functions, alltoall %s\n", version, (int)there, (int)(sizeof t / sizeof *f), t.all_to_all ? "yes" : "no");
    if (t.version(&mine) != TAUT__NCCL_OK || mine != version) return fprintf(stderr, "version: %d, then %d\n", version, mine), 1;
    if (t.group_start() != TAUT__NCCL_OK || t.group_end() != TAUT__NCCL_OK) return fprintf(stderr, "an empty group fails\n"), 1;
    /* nothing of a communicator that is none, and NCCL's words for it */
    int r = t.all_reduce(NULL, NULL, 1, TAUT__NCCL_F32, TAUT__NCCL_SUM, NULL, NULL);
    taut__nccl_failed(&t, NULL, r, "ncclAllReduce");
    printf("no communicator: %d: %s\n", r, taut_last_error());
    if (r == TAUT__NCCL_OK || r == TAUT__NCCL_IN_PROGRESS) return fprintf(stderr, "a sum without a communicator\n"), 1;
    r = t.unique_id(&id);
    printf("unique id: %d\n", r);
    if (r != TAUT__NCCL_OK) return 0; /* it wants a driver for it */
    taut__nccl_config c = {.size = sizeof c, .magic = (unsigned)TAUT__NCCL_CONFIG_MAGIC, .version = TAUT__NCCL_CONFIG_VERSION, .blocking = 0};
    taut__nccl_comm   comm = NULL;
    r = t.init(&comm, 1, id, 0, &c);
    for (int i = 0; i < 1000000 && comm && r == TAUT__NCCL_IN_PROGRESS; i++)
        if (t.async_error(comm, &r) != TAUT__NCCL_OK) break;
    taut__nccl_failed(&t, comm, r, "ncclCommInitRankConfig");
    printf("one rank: %s\n", r == TAUT__NCCL_OK ? "a communicator" : taut_last_error());
    if (comm) t.abort(comm);
    return 0;
}
END
expect 'the table, to be tried' $CC -std=c11 -D_GNU_SOURCE -I. -o "$dir/table" "$dir/table.c" comm/transport/nccl_table.c comm/base/base.c -ldl -lpthread -lm

cat >"$dir/ranks.c" <<'END'
#include "comm/taut_mpi.h"
#include "comm/taut_nccl.h"
#include <mpi.h>
#include <stdio.h>
#include <string.h>
int main(int n, char **a)
{
    taut_comm  *comm;
    taut_config cfg = TAUT_CONFIG_INIT;
    int         rank;
    MPI_Init(&n, &a), MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    cfg.timeout_ms = 20000;
    if (taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &comm)) return 1;
    taut_status s = taut_comm_open_nccl(comm, 0);
    if (s == TAUT_OK) puts("open");
    else printf("%d %s\n", s, taut_last_error());
    taut_layer *w;
    static float x[4096];
    s = taut_layer_register(comm, "w", TAUT_F32, 1, (size_t[]){4096}, &w);
    if (s == TAUT_OK) s = taut_allreduce(w, x, TAUT_MEAN); /* it goes on as it was */
    if (s != TAUT_OK) printf("afterwards: %s\n", taut_last_error());
    taut_comm_destroy(comm);
    return MPI_Finalize(), s != TAUT_OK;
}
END
mpi=no
"$BUILD/bin/taut" info | grep -q '^  mpi  *found' && command -v mpicc >/dev/null && mpi=yes
[ $mpi = no ] || expect 'ranks of MPI' mpicc -std=c11 -I. -o "$dir/ranks" "$dir/ranks.c" -L"$BUILD/lib" -ltaut -Wl,-rpath,"$PWD/$BUILD/lib"

cat >"$dir/program.c" <<'END'
#include <nccl.h>
#include <stdio.h>
int main(void)
{
    static float x[1 << 18];
    int          v = 0;
    ncclResult_t r = ncclGetVersion(&v);
    ncclResult_t alone = ncclAllReduce(x, x, 1 << 18, ncclFloat32, ncclSum, NULL, NULL);
    if (r == ncclSuccess) r = ncclGroupStart();
    ncclAllReduce(x, x, 1 << 18, ncclFloat32, ncclSum, NULL, NULL); /* may answer now, or at the group's end */
    ncclResult_t end = ncclGroupEnd();
    printf("%d %d %s %s\n", v, r, alone == ncclSuccess ? "taken" : "refused", end == ncclSuccess ? "ended" : "failed");
    return 0;
}
END

driver=no
[ -e /dev/nvidiactl ] && driver=yes
for l in $libraries; do
    echo "-- $l"
    header=$(dirname "$l")/../include
    [ -f "$header/nccl.h" ] || header=$(find /usr/local/cuda*/include /usr/include -maxdepth 1 -name nccl.h 2>/dev/null | head -n 1 | xargs -r dirname)
    cuda=$(ls -d /usr/local/cuda*/include 2>/dev/null | head -n 1)
    expect "table: $l" "$dir/table" "$l"
    cp "$dir/log" "$dir/told"
    sed 's/^/   /' "$dir/told"
    expect "$l tells its version" grep -Eq 'version 2[0-9]{4},' "$dir/told"
    version=$(sed -n 's/^version \([0-9]*\),.*/\1/p' "$dir/told")
    text=$((version / 10000)).$((version / 100 % 100)).$((version % 100))
    if [ "${version:-0}" -ge 22800 ]; then expect 'all functions' grep -q '18 of 18 functions, alltoall yes' "$dir/told"; fi
    [ $driver = yes ] || expect 'no communicator without a driver, and why' grep -Eq 'one rank: ncclCommInitRankConfig: .*[a-z]|unique id: [1-9]' "$dir/told"
    expect "taut info: $text" sh -c "TAUT_NCCL_LIBRARY='$l' '$BUILD/bin/taut' info | grep '^NCCL ' | grep -qF '$text'"
    if [ -n "$header" ] && [ -n "$cuda" ]; then
        expect "the interface is that of $header/nccl.h" $CC -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror=incompatible-pointer-types -I. -isystem "$header" -isystem "$cuda" -o "$dir/abi" "$dir/abi.c" "$l" -Wl,--unresolved-symbols=ignore-in-shared-libs
        expect 'the configuration begins alike' env LD_LIBRARY_PATH="$(dirname "$l")" "$dir/abi"
        expect 'a program of NCCL' $CC -o "$dir/program" "$dir/program.c" -isystem "$header" -isystem "$cuda" "$l" -Wl,--unresolved-symbols=ignore-in-shared-libs
        plain=$(LD_LIBRARY_PATH=$(dirname "$l") "$dir/program" 2>/dev/null) || plain=failed
        with=$(LD_LIBRARY_PATH=$(dirname "$l") LD_PRELOAD=$BUILD/lib/libtaut-preload-nccl.so TAUT_CODEC=quant:bits=4 TAUT_REPORT=- "$dir/program" 2>/dev/null) || with="exit code $?"
        expect "preloaded in front of it: $with; alone: $plain" [ "$plain" = "$with" ]
    else
        skip "no nccl.h beside $l, or no CUDA headers: its interface is not compared"
    fi
    [ $mpi = yes ] && [ $driver = no ] || continue
    expect '2 ranks that want it without a driver' timeout 100 env TAUT_NCCL_LIBRARY="$l" "$MPIRUN" -n 2 "$dir/ranks"
    expect 'both say that there is no CUDA device, and go on' [ "$(grep -cE '^-[0-9]+ .*CUDA' "$dir/log")" = 2 ]
done
finish
