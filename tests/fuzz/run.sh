#!/bin/sh
# run.sh : runs fuzz targets that `make fuzz` has built (clang's libFuzzer, ASan, UBSan) on their seeds.
#   make fuzz SECONDS=60 T='frame state'          all without T
#   BUILD=build/fuzz tests/fuzz/run.sh SECONDS [TARGET...]
#   MINIMISE=1 ...                                afterwards puts what covers most, at most MOST files of MOST_BYTES, into tests/fuzz/corpus
# New inputs stay in build/fuzz/corpus/NAME, and are where the next run begins; what crashes stays there as crash-*.
set -eu
BUILD=${BUILD:-build/fuzz}
seconds=${1:-60}
[ $# -eq 0 ] || shift
here=$(ls tests/fuzz/fuzz_*.c | sed 's|.*/fuzz_||; s|\.c$||')
[ $# -gt 0 ] || set -- $here
mkdir -p $BUILD/corpus
export TAUT_LOG=error ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:allocator_may_return_null=1}"
for t in "$@"; do
    bin=$BUILD/tests/fuzz/fuzz_$t found=$BUILD/corpus/$t
    [ -x "$bin" ] || { echo "fuzz: no target '$t'; there are:" $here >&2; exit 2; }
    mkdir -p "$found"
    seeds=
    [ ! -d "tests/fuzz/corpus/$t" ] || seeds=tests/fuzz/corpus/$t
    # shellcheck disable=SC2086
    nice -n 19 "$bin" -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=3000 -artifact_prefix="$found/" -print_final_stats=1 \
        "$found" $seeds >"$found.log" 2>&1 || { tail -n 40 "$found.log"; echo "fuzz_$t: failed, see $found.log"; exit 1; }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")
    echo "$runs" >>"$found.runs"
    echo "fuzz_$t: $runs executions in $seconds s, $(awk '{ s += $1 } END { printf "%d", s }' "$found.runs") in all runs, nothing found"
    [ -z "${MINIMISE:-}" ] || tests/fuzz/minimise.sh "$bin" "$found" "tests/fuzz/corpus/$t"
done
