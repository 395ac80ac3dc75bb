#!/bin/sh
# `taut plan`: the plan's error, recomputed by encoding, decoding and subtracting with other programs, is within the budget;
# record and replay; layers that are small or silent; bad input.
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
. tests/support/shell.sh

field() { sed -n "\$s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2"; } # field NAME FILE: of the last line's JSON
is() { if awk "BEGIN{exit !($1)}"; then pass; else fail "$2: $1"; fi; }

# ---- helper: gen SCALE FILE N...: layers of N floats, negative N: zeros; cut FILE OFFSET N OUT; diff A B: squared error ----
cat >"$dir/helper.c" <<'C'
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static float *load(const char *path, long *n)
{
    FILE  *f = fopen(path, "rb");
    float *x;
    if (!f) exit(3);
    fseek(f, 0, SEEK_END);
    *n = ftell(f) / 4;
    rewind(f);
    x = malloc(4 * (size_t)*n + 4);
    if (fread(x, 4, (size_t)*n, f) != (size_t)*n) exit(3);
    fclose(f);
    return x;
}
int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "gen")) {
        FILE *f = fopen(argv[3], "wb");
        for (int a = 4; a < argc; a++)
            for (long i = 0, n = atol(argv[a]); i < labs(n); i++) {
                double t = (double)i * 0.731 * atof(argv[2]) + a;
                float  v = n < 0 ? 0 : (float)(a * a * sin(t * t) * exp(2 * sin((double)i * 0.013 + a)));
                fwrite(&v, 4, 1, f);
            }
        return fclose(f);
    }
    if (argc == 6 && !strcmp(argv[1], "cut")) {
        long   n;
        float *x = load(argv[2], &n);
        FILE  *f = fopen(argv[5], "wb");
        fwrite(x + atol(argv[3]), 4, (size_t)atol(argv[4]), f);
        return fclose(f);
    }
    if (argc == 4 && !strcmp(argv[1], "diff")) {
        long   n, m;
        float *x = load(argv[2], &n), *y = load(argv[3], &m);
        double e = 0;
        for (long i = 0; i < n && n == m; i++) e += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        return printf("%.12g\n", n == m ? e : -1) < 0;
    }
    return 2;
}
C
${CC:-cc} -std=c11 -O1 -o "$dir/helper" "$dir/helper.c" -lm || { echo "0 passed, 1 failed"; exit 1; }
helper=$dir/helper

# ---- a trace: three matrices, one of them silent, and a bias ----
cat >"$dir/t.json" <<'J'
{"floats": 15424, "layers": [
 {"name": "w1", "shape": [64, 64], "offset": 0}, {"name": "bias", "shape": [64], "offset": 4096},
 {"name": "silent", "shape": [32, 96], "offset": 4160}, {"name": "w2", "shape": [128, 64], "offset": 7232}],
 "files": ["t-step7-rank0.f32", "t-step7-rank1.f32"]}
J
"$helper" gen 1.0 "$dir/t-step7-rank0.f32" 4096 64 -3072 8192
"$helper" gen 1.1 "$dir/t-step7-rank1.f32" 4096 64 -3072 8192
plan() { "$TAUT" plan --trace "$dir/t.json" --metric plain --objective bytes --json "$@" >"$dir/out" 2>"$dir/err"; }

# squared error of a plan in $dir/out, by `taut encode` and `taut decode` of every layer of every file
recompute() {
    sed -n '$p' "$dir/out" | tr '{' '\n' |
        sed -n 's/.*"name": *"\([^"]*\)", *"elements": *\([0-9]*\), *"codec": *"\([^"]*\)".*/\1 \3/p' >"$dir/layers"
    total=0
    while read -r name codec; do
        case $name in
        w1) at=0 n=4096 shape=64x64 ;; bias) at=4096 n=64 shape=64 ;;
        silent) at=4160 n=3072 shape=32x96 ;; w2) at=7232 n=8192 shape=128x64 ;;
        esac
        for r in 0 1; do
            "$helper" cut "$dir/t-step7-rank$r.f32" $at $n "$dir/x.f32"
            "$TAUT" encode --codec "$codec" --shape $shape --seed $((1 + r)) "$dir/x.f32" "$dir/x.taut" >/dev/null &&
                "$TAUT" decode "$dir/x.taut" "$dir/y.f32" >/dev/null || fail "cannot encode $name with $codec"
            total=$(awk "BEGIN{printf \"%.12g\", $total + $("$helper" diff "$dir/x.f32" "$dir/y.f32")}")
        done
    done <"$dir/layers"
}

