#!/bin/sh
# loss_bytes.sh : loss against bytes of real training runs: uncompressed, `quant`, `grid` with and without a basis, `auto`; several models, optimizers and
# numbers of ranks, three seeds. One JSON per run in $OUT; runs whose JSON is there are not repeated, so it can be stopped and started again.
# Prints a Markdown table per scene: mean validation loss over the seeds, its spread, its distance from uncompressed on the same seeds, bytes that a rank sent per step
# with everything, and how many times as many `grid` without a basis takes for that loss: straight between its two nearest points, over the logarithm of bytes.
#   tests/bench/loss_bytes.sh [SCENE ...]    gpt-adam-2 gpt-sgd-2 lstm-adam-2 cnn-sgd-2 mlp-adam-2 gpt-adam-4: model, optimizer, ranks
#   TABLE=1: only prints what is there.  BUILD, DATA, OUT, SEEDS ("1 2 3"), STEPS (400), GPT (options of its size), ONLY (names of codecs, in a pattern of grep -E)
# 48 runs a scene. Losses of pictures are of 8,192 samples, of text as `taut train` has it.
set -eu
BUILD=${BUILD:-build/release}
DATA=${DATA:-../shared/data}
OUT=${OUT:-$BUILD/loss_bytes}
SEEDS=${SEEDS:-1 2 3}
STEPS=${STEPS:-400}
GPT=${GPT:---batch 8 --dim 96 --blocks 2 --ctx 32}
ONLY=${ONLY:-.}
TABLE=${TABLE:-0}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# what auto plans for; with it nothing is probed, so that bytes are those of training
export TAUT_LINK=100mbit
[ -n "$*" ] || set -- gpt-adam-2 gpt-sgd-2 lstm-adam-2 cnn-sgd-2 mlp-adam-2 gpt-adam-4
mkdir -p "$OUT"

# The bench's own models are scripts.
model() {
    case $1 in
    gpt) echo "--model gpt --data $DATA/tinyshakespeare.txt $GPT" ;;
    lstm) echo "--model script:$OUT/lstm.pt --data $DATA/tinyshakespeare.txt --batch 8 --ctx 32 --lr 0.003" ;;
    cnn) echo "--model script:$OUT/cnn.pt --data $DATA --batch 16 --eval-samples 8192" ;;
    mlp) echo "--model mlp --data $DATA --batch 16 --dim 128 --eval-samples 8192" ;;
    *) echo "loss_bytes.sh: unknown model '$1': must be gpt, lstm, cnn or mlp" >&2 && return 2 ;;
    esac
}

# of a scene: NAME|options. Vectors are coded in 8 bits by all fixed settings: uncompressed, as they would be otherwise, they would be a third of the bytes.
codecs() {
    vectors="--layer-codec *bias*=quant:bits=8"
    [ "${1%%-*}" != gpt ] || vectors="$vectors --layer-codec *.l[12].weight=quant:bits=8 --layer-codec ln.weight=quant:bits=8"
    echo "none|--codec none"
    echo "quant:bits=4|--codec quant:bits=4 $vectors"
    for rel in 0.03 0.1 0.2 0.4 0.7; do echo "grid rel=$rel|--codec grid:rel=$rel,code=rans --feedback off $vectors"; done
    for rel in 0.1 0.2 0.4 0.7; do echo "feedback, grid rel=$rel|--codec grid:rel=$rel,code=rans --feedback on $vectors"; done
    for rel in 0.2 0.4 0.7; do echo "basis rel=$rel|--codec grid:rel=$rel,code=rans,basis=32 --basis momentum $vectors"; done
    echo "auto rel=0.4|--codec auto --objective bytes --budget rel=0.4 --basis momentum"
    echo "auto rel=0.8, no momentum|--codec auto --objective bytes --budget rel=0.8"
}

file() { echo "$OUT/$1-$(echo "$2" | tr ' :,=' '____')-steps$STEPS-seed$3.json"; }

