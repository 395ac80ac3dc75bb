#!/bin/bash
# test_preload.sh : programs that know nothing of Taut, under the preload library, on every MPI that is installed. LONG=1: all modes on
# both, more ranks, and mistakes beside what plain MPI makes of them.
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
. tests/support/preload.sh
export TAUT_REPORT=$WORK/r.json

# check_modes MPI RANKS LIMIT MODE=LEAST...: one job of many modes. LEAST: calls that must have been compressed; exact: none may be
check_modes() {
    local mpi=$1 n=$2 limit=$3 modes='' m least bytes coded all made; shift 3
    for m in "$@"; do modes="$modes ${m%=*}"; done
    # shellcheck disable=SC2086
    if ! TAUT_CODEC=quant:bits=4 run "$mpi" "$n" 1 "$WORK/job.$mpi" $modes; then
        fail "$mpi, $n ranks,$modes: exit code, $(tail -n 3 "$WORK/out" "$WORK/err")"; return
    fi
    made=1 # and the one at the end
    json '"".join("bytes=%d coded=%d \n" % (b, sum(s["coded_calls"] for s in j["sites"] if s["bytes"] == b)) for b in {s["bytes"] for s in j["sites"]})' >"$WORK/coded"
    for m in "$@"; do
        least=${m#*=} m=${m%%[:=]*}
        grep "^$m " "$WORK/out" >"$WORK/line" || { fail "$mpi, $n ranks: mode $m printed nothing"; continue; }
        bytes=$(field bytes "$WORK/line")
        coded=$(field coded <(grep "^bytes=$bytes " "$WORK/coded"))
        coded=${coded:-0}
        made=$((made + $(field calls "$WORK/line") + $(field small "$WORK/line")))
        if [ "$least" = exact ]; then
            less "$(field worst "$WORK/line")" 1e-12 && [ "$coded" = 0 ] && pass || fail "$mpi, $n ranks: $m must stay exact: $coded calls compressed, error $(field worst "$WORK/line")"
        else
            less "$(field worst "$WORK/line")" "$limit" && [ "$coded" -ge "$least" ] && pass ||
                fail "$mpi, $n ranks: $m: $coded calls compressed, at least $least expected; error $(field worst "$WORK/line"), limit $limit"
        fi
    done
    all=$(json 'sum(s["calls"] for s in j["sites"]) + j["passed_through"]')
    [ "$n" = 1 ] || [ "$all" -eq "$made" ] && pass || fail "$mpi, $n ranks,$modes: $all calls in the report, $made made"
}

# The second MPI shares all of our code but its handles: a part will do, and the whole with LONG=1. Its counts are MPI_Counts, if it has such calls.
test_few_jobs() {
    check_modes "$1" 2 0.05 block:14=20 nonblocking:20=30 scatterv:12=15 gather:12=20 persistent:12=10 foreign:4=exact ahead:12:4=10
}
test_jobs() {
    check_modes "$1" 2 0.05 block:14=20 out:12=15 nonblocking:20=30 overlap:16=12 token:12=4 scatter:12=15 gather:12=20 broadcast:12=exact \
        foreign:4=exact changing:24=20 odd-rank:24=20 comms:20=10 pending:18=3 fork:12=15 uneven:22=50 shrinking:12=exact persistent:12=10 disorder:12=10 rounds:10=2 ahead:12:4=10
    grep -q 'broadcast afterwards' "$WORK/err" && pass || fail "$1: the report does not say that a site was broadcast"
    check_modes "$1" 2 0.05 threads:12=60
}
test_more_jobs() { # LONG
    local n
    for n in 2 3 4; do
        check_modes "$1" $n 0.07 block:40=90 nonblocking:40=90 overlap:40=60 gather:30=90 persistent:30=60 disorder:30=60 token:40=20 rounds:40=20 ahead:30:4=40
        check_modes "$1" $n 0.07 scatterv:30=60 scatter:30=60 broadcast:30=exact uneven:70=190 shrinking:30=exact foreign:20=exact changing:40=30 odd-rank:40=60 comms:40=15 pending:40=15 fork:40=60
    done
    check_modes "$1" 3 0.05 scatter:20:3:98310=exact block:20:3:1000=exact # parts that end inside blocks; below the threshold
    check_modes "$1" 2 0.05 threads:40=250
    n=persistent:10 # see test_none
    run "$1" 1 0 "$WORK/job.$1" $n && n=$n=exact || n=
    # shellcheck disable=SC2086
    check_modes "$1" 1 0.05 block:10=exact nonblocking:10=exact $n
    run "$1" 2 0 "$WORK/job.$1" half:3 && [ "$(field calls "$WORK/out")" != 0 ] && check_modes "$1" 2 0.05 half:20=30 || skip "$1: sums no half types"
}

# What is gathered are not the sums that were scattered: the sums are compressed, the gathered parameters are not.
test_parameters() {
    check_modes "$1" 2 0.05 gather-parameters:16=20
    [ "$(json 'sum(s["coded_calls"] for s in j["sites"] if s["call"] == "allgather")')" = 0 ] && pass || fail "$1: gathered parameters were compressed"
    grep -q 'not what was scattered before' "$WORK/err" && pass || fail "$1: the report does not say why parameters were left alone"
}

# The program's thread goes on as soon as its sums are complete; what ranks then agree on, at the end of a cycle, is over before its next call
# is looked at, on ranks whose thread is slow as on others. A profiler behind the library sees what it would see without.
test_late() {
    "mpicc.$1" -shared -fPIC -O1 -w -o "$WORK/late.so" tests/preload/late.c -ldl || { fail "$1: late.c does not compile"; return; }
    "mpicc.$1" -shared -fPIC -O1 -w -o "$WORK/profiler.so" tests/preload/profiler.c || { fail "$1: profiler.c does not compile"; return; }
    LIB=$WORK/late.so:$LIB:$WORK/profiler.so check_modes "$1" 2 0.05 nonblocking:22:1=14
    [ -n "$LARGE" ] || grep -q "profiler: inits=1 sums=$(($(field small "$WORK/out") + 1))" "$WORK/err" && pass || fail "$1: a profiler behind the library: $(grep profiler "$WORK/err"), $(cat "$WORK/out")"
    grep -q 'different calls' "$WORK/err" && fail "$1: slow threads: $(grep 'different calls' "$WORK/err")" || pass
}

# codec=none: the same bits as without us
test_none() {
    local modes="out:8 nonblocking:9 scatter:8 gather:8 persistent:8"
    # MPICH 4.0.2 itself takes a persistent sum that is over for one under way: then the other modes alone
    # shellcheck disable=SC2086
    run "$1" 2 0 "$WORK/job.$1" $modes || { modes=${modes% *}; run "$1" 2 0 "$WORK/job.$1" $modes; } || fail "$1: the plain run: $(tail -n 3 "$WORK/err")"
    cp "$WORK/out" "$WORK/plain"
    # shellcheck disable=SC2086
    TAUT_CODEC=none run "$1" 2 1 "$WORK/job.$1" $modes
    cmp -s "$WORK/plain" "$WORK/out" && pass || fail "$1: codec=none differs from the plain run: $(diff "$WORK/plain" "$WORK/out")"
    grep -q '^taut: .*saved' "$WORK/err" && pass || fail "$1: codec=none: no report"
}

# Programs that a seed draws: as without us with codec=none, bit for bit; within the error of 4 bits otherwise, whatever they call and however they wait.
test_drawn() { # MPI RANKS FROM TO
    local codec rc
    run "$1" "$2" 0 "$WORK/drawn.$1" "$3" "$4" && cp "$WORK/out" "$WORK/plain" || { fail "$1, $2 ranks, seeds $3 to $4: without the library: $(tail -n 3 "$WORK/err")"; return; }
    for codec in none dry quant:bits=4 auto; do
        case $codec in dry | auto) [ "${LONG:-0}" != 0 ] || continue ;; esac
        if [ $codec = dry ]; then TAUT_DRYRUN=1 run "$1" "$2" 1 "$WORK/drawn.$1" "$3" "$4"; else TAUT_CODEC=$codec run "$1" "$2" 1 "$WORK/drawn.$1" "$3" "$4"; fi
        rc=$?
        [ $rc -eq 0 ] && pass || fail "$1, $2 ranks, seeds $3 to $4, $codec: exit code $rc after $(tail -n 1 "$WORK/out"): $(grep -v '^taut:' "$WORK/err" | head -n 3)"
        if [ $codec = none ] || [ $codec = dry ]; then
            cmp -s "$WORK/plain" "$WORK/out" && pass || fail "$1, $2 ranks: drawn programs differ with $codec: $(diff "$WORK/plain" "$WORK/out" | head -n 4)"
            continue
        fi
        awk -F'[= ]' -v of="$([ $codec = auto ] || echo 0.05)" '$8 + 0 > 1e-12 || $6 + 0 > 0.05 || (of && $4 + 0 > of)' "$WORK/out" >"$WORK/over"
        [ ! -s "$WORK/over" ] && pass || fail "$1, $2 ranks, $codec: drawn programs: $(cat "$WORK/over")"
        [ $codec = auto ] || [ "$(json 'sum(s["coded_calls"] for s in j["sites"])')" -gt $((4 * ($4 - $3))) ] && pass || fail "$1, $2 ranks, $codec: $(json 'sum(s["coded_calls"] for s in j["sites"])') calls compressed in drawn programs"
    done
}

