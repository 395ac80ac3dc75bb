#!/bin/sh
# What users type: encode and decode with every codec, benches, bad input. Sizes and errors that the commands report are
# recomputed here by a program that shares no code with them.
# It mostly waits.
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
TRACES=${TRACES:-../shared/traces}
MPIRUN=${MPIRUN:-mpirun}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
. tests/support/shell.sh

field() { sed -n "\$s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2"; } # field NAME FILE: of the last line's JSON
close_to() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= 1e-6 * (b < 0 ? -b : b) + 1e-30) }'; }

# ---- helper: gen N FILE, err A B (relative squared error in float64), flip FILE BYTE ----
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
    if (argc == 4 && !strcmp(argv[1], "gen")) {
        FILE *f = fopen(argv[3], "wb");
        for (long i = 0; i < atol(argv[2]); i++) {
            float v = (float)(sin((double)i * 1.7) * exp(3 * cos((double)i * 0.01)) * 1e-3);
            fwrite(&v, 4, 1, f);
        }
        return fclose(f);
    }
    if (argc == 4 && !strcmp(argv[1], "err")) {
        long   n, m;
        float *x = load(argv[2], &n), *y = load(argv[3], &m);
        double e = 0, s = 0;
        if (n != m) return 4;
        for (long i = 0; i < n; i++) {
            e += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
            s += (double)x[i] * x[i];
        }
        return printf("%.9g\n", e == 0 ? 0 : e / s) < 0;
    }
    if (argc == 4 && !strcmp(argv[1], "flip")) {
        FILE *f = fopen(argv[2], "r+b");
        int   c;
        fseek(f, atol(argv[3]), SEEK_SET);
        c = fgetc(f);
        fseek(f, atol(argv[3]), SEEK_SET);
        fputc(c ^ 0x10, f);
        return fclose(f);
    }
    return 2;
}
C
${CC:-cc} -std=c11 -O1 -o "$dir/helper" "$dir/helper.c" -lm || { echo "0 passed, 1 failed"; exit 1; }
helper=$dir/helper

# ---- encode, decode, every codec: file size and error are what --json says ----
round_trip() { # round_trip FILE SHAPE CODEC
    rm -f "$dir/a.taut" "$dir/b.f32"
    if ! "$TAUT" encode --codec "$3" --shape "$2" --json "$1" "$dir/a.taut" >"$dir/out" 2>&1 ||
        ! "$TAUT" decode "$dir/a.taut" "$dir/b.f32" >>"$dir/log" 2>&1; then
        fail "encode/decode $3 of $1: $(cat "$dir/out")"
        return
    fi
    size=$(wc -c <"$dir/a.taut")
    n=$(($(wc -c <"$1") / 4))
    err=$("$helper" err "$1" "$dir/b.f32")
    if [ "$(field bytes "$dir/out")" != "$size" ] || [ "$(field n "$dir/out")" != "$n" ]; then
        fail "$3: json says $(field n "$dir/out") floats, $(field bytes "$dir/out") bytes; the files have $n and $size"
    elif ! close_to "$(field bits_per_element "$dir/out")" "$(awk "BEGIN{printf \"%.9g\", 8*$size/$n}")"; then
        fail "$3: bits_per_element $(field bits_per_element "$dir/out")"
    elif ! close_to "$(field rel_err2 "$dir/out")" "$err"; then
        fail "$3: json says rel_err2 $(field rel_err2 "$dir/out"), recomputed $err"
    else
        pass
    fi
}
codecs='none fp16 bf16 quant:bits=1 quant:bits=4 quant:bits=8 quant:bits=3,bucket=64,norm=l2,round=nearest
    quant:bits=4,norm=linf grid:rel=0.03 grid:rel=0.001,code=rans topk:density=0.01 topk:density=1 randk:density=0.1
    powersgd:rank=4 stack:topk:density=0.01+quant:bits=2'
