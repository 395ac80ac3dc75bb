#!/bin/sh
# regret.sh: codec=auto against the best fixed setting in hindsight on the practice cluster (launch/lab; needs root), and jobs whose steps
# differ in length. Writes the sections lab-regret and lab-uneven of docs/results.md.
#   tests/bench/regret.sh [table] [jobs] [write]      default: all three; in pieces: NODES=2 RATES=10gbit tests/bench/regret.sh table
# `table` and `jobs` append to OUT, one run after the other, and replace what they had for the same nodes and rate; `write` makes
# the sections from what is there.
# Settings: BUILD (build/release); OUT (build/regret); NODES (2 4); RATES (100mbit 1gbit 10gbit 25gbit); SIZES (64K:64M:4); SECONDS_EACH (4)
# per size, from five rounds on; ROUNDS (2000) at most; TRACES (../shared/traces), without which gradients are synthetic; JOBS (4:2:16384
# 2:16:1024) nodes, layers and KiB of each; STEPS (300) of a job; RHYTHMS; WRAP (), a command that runs each measurement, as in WRAP='nice -n -5'.
set -eu
BUILD=${BUILD:-build/release}
OUT=${OUT:-build/regret}
NODES=${NODES:-2 4}
RATES=${RATES:-100mbit 1gbit 10gbit 25gbit}
SIZES=${SIZES:-64K:64M:4}
SECONDS_EACH=${SECONDS_EACH:-4}
ROUNDS=${ROUNDS:-2000}
TRACES=${TRACES:-../shared/traces}
JOBS=${JOBS:-4:2:16384 2:16:1024}
STEPS=${STEPS:-300}
RHYTHMS=${RHYTHMS:-even alternate jump drift grow evaluate straggler random random-ranks}
WRAP=${WRAP:-}
RESULTS=docs/results.md
taut=$PWD/$BUILD/bin/taut
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
mkdir -p "$OUT"
say() { printf 'regret: %s\n' "$*" >&2; }

inputs=
if [ -f "$TRACES/gpt-step400-rank0.f32" ]; then
    inputs="--input $(readlink -f "$TRACES/gpt-step400-rank0.f32") --input $(readlink -f "$TRACES/gpt-step400-rank1.f32")"
fi

table() {
    for n in $NODES; do
        for rate in $RATES; do
            for size in $(sizes); do
                say "$n nodes, $rate, $size"
                # shellcheck disable=SC2086
                $WRAP launch/lab run "$n" "$rate" -- "$taut" bench allreduce --regret $inputs --sizes "$size" --repeat "$ROUNDS" \
                    --seconds "$SECONDS_EACH" --json >"$OUT/run-$n-$rate-$size.txt" || say "failed: see $OUT/run-$n-$rate-$size.txt"
            done
        done
    done
}

# FROM:TO:FACTOR, one size a line, in KiB
sizes() {
    echo "$SIZES" | tr ':' ' ' | awk '
        function kib(t) { return t ~ /M$/ ? 1024 * t : t ~ /K$/ ? t + 0 : t / 1024 }
        { to = NF > 1 ? kib($2) : kib($1); f = NF > 2 ? $3 : 4; for (s = kib($1); s <= to; s *= f) print s "K" }'
}

jobs() {
    for job in $JOBS; do
        IFS=: read -r n layers kib <<EOF
$job
EOF
        for rhythm in $RHYTHMS; do
            say "$n nodes at 10 Gbit/s, $layers layers of $kib KiB, $rhythm"
            $WRAP launch/lab run "$n" 10gbit -- "$PWD/$BUILD/tests/bench/uneven_mpi" "$rhythm" "$STEPS" "$layers" "$kib" 10 auto >"$OUT/job-$job-$rhythm.txt" ||
                say "failed: see $OUT/job-$job-$rhythm.txt"
        done
    done
}

