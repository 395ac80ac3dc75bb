#!/bin/sh
# train_table.sh : train the same GPT with many settings and print a Markdown table: mean validation loss over seeds,
# its distance from uncompressed, ratio, error, violations. One JSON per run in $OUT; runs whose JSON is there are not
# repeated, so that it can be stopped and started again, and the table printed at any time (TABLE=1 prints only).
#   tests/bench/train_table.sh [SET ...]     sets: baselines auto grid (default: all three)
#   BUILD, DATA, OUT, RANKS (2), STEPS (400), SEEDS ("1 2 3"), BATCH (8), BUDGET (like:quant:bits=4), MORE (options)
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
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
[ -n "$*" ] || set -- baselines auto grid
mkdir -p "$OUT"

# One configuration a line: NAME|options. The name is the file's and the table's.
configs() {
    for optimizer in adam sgd; do
        for set in "$@"; do
            case $set in
            baselines)
                for c in none quant:bits=4 powersgd:rank=4 topk:density=0.1 topk:density=0.01; do
                    echo "$optimizer $c|--optimizer $optimizer --codec $c"
                done
                for f in on off; do
                    echo "$optimizer quant:bits=4 feedback $f|--optimizer $optimizer --codec quant:bits=4 --feedback $f"
                done
                ;;
            auto)
                metrics="plain layer optimizer"
                [ $optimizer = adam ] || metrics="plain layer"
                for m in $metrics; do
                    for f in on off; do
                        echo "$optimizer auto $m feedback $f|--optimizer $optimizer --codec auto --objective bytes --budget $BUDGET --metric $m --feedback $f"
                    done
                done
                ;;
            grid)
                scales="none row element"
                [ $optimizer = adam ] || scales=none
                for s in $scales; do
                    for f in on off; do
                        for rel in 0.04 0.1 0.2 0.4; do
                            echo "$optimizer grid:rel=$rel scale $s feedback $f|--optimizer $optimizer --codec grid:rel=$rel --scale $s --feedback $f"
                        done
                    done
                done
                ;;
            *) echo "train_table.sh: unknown set '$set': must be baselines, auto or grid" >&2 && return 2 ;;
            esac
        done
    done
}

file() { echo "$OUT/$(echo "$1" | tr ' :,=+' '_____')-seed$2.json"; }

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

table() {
    echo "| optimizer, codec | seeds | loss_val | spread | against none | ratio | rel_err2 | in the metric | budget | violations | step ms |"
    echo "|---|---|---|---|---|---|---|---|---|---|---|"
    configs "$@" | while IFS='|' read -r name options; do
        for seed in $SEEDS; do
            f=$(file "$name" "$seed")
            none=$(file "${name%% *} none" "$seed")
            [ -s "$f" ] || continue
            base=$([ -s "$none" ] && number "$none" loss_val || echo 0)
            echo "$(number "$f" loss_val) ${base:-0} $(number "$f" ratio) $(number "$f" rel_err2) $(number "$f" rel_err2_metric) $(number "$f" budget) $(number "$f" budget_violations) $(number "$f" step_ms)"
        done | awk -v name="$name" '
            { n++; l += $1; if (n == 1 || $1 < lo) lo = $1; if ($1 > hi) hi = $1
              if ($2 > 0) { b++; d += $1 / $2 - 1 }
              r += 1 / $3; e += $4; m += $5; g += $6; v += $7; t += $8 }
            END { if (n) printf "| %s | %d | %.4f | %.4f | %s | %.1f | %.3g | %.3g | %.3g | %d | %.0f |\n", name, n, l / n,
                  hi - lo, b ? sprintf("%+.2f%%", 100 * d / b) : "", n / r, e / n, m / n, g / n, v, t / n }'
    done
}

[ "$TABLE" = 1 ] || run_all "$@"
table "$@"