# what must be exact is: the same number of iterations with default settings, and for vectors that are dense on all ranks
test_solver() {
    local plain
    run "$1" 2 0 "$WORK/solver.$1" 132 && plain=$(field iterations "$WORK/out")
    run "$1" 2 1 "$WORK/solver.$1" 132
    [ "$(field iterations "$WORK/out")" = "$plain" ] && pass || fail "$1: solver took $(field iterations "$WORK/out") iterations, $plain without"
    grep -q "like a solver's vector" "$WORK/err" && pass || fail "$1: the report does not say why the solver's vector was left alone"
}

test_microbench() {
    run "$1" 2 1 "$WORK/microbench.$1" 4 262144 12 && pass || fail "$1: constant buffers: wrong sums"
    [ "$(json 'sum(s["coded_calls"] for s in j["sites"])')" = 0 ] && pass || fail "$1: constants were compressed"
    grep -q 'constant values' "$WORK/err" && pass || fail "$1: the report does not say that buffers were constant"
    grep -q 'gradients of these sizes would have taken' "$WORK/err" && [ "$(json 'all(s["would_ms"] > 0 for s in j["sites"]) and j["constants_s"] > 0 and j["saved_s"] == 0')" = True ] &&
        pass || fail "$1: the report does not say what gradients would have taken"
}

