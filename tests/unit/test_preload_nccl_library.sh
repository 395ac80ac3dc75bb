#!/bin/sh
# libtaut-preload-nccl.so under a program that is linked with a libnccl.so.2 of the test's own: it comes before NCCL, hands on what it does not compress,
# also inside groups, exports NCCL's names only, and says at the end what became of the calls.
set -u
BUILD=${BUILD:-build/release}
CC=${CC:-cc}
. tests/support/shell.sh
lib=$BUILD/lib/libtaut-preload-nccl.so

cat >"$dir/program.c" <<'END'
#include <stddef.h>
int ncclAllReduce(const void *, void *, size_t, int, int, void *, void *), ncclReduceScatter(const void *, void *, size_t, int, int, void *, void *);
int ncclGroupStart(void), ncclGroupEnd(void), ncclCommDestroy(void *);
static float x[1 << 20];
int main(void)
{
    int   comm, bad = 0;
    void *c = &comm;
    for (int i = 0; i < 3; i++) bad |= ncclAllReduce(x, x, 1 << 20, 7, 0, c, NULL);
    bad |= ncclAllReduce(x, x, 100, 7, 0, c, NULL);
    bad |= ncclReduceScatter(x, x, 1 << 18, 7, 4, c, NULL);
    bad |= ncclGroupStart() | ncclGroupStart();
    bad |= ncclAllReduce(x, x, 1 << 19, 7, 0, c, NULL);
    bad |= ncclGroupEnd() | ncclGroupEnd();
    bad |= ncclAllReduce(x, x, 13, 7, 0, c, NULL) != 4; /* an error is the program's */
    return bad | ncclCommDestroy(c);
}
END
expect 'a libnccl.so.2' $CC -shared -fPIC -Wl,-soname,libnccl.so.2 -o "$dir/libnccl.so.2" tests/preload/nccl_plain.c
expect 'a program' $CC -o "$dir/program" "$dir/program.c" "$dir/libnccl.so.2" -Wl,-rpath,"$dir"
plain=$("$dir/program") || plain=failed
cautious=$(LD_PRELOAD=$lib TAUT_REPORT= "$dir/program" 2>"$dir/cautious") || cautious="exit code $?"
with=$(LD_PRELOAD=$lib TAUT_CODEC=quant:bits=4 TAUT_REPORT=$dir/report.json "$dir/program" 2>"$dir/report") || with="exit code $?"
expect "alone: $plain" [ "$plain" = 'destroyed, 6 reduces, 1 scatters, 1 in a group' ]
expect "preloaded, without a device: $with" [ "$with" = 'destroyed, 6 reduces, 1 scatters, 1 in a group' ]
expect "preloaded, no codec named: $cautious" [ "$cautious" = 'destroyed, 6 reduces, 1 scatters, 1 in a group' ]
expect 'the report says how to compress' grep -q 'site 1 stayed exact: no codec is named, as in TAUT_CODEC=quant:bits=4' "$dir/cautious"
expect 'the report names NCCL and ranks' grep -q 'over 2 ranks of NCCL 2.28.9' "$dir/report"
expect 'the report counts calls' grep -Eq '1 +allreduce +4.0 MiB +3 +0' "$dir/report"
expect 'the report counts scatters' grep -Eq '2 +reduce_scatter +2.0 MiB +1 +0' "$dir/report"
expect 'the report says why nothing was compressed' grep -q 'site 1 stayed exact: no CUDA device can be used' "$dir/report"
expect 'the report counts what was too small' grep -q '2 reductions too small' "$dir/report"
expect 'the report is JSON too' grep -q '"call": "reduce_scatter"' "$dir/report.json"
expect 'no report at all' sh -c "[ -z \"\$(LD_PRELOAD=$lib TAUT_REPORT=- '$dir/program' 2>&1 >/dev/null)\" ]"
expect 'no program of NCCL: no harm' sh -c "[ \"\$(LD_PRELOAD=$lib TAUT_REPORT= echo fine 2>&1)\" = fine ]"
names=$(nm -D --defined-only "$lib" | awk '$2 ~ /[TBDRVW]/ {print $3}' | sort | tr '\n' ' ')
expect "exports NCCL's names only: $names" [ "$names" = 'ncclAllReduce ncclCommAbort ncclCommDestroy ncclCommFinalize ncclGroupEnd ncclGroupStart ncclReduceScatter ' ]
expect 'is linked with neither NCCL, CUDA nor MPI' sh -c "! ldd $lib | grep -E 'libnccl|libcuda|libmpi'"
finish
