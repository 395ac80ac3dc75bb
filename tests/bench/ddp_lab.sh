#!/bin/sh
# ddp_lab.sh: DistributedDataParallel on 2 hosts of the practice cluster (root): plain, its fp16 and PowerSGD hooks, and taut, in one run at each rate.
# Prints a Markdown table; WRITE=1 puts it into docs/results.md.
#   PYTHON (python3) with torch, RATES ("100mbit 1gbit"), STEPS (100), BATCH (2), DATA, BUILD, MODES ("plain fp16 taut taut-mpi")
set -eu
BUILD=${BUILD:-build/release}
PYTHON=${PYTHON:-/usr/bin/python3}
RATES=${RATES:-100mbit 1gbit}
STEPS=${STEPS:-100}
BATCH=${BATCH:-2}
DATA=${DATA:-../shared/data/tinyshakespeare.txt}
MODES=${MODES:-plain fp16 taut taut-mpi}
OUT=${OUT:-build/lab}
data=
[ ! -f "$DATA" ] || data="--data $(readlink -f "$DATA")"
mkdir -p "$OUT"
lines=$OUT/ddp.jsonl
: >"$lines"
cluster() { # rate modes...
    rate=$1
    shift
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 $limit launch/lab run 2 "$rate" -- env PYTHONPATH="$PWD/shim/python" PYTHONDONTWRITEBYTECODE=1 TAUT_LIBRARY="$PWD/$BUILD/lib/libtaut.so" GLOO_SOCKET_IFNAME=eth0 \
        OMP_NUM_THREADS=1 "$PYTHON" tests/bench/ddp_lab.py $data --steps "$STEPS" --batch "$BATCH" "$@" 2>"$OUT/ddp-$rate.err" |
        sed "s/^{/{\"rate\": \"$rate\", /" | tee -a "$lines" >&2
}
for rate in $RATES; do
    limit=
    # shellcheck disable=SC2086
    cluster "$rate" $MODES
    # alone and not for ever, because in some versions it aborts and in others it never ends
    before=$(wc -l <"$lines")
    limit='timeout 120'
    cluster "$rate" powersgd || true
    [ "$(wc -l <"$lines")" -gt "$before" ] || echo "{\"rate\": \"$rate\", \"mode\": \"powersgd\", \"failed\": true}" >>"$lines"
done
table() {
    "$PYTHON" - "$lines" <<'END'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
print("| network | torch | | step ms (median) | x steps per second | ratio of bytes | loss_val |\n|---|---|---|---|---|---|---|")
plain = {r["rate"]: r for r in rows if r["mode"] == "plain"}
for r in rows:
    if r.get("failed"):
        print("| %s | %s | %s | did not finish | | | |" % (r["rate"], plain[r["rate"]]["torch"], r["mode"]))
        continue
    print("| %s | %s | %s | %.1f (%.1f) | %.2f | %s | %.3f |" % (r["rate"], r["torch"], r["mode"], r["step_ms"], r["median_ms"],
          plain[r["rate"]]["step_ms"] / r["step_ms"], "%.1f" % r["ratio"] if "ratio" in r else "", r["loss_val"]))
END
}
table
