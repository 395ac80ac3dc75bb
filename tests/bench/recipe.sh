#!/bin/sh
# recipe.sh : both halves in one run: compressed gradients, an RS2 plan under its short schedule and dict shards, against uncompressed gradients on the
# raw file under the long schedule, in the practice cluster (root). Prints a Markdown table: time and bytes to a loss that all runs reach, and the product of the two gains.
#   tests/bench/recipe.sh
#   BUILD, DATA (../shared/data/tinyshakespeare.txt), OUT, NODES (2), RATE (100mbit), STEPS (400: of the long schedule), SHORT (200), BATCH (8), SEED (7),
#   EVERY (10: steps between evaluations), GPT (options of its size), GOAL (the loss; the highest that a run ends with), LAB (launch/lab: what starts the cluster)
set -eu
BUILD=${BUILD:-build/release}
DATA=${DATA:-../shared/data/tinyshakespeare.txt}
OUT=${OUT:-$BUILD/recipe}
NODES=${NODES:-2}
RATE=${RATE:-100mbit}
STEPS=${STEPS:-400}
SHORT=${SHORT:-200}
BATCH=${BATCH:-8}
SEED=${SEED:-7}
EVERY=${EVERY:-10}
GPT=${GPT:-}
LAB=${LAB:-launch/lab}
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
taut=$PWD/$BUILD/bin/taut
mkdir -p "$OUT"

# the training program's own split of a text: the last tenth validates
bytes=$(wc -c <"$DATA")
first=$((bytes - bytes / 10))
head -c "$first" "$DATA" >"$OUT/train.txt"
tail -c +$((first + 1)) "$DATA" >"$OUT/val.txt"
"$taut" data pack "$OUT/train.txt" -o "$OUT/train.taut" --split windows --window 1024 --codec dict >&2
"$taut" data pack "$OUT/val.txt" -o "$OUT/val.taut" --split windows --window 1024 --codec dict >&2
"$taut" data plan rs2:budget=10% "$OUT/train.taut" -o "$OUT/rs2.plan" --rounds 1000 --window 4 --seed "$SEED" >&2

run() { # name steps options...
    name=$1 steps=$2
    shift 2
    [ -s "$OUT/$name.txt" ] && return
    rm -f "$OUT/$name.jsonl"
    # shellcheck disable=SC2086
    $LAB run "$NODES" "$RATE" -- "$taut" train --model gpt $GPT --tokens bytes --steps "$steps" --schedule cosine --eval-every "$EVERY" --eval-samples 256 \
        --seed "$SEED" --log "$PWD/$OUT/$name.jsonl" --json "$@" >"$OUT/$name.part"
    mv "$OUT/$name.part" "$OUT/$name.txt"
}
raw="--data $PWD/$DATA --batch $BATCH"
shards="--data $PWD/$OUT/train.taut --validation $PWD/$OUT/val.taut --plan $PWD/$OUT/rs2.plan --batch $BATCH"
# shellcheck disable=SC2086
{
    run "uncompressed, raw file, long schedule" "$STEPS" $raw --codec none
    run "compressed gradients only" "$STEPS" $raw --codec auto
    run "rs2 on dict shards only" "$SHORT" $shards --codec none
    run "the recipe" "$SHORT" $shards --codec auto
}

field() { tail -n 1 "$1" | sed 's/"layers".*//' | grep -o "\"$2\": *[-0-9.e+]*" | tail -n 1 | sed 's/.*: *//'; }
# Steps and seconds of steps until the validation loss is at or under a limit.
reach() { awk -v limit="$2" -v every="$EVERY" '
    function field(name) { match($0, "\"" name "\":[-0-9.e+]*"); return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) }
    /"kind":"step"/ { s += field("step_ms") / 1000; n++ }
    /"kind":"eval"/ { if (field("loss_val") + 0 <= limit + 0) { printf "%d %.1f", n, s; found = 1; exit } }
    END { if (!found) printf "- -" }' "$1"; }
names="uncompressed, raw file, long schedule
compressed gradients only
rs2 on dict shards only
the recipe"
# a loss that all four reach: the highest that one of them ends with
goal=${GOAL:-$(echo "$names" | while read -r name; do field "$OUT/$name.txt" loss_val; done | sort -g | tail -n 1)}
echo "| run | steps | loss_val at the end | steps to $goal | seconds to it | times sooner | gradient MB sent to it | data MB read |"
echo "|---|---|---|---|---|---|---|---|"
base=$(reach "$OUT/uncompressed, raw file, long schedule.jsonl" "$goal" | cut -d' ' -f2)
echo "$names" | while read -r name; do
    f="$OUT/$name.txt"
    # shellcheck disable=SC2046
    set -- $(reach "$OUT/$name.jsonl" "$goal")
    read_bytes=$(field "$f" read_bytes)
    [ -n "$read_bytes" ] || read_bytes=$((bytes * NODES))
    awk -v name="$name" -v steps="$(field "$f" steps)" -v loss="$(field "$f" loss_val)" -v n="$1" -v s="$2" -v base="$base" -v sent="$(field "$f" bytes_sent)" -v data="$read_bytes" 'BEGIN {
        printf "| %s | %d | %.4f | %s | %s | %s | %s | %.2f |\n", name, steps, loss, n, s, (s > 0 && base > 0) ? sprintf("%.2f", base / s) : "-", (n > 0) ? sprintf("%.1f", sent * n / steps / 1e6) : "-", data / 1e6 }'
done | tee "$OUT/table.md"
awk -F ' *[|] *' '{ g[NR] = $7 } END { printf "\ncompressed gradients alone %s times sooner, RS2 on dict shards alone %s: product %.2f; the recipe %s\n", g[2], g[3], g[2] * g[3], g[4] }' "$OUT/table.md"