run_one() { # scene name options seed
    f=$(file "$1" "$2" "$4")
    [ ! -s "$f" ] || return 0
    optimizer=${1#*-}
    set -f # patterns of layers
    # options are words without blanks inside
    # shellcheck disable=SC2046,SC2086
    if mpirun -n "${1##*-}" "$BUILD/bin/taut" train $(model "${1%%-*}") --optimizer "${optimizer%-*}" --steps "$STEPS" --seed "$4" --eval-every 0 \
        $3 --json </dev/null >"$f.part" 2>"$f.err"; then
        tail -n 1 "$f.part" >"$f"
        rm -f "$f.part" "$f.err"
        printf '%s %s seed %s: %s\n' "$1" "$2" "$4" "$(grep -o '"loss_val": [0-9.]*' "$f" | head -n 1)" >&2
    else
        printf '%s %s seed %s FAILED: %s\n' "$1" "$2" "$4" "$(head -n 2 "$f.err")" >&2
    fi
}

run_all() {
    [ -s "$OUT/lstm.pt" ] || python3 tests/bench/script_models.py "$OUT"
    for seed in $SEEDS; do
        for scene in "$@"; do
            codecs "$scene" | grep -E "^($ONLY)" | while IFS='|' read -r name options; do run_one "$scene" "$name" "$options" "$seed"; done
        done
    done
}

number() { sed 's/"layers": \[.*//' "$1" | grep -o "\"$2\": [-0-9.e+]*" | head -n 1 | cut -d' ' -f2; }

# name;seeds;loss;spread;difference from none;bytes of a rank and step;rel_err2 in the metric;budget;violations
points() {
    codecs "$1" | while IFS='|' read -r name options; do
        for seed in $SEEDS; do
            f=$(file "$1" "$name" "$seed")
            none=$(file "$1" none "$seed")
            [ -s "$f" ] && [ -s "$none" ] || continue
            echo "$(number "$f" loss_val) $(number "$none" loss_val) $(number "$f" bytes_sent) $(number "$f" rel_err2_metric) $(number "$f" budget) $(number "$f" budget_violations)"
        done | awk -v name="$name" -v per="$((${1##*-} * STEPS))" '
            { n++; l += $1; if (n == 1 || $1 < lo) lo = $1; if ($1 > hi) hi = $1; d += $1 / $2 - 1; b += $3; m += $4; g += $5; v += $6 }
            END { if (n) printf "%s;%d;%.5f;%.4f;%.3f;%.0f;%.3g;%.3g;%d\n", name, n, l / n, hi - lo, 100 * d / n, b / n / per, m / n, g / n, v }'
    done
}

table() {
    printf '\n**%s**\n\n' "$1"
    points "$1" | awk -F';' '
        { line[NR] = $0 }
        $1 ~ /^grid/ { g++; loss[g] = $5 + 0; bytes[g] = log($6) }
        function at_loss(x, i) { # of grid, whose loss grows as its bytes fall; beyond its points, the last two go on
            i = 1
            while (i < g - 1 && x > loss[i + 1]) i++
            return loss[i + 1] == loss[i] ? bytes[i] : bytes[i] + (x - loss[i]) / (loss[i + 1] - loss[i]) * (bytes[i + 1] - bytes[i])
        }
        END {
            print "| codec | seeds | loss_val | spread | against none | kB per step and rank | error in the metric | violations | `grid` takes, for that loss |"
            print "|---|---|---|---|---|---|---|---|---|"
            for (k = 1; k <= NR; k++) {
                split(line[k], f, ";")
                times = ""
                over = f[8] + 0 == 0 ? "" : f[9]
                if (g > 1 && f[1] !~ /^(none|grid)/) {
                    ratio = exp(at_loss(f[5] + 0)) / f[6]
                    less = f[5] + 0 < loss[1] + 0
                    more = f[5] + 0 > loss[g] + 0
                    if (less) ratio = exp(bytes[1]) / f[6]
                    times = sprintf("%s%.2f times%s", less ? "more than " : "", ratio, more ? ", beyond its points" : "")
                }
                printf "| %s | %d | %.4f | %.4f | %+.2f%% | %.1f | %s | %s | %s |\n", f[1], f[2], f[3], f[4], f[5], f[6] / 1e3, f[7], over, times
            }
        }'
}

[ "$TABLE" = 1 ] || run_all "$@"
for scene in "$@"; do table "$scene"; done