test_overhead() {
    local plain with
    run "$1" 2 0 "$WORK/overhead.$1" && plain=$(head -n 1 "$WORK/out")
    run "$1" 2 1 "$WORK/overhead.$1" && with=$(head -n 1 "$WORK/out")
    echo "$1: a call that passes through: $plain ns without, $with ns with the library"
    less "$with" $((plain + 200)) && pass || fail "$1: passing through takes $with ns, $plain without"
    # each of 301 rounds of 10000, though they are counted when another call comes
    [ "$(json 'j["passed_through"]')" = 3010000 ] && pass || fail "$1: $(json 'j["passed_through"]') calls passed through, 3010000 made"
}

# Threads make every small call slower: only programs that can make non-blocking sums get them, or those for which they are asked.
test_levels() {
    local way ways
    for way in 0 1 2 3; do compile "$1" level$way -DWAY=$way tests/preload/level.c -ldl; done
    [ "${LONG:-0}" = 0 ] && ways="0:auto:single 1:auto:multiple 2:auto:single 3:auto:single" || ways="0:auto:single 1:auto:multiple 2:auto:single 3:auto:single 2:on:multiple 1:off:single"
    for way in $ways; do
        TAUT_CODEC=quant:bits=4 TAUT_NONBLOCKING=$(echo $way | cut -d: -f2) run "$1" 2 1 "$WORK/level${way%%:*}.$1"
        [ "$(field level "$WORK/out")" = "$(field "${way##*:}" "$WORK/out")" ] && pass || fail "$1: level of way $way: $(cat "$WORK/out" "$WORK/err")"
        case $way in
        0:* | 3:* | *multiple) [ "$(json 'j["sites"][0]["coded_calls"] > 5')" = True ] && pass || fail "$1: way $way: nothing is compressed: $(cat "$WORK/err")" ;;
        *) grep -q 'TAUT_NONBLOCKING=on' "$WORK/err" && pass || fail "$1: way $way: nothing says why: $(cat "$WORK/err")" ;;
        esac
    done
    # where they get none, non-blocking sums stay what they are, also where ranks would vote
    TAUT_NONBLOCKING=off check_modes "$1" 2 0.05 block:14=20 nonblocking:20=exact overlap:16=10
}