"$helper" gen 12288 "$dir/small.f32"
for c in $codecs; do round_trip "$dir/small.f32" 96x128 "$c"; done
"$helper" gen 1 "$dir/one.f32"
for c in none fp16 quant:bits=4 grid:rel=0.03 topk:density=0.01; do round_trip "$dir/one.f32" 1 "$c"; done
trace=$TRACES/gpt-step400-rank0.f32
if [ ! -f "$trace" ]; then # not shipped with the sources: as uneven, made here
    trace=$dir/uneven.f32
    "$helper" gen 818176 "$trace"
fi
for c in $codecs; do round_trip "$trace" 1024x799 "$c"; done
"$TAUT" encode --codec quant:bits=4 --json "$trace" "$dir/a.taut" >"$dir/out"
bits=$(field bits_per_element "$dir/out")
if awk "BEGIN{exit !($bits > 4 && $bits <= 4.14)}"; then pass; else fail "quant:bits=4 takes $bits bits per element"; fi

# pipes carry the same bytes
"$TAUT" encode --codec quant:bits=4 "$dir/small.f32" "$dir/a.taut" >/dev/null
"$TAUT" encode --codec quant:bits=4 - - <"$dir/small.f32" 2>/dev/null | cmp -s - "$dir/a.taut" && pass || fail "encode - -"
"$TAUT" decode "$dir/a.taut" "$dir/b.f32" >/dev/null
"$TAUT" decode - - <"$dir/a.taut" 2>/dev/null | cmp -s - "$dir/b.f32" && pass || fail "decode - -"

# OUT is replaced only when complete: a link stays a link, a mode stays what it was
mode() { stat -c %a "$1"; }
mkdir "$dir/real"
printf old >"$dir/real/target"
chmod 600 "$dir/real/target"
ln -s real/target "$dir/link"
ln -s "$dir/link" "$dir/link2"
ln -s nothing-yet "$dir/real/dangling"
for l in "$dir/link" "$dir/link2" "$dir/real/dangling"; do
    "$TAUT" encode --codec quant:bits=4 "$dir/small.f32" "$l" >/dev/null
    if [ -L "$l" ] && cmp -s "$l" "$dir/a.taut"; then pass; else fail "encode replaced the link $l"; fi
done
if [ "$(mode "$dir/real/target")" = 600 ]; then pass; else fail "encode made 600 $(mode "$dir/real/target")"; fi
[ -e "$dir/real/nothing-yet" ] && pass || fail "encode into a dangling link made no file where it points"
chmod 640 "$dir/b.f32"
"$TAUT" decode "$dir/a.taut" "$dir/b.f32" >/dev/null
[ "$(mode "$dir/b.f32")" = 640 ] && pass || fail "decode made 640 $(mode "$dir/b.f32")"
(umask 027 && "$TAUT" encode --codec none "$dir/small.f32" "$dir/new.taut" >/dev/null)
[ "$(mode "$dir/new.taut")" = 640 ] && pass || fail "a new file under umask 027 has mode $(mode "$dir/new.taut")"

# what was printed and did not arrive is a failure
if [ -c /dev/full ]; then
    for s in "info" "info --json" "--help" "--version" "bench codec --n 4K --seconds 0 --json" "encode --help"; do
        # shellcheck disable=SC2086
        "$TAUT" $s >/dev/full 2>"$dir/out"
        rc=$?
        if [ $rc -eq 1 ] && grep -q "standard output: " "$dir/out"; then pass; else fail "taut $s on a full disk: exit $rc: $(cat "$dir/out")"; fi
    done
fi