# the budget like:quant:bits=4, from the same programs
reference=0
for part in "0 4096 64x64" "7232 8192 128x64"; do
    set -- $part
    for r in 0 1; do
        "$helper" cut "$dir/t-step7-rank$r.f32" "$1" "$2" "$dir/x.f32"
        "$TAUT" encode --codec quant:bits=4 --shape "$3" --seed $((1 + r)) "$dir/x.f32" "$dir/x.taut" >/dev/null
        "$TAUT" decode "$dir/x.taut" "$dir/y.f32" >/dev/null
        reference=$(awk "BEGIN{printf \"%.12g\", $reference + $("$helper" diff "$dir/x.f32" "$dir/y.f32")}")
    done
done

for families in quant grid powersgd,half topk all; do
    for solver in hull dp; do
        if plan --budget like:quant:bits=4 --families $families --solver $solver; then
            recompute
            is "$total <= $reference * 1.000001" "$families, $solver: recomputed error within the budget"
            is "$(field rel_err2 "$dir/out") <= $(field budget "$dir/out")" "$families, $solver: reported error"
        else
            fail "$families, $solver: $(cat "$dir/err")"
        fi
    done
done

plan --budget like:quant:bits=4 --families quant
is "$(field bytes "$dir/out") < 4 * 15424 / 5" "fewer bytes"
grep -q '"reason": *"small or one-dimensional"' "$dir/out" && pass || fail "bias: no reason"
grep -q '"reason": *"no gradient"' "$dir/out" && pass || fail "silent: no reason"

# ---- record and replay: the same plan, bit for bit ----
plan --budget rel=0.05 --objective time --ranks 8 --record "$dir/r.json" && cp "$dir/out" "$dir/first"
"$TAUT" plan --replay "$dir/r.json" --objective time --ranks 8 --json >"$dir/out" 2>&1
cmp -s "$dir/out" "$dir/first" && pass || fail "replay differs"

# ---- a budget that nothing but none meets ----
plan --budget rel=1e-13 --families quant,half
grep -q 'tighter than fp16' "$dir/out" && pass || fail "rel=1e-13 does not say that it is tighter than fp16"
is "$(field rel_err2 "$dir/out") == 0" "rel=1e-13: all uncompressed"

# ---- what the reference's keys contradict is no candidate; the gap says something on slow links, too ----
plan --budget like:quant:bits=2,zero=1 --families quant
grep -q 'bits=1[^"]*zero=1' "$dir/out" && fail "bits=1 with zero=1 in a plan" || pass
plan --budget rel=0.05 --objective time --link 100kbit
is "$(field gap "$dir/out") < 0.2" "gap at 100 kbit/s"

# ---- objective time: a fast link is left alone ----
plan --budget rel=0.05 --objective time --link shm
grep -q 'does not pay' "$dir/out" && pass || fail "shm: compresses"
plan --break-even && grep -q 'Break-even' "$dir/out" && grep -q '"break_even"' "$dir/out" && pass || fail "break-even"