test_dry_run() {
    TAUT_DRYRUN=1 run "$1" 2 1 "$WORK/job.$1" block:34 nonblocking:34 || fail "$1: a dry run: exit code $?"
    less "$(sort -t= -k5 -g "$WORK/out" | field worst /dev/stdin)" 1e-12 && pass || fail "$1: a dry run changed sums: $(cat "$WORK/out")"
    [ "$(json 'len(j["dry_run"]) == 3 and all(t["ms"] > 0 for s in j["sites"] for t in s["trials"])')" = True ] && pass || fail "$1: dry run predicts nothing"
    # cycles that one rank leaves, with a trial or between two, where nobody votes
    TAUT_DRYRUN=1 run "$1" 2 1 "$WORK/job.$1" changing:24 odd-rank:24 && less "$(sort -t= -k5 -g "$WORK/out" | field worst /dev/stdin)" 1e-12 && pass || fail "$1: a dry run of cycles that break: $(cat "$WORK/out")"
}

# Settings that one rank alone has, as on the host of mpirun without -x; and non-blocking sums that one rank alone would have served.
test_differing() {
    local persistent=persistent:8
    [ "$1" != mpich ] || persistent= # see test_none
    # shellcheck disable=SC2086
    LIMIT=30 run "$1" 2 1 sh -c '[ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 0 ] || export TAUT_DRYRUN=1 TAUT_NONBLOCKING=off; exec "$@"' - "$WORK/job.$1" block:8 nonblocking:8 $persistent &&
        less "$(sort -t= -k5 -g "$WORK/out" | field worst /dev/stdin)" 1e-12 && [ "$(json 'sum(s["coded_calls"] for s in j["sites"])')" = 0 ] && pass ||
        fail "$1: settings of one rank: $(cat "$WORK/out" "$WORK/err")"
    grep -q 'TAUT_DRYRUN .*differ between ranks' "$WORK/err" && pass || fail "$1: nothing says that settings differ: $(cat "$WORK/err")"
}

# A job that spawns ranks, and sums with them: they may lack the library. Their report has a file of its own.
test_spawned() {
    compile "$1" spawn tests/preload/spawn.c
    LIMIT=30 run "$1" 2 0 "$WORK/spawn.$1" || { skip "$1: spawns nothing here"; return; }
    LIMIT=30 run "$1" 2 1 "$WORK/spawn.$1" && grep -q '^spawned sums right' "$WORK/out" && [ "$(json 'j["ranks"]')" = 2 ] && [ -f "$(echo "$WORK"/r.json.[0-9]*)" ] && pass ||
        fail "$1: a job that spawns: $(cat "$WORK/out" "$WORK/err"; ls "$WORK")"
}

