#!/bin/sh
# What users can type wrong, one row each: the command, and the sentence that names the bad value and what is allowed. Exit code 2, nothing on stdout, a
# last line that points to --help (or is the library's answer with its status), and no file is left behind. LONG=1: those of taut train, which loads libtorch for each.
set -u
BUILD=${BUILD:-build/release}
. tests/support/shell.sh
taut=$PWD/$BUILD/bin/taut
has() { "$taut" info --json | grep -q "\"$1\": true"; }
head -c 256 /dev/zero >"$dir/x.f32"
printf 'some text\nand more\n' >"$dir/a.txt"
printf 'a,b\n1,2\n' >"$dir/a.csv"
refused() { # refused SENTENCE ARGUMENTS...
    says=$1
    shift
    before=$(ls "$dir")
    (cd "$dir" && exec "$taut" "$@") >"$dir/.out" 2>"$dir/.err"
    rc=$?
    if [ $rc -ne 2 ] || ! grep -qF -- "$says" "$dir/.err"; then
        fail "taut $*: exit $rc, expected 2 and '$says': $(tail -n 2 "$dir/.err")"
    elif [ -s "$dir/.out" ] || [ "$(ls "$dir")" != "$before" ]; then
        fail "taut $*: wrote $(head -c 80 "$dir/.out") $(ls "$dir")"
    elif ! tail -n 1 "$dir/.err" | grep -q -e '--help' -e '(TAUT_E_[A-Z]*)$'; then
        fail "taut $*: does not point to --help: $(tail -n 1 "$dir/.err")"
    else pass; fi
}
many() { # many OPTION N: so often
    for _ in $(seq "$2"); do printf '%s ' "$1"; done
}

refused "--codec is missing; for example --codec quant:bits=4" encode x.f32 x.taut
refused "--json and OUT.taut '-' both write to stdout" encode --codec fp16 --json x.f32 -
refused "--shape=8x: must be 1 to 8 positive extents, as in 1024x784" encode --codec fp16 --shape 8x x.f32 x.taut
refused "--shape=8,8: extents are separated by x, as in 1024x784" encode --codec fp16 --shape 8,8 x.f32 x.taut
refused "--shape=0x8: must be 1 to 8 positive extents" encode --codec fp16 --shape 0x8 x.f32 x.taut
refused "stack: needs at least two stages, as in stack:topk+quant" encode --codec stack:topk x.f32 x.taut
refused "--json and BACK.f32 '-' both write to stdout" decode --json x.taut -
refused "missing operand; expected: IN.taut BACK.f32" decode x.taut
refused "--codec=auto: is a plan, not a codec; see \`taut plan\`" bench codec --codec auto
refused "--seed=10000000000000000: must be a whole number, K, M or G allowed, 0..9000000000000000" data plan full x --seed 10000000000000000
refused "--device=gpu: must be host or cuda" bench codec --device gpu
refused "--device=cuda goes with neither --sweep nor --equal" bench codec --device cuda --sweep
refused "--csv goes with --sweep" bench codec --csv
refused "--sweep takes every family: neither --codec nor --equal" bench codec --sweep --codec fp16
refused "--csv and --json both say what is printed" bench codec --sweep --csv --json
refused "--layers goes with --sweep" bench codec --layers fc
# shellcheck disable=SC2046
refused "--codec: given more than 64 times" bench codec $(many --codec=fp16 65)
refused "give --trace FILE.json or --replay FILE, one of them" plan
refused "--link 1parsec: must be shm or a bandwidth as in 100mbit, 1gbit, 25gbit" plan --trace t.json --link 1parsec
refused "solver" plan --trace t.json --solver luck
has mpi && refused "--device=tpu: must be host, cuda or cuda:N" bench allreduce --device tpu
if "$taut" data --help >/dev/null 2>&1; then
    refused "-o OUT.taut is missing" data pack a.txt
    refused "--block and --random both say how large blocks are" data pack --block 4096 --random -o a.taut a.txt
    refused "--field=text: must be NAME=CODEC" data pack --field text -o a.taut a.txt
    refused "--separator=012345678901234567890123456789012345678901234567890123456789012345678901234567890: must be at most" \
        data pack --split documents --separator 012345678901234567890123456789012345678901234567890123456789012345678901234567890 -o a.taut a.txt
    refused "--delimiter=;;: must be one character, or \\t" data pack --delimiter ";;" -o a.taut a.csv
    refused "must be one character, or \\t" data pack --delimiter "$(printf '\tx')" -o a.taut a.csv
    refused "--block and --random both say how large blocks are" data index --block 4096 --random a.txt
    refused "--block=100: must be 0, or 256 to 1G" data index --block 100 a.txt
    refused "missing operand; expected: SHARD..." data info
    refused "-o P.plan is missing" data plan full a.taut
    refused "--validation SHARDS is missing" data compare a.taut
    refused "--train-option=steps: must be NAME=VALUE" data compare --validation v.taut --train-option steps a.taut
    (cd "$dir" && "$taut" data pack -o a.taut a.txt >/dev/null) || fail "data pack"
    refused "--samples=3:2: must be N, or FROM:TO with FROM < TO, within 0.." data cat --samples 3:2 a.taut
    refused "--samples=all: must be N, or FROM:TO" data cat --samples all a.taut
    refused "--json and the samples both go to stdout: give -o FILE" data cat --json a.taut
    refused "--field=nothing: no such field; fields are text" data cat --field nothing a.taut
