#!/bin/sh
# lab.sh: what compression gains on a slow network, measured on the practice cluster (launch/lab; needs root).
# Writes the generated sections of docs/results.md and docs/lab-allreduce.svg.
#   tests/bench/lab.sh [allreduce] [sizes] [train] [basis]      default: the first three
# Settings: BUILD (build/release), TRACES (../shared/traces) and DATA (../shared/data/tinyshakespeare.txt), without
# which synthetic gradients and this machine's licence texts are used; STEPS (100) and BATCH (2, at which native training
# waits for the network) of a training run; NODES (2 4).
set -eu
BUILD=${BUILD:-build/release}
TRACES=${TRACES:-../shared/traces}
DATA=${DATA:-../shared/data/tinyshakespeare.txt}
STEPS=${STEPS:-100}
BATCH=${BATCH:-2}
NODES=${NODES:-2 4}
OUT=build/lab
RESULTS=docs/results.md
taut=$PWD/$BUILD/bin/taut
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# the reason is in train_table.sh
if [ -z "${OPENBLAS_CORETYPE:-}" ] && grep -qs avx512_bf16 /proc/cpuinfo; then export OPENBLAS_CORETYPE=Haswell; fi
mkdir -p "$OUT"

say() { printf 'lab: %s\n' "$*" >&2; }

# Replace what stands between "<!-- begin NAME -->" and "<!-- end NAME -->" in docs/results.md by standard input.
section() {
    cat >"$OUT/$1.md"
    grep -q "<!-- begin $1 -->" "$RESULTS" || { say "$RESULTS has no section $1"; exit 1; }
    awk -v name="$1" -v file="$OUT/$1.md" '
        $0 == "<!-- begin " name " -->" { print; while ((getline line < file) > 0) print line; skip = 1 }
        $0 == "<!-- end " name " -->" { skip = 0 }
        !skip || /<!-- end/ { if (!($0 == "<!-- begin " name " -->")) print }' "$RESULTS" >"$OUT/results.md"
    cp "$OUT/results.md" "$RESULTS"
}

inputs=
if [ -f "$TRACES/gpt-step400-rank0.f32" ]; then
    inputs="--input $(readlink -f "$TRACES/gpt-step400-rank0.f32") --input $(readlink -f "$TRACES/gpt-step400-rank1.f32")"
fi
data=
[ ! -f "$DATA" ] || data="--data $(readlink -f "$DATA")"

bench() { # nodes rate arguments...   rows of the table, without its head
    n=$1 rate=$2; shift 2
    # shellcheck disable=SC2086
    launch/lab run "$n" "$rate" -- "$taut" bench allreduce $inputs "$@" | tee -a "$OUT/raw.txt" | grep -E ' (yes|NO)$'
}

# codec bytes algorithm ms native x wire rel identical -> Markdown, with the wire's floor at BITS per second
rows() { # nodes bits-per-second
    awk -v n="$1" -v rate="$2" '{
        floor = $7 * 8 / rate * 1e3
        printf "| %d | `%s` | %s | %.1f | %.1f | **%.1f** | %.2f | %.1f | %.2f | %s | %s |\n",
            n, $1, $3, $4, $5, $5 / $4, $7 / 1e6, floor, $4 / floor, $8, $9 }'
}

allreduce() {
    say "16 MiB at 1 Gbit/s"
    head="| nodes | codec | algorithm | ms | native ms | × faster | MB sent per rank | wire floor ms | ms / floor | rel_err2 | same bytes |
|---|---|---|---|---|---|---|---|---|---|---|"
    : >"$OUT/allreduce.dat"
    {
        echo "$head"
        for n in $NODES; do
            bench "$n" 1gbit --sizes 16M --repeat 25 --seconds 60 --codec none --codec fp16 --codec quant:bits=4 \
                --codec grid:rel=0.0496 --codec grid:rel=0.0496,code=rans --codec topk:density=0.01 --codec powersgd:rank=4 \
                --codec auto >"$OUT/allreduce-$n.txt"
            rows "$n" 1e9 <"$OUT/allreduce-$n.txt"
            awk -v n="$n" '{print n, $1, $5 / $4}' "$OUT/allreduce-$n.txt" >>"$OUT/allreduce.dat"
        done
    } | section lab-allreduce
    figure
}