# A program may make more communicators, requests and sizes than it ever has at a time, and more communicators than there are copies for.
# What is there at the same time takes memory (MB), of as many as are served: 128 communicators, 64 persistent requests.
test_crowds() {
    local crowd most
    for crowd in ${2:-comms:300}; do
        case $crowd in many:* | requests:*) most=120 ;; *) most=8 ;; esac
        TAUT_CODEC=quant:bits=4 run "$1" 2 1 "$WORK/crowd.$1" "${crowd%:*}" "${crowd#*:}" && less "$(field grown "$WORK/out")" $most && pass || fail "$1: $crowd: $(cat "$WORK/out"; grep -v '^taut: *[0-9]' "$WORK/err" | tail -n 5)"
    done
}

test_choice() {
    TAUT_CODEC=quant:bits=4 TAUT_EXCLUDE=100K..160K run "$1" 2 1 "$WORK/job.$1" block:14 out:14
    [ "$(json '[sum(s["coded_calls"] for s in j["sites"] if s["bytes"] == b) > 0 for b in (147456, 172032)]')" = "[False, True]" ] && pass || fail "$1: TAUT_EXCLUDE was not heard"
    TAUT_CODEC=quant:bits=4 TAUT_INCLUDE=2..1,bogus TAUT_EXCLUDE=2 run "$1" 2 1 "$WORK/job.$1" block:14
    grep -q "TAUT_INCLUDE=2..1,bogus: cannot read" "$WORK/err" && pass || fail "$1: a bad TAUT_INCLUDE is not named"
    [ "$(json '[s["coded_calls"] > 0 for s in j["sites"]]')" = "[True, False, True]" ] && pass || fail "$1: TAUT_EXCLUDE=2 was not heard"
    TAUT_CODEC=bogus run "$1" 2 1 "$WORK/job.$1" block:14
    less "$(field worst "$WORK/out")" 1e-12 && grep -q "bogus" "$WORK/err" && pass || fail "$1: a bad codec is not named, or hurts"
}

# Mistakes, and ends that come early: as plain MPI has it. What plain MPI makes of some was seen with both; LONG=1 asks it.
# WHAT:N: from step N on, when no cycle is known yet.
test_mistakes() {
    local what first rc plain told tries
    for what in ${2:-order counts local exit abort finalize}; do
        first=${what#*:} what=${what%:*} plain=0
        [ "$first" != "$what" ] || first=14
        [ "${LONG:-0}" = 0 ] || { LIMIT=20 run "$1" ${RANKS:-2} 0 "$WORK/bad.$1" $what $first; plain=$?; told=$(field errors "$WORK/out"); }
        TAUT_CODEC=quant:bits=4 LIMIT=40 run "$1" ${RANKS:-2} 1 "$WORK/bad.$1" $what $first
        rc=$?
        what=$what${first#14}
        [ $rc -ne 124 ] || [ $plain -eq 124 ] && pass || fail "$1: $what hangs"
        # which rank's code plain MPI itself ends with may be chance (MPICH, four ranks: 14 or 15)
        tries=0
        cp "$WORK/out" "$WORK/out.ours" && cp "$WORK/err" "$WORK/err.ours"
        while [ "${LONG:-0}" != 0 ] && [ $rc -ne $plain ] && [ $tries -lt 6 ]; do
            LIMIT=20 run "$1" ${RANKS:-2} 0 "$WORK/bad.$1" ${what%%[0-9]*} $first
            plain=$? tries=$((tries + 1))
        done
        mv "$WORK/out.ours" "$WORK/out" && mv "$WORK/err.ours" "$WORK/err"
        [ "${LONG:-0}" = 0 ] || [ $rc -eq $plain ] && pass || fail "$1: $what: exit code $rc, $plain without"
        case $what in
        local) [ $rc -eq 0 ] && [ "$(field errors "$WORK/out")" = 0 ] && pass || fail "$1: $what: exit code $rc, $(cat "$WORK/out")" ;;
        order | finalize) [ $rc -eq 0 ] && less "$(field worst "$WORK/out")" 0.05 && pass || fail "$1: $what: exit code $rc, error $(field worst "$WORK/out")" ;;
        counts | types | swap | icounts* | wcounts* | ionce* | wonce* | itypes* | wtypes*) grep -q 'ranks have made different calls' "$WORK/err" && pass || fail "$1: $what: nothing says that ranks differ" ;;
        null | inull) # some end in Open MPI itself
            [ $rc -ne 0 ] || { [ "$(field errors "$WORK/out")" = "$told" ] && less "$(field worst "$WORK/out")" 0.05; } && pass || fail "$1: $what: $(cat "$WORK/out"), errors=$told without" ;;
        abort) [ $rc -ne 0 ] && [ "$(json 'j["aborted"] and sum(s["coded_calls"] for s in j["sites"]) > 10')" = True ] && pass || fail "$1: no report after MPI_Abort" ;;
        esac
    done
}