section() {
    cat >"$OUT/$1.md"
    grep -q "<!-- begin $1 -->" "$RESULTS" || { say "$RESULTS has no section $1"; exit 1; }
    awk -v name="$1" -v file="$OUT/$1.md" '
        $0 == "<!-- begin " name " -->" { print; while ((getline line < file) > 0) print line; skip = 1 }
        $0 == "<!-- end " name " -->" { skip = 0 }
        !skip || /<!-- end/ { if (!($0 == "<!-- begin " name " -->")) print }' "$RESULTS" >"$OUT/results.md"
    cp "$OUT/results.md" "$RESULTS"
}

# regret BYTES bytes RANKS ranks: auto MS ms (CODEC), best MS ms (CODEC): REGRET, with step end REGRET
rows() {
    for n in $NODES; do
        for rate in $RATES; do
            for f in "$OUT"/run-"$n"-"$rate"-*.txt; do
                [ ! -f "$f" ] || sed -n "s/^regret \([0-9]*\) bytes.*: auto \([0-9.]*\) ms (\(.*\)), best \([0-9.]*\) ms (\(.*\)): \([0-9.]*\), with step end \([0-9.]*\)\$/$n $rate \1 \2 \3 \4 \5 \6 \7/p" "$f"
            done | sort -n -k 3
        done
    done
}

write() {
    rows >"$OUT/rows.txt"
    {
        echo "| nodes | network | bytes | auto ms | plan | best fixed ms | which | regret | with step end |"
        echo "|---|---|---|---|---|---|---|---|---|"
        awk '{ printf "| %s | %s | %s | %s | `%s` | %s | `%s` | **%s** | %s |\n", $1, $2, $3, $4, $5, $6, $7, $8, $9 }' "$OUT/rows.txt"
        echo
        awk '{ print $8 }' "$OUT/rows.txt" | sort -n | awk '{ v[NR] = $1 } END { if (NR) printf "%d cells: median regret %.3f, worst %.3f.\n", NR, (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[NR] }'
    } | section lab-regret
    for job in $JOBS; do
        for rhythm in $RHYTHMS; do
            [ ! -f "$OUT/job-$job-$rhythm.txt" ] || tail -n 1 "$OUT/job-$job-$rhythm.txt" | awk -v job="$job" '
                function field(name) { match($0, "\"" name "\": *\"?[^,\"}]*"); v = substr($0, RSTART, RLENGTH); sub(".*: *\"?", "", v); return v }
                /rhythm/ { split(job, part, ":"); print part[1], part[2] " x " part[3] / 1024, field("rhythm"), field("none_ms"), field("fixed_ms"), field("communication_ms"),
                    100 * field("compressed"), 100 * field("compressed_last_100") }'
        done
    done >"$OUT/jobs.txt"
    {
        echo "| nodes | layers x MiB | rhythm | none ms | \`quant:bits=4\` ms | times as fast | auto ms | compressed, all steps | last hundred |"
        echo "|---|---|---|---|---|---|---|---|---|"
        awk '{ printf "| %s | %s %s %s | %s | %.1f | %.1f | **%.2f** | %.1f | %.1f%% | %.1f%% |\n", $1, $2, $3, $4, $5, $6, $7, $6 / $7, $8, $9, $10 }' "$OUT/jobs.txt"
        echo
        awk '$6 >= 2 * $7 { n++; if (n == 1 || $9 < least) least = $9 }
            END { printf "%d of %d jobs in which compression makes communication twice as fast: at least %.1f%% of the steps compressed.\n", n, NR, least }' "$OUT/jobs.txt"
    } | section lab-uneven
}

[ -x "$taut" ] || { say "$taut is missing: make tests"; exit 1; }
[ $# -gt 0 ] || set -- table jobs write
for part in "$@"; do
    case $part in
    write) write ;;
    table | jobs) [ "$(id -u)" = 0 ] || { say "network namespaces need root"; exit 1; }; "$part" ;;
    *) say "unknown part '$part': table, jobs or write"; exit 2 ;;
    esac
done