# ---- bad input ----
bad() { # bad CODE WORDS ARGUMENTS...
    code=$1 words=$2
    shift 2
    "$TAUT" plan "$@" >"$dir/out" 2>&1
    rc=$?
    if [ "$rc" -ne "$code" ]; then fail "exit $rc, not $code: $*: $(cat "$dir/out")"
    elif ! grep -qF -- "$words" "$dir/out"; then fail "no '$words' in: $*: $(cat "$dir/out")"
    else pass; fi
}
t=$dir/t.json
for b in rel=0 rel=-1 rel=1 rel=x nonsense like: 0.1; do bad 2 "0 < X < 1" --trace "$t" --budget $b; done
bad 2 "quant: bits=9" --trace "$t" --budget like:quant:bits=9
bad 2 "makes an error" --trace "$t" --budget like:none
bad 2 "half, quant, topk, powersgd, grid or all" --trace "$t" --families zip
bad 2 "must be shm or a bandwidth" --trace "$t" --link fast
bad 2 "--trace FILE.json or --replay" --budget rel=0.1
bad 2 "--trace FILE.json or --replay" --trace "$t" --replay "$dir/r.json"
bad 1 "none of its 2 files" --trace "$t" --files step8
bad 1 "unable to open $dir/nowhere.json: No such file or directory" --trace "$dir/nowhere.json"
grep -q 'line' "$dir/out" && fail "a line of a file that is not there" || pass
bad 2 "which is read: name another" --trace "$t" --record "$t"
bad 1 "--record /nowhere/r.json: cannot be written" --trace "$t" --record /nowhere/r.json
sed 's/15424/15425/' "$t" >"$dir/u.json"
bad 1 '"floats" says 15425' --trace "$dir/u.json"
sed 's/"offset": 4160/"offset": 4161/' "$t" >"$dir/u.json"
bad 1 "offset 4161: must be 4160" --trace "$dir/u.json"
head -c 1000 "$dir/t-step7-rank0.f32" >"$dir/short.f32"
sed 's/t-step7-rank1/short/' "$t" >"$dir/u.json"
bad 1 "has 250 floats" --trace "$dir/u.json"
sed 's/"version": 2/"version": 99/' "$dir/r.json" >"$dir/old.json"
bad 1 "version 99" --replay "$dir/old.json"
sed 's/taut-statistics/something/' "$dir/r.json" >"$dir/old.json"
bad 1 "taut-statistics" --replay "$dir/old.json"
sed 's/"error": /"error": -/' "$dir/r.json" >"$dir/old.json"
bad 1 "layer 0: must have" --replay "$dir/old.json"
for n in 4294967297 0 1.5 '"2"'; do
    sed "s/\"ranks\": 2,/\"ranks\": $n,/" "$dir/r.json" >"$dir/old.json"
    bad 1 '"ranks" is missing or out of range' --replay "$dir/old.json"
done
sed 's/"vias": [0-9]*/"vias": 4294967297/' "$dir/r.json" >"$dir/old.json"
bad 1 "layer 0: must have" --replay "$dir/old.json"
sed 's/"vias": [0-9]*/"vias": 16/' "$dir/r.json" >"$dir/old.json"
bad 1 "layer 'w1': no algorithm carries any of its" --replay "$dir/old.json"
sed 's/"error": [0-9.e+-]*/"error": 1e200/' "$dir/r.json" >"$dir/old.json"
"$TAUT" plan --replay "$dir/old.json" --json >"$dir/out" 2>&1
grep -q '"feasible": false' "$dir/out" && pass || fail "a plan of 1e200 meets the budget"
sed 's/"version": 2/"version": 2, "ranks": 8/' "$dir/r.json" >"$dir/old.json"
bad 1 "duplicate object key" --replay "$dir/old.json"
# files are shorter than what a trace says: no memory is taken for that
printf '{"floats": 1000000000000, "layers": [{"name": "a", "shape": [1000000000000], "offset": 0}], "files": ["short.f32"]}' >"$dir/u.json"
bad 1 "has 250 floats" --trace "$dir/u.json"
sed 's/\[64, 64\]/[64, 64.0]/' "$t" >"$dir/u.json"
bad 1 "layer w1: shape[1]: must be a whole number" --trace "$dir/u.json"
# lengths whose sum is 4 again, beyond 64 bits
printf '{"floats": 4, "layers": [{"name": "a", "shape": [4611686018427387904], "offset": 0}, {"name": "b", "shape": [4, 3458764513820540929], "offset": 4611686018427387904}], "files": []}' >"$dir/u.json"
bad 1 "layer a: has 4611686018427387904 floats" --trace "$dir/u.json"
for l in 0gbit 1e-320gbit 1e12gbit 999bit 0.5kbit; do bad 2 "1kbit to 1000000gbit" --trace "$t" --link $l; done
echo '{' >"$dir/u.json"
bad 1 "u.json" --trace "$dir/u.json"
finish