# Counts and types that differ before ranks have seen a cycle, or beside one: some calls can be compressed, and others cannot.
test_early_mistakes() { # LONG
    local RANKS
    for RANKS in 2 3 4; do
        test_mistakes "$1" "icounts:0 icounts:3 wcounts:0 wcounts:3 ionce:0 ionce:3 wonce:0 wonce:3 itypes:0 wtypes:3"
        test_mistakes "$1" "rcounts:0 rcounts:3 rcounts vcounts:3 gcounts:0 gcounts:3 gcounts gonce:3 rtypes:3 gtypes:3 pcounts:0 ponce:3"
        ERRORS=return test_mistakes "$1" "icounts:0 wonce:3"
    done
}

test_fortran() {
    local f got
    command -v "mpif90.$1" >/dev/null 2>&1 || { skip "no mpif90.$1"; return; }
    for f in mpif use_mpi use_mpi_f08; do
        if ! "mpif90.$1" -O1 -w -fallow-argument-mismatch -o "$WORK/$f.$1" "tests/preload/$f.f90" 2>"$WORK/err"; then fail "$1: $f.f90 does not compile"; continue; fi
        TAUT_CODEC=quant:bits=4 run "$1" 2 1 "$WORK/$f.$1" || { fail "$1: $f: exit code"; continue; }
        got=$(json 'sum(s["coded_calls"] for s in j["sites"])')
        [ "$got" -ge 10 ] && less "$(field worst "$WORK/out")" 0.05 && pass || fail "$1: $f: $got calls compressed, error $(field worst "$WORK/out")"
        [ "$(json 'sum(s["calls"] for s in j["sites"]) + j["passed_through"]')" = 40 ] && pass || fail "$1: $f: wrong number of calls in the report"
    done
}

test_python() {
    /usr/bin/python3 -c 'import mpi4py' 2>/dev/null || { skip "no python3-mpi4py"; return; }
    TAUT_CODEC=quant:bits=4 run openmpi 2 1 /usr/bin/python3 tests/preload/loop.py || { fail "mpi4py: exit code"; return; }
    [ "$(json 'sum(s["coded_calls"] for s in j["sites"])')" -ge 5 ] && less "$(field worst "$WORK/out")" 0.05 && pass || fail "mpi4py: error $(field worst "$WORK/out")"
    /usr/bin/python3 -c 'import numpy' 2>/dev/null || return # the example needs it; the long tests install it
    example loop.py >"$WORK/loop.py"
    check_example loop.py "--launcher openmpi /usr/bin/python3 $WORK/loop.py"
}