# ---- bad input: exit code, and what the message must name ----
bad() { # bad CODE 'WORDS|MORE WORDS' COMMAND...: all the words, separated by |, are in the message; nothing is written
    code=$1 words=$2
    shift 2
    rm -f "$dir/x.out"
    "$@" >"$dir/out" 2>&1
    rc=$?
    [ "$rc" -eq "$code" ] || { fail "exit $rc, not $code: $*: $(head -n 3 "$dir/out")"; return; }
    [ ! -e "$dir/x.out" ] || { fail "wrote a file: $*"; return; }
    echo "$words" | tr '|' '\n' >"$dir/words"
    while read -r w; do
        grep -qF -- "$w" "$dir/out" || { echo "$w"; break; }
    done <"$dir/words" >"$dir/missing"
    if [ -s "$dir/missing" ]; then fail "no '$(cat "$dir/missing")' in: $*: $(head -n 3 "$dir/out")"; else pass; fi
}
enc() { code=$1 words=$2 spec=$3; bad "$code" "$words" "$TAUT" encode --codec "$spec" "$dir/small.f32" "$dir/x.out"; }
enc 2 'bits|0|1..8' quant:bits=0
enc 2 'bits|9|1..8' quant:bits=9
enc 2 'bits|1..8' quant:bits=four
enc 2 'bucket' quant:bucket=63
enc 2 'round|stochastic' quant:round=up
enc 2 'density|0' topk:density=0
enc 2 'density|1.5' topk:density=1.5
enc 2 'density|nan' topk:density=nan
enc 2 'step' grid:step=0
enc 2 'step' grid:step=-1
enc 2 'step' grid:step=nan
enc 2 'quanty' quanty:bits=4
enc 2 'bitz' quant:bitz=4
enc 2 'quant' quant:
enc 2 '' ''
bad 1 'rank|97|96' "$TAUT" encode --codec powersgd:rank=97 --shape 96x128 "$dir/small.f32" "$dir/x.out"
bad 1 'powersgd' "$TAUT" encode --codec powersgd:rank=4 "$dir/small.f32" "$dir/x.out"
bad 2 '96x129|12288' "$TAUT" encode --codec none --shape 96x129 "$dir/small.f32" "$dir/x.out"
bad 2 '--codec is missing' "$TAUT" encode "$dir/small.f32" "$dir/x.out"
bad 2 'operand' "$TAUT" encode --codec none "$dir/small.f32"
bad 2 '--codek|--codec' "$TAUT" encode --codek none "$dir/small.f32" "$dir/x.out"
bad 1 'nowhere.f32|No such file' "$TAUT" encode --codec none "$dir/nowhere.f32" "$dir/x.out"
bad 1 'no-such-dir' "$TAUT" encode --codec none "$dir/small.f32" "$dir/no-such-dir/x.out"
bad 1 'directory' "$TAUT" encode --codec none "$dir" "$dir/x.out"
printf 12345 >"$dir/five"
: >"$dir/empty"
bad 1 '5 bytes|multiple of 4' "$TAUT" encode --codec none "$dir/five" "$dir/x.out"
bad 1 'empty' "$TAUT" encode --codec none "$dir/empty" "$dir/x.out"
bad 1 'nowhere.taut' "$TAUT" decode "$dir/nowhere.taut" "$dir/x.out"
bad 1 'TAUT_E_CORRUPT' "$TAUT" decode "$dir/empty" "$dir/x.out"
bad 1 'TAUT_E_CORRUPT' "$TAUT" decode "$dir/small.f32" "$dir/x.out"
for c in none quant:bits=4 grid:rel=0.03 topk:density=0.01; do
    "$TAUT" encode --codec $c "$dir/small.f32" "$dir/a.taut" >/dev/null
    size=$(wc -c <"$dir/a.taut")
    for keep in 1 31 32 $((size - 1)); do
        head -c "$keep" "$dir/a.taut" >"$dir/cut.taut"
        bad 1 'TAUT_E_CORRUPT' "$TAUT" decode "$dir/cut.taut" "$dir/x.out"
    done
    for at in 0 9 17 25 32 $((size - 1)); do
        cp "$dir/a.taut" "$dir/flip.taut"
        "$helper" flip "$dir/flip.taut" "$at"
        bad 1 'TAUT_E_CORRUPT' "$TAUT" decode "$dir/flip.taut" "$dir/x.out"
    done
    cp "$dir/a.taut" "$dir/flip.taut"
    "$helper" flip "$dir/flip.taut" 4
    bad 1 'TAUT_E_VERSION' "$TAUT" decode "$dir/flip.taut" "$dir/x.out"
    { cat "$dir/a.taut"; echo; } >"$dir/long.taut"
    bad 1 'after the frame' "$TAUT" decode "$dir/long.taut" "$dir/x.out"