figure() {
    command -v gnuplot >/dev/null || { say "gnuplot is missing: no figure"; return 0; }
    gnuplot <<EOF
set terminal svg size 760,360 font 'sans,12' background 'white'
set output 'docs/lab-allreduce.svg'
set title '16 MiB allreduce at 1 Gbit/s: times faster than MPI\\_Allreduce'
set style data histogram; set style histogram clustered gap 1; set style fill solid 0.85 border -1
set grid ytics lc rgb '#dddddd'; set ylabel 'times faster'; set key top left; set xtics rotate by -20 font ',10' noenhanced
plot for [n in "$NODES"] sprintf("< awk -v n=%s '\$1 == n' $OUT/allreduce.dat", n) using 3:xtic(2) title n.' nodes'
EOF
}

sizes() {
    say "4 KiB to 64 MiB at 10 Gbit/s"
    {
        echo "| nodes | bytes | plan | ms | native ms | × faster |"
        echo "|---|---|---|---|---|---|"
        for n in $NODES; do
            bench "$n" 10gbit --sizes 4K:64M:4 --repeat 25 --warmup 16 --seconds 4 --codec auto --json >/dev/null
            tail -n 1 "$OUT/raw.txt" | tr '{' '\n' | awk -v n="$n" '
                function field(name) { match($0, "\"" name "\": *\"?[^,\"}]*"); v = substr($0, RSTART, RLENGTH); sub(".*: *\"?", "", v); return v }
                /median_ms/ { m = field("median_ms"); t = field("native_ms")
                    match($0, "\"codec_in_force\": *\"[^\"]*"); c = substr($0, RSTART, RLENGTH); sub(".*: *\"", "", c)
                    printf "| %d | %s | `%s` | %.3f | %.3f | %.2f |\n", n, field("bytes"), c, m, t, t / m }'
        done
    } | section lab-sizes
}

# Mean of the last ten training losses up to MS milliseconds of steps, from a run's log.
loss_at() { # log ms
    sed -n 's/.*"kind":"step".*"loss":\([-0-9.e+]*\),"step_ms":\([0-9.e+]*\).*/\1 \2/p' "$1" | awk -v t="$2" '
        { if (n && spent + $2 > t) exit; spent += $2; v[n++ % 10] = $1 }
        END { m = n < 10 ? n : 10; for (i = 0; i < m; i++) s += v[i]; printf "%.3f (step %d)", s / m, n }'
}

train() {
    {
        echo "| nodes | network | codec | step ms | computing | waiting | × steps per second | ratio | loss_val, equal steps | training loss, equal time | budget violations |"
        echo "|---|---|---|---|---|---|---|---|---|---|---|"
        for n in $NODES; do
            for rate in 100mbit 1gbit; do
                for codec in none auto; do
                    say "training, $n nodes at $rate, $codec"
                    run="$OUT/train-$n-$rate-$codec"
                    rm -f "$run.jsonl"
                    # shellcheck disable=SC2086
                    launch/lab run "$n" "$rate" -- "$taut" train --model gpt $data --codec "$codec" --steps "$STEPS" \
                        --batch "$BATCH" --seed 7 --log "$PWD/$run.jsonl" --json >"$run.txt"
                done
                end=$(sed -n 's/.*"kind":"step".*"step_ms":\([0-9.e+]*\).*/\1/p' "$OUT/train-$n-$rate-auto.jsonl" | awk '{ t += $1 } END { print t }')
                for codec in none auto; do
                    run="$OUT/train-$n-$rate-$codec"
                    tail -n 1 "$run.txt" | awk -v n="$n" -v rate="$rate" -v at="$(loss_at "$run.jsonl" "$end")" -v base="$(tail -n 1 "$OUT/train-$n-$rate-none.txt")" '
                        function field(line, name) { match(line, "\"" name "\": *\"?[^,\"}]*"); v = substr(line, RSTART, RLENGTH); sub(".*: *\"?", "", v); return v }
                        { printf "| %d | %s | %s | %.1f | %.1f | %.1f | **%.2f** | %.1f | %.4f | %s | %s |\n", n, rate, field($0, "codec"),
                            field($0, "step_ms"), field($0, "forward_ms") + field($0, "backward_ms") + field($0, "optimizer_ms"), field($0, "wait_ms"),
                            field(base, "step_ms") / field($0, "step_ms"), field($0, "ratio"), field($0, "loss_val"), at, field($0, "budget_violations") }'
                done
            done
        done
    } | section lab-train
}