# the programs of docs/preload.md: they learn, and their sums are compressed
check_example() { # NAME COMMAND
    # shellcheck disable=SC2086
    BUILD=$BUILD launch/tautrun -n 2 --codec quant:bits=4 --report "$WORK/r.json" $2 >"$WORK/out" 2>"$WORK/err"
    grep -q '^step 40 loss 0*\.0' "$WORK/out" && [ "$(json 'j["config"][:11] == "codec=quant" and j["sites"][0]["coded_calls"] > 25')" = True ] && pass ||
        fail "docs/preload.md, $1: $(tail -n 3 "$WORK/out" "$WORK/err")"
}
test_examples() {
    example loop.c >"$WORK/loop.c"
    compile "$1" loop "$WORK/loop.c" && check_example loop.c "$WORK/loop.$1"
    command -v "mpif90.$1" >/dev/null 2>&1 || return
    example loop.f90 >"$WORK/loop.f90"
    "mpif90.$1" -O2 -w -fallow-argument-mismatch -o "$WORK/loopf.$1" "$WORK/loop.f90" 2>"$WORK/err" && check_example loop.f90 "$WORK/loopf.$1" || fail "$1: loop.f90 does not compile: $(cat "$WORK/err")"
}

test_tautrun() {
    launch/tautrun --bogus 2>"$WORK/err"; [ $? -eq 2 ] && grep -q bogus "$WORK/err" && pass || fail "tautrun: a bad option"
    launch/tautrun -n 0 true 2>"$WORK/err"; [ $? -eq 2 ] && grep -q 'n 0' "$WORK/err" && pass || fail "tautrun: -n 0"
    for bad in "--budget rel=abc:must be rel=X" "--codec quant:bits=99:must be an integer 1..8" "--threshold 64Q:must be a number of bytes" "--threshold 1.2.3:must be a number of bytes" "--threshold .5M:must be a number of bytes" "--threshold 0x20000:must be a number of bytes" "--threshold 1e10G:must be a number of bytes" "--include 3;4:must be site numbers"; do
        # shellcheck disable=SC2086
        BUILD=$BUILD launch/tautrun -n 2 ${bad%:must*} --print true >"$WORK/out" 2>"$WORK/err"; [ $? -eq 2 ] && grep -q "${bad##*:}" "$WORK/err" && pass || fail "tautrun $bad: $(cat "$WORK/out" "$WORK/err")"
    done
    for good in 1e6 1.5M 7.K 1e18; do
        BUILD=$BUILD launch/tautrun -n 2 --threshold $good --print true >"$WORK/out" 2>"$WORK/err" && pass || fail "tautrun --threshold $good: $(cat "$WORK/err")"
    done
    launch/tautrun -n 2 /nonexistent 2>"$WORK/err"; [ $? -eq 2 ] && pass || fail "tautrun: no such program"
    BUILD=$BUILD launch/tautrun -n 2 --launcher openmpi --budget=rel=0.1 --include '1,2' --print /bin/echo "it's" 'a b' >"$WORK/out" 2>"$WORK/err"
    grep -q '^\(.* \)*TAUT_BUDGET=rel=0.1 .*mpirun' "$WORK/out" && grep -qF "/bin/echo 'it'\\''s' 'a b'" "$WORK/out" && pass || fail "tautrun --print: $(cat "$WORK/out" "$WORK/err")"
    mkdir -p "$WORK/a b/bin" "$WORK/a b/lib" && cp launch/tautrun "$WORK/a b/bin" && cp "$LIB" "$WORK/a b/lib"
    "$WORK/a b/bin/tautrun" -n 2 --print /bin/echo >"$WORK/out" 2>"$WORK/err"
    [ $? -eq 2 ] && grep -q 'no path with a space' "$WORK/err" && pass || fail "tautrun in a folder with a space: $(cat "$WORK/out" "$WORK/err")"
    launch/tautrun --help | grep -q -- --dry-run && pass || fail "tautrun: --help"
}