done
bad 2 "inof|did you mean 'info'|taut encode" "$TAUT" inof
bad 2 "bench codek|did you mean 'bench codec'" "$TAUT" bench codek
bad 1 'nowhere' "$TAUT" bench codec --input "$dir/nowhere.f32"
bad 1 'equal=none|error of 0' "$TAUT" bench codec --n 4K --equal none
bad 2 'auto' "$TAUT" bench codec --codec auto --n 4K
bad 2 '--seconds=-1' "$TAUT" bench codec --seconds -1

# ---- help: every subcommand has it ----
for s in info encode decode "bench codec" "bench allreduce" plan; do
    { [ "$s" = plan ] && $TAUT help $s || $TAUT $s --help; } >"$dir/out" 2>&1 && grep -q "^usage: taut $s" "$dir/out" && pass || fail "taut $s --help: $(cat "$dir/out")"
done

# ---- benches ----
"$TAUT" bench codec --n 64K --seconds 0 --json >"$dir/out" 2>&1 || fail "bench codec: $(tail -n 3 "$dir/out")"
for f in codec n bytes bits_per_element rel_err2 encode_gbps decode_gbps memcpy_gbps isa; do
    grep -q "\"$f\": " "$dir/out" && pass || fail "bench codec: no field $f"
done
"$TAUT" bench codec --n 64K --sweep --csv >"$dir/out" 2>&1 && [ "$(wc -l <"$dir/out")" -gt 60 ] && pass ||
    fail "bench codec --sweep: $(tail -n 3 "$dir/out")"

# 1009 elements make no matrix, 65 a small one: what does not suit is left out of a selection that nobody typed
for args in "--n 1009" "--n 65 --sweep --csv"; do
    # shellcheck disable=SC2086
    "$TAUT" bench codec --seconds 0 $args >"$dir/out" 2>&1 && grep -q '^quant' "$dir/out" && pass || fail "bench codec $args: $(tail -n 1 "$dir/out")"
done

if ! command -v "$MPIRUN" >/dev/null 2>&1 || ! "$TAUT" info --json | grep -q '"mpi": true'; then
    skip "built without MPI: bench allreduce"
    finish
fi
"$TAUT" info | grep -qE '^MPI +(Open MPI|MPICH)' && pass || fail "taut info does not name the MPI: $("$TAUT" info | grep ^MPI)"
all_ranks() { # all_ranks RANKS ARGS...: every result is identical on all ranks
    ranks=$1
    shift
    timeout $((120 * slow)) "$MPIRUN" -n "$ranks" "$TAUT" bench allreduce --json "$@" >"$dir/out" 2>&1 ||
        { fail "bench allreduce, $ranks ranks, $*: $(tail -n 3 "$dir/out")"; return; }
    results=$(tail -n 1 "$dir/out" | grep -o '"bit_identical": [a-z]*' | wc -l)
    equal=$(tail -n 1 "$dir/out" | grep -o '"bit_identical": true' | wc -l)
    if [ "$results" -gt 0 ] && [ "$results" -eq "$equal" ]; then pass; else fail "$ranks ranks, $*: $equal of $results identical"; fi
}
all_ranks 3 --all --sizes 20:64K:3276 --repeat 3 # 5 elements make no matrix
for f in codec ranks bytes algorithm median_ms native_ms wire_bytes_per_rank rel_err2 bit_identical; do
    grep -q "\"$f\": " "$dir/out" && pass || fail "bench allreduce: no field $f"
