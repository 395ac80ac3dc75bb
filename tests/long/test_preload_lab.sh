#!/bin/bash
# test_preload_lab.sh : what the preload library promises, in the practice cluster (2 nodes at 1 Gbit/s): three ways of training gain five
# times, a dry run foretells it within 20%, and microbenchmarks from 4 bytes to 1 GiB take no longer. On a machine that does something
# else besides, codecs and small messages wait for processors: then the limits are wide, and only tell that nothing is broken.
set -u
BUILD=${BUILD:-build/release}
export BUILD
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
leave() { echo "SKIP $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
[ "$(id -u)" = 0 ] && command -v ip >/dev/null && command -v tc >/dev/null && ip netns list >/dev/null 2>&1 || leave "the practice cluster needs root and iproute2"
[ -f "$BUILD/lib/libtaut-preload-openmpi.so" ] || leave "the preload library was not built for Open MPI"
out=$(mktemp)
trap 'rm -f "$out" "$out.pools"' EXIT
idle() { awk '{ exit !($1 < 1.5) }' /proc/loadavg; }
if idle; then gain=5 low=0.8 high=1.2 slow=0.95; else gain=2 low=0.4 high=2.5 slow=0.5; echo "the machine is busy: wide limits"; fi
bench() { tests/bench/preload.sh "$@" >"$out" 2>/dev/null || fail "preload.sh $*"; cat "$out"; }
# Sizes that travel alike together: a call alone takes one of two times here, a run long, and which one is chance. Geometric means of the ratios
# of a group, all of which must be fast enough; no size far from it.
pools() { # WHAT GROUPS
    awk -v slow="$slow" -v n="$2" 'NR > 1 { g = $1 <= 2048 ? "to 2 KiB" : $1 <= 131072 ? "to 128 KiB" : $1 <= 8388608 ? "to 8 MiB" : $1 <= 67108864 ? "to 64 MiB" : "beyond"
            if (!(g in k)) groups++; s[g] += log($4); k[g]++; if ($4 < slow - 0.3) bad = bad " " $1 " alone " $4 }
        END { for (g in k) { m = exp(s[g] / k[g]); printf "%s: %.3f of %d\n", g, m, k[g]; if (m < slow) bad = bad " " g }
            if (bad != "") print "too slow:" bad; exit bad != "" || groups != n }' "$out" >"$out.pools" && pass || fail "$1: $(cat "$out.pools" "$out")"
    cat "$out.pools"
}
# each KEEPS WHAT: every line of the table, but for its head, keeps the condition on its fields
each() { awk -v n="$3" "NR > 1 { if ($1) good++ } END { exit !(good == n) }" "$out" && pass || fail "$2: $(cat "$out")"; }

bench trainers 300
each "\$5 >= $gain" "five times less time in allreduce" 3
bench dry 120
each "\$7 >= $low && \$7 <= $high" "a dry run is right within 20%" 2
RUNS=25 bench micro 4 2048 # 20 us each: three pairs tell nothing
pools "a microbenchmark of small buffers is as fast as without" 1
bench micro 4096 67108864
pools "a microbenchmark is as fast as without" 3
RUNS=1 ROUNDS=60 bench micro 134217728 1073741824
pools "a microbenchmark of large buffers is as fast as without" 1
echo "$passed passed, $failed failed"
