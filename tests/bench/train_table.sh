#!/bin/sh
# train_table.sh : train the same GPT with many settings; print a Markdown table (mean validation loss over seeds, its
# distance from uncompressed on the same seed, ratio, error, violations) and draw docs/train-loss.svg from the same
# numbers. One JSON per run in $OUT; runs whose JSON is there are not repeated, so that it can be stopped and started
# again. TABLE=1 only prints and draws what is there.
#   tests/bench/train_table.sh [SET ...]     sets, default all; optimizer adam and sgd, unless said:
#     baselines   none, quant:bits=4, powersgd:rank=4, topk:density=0.01; adam: topk:density=0.1 too
#     auto        three metrics (sgd has no scale: two), feedback on and off
#     grid        adam: large errors in units of Adam's scale, one for all layers and planned
# 21 settings, 63 runs, 35 seconds each on two quiet cores.
#   BUILD, DATA, OUT, FIGURE, RANKS (2), STEPS (400), SEEDS ("1 2 3"), BATCH (8), BUDGET (like:quant:bits=4),
#   MORE (options of every run)
set -eu
BUILD=${BUILD:-build/release}
DATA=${DATA:-../shared/data/tinyshakespeare.txt}
RANKS=${RANKS:-2}
STEPS=${STEPS:-400}
SEEDS=${SEEDS:-1 2 3}
BATCH=${BATCH:-8}
BUDGET=${BUDGET:-like:quant:bits=4}
MORE=${MORE:-}
TABLE=${TABLE:-0}
OUT=${OUT:-$BUILD/train_table}
FIGURE=${FIGURE:-docs/train-loss}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Debian 12's OpenBLAS 0.3.21 takes a slow kernel on CPUs with AVX512-BF16: its AVX2 one makes the whole step 1.6 times
# faster. Losses differ in the last digits only, and all runs of a table have the same kernel.
if [ -z "${OPENBLAS_CORETYPE:-}" ] && grep -qs avx512_bf16 /proc/cpuinfo; then export OPENBLAS_CORETYPE=Haswell; fi
[ -n "$*" ] || set -- baselines auto grid
mkdir -p "$OUT"

# One configuration a line: NAME|options. The name is the file's and the table's.
baselines() {
    for c in none quant:bits=4 powersgd:rank=4 topk:density=0.01; do echo "$1 $c|--optimizer $1 --codec $c"; done
    [ "$1" != adam ] || echo "adam topk:density=0.1|--optimizer adam --codec topk:density=0.1"
}

automatic() {
    for metric in plain layer optimizer; do
        [ "$1 $metric" != "sgd optimizer" ] || continue
        for f in on off; do
            echo "$1 auto $metric feedback $f|--optimizer $1 --codec auto --objective bytes --budget $BUDGET --metric $metric --feedback $f"
        done
    done
}

grid() {
    echo "adam grid:rel=0.2,code=rans|--optimizer adam --codec grid:rel=0.2,code=rans --scale element"
    echo "adam auto rel=0.8|--optimizer adam --codec auto --objective bytes --budget rel=0.8"
}

configs() {
    for set in "$@"; do
        case $set in
        baselines) baselines adam && baselines sgd ;;
        auto) automatic adam && automatic sgd ;;
        grid) grid ;;
        *) echo "train_table.sh: unknown set '$set': must be baselines, auto or grid" >&2 && return 2 ;;
        esac
    done
}

file() { echo "$OUT/$(echo "$1" | tr ' :,=+' '_____')-steps$STEPS-seed$2.json"; }

run_all() {
    for seed in $SEEDS; do # outermost, so that a first table is there early
        configs "$@" | while IFS='|' read -r name options; do
            f=$(file "$name" "$seed")
            [ ! -s "$f" ] || continue
            # the options are words without blanks inside
            # shellcheck disable=SC2086
            if mpirun -n "$RANKS" "$BUILD/bin/taut" train --model gpt --data "$DATA" --steps "$STEPS" --batch "$BATCH" \
                --seed "$seed" --eval-every 0 $MORE $options --json </dev/null >"$f.part" 2>"$f.err"; then
                tail -n 1 "$f.part" >"$f"
                rm -f "$f.part" "$f.err"
                printf '%s seed %s: %s\n' "$name" "$seed" "$(grep -o '"loss_val": [0-9.]*' "$f" | head -n 1)" >&2
            else
                printf '%s seed %s FAILED: %s\n' "$name" "$seed" "$(head -n 2 "$f.err")" >&2
            fi
        done
    done
}

# Numbers of the part of a JSON line before its layers.
number() { sed 's/"layers": \[.*//' "$1" | grep -o "\"$2\": [-0-9.e+]*" | head -n 1 | cut -d' ' -f2; }

# A line per configuration: optimizer;codec;seeds;loss;spread;percent above none;ratio;MB per rank and step;error;
# in the metric;budget;violations;step ms
summary() {
    configs "$@" | while IFS='|' read -r name options; do
        for seed in $SEEDS; do
            f=$(file "$name" "$seed")
            none=$(file "${name%% *} none" "$seed")
            [ -s "$f" ] || continue
            base=$([ -s "$none" ] && number "$none" loss_val || echo 0)
            echo "$(number "$f" loss_val) ${base:-0} $(number "$f" ratio) $(number "$f" rel_err2) $(number "$f" rel_err2_metric) $(number "$f" budget) $(number "$f" budget_violations) $(number "$f" step_ms) $(number "$f" bytes_sent)"
        done | awk -v name="$name" -v per="$((RANKS * STEPS))" '
            { n++; l += $1; if (n == 1 || $1 < lo) lo = $1; if ($1 > hi) hi = $1
              if ($2 > 0) { b++; d += $1 / $2 - 1 }
              r += 1 / $3; e += $4; m += $5; g += $6; v += $7; t += $8; s += $9 }
            END { if (n) { sub(" ", ";", name)
                  printf "%s;%d;%.4f;%.4f;%s;%.1f;%.4f;%.3g;%.3g;%.3g;%d;%.0f\n", name, n, l / n, hi - lo,
                  b ? sprintf("%+.2f%%", 100 * d / b) : "", n / r, s / n / per / 1e6, e / n, m / n, g / n, v, t / n } }'
    done
}

draw() {
    command -v gnuplot >/dev/null || { echo "train_table.sh: no gnuplot: $FIGURE.svg is not drawn" >&2 && return 0; }
    gnuplot -e "csv='$FIGURE.csv'; svg='$FIGURE.svg'; steps='$STEPS'" tests/bench/train_loss.gp
}

[ "$TABLE" = 1 ] || run_all "$@"
{ echo "optimizer;codec;seeds;loss_val;spread;against none;ratio;MB per step;rel_err2;in the metric;budget;violations;step ms" && summary "$@"; } >"$FIGURE.csv"
sed -e 's/;/ | /g' -e 's/.*/| & |/' -e '1s/.*/&\n|---|---|---|---|---|---|---|---|---|---|---|---|---|/' "$FIGURE.csv"
draw
