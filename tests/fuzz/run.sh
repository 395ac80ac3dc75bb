#!/bin/sh
# run.sh : runs fuzz targets that `make fuzz` has built (clang's libFuzzer, ASan, UBSan) on their seeds.
#   make fuzz SECONDS=60 T='frame state'          all without T
#   BUILD=build/fuzz tests/fuzz/run.sh SECONDS [TARGET...]
#   RUNS=10000000 ...                             executions wanted in all runs so far: a target that has had them is passed over
#   MINIMISE=1 ...                                afterwards puts what covers most, at most MOST files of MOST_BYTES, into tests/fuzz/corpus
#   LEAKS=1 ...                                   afterwards runs all inputs that are kept once more and looks for memory that is not given back
# New inputs stay in build/fuzz/corpus/NAME, and are where the next run begins; what crashes stays there as crash-*; NAME.runs counts executions.
# Longest input: `max_len=N` in the target's source, else 4096.
set -eu
BUILD=${BUILD:-build/fuzz}
seconds=${1:-60}
[ $# -eq 0 ] || shift
here=$(ls tests/fuzz/fuzz_*.c | sed 's|.*/fuzz_||; s|\.c$||')
[ $# -gt 0 ] || set -- $here
mkdir -p $BUILD/corpus
# No stacks of allocations and a quarantine that stays in the cache: half of the time went there. A finding is run again with ASan's defaults.
# No entropic schedule and no look at the corpus's folder each second: another tenth. -timeout is of the clock, on a machine that others use too.
export TAUT_LOG=error ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=32:malloc_context_size=0:quarantine_size_mb=1:thread_local_quarantine_size_kb=64}"
total_of() { [ ! -f "$1.runs" ] || awk '{ s += $1 } END { printf "%d", s }' "$1.runs"; }
for t in "$@"; do
    bin=$BUILD/tests/fuzz/fuzz_$t found=$BUILD/corpus/$t
    [ -x "$bin" ] || { echo "fuzz: no target '$t'; there are:" $here >&2; exit 2; }
    mkdir -p "$found"
    seeds= runs=-1 rc=0 total=$(total_of "$found")
    [ ! -d "tests/fuzz/corpus/$t" ] || seeds=tests/fuzz/corpus/$t
    if [ -n "${RUNS:-}" ]; then
        [ "${total:-0}" -lt "$RUNS" ] || { echo "fuzz_$t: $total executions in all runs"; continue; }
        runs=$((RUNS - ${total:-0}))
    fi
    most=$(sed -n 's/.*max_len=\([0-9]*\).*/\1/p' "tests/fuzz/fuzz_$t.c")
    begin=$(date +%s)
    # shellcheck disable=SC2086
    nice -n 19 "$bin" -max_total_time="$seconds" -runs="$runs" -max_len="${most:-4096}" -timeout=120 -entropic=0 -reload=0 -detect_leaks=0 -rss_limit_mb=3000 -malloc_limit_mb=100000 -artifact_prefix="$found/" \
        -print_final_stats=1 "$found" $seeds >"$found.log" 2>&1 || rc=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")
    [ -z "$runs" ] || echo "$runs" >>"$found.runs" # of one that is interrupted, too
    [ "$rc" -eq 0 ] || { tail -n 40 "$found.log"; echo "fuzz_$t: failed, see $found.log"; exit 1; }
    echo "fuzz_$t: $runs executions in $(($(date +%s) - begin)) s, $(total_of "$found") in all runs, nothing found"
    if [ -n "${LEAKS:-}" ]; then
        ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:max_allocation_size_mb=32 nice -n 19 "$bin" -runs=0 -max_len="${most:-4096}" -timeout=120 -rss_limit_mb=3000 \
            -malloc_limit_mb=100000 -artifact_prefix="$found/" "$found" $seeds >"$found.leaks.log" 2>&1 || { tail -n 40 "$found.leaks.log"; echo "fuzz_$t: leaks, see $found.leaks.log"; exit 1; }
        echo "fuzz_$t: no leaks in $(ls "$found" | wc -l) inputs"
    fi
    [ -z "${MINIMISE:-}" ] || tests/fuzz/minimise.sh "$bin" "$found" "tests/fuzz/corpus/$t"
done