# Medians of all steps but the first twelve, of which auto's are plain, planned and settled.
basis() {
    {
        echo "| width | network | codec | step ms | computing | × steps per second | kB per step and rank |"
        echo "|---|---|---|---|---|---|---|"
        for width in ${WIDTHS:-128 512}; do
            for rate in 100mbit 1gbit; do
                base=
                for codec in none grid:rel=0.4,code=rans grid:rel=0.4,code=rans,basis=32 grid:rel=0.4,code=rans,basis=128 'auto --objective bytes --budget rel=0.4' 'auto --budget rel=0.4'; do
                    say "a basis, width $width at $rate, $codec"
                    run="$OUT/basis"
                    rm -f "$run.jsonl"
                    # shellcheck disable=SC2086
                    launch/lab run 2 "$rate" -- "$taut" train --model gpt $data --codec $codec --basis momentum --dim "$width" --blocks 2 --ctx 64 --batch 2 \
                        --steps "${BASIS_STEPS:-40}" --seed 7 --eval-every 0 --log "$PWD/$run.jsonl" --json >"$run.txt"
                    ms=$(sed -n 's/.*"kind":"step".*"step_ms":\([0-9.e+]*\).*/\1/p' "$run.jsonl" | tail -n +13 | sort -g | awk '{ v[NR] = $1 } END { printf "%.1f", v[int((NR + 1) / 2)] }')
                    sent=$(sed -n 's/.*"kind":"step".*"bytes_sent":\([0-9]*\).*/\1/p' "$run.jsonl" | awk 'NR == 12 { a = $1 } END { printf "%.1f", ($1 - a) / (NR - 12) / 1e3 }')
                    base=${base:-$ms}
                    tail -n 1 "$run.txt" | awk -v width="$width" -v rate="$rate" -v codec="$codec" -v ms="$ms" -v base="$base" -v kb="$sent" '
                        function field(line, name) { match(line, "\"" name "\": *\"?[^,\"}]*"); v = substr(line, RSTART, RLENGTH); sub(".*: *\"?", "", v); return v }
                        { printf "| %s | %s | `%s` | %s | %.1f | **%.2f** | %s |\n", width, rate, codec, ms,
                            field($0, "forward_ms") + field($0, "backward_ms") + field($0, "optimizer_ms"), base / ms, kb }'
                done
            done
        done
    } | section lab-basis
}

[ "$(id -u)" = 0 ] || { say "network namespaces need root"; exit 1; }
[ -x "$taut" ] || { say "$taut is missing: make"; exit 1; }
: >"$OUT/raw.txt"
[ $# -gt 0 ] || set -- allreduce sizes train
for part in "$@"; do
    case $part in
    allreduce | sizes | train | basis) "$part" ;;
    *) say "unknown part '$part': allreduce, sizes, train or basis"; exit 2 ;;
    esac
done
