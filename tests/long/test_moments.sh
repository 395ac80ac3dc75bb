#!/bin/bash
# test_moments.sh : ranks that are killed, stopped, or cut off from the network at random moments, on 2, 3 and 4 ranks, each codec family in turn.
# Every survivor says so within the timeout and two seconds, none hangs, and no sum that was handed out is wrong: it is compared, bit for
# bit, with that of a run to which nothing happened. MOMENTS of each kind (30), SEED. Cutting off needs root and launch/lab; run alone.
# WRAP (): a command before launch/lab, as in WRAP='flock /tmp/lab'.
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
STEPS=$BUILD/tests/bench/steps_mpi
moments=${MOMENTS:-$([ "${LONG:-0}" = 1 ] && echo 30 || echo 3)}
seed=${SEED:-$(date +%N | sed 's/^0*//')}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
passed=0 failed=0 skipped=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
if [ ! -x "$STEPS" ] || ! mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    echo "SKIP no $STEPS, or mpirun is not Open MPI's"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export TAUT_TIMEOUT_MS=2000 LAB_NAME=tautmoments LAB_NET=10.79.7
lock=${WRAP:-}
codecs=(none fp16 quant:bits=4 grid:rel=0.05 topk:density=0.1 randk:density=0.2 powersgd:rank=2 stack:topk:density=0.1+quant:bits=4)
draw() { awk -v s="$seed" -v i="$1" -v n="$2" 'BEGIN { srand(s % 1000000 + i); for (k = 0; k < n; k++) x = rand(); printf "%.4f", rand() }'; }