done
all_ranks 1 --sizes 4K:4K --repeat 3
all_ranks 4 --sizes 4:4 --repeat 3 --codec none --codec quant:bits=4 # one element, four ranks
all_ranks 2 --sizes 20000:20000 --repeat 3 --algorithm ring --codec quant:bits=4 --feedback on
# regret: auto, MPI_Allreduce and the fixed settings of each size; the best one keeps the budget, and the last line adds up
for ranks in 1 2; do
    timeout $((120 * slow)) "$MPIRUN" -n $ranks "$TAUT" bench allreduce --regret --sizes 16K:64K:4 --repeat 5 --seconds 0 --json >"$dir/out" 2>&1 ||
        fail "bench allreduce --regret, $ranks ranks: $(tail -n 3 "$dir/out")"
    for f in codec within_budget median_ms auto_ms auto_codec best best_ms regret regret_median regret_worst; do
        tail -n 1 "$dir/out" | grep -q "\"$f\": " && pass || fail "bench allreduce --regret: no field $f"
    done
    [ "$(tail -n 1 "$dir/out" | grep -o '"codec": "MPI_Allreduce"' | wc -l)" -eq 2 ] && [ "$(grep -c '^regret [0-9]* bytes' "$dir/out")" -eq 2 ] && pass ||
        fail "bench allreduce --regret, $ranks ranks: $(grep '^regret' "$dir/out")"
done
# what scripts that read osu_allreduce do: skip comments, take columns, look for one size
# a GPU that is not there, or NCCL, is said by rank 0, once
for args in '--device cuda' '--device cuda:0 --nccl'; do
    timeout $((120 * slow)) "$MPIRUN" -n 2 "$TAUT" bench allreduce $args --sizes 64K:64K --repeat 1 >"$dir/out" 2>&1
    rc=$?
    if [ "$(nvidia-smi -L 2>/dev/null | wc -l)" -gt 0 ]; then skip "there is a GPU: bench allreduce $args is for make check-gpu"
    elif [ $rc -ne 0 ] && [ "$(grep -c 'space CUDA cannot be used' "$dir/out")" = 1 ]; then pass
    else fail "bench allreduce $args: exit $rc: $(tail -n 3 "$dir/out")"; fi
done
osu() { timeout $((120 * slow)) "$MPIRUN" -n 2 "$TAUT" bench allreduce --sizes 4:64K:16 --repeat 3 --warmup 1 "$@" >"$dir/out" 2>&1 || fail "bench allreduce $*: $(tail -n 3 "$dir/out")"; }
osu --format osu
[ "$(grep -v '^#' "$dir/out" | awk 'NF == 2 && $1 + 0 == $1 && $2 > 0 { print $1 }' | tr '\n' ' ')" = "4 64 1024 16384 " ] && pass || fail "--format osu: $(cat "$dir/out")"
python3 - "$dir/out" <<'PY' && pass || fail "--format osu: not found by a regular expression"
import re, sys
text = open(sys.argv[1]).read()
assert re.search(r"^# OSU MPI Allreduce Latency Test", text, re.M) and re.search(r"^# Size\s+Avg Latency\(us\)\s*$", text, re.M)
assert float(re.search(r"^1024\s+(\S+)", text, re.M).group(1)) > 0
PY
osu --format osu-full --codec none --codec quant:bits=4
[ "$(awk '!/^#/ && NF == 5 && $3 <= $2 && $2 <= $4 && $5 == 3' "$dir/out" | wc -l)" -eq 8 ] && [ "$(grep -c '^# Size .*Iterations$' "$dir/out")" -eq 2 ] && pass ||
    fail "--format osu-full: $(cat "$dir/out")"
bad_ranks() { # bad_ranks CODE WORDS ARGUMENTS...: a message on some rank, no hang
    code=$1 words=$2
    shift 2
    timeout $((60 * slow)) "$MPIRUN" -n 2 "$TAUT" bench allreduce "$@" >"$dir/out" 2>&1
    rc=$?
    if [ $rc -ne $code ] || ! grep -qF -- "$words" "$dir/out"; then
        fail "exit $rc, not $code, or no '$words': bench allreduce $*: $(head -n 3 "$dir/out")"
    else
        pass
    fi
}
bad_ranks 2 '1..8' --codec quant:bits=9
bad_ranks 2 'quanty' --codec quanty
bad_ranks 1 'nowhere' --input "$dir/nowhere.f32"
bad_ranks 2 "budget 'foo'" --budget foo
bad_ranks 2 'somehow' --algorithm somehow
bad_ranks 2 '--sizes=4M:1M' --sizes 4M:1M
bad_ranks 2 'table|osu|osu-full' --format ocu
bad_ranks 2 'cuda or cuda:N' --device cuda:first
bad_ranks 2 '--format=osu' --format osu --json