else skip "built without shards"; fi
if [ "${LONG:-0}" != 0 ] && [ -x "$BUILD/libexec/taut-train" ]; then
    seq 3000 >"$dir/a.txt"
    refused "--layer-codec=fc: must be PATTERN=SPEC" train --data a.txt --layer-codec fc
    refused "--scale=element: sgd divides by nothing: must be none or auto with --optimizer sgd" train --data a.txt --optimizer sgd --scale element
    refused "--metric=optimizer: needs the optimizer's scale" train --data a.txt --optimizer sgd --metric optimizer
    refused "--basis=momentum: needs one: --optimizer adam or adamw, or --momentum above 0" train --data a.txt --optimizer sgd --momentum 0 --basis momentum --steps 1
    refused "need --data with shards, files *.taut" train --data a.txt --plan P.plan
    refused "--log a.txt: is a.txt, which is read" train --data a.txt --log a.txt
    refused "--checkpoint ./a.txt: is a.txt, which is read" train --data a.txt --checkpoint ./a.txt
    mkdir "$dir/texts" "$dir/shards" && cp "$dir/a.txt" "$dir/texts/" && ln -s texts "$dir/same"
    refused "--log same/run.jsonl: lies in texts, whose files are read: name another folder" train --data texts --log same/run.jsonl
    refused "--checkpoint texts/c: lies in texts" train --data texts --checkpoint texts/c
    (cd "$dir" && "$taut" train --data texts --log texts/.run --steps 1 --dim 16 --blocks 1 --heads 1 --ctx 16 --codec none >.out 2>&1) && pass || fail "a log that is not read with the texts: $(tail -n 2 "$dir/.out")"
    if [ -e "$dir/a.taut" ]; then
        cp "$dir/a.taut" "$dir/shards/"
        refused "--log shards/b.taut: lies in shards" train --data shards --log shards/b.taut
        refused "--log shards/b.taut: lies in shards" train --data a.taut --validation shards --log shards/b.taut
        (cd "$dir" && "$taut" train --data shards --log shards/run --steps 1 --batch 1 --dim 16 --blocks 1 --heads 1 --ctx 16 --codec none >.out 2>&1) && pass || fail "a log beside shards: $(tail -n 2 "$dir/.out")"
    fi
    refused "--resume: needs --checkpoint FILE to resume from" train --data a.txt --resume
    refused "--compare: not together with --checkpoint: one file, two runs" train --data a.txt --compare none --checkpoint c
fi
finish