right() { # CODEC RANKS: hashes of a run to which nothing happened; sets H
    H=$WORK/hashes.${1//[^a-z0-9]/_}.$2
    [ -s "$H" ] || timeout 200 mpirun -n "$2" "$STEPS" "$1" 300 write "$H" >/dev/null 2>"$WORK/err" || fail "undisturbed, $1, $2 ranks: $(head -n 3 "$WORK/err")"
}
begun() { # RANKS: all of them are in their steps
    for _ in $(seq 600); do
        [ "$(grep -l '^step' "$WORK"/log.* 2>/dev/null | wc -l)" = "$1" ] && return 0
        sleep 0.05
    done
    return 1
}
# judge KIND WHAT RANKS VICTIM TIME: what every other rank has written since. A rank that another one's death leaves inside MPI is ended by its watchdog, which
# says so on stderr. Time in which a rank was ready to run and others had the processor is not the library's.
judge() {
    local kind=$1 what=$2 n=$3 victim=$4 when=$5 r late line took
    for _ in $(seq 300); do
        late=0
        for ((r = 0; r < n; r++)); do
            [ $r = "$victim" ] || grep -q '^failed\|^ended' "$WORK/log.$r" && continue
            grep -q "^taut: rank $r: .*MPI has not come back" "$WORK/out" || { late=1; continue; }
            echo "failed 0 $(date +%s.%N) 0 ended by its watchdog" | tee -a "$WORK/ended" >>"$WORK/log.$r"
        done
        [ $late = 1 ] || break
        sleep 0.05
    done
    for ((r = 0; r < n; r++)); do
        ! grep '^wrong' "$WORK/log.$r" || { fail "$what: rank $r was given a wrong sum"; return; }
        [ $r = "$victim" ] && continue
        line=$(grep '^failed' "$WORK/log.$r") || { fail "$what: rank $r says nothing: $(tail -n 1 "$WORK/log.$r")"; return; }
        took=$(echo "$line" | awk -v b="$when" '{ printf "%.2f %.2f", $3 - b, $4 }')
        echo "$kind $took" >>"$WORK/took"
        awk -v took="$took" 'BEGIN { split(took, t, " "); exit !(t[1] - t[2] <= 4.0) }' || { fail "$what: rank $r needed ${took% *} s, of which it waited ${took#* } for a processor: $line"; return; }
    done
    pass
}
for kind in kill stop down; do
    for ((i = 0; i < moments; i++)); do
        n=$((2 + i % 3)) codec=${codecs[$((i % ${#codecs[@]}))]}
        victim=$(awk -v x="$(draw $i 3)" -v n=$n 'BEGIN { print int(x * n) }')
        right "$codec" $n
        rm -f "$WORK"/log.*
        if [ $kind = down ]; then
            [ "$(id -u)" = 0 ] && command -v ip >/dev/null || { skipped=$((skipped + 1)); echo "SKIP cutting off needs root and iproute2"; break; }
            $lock "$PWD/launch/lab" run $n full -- "$STEPS" "$codec" 100000 check "$H" "$WORK/log" >"$WORK/out" 2>&1 &
        else
            mpirun -n $n --enable-recovery "$STEPS" "$codec" 100000 check "$H" "$WORK/log" >"$WORK/out" 2>&1 &
        fi
        job=$!
        if begun $n; then
            sleep "$(draw $i 5)"
            pid=$(sed -n 's/^pid //p' "$WORK/log.$victim")
            case $kind in
            kill) kill -KILL "$pid" ;;
            stop) kill -STOP "$pid" ;;
            down) ip -n "$LAB_NAME-n$victim" link set eth0 down ;;
            esac
            judge $kind "$kind of rank $victim of $n, $codec, seed $seed, moment $i" $n "$victim" "$(date +%s.%N)"
        else
            fail "$kind, $codec, $n ranks: it does not begin: $(tail -n 3 "$WORK/out")"
        fi
        for f in "$WORK"/log.*; do kill -KILL "$(sed -n 's/^pid //p' "$f")" 2>/dev/null; done
        ( sleep 5; kill -TERM $job 2>/dev/null ) &
        wait $job 2>/dev/null
    done
done
# The one moment that no random draw finds often: rank 0 has swapped the tail of rank 1's queue in shared memory, and has not linked it yet. A breakpoint
# on what follows that instruction kills it there. Rank 1 is then left inside MPI, and its watchdog says so.
vader=$(find /usr/lib* -name mca_btl_vader.so 2>/dev/null | head -n 1)
if [ -n "$vader" ] && command -v gdb >/dev/null && command -v objdump >/dev/null; then
    # xchg of the tail, the comparison with "empty", the jump for that, and then where there was something before
    at=$(objdump -d --no-show-raw-insn "$vader" | awk '/[ \t]xchg +%r[a-z0-9]+,0x8\(/ { n = 3; next } n && --n == 0 { sub(/:.*/, ""); print $1 }')
    rm -f "$WORK"/log.*
    right none 2
    mpirun -n 2 --enable-recovery "$STEPS" none 10000000 check "$H" "$WORK/log" >"$WORK/out" 2>&1 &
    job=$!
    begun 2
    pid=$(sed -n 's/^pid //p' "$WORK/log.0")
    base=$(awk -v f="$vader" 'index($0, "mca_btl_vader.so") && $3 == "00000000" { split($1, a, "-"); print a[1]; exit }' "/proc/$pid/maps")
    stops=()
    for o in $at; do stops+=(-ex "break *(0x$base+0x$o)"); done
    # the watchdog counts looks of its own process only, so gdb may take its time
    timeout 60 gdb -p "$pid" -batch "${stops[@]}" -ex continue -ex kill >"$WORK/gdb" 2>&1
    for _ in $(seq 200); do grep -q 'taut: rank 1: ' "$WORK/out" || grep -q '^failed' "$WORK/log.1" && break; sleep 0.05; done
    if ! grep -q '^Breakpoint\|hit Breakpoint' "$WORK/gdb"; then skipped=$((skipped + 1)); echo "SKIP killed between two instructions: gdb did not stop there: $(tail -n 1 "$WORK/gdb")"
    elif grep -q 'taut: rank 1: .*nothing from rank 0: MPI has not come back' "$WORK/out"; then pass
    else fail "killed between two instructions: $(tail -n 2 "$WORK/out" "$WORK/log.1")"; fi
    for f in "$WORK"/log.*; do kill -KILL "$(sed -n 's/^pid //p' "$f")" 2>/dev/null; done
    ( sleep 5; kill -TERM $job 2>/dev/null ) &
    wait $job 2>/dev/null
else
    skipped=$((skipped + 1)); echo "SKIP killed between two instructions: needs gdb, objdump and Open MPI's vader"
fi
echo "seed $seed"
for kind in kill stop down; do # seconds from the event to each survivor's report, and how much of that went to others on the machine
    grep "^$kind" "$WORK/took" 2>/dev/null | sort -k2n | awk -v k=$kind '{ t[NR] = $2; if ($3 > d) d = $3 }
        END { if (NR) printf "%s: %d reports, %.2f s median, %.2f s at most; at most %.2f s without a processor\n", k, NR, t[int((NR + 1) / 2)], t[NR], d }'
done
touch "$WORK/ended"
echo "$(wc -l <"$WORK/ended") ranks were ended by a watchdog"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
