#!/bin/sh
# launch/lab: a second cluster leaves the first alone, a signal ends it at once and leaves nothing, rates are rates.
# It mostly waits.
set -u
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*"
}
dir=$(mktemp -d)
export LAB_NAME=tautest$$ LAB_NET=10.79.$(($$ % 200))
trap 'launch/lab down >/dev/null 2>&1; rm -rf "$dir" "/run/$LAB_NAME.lock"' EXIT
skip() {
    echo "SKIP $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null && command -v tc >/dev/null || skip "no iproute2"
case $(mpirun --version 2>/dev/null | head -n 1) in *"Open MPI"*) ;; *) skip "no mpirun of Open MPI" ;; esac
launch/lab up 1 full >"$dir/out" 2>&1 && launch/lab down || skip "no network namespaces here: $(head -n 1 "$dir/out")"

for rate in -5mbit mbit 5 '5 mbit' 1gbit/s '' 1e9bit; do
    launch/lab run 2 "$rate" -- true >"$dir/out" 2>&1
    rc=$?
    if [ $rc -eq 1 ] && grep -q "rate '$rate': must be" "$dir/out" && [ "$(launch/lab status)" = down ]; then pass; else
        fail "rate '$rate': exit $rc: $(cat "$dir/out")"; fi
done

launch/lab run 2 1gbit -- sleep 8 >"$dir/first" 2>&1 &
first=$!
until [ "$(launch/lab status)" = "2 hosts at 1gbit" ] || ! kill -0 $first 2>/dev/null; do sleep 0.1; done
for second in "run 2 1gbit -- true" "up 2 1gbit" "run 1 full true"; do
    # shellcheck disable=SC2086
    launch/lab $second >"$dir/out" 2>&1
    rc=$?
    if [ $rc -eq 1 ] && grep -q "the cluster $LAB_NAME" "$dir/out"; then pass; else fail "lab $second beside another: exit $rc: $(cat "$dir/out")"; fi
done
[ "$(launch/lab status)" = "2 hosts at 1gbit" ] && pass || fail "the first cluster is $(launch/lab status)"
wait $first
rc=$?
[ $rc -eq 0 ] && pass || fail "the first run ends with $rc: $(tail -n 2 "$dir/first")"
[ "$(launch/lab status)" = down ] && pass || fail "after the run: $(launch/lab status)"

launch/lab run 2 full -- sleep 60 >"$dir/out" 2>&1 &
job=$!
until pgrep -f "$LAB_NET.2" >/dev/null && [ "$(launch/lab status)" = "2 hosts at full" ] || ! kill -0 $job 2>/dev/null; do sleep 0.1; done
begin=$(date +%s)
kill -TERM $job
wait $job
rc=$? took=$(($(date +%s) - begin))
[ $rc -eq 143 ] && [ $took -le 20 ] && pass || fail "SIGTERM: exit $rc after $took s: $(tail -n 2 "$dir/out")"
[ "$(launch/lab status)" = down ] && pass || fail "after a signal: $(launch/lab status)"

# standard input reaches rank 0
echo hello | launch/lab run 1 full -- cat >"$dir/out" 2>&1
grep -q hello "$dir/out" && pass || fail "standard input: $(cat "$dir/out")"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
