#!/bin/bash
# preload.sh : what the preload library does for programs that nobody changes, in the practice cluster: 2 nodes at 1 Gbit/s. Needs root.
#   tests/bench/preload.sh trainers [STEPS]    data-parallel training in C: seconds in allreduce, plain and under tautrun's defaults
#   tests/bench/preload.sh dry [STEPS]         what TAUT_DRYRUN=1 says would be saved, and what then was
#   tests/bench/preload.sh micro [FROM TO]     constant buffers from FROM to TO bytes, in place and not: plain over preload, per size
#   tests/bench/preload.sh overhead            nanoseconds of a call that passes through
set -u
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
. tests/support/preload.sh
[ -f "$LIB" ] || { echo "preload.sh: no $LIB: run make" >&2; exit 1; }
what=${1:-trainers}
[ $# -eq 0 ] || shift
compile openmpi trainer -O3 -march=native -ffast-math tests/preload/trainer.c
compile openmpi microbench tests/preload/microbench.c
compile openmpi overhead tests/preload/overhead.c

# lab PRELOAD(0|1) COMMAND...: stdout to $WORK/out, stderr to $WORK/err
lab() {
    local with=$1 args=''; shift
    [ "$with" = 0 ] || args="-x LD_PRELOAD=$LIB"
    LAB_MPI_ARGS=$args launch/lab run "${NODES:-2}" "${RATE:-1gbit}" -- "$@" >"$WORK/out" 2>"$WORK/err" || { echo "preload.sh: $*: $(tail -n 3 "$WORK/err")" >&2; exit 1; }
}
calc() { awk "BEGIN { printf \"$1\", $2 }"; }

trainers() {
    local steps=${1:-300} way plain coded loss
    printf '%-11s %6s %12s %12s %8s   %s\n' way steps 'plain, s' 'Taut, s' times 'loss plain, Taut'
    for way in ${WAYS:-layer fused accumulate}; do
        lab 0 "$WORK/trainer.openmpi" $way $steps; plain=$(field comm_s "$WORK/out") loss=$(field loss "$WORK/out")
        lab 1 "$WORK/trainer.openmpi" $way $steps; coded=$(field comm_s "$WORK/out")
        printf '%-11s %6s %12s %12s %8s   %s\n' $way $steps $plain $coded "$(calc %.2f "$plain / $coded")" "$loss $(field loss "$WORK/out")"
        grep '^taut' "$WORK/err" >&2
    done
}
dry() {
    local steps=${1:-120} way plain coded told
    printf '%-11s %6s %12s %12s %14s %12s %8s\n' way steps 'plain, s' 'Taut, s' 'foretold, s' 'saved, s' ratio
    for way in ${WAYS:-layer overlap}; do
        TAUT_DRYRUN=1 TAUT_REPORT=$WORK/r.json lab 1 "$WORK/trainer.openmpi" $way $steps; told=$(json 'j["dry_run"][0]["saved_s"]')
        grep '^taut' "$WORK/err" >&2
        lab 0 "$WORK/trainer.openmpi" $way $steps; plain=$(field comm_s "$WORK/out")
        lab 1 "$WORK/trainer.openmpi" $way $steps; coded=$(field comm_s "$WORK/out")
        grep '^taut' "$WORK/err" >&2
        printf '%-11s %6s %12s %12s %14.2f %12s %8s\n' $way $steps $plain $coded $told "$(calc %.2f "$plain - $coded")" "$(calc %.2f "$told / ($plain - $coded)")"
    done
}
# RUNS runs of each, in turns: medians of their medians, and the median of each pair's ratio: the shortest of many runs is what chance gave one side
micro() {
    local from=${1:-4} to=${2:-1048576} k
    for k in $(seq "${RUNS:-3}"); do
        lab 0 "$WORK/microbench.openmpi" $from $to ${ROUNDS:-200}; cp "$WORK/out" "$WORK/plain.$k"
        lab 1 "$WORK/microbench.openmpi" $from $to ${ROUNDS:-200}; cp "$WORK/out" "$WORK/with.$k"
    done
    grep '^taut' "$WORK/err" >&2
    awk 'function median(side, key,    i, j, v, list, n) {
             n = split(all[side, key], list, " ")
             for (i = 2; i <= n; i++) { v = list[i] + 0; for (j = i - 1; j > 0 && list[j] + 0 > v; j--) list[j + 1] = list[j]; list[j + 1] = v }
             return n % 2 ? list[(n + 1) / 2] + 0 : (list[n / 2] + list[n / 2 + 1]) / 2
         }
         { key = $1 ($4 ? "i" : "o"); all[FILENAME ~ /plain/ ? "p" : "w", key] = all[FILENAME ~ /plain/ ? "p" : "w", key] " " $3
           if (!(key in seen)) { seen[key] = 1; order[n++] = key; bytes[key] = $1; place[key] = $4 ? "in place" : "" }
           if (FILENAME ~ /plain/) last[key] = $3; else all["r", key] = all["r", key] " " last[key] / $3 }
         END { printf "%12s %14s %14s %8s\n", "bytes", "plain, us", "preload, us", "ratio"
               for (i = 0; i < n; i++) { k = order[i]; printf "%12d %14.1f %14.1f %8.3f  %s\n", bytes[k], median("p", k), median("w", k), median("r", k), place[k] } }' \
        $(for k in $(seq "${RUNS:-3}"); do echo "$WORK/plain.$k" "$WORK/with.$k"; done)
}
overhead() {
    local mpi plain
    for mpi in openmpi mpich; do
        [ $mpi = openmpi ] || compile mpich overhead tests/preload/overhead.c
        run $mpi 2 0 "$WORK/overhead.$mpi"; plain=$(head -n 1 "$WORK/out")
        run $mpi 2 1 "$WORK/overhead.$mpi"
        echo "$mpi: $plain ns without, $(head -n 1 "$WORK/out") ns with the library"
    done
}
case $what in
trainers | dry | micro | overhead) $what "$@" ;;
*) echo "preload.sh: '$what': must be trainers, dry, micro or overhead" >&2; exit 2 ;;
esac