# Without an MPI, with one that nobody knows, with the wrong one, opened and closed by hand.
test_libraries() {
    local fake=$WORK/fake alone=$WORK/alone global
    [ "$(LD_PRELOAD=$LIB /bin/echo fine 2>&1)" = fine ] && pass || fail "a program without MPI is disturbed"
    mkdir -p "$fake" "$alone" && cp "$LIB" "$alone"
    cc -shared -fPIC -w -Wl,-soname,libmpi.so.99 -o "$fake/libmpi.so.99" tests/preload/fake_mpi.c
    cc -o "$fake/program" tests/preload/fake_program.c "$fake/libmpi.so.99" -Wl,-rpath,"$fake"
    LD_PRELOAD=$LIB "$fake/program" 2>"$WORK/err" && grep -q 'neither Open MPI nor MPICH' "$WORK/err" && pass || fail "an unknown MPI: $(cat "$WORK/err")"
    LD_PRELOAD=$BUILD/lib/libtaut-preload-$1.so "$fake/program" 2>"$WORK/err"
    [ $? -eq 127 ] && grep -q 'name libtaut-preload-mpi.so' "$WORK/err" && pass || fail "a preloaded back end: $(cat "$WORK/err")"
    LIB=$alone/libtaut-preload-mpi.so run "$1" 1 1 "$WORK/bad.$1" none && grep -q "libtaut-preload-$1.so: cannot open" "$WORK/err" && pass || fail "a missing back end: $(cat "$WORK/err")"
    cc -shared -fPIC -w -DSTAND_IN -o "$fake/libmpiseq.so" tests/preload/fake_mpi.c
    cc -o "$fake/alone" tests/preload/fake_program.c "$fake/libmpiseq.so" -Wl,-rpath,"$fake"
    LD_PRELOAD=$LIB "$fake/alone" 2>"$WORK/err" && [ ! -s "$WORK/err" ] && pass || fail "a stand-in for MPI: $(cat "$WORK/err")"
    [ "$1" = openmpi ] || return
    cc -O1 -o "$WORK/opened" tests/preload/opened.c -ldl
    for global in 0 1; do
        TAUT_CODEC=quant:bits=4 run openmpi 2 1 "$WORK/opened" libmpi.so.40 $global && less "$(field worst "$WORK/out")" 0.05 && pass || fail "an MPI that is opened and closed ($global): $(cat "$WORK/err")"
    done
}

[ -f "$LIB" ] || { echo "SKIP the preload library was not built"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
first=
for mpi in ${MPIS:-openmpi mpich}; do
    [ -f "$BUILD/lib/libtaut-preload-$mpi.so" ] && command -v "mpicc.$mpi" >/dev/null 2>&1 || { skip "$mpi is not here"; continue; }
    first=${first:-$mpi}
    [ "$mpi" != mpich ] || patient
    LARGE=
    [ "$first" = "$mpi" ] || LARGE=-DLARGE
    compile "$mpi" job $LARGE tests/preload/job.c tests/preload/job_requests.c
    [ "$first" != "$mpi" ] && [ "${LONG:-0}" = 0 ] && programs=drawn || programs="drawn solver overhead microbench bad crowd"
    for p in $programs; do compile "$mpi" $p tests/preload/$p.c; done

    test_none $mpi
    test_drawn $mpi 2 1 6
    [ "$first" != "$mpi" ] && [ "${LONG:-0}" = 0 ] || { test_late $mpi; test_fortran $mpi; test_examples $mpi; }
    if [ "$first" != "$mpi" ] && [ "${LONG:-0}" = 0 ]; then
        test_few_jobs $mpi
        continue
    fi
    test_jobs $mpi
    test_parameters $mpi
    test_solver $mpi
    test_microbench $mpi
    test_overhead $mpi
    test_levels $mpi
    test_dry_run $mpi
    test_choice $mpi
    test_differing $mpi
    test_spawned $mpi
    test_crowds $mpi
    test_libraries $mpi
    test_mistakes $mpi
    test_mistakes $mpi "icounts:0 wonce:3"
    [ "${LONG:-0}" = 0 ] || { test_drawn $mpi 2 9 100; test_drawn $mpi 3 1 60; test_drawn $mpi 4 1 40; }
    [ "${LONG:-0}" = 0 ] || { test_more_jobs $mpi; test_mistakes $mpi "null inull types swap icounts kill"; test_early_mistakes $mpi; test_crowds $mpi "many:900 requests:2200 sizes:9000"; }
done
[ "$first" != openmpi ] || test_python
test_tautrun
echo "$passed passed, $failed failed, $skipped skipped"