# every rank ends by itself with an error, not because mpirun kills it
cat >"$dir/each" <<'SH'
#!/bin/sh
codes=$1; shift
"$@"
echo $? >>"$codes"
SH
chmod +x "$dir/each"
each() { # each WORDS ARGUMENTS...: three ranks
    words=$1
    shift
    rm -f "$dir/codes"
    timeout $((60 * slow)) "$MPIRUN" -n 3 "$dir/each" "$dir/codes" "$TAUT" bench allreduce "$@" >"$dir/out" 2>&1
    if [ "$(grep -c '^[12]$' "$dir/codes")" -ne 3 ] || ! grep -qF -- "$words" "$dir/out"; then
        fail "exit codes '$(tr '\n' ' ' <"$dir/codes")', or no '$words': $*: $(head -n 3 "$dir/out")"
    else
        pass
    fi
}
each 'bits=0: must be an integer 1..8' --codec quant:bits=0
each 'density=1.5: must be a number above 0 and at most 1' --codec topk:density=1.5
each 'rank=200: must be 1..128' --codec powersgd:rank=200 --sizes 64K:64K
each 'empty' --input "$dir/empty" --codec none

# settings that are no settings
env_bench() { env "$1" timeout $((60 * slow)) "$MPIRUN" -n 2 "$TAUT" bench allreduce --sizes 64K:64K --repeat 3 --codec none >"$dir/out" 2>&1; }
env_bench TAUT_LOG=bogus && fail "TAUT_LOG=bogus: exit 0"
grep -q 'TAUT_LOG=bogus: must be one of error|warn|info|debug|trace' "$dir/out" && pass || fail "TAUT_LOG=bogus: $(head -n 3 "$dir/out")"
for v in TAUT_CODEK:TAUT_CODEC TAUT_BUGDET:TAUT_BUDGET TAUT_TIMEOUT:TAUT_TIMEOUT_MS; do
    env_bench "${v%:*}=1" || fail "${v%:*}: $(head -n 3 "$dir/out")"
    grep -q "${v%:*} is no setting: did you mean ${v#*:}" "$dir/out" && pass || fail "${v%:*}: $(head -n 3 "$dir/out")"
done
env_bench TAUT_WEATHER=fine
grep -q "TAUT_WEATHER is no setting; " "$dir/out" && pass || fail "TAUT_WEATHER: $(head -n 3 "$dir/out")"

# ... also of what makes no communicator
for c in "encode --codec none $dir/in.f32 $dir/o.taut" "decode $dir/o.taut $dir/o.f32" "bench codec --n 1000 --codec none" "plan --trace $dir/t.json" "report $dir/run.jsonl -o $dir/r.html" "data info $dir/t.taut"; do
    # shellcheck disable=SC2086
    TAUT_LOG=bogus "$TAUT" $c >"$dir/out" 2>&1
    [ $? -eq 2 ] && grep -q 'TAUT_LOG=bogus: must be one of error' "$dir/out" && pass || fail "TAUT_LOG=bogus $c: $(head -n 3 "$dir/out")"
done
TAUT_CODEK=none "$TAUT" bench codec --n 1000 --codec none >/dev/null 2>"$dir/out"
[ $? -eq 0 ] && grep -q 'TAUT_CODEK is no setting: did you mean TAUT_CODEC' "$dir/out" && pass || fail "TAUT_CODEK=none bench codec: $(head -n 3 "$dir/out")"

finish
