#!/bin/sh
# Metrics are what Prometheus calls valid (promtool check metrics, of Debian's package prometheus), for one communicator and for several ranks;
# while a job writes them as often as it can, a reader never sees half a file. The dashboard asks only for metrics that there are.
set -u
BUILD=${BUILD:-build/release}
. tests/support/shell.sh
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
"$BUILD/bin/taut" info --json | grep -q '"mpi": true' || { echo "SKIP built without MPI"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
TAUT_METRICS="$dir/m-%r.prom" TAUT_METRICS_SECONDS=0 "${MPIRUN:-mpirun}" -n 2 "$BUILD/bin/taut" bench allreduce --sizes 64K:1M --codec auto --codec quant:bits=4 --seconds 1 >"$dir/log" 2>&1 &
job=$!
whole=0
while kill -0 $job 2>/dev/null; do
    if [ -s "$dir/m-0.prom" ]; then
        cp "$dir/m-0.prom" "$dir/seen"
        case $(tail -n 1 "$dir/seen") in taut_codec_elements* | "# TYPE taut_codec_elements"*) whole=$((whole + 1)) ;; *) fail "half a file was seen: $(tail -n 1 "$dir/seen")" ;; esac
    fi
    sleep 0.02
done
wait $job && pass || fail "bench allreduce: $(tail -n 3 "$dir/log")"
[ $whole -gt 3 ] && pass || fail "only $whole files were seen"
[ -z "$(ls "$dir" | grep part)" ] && pass || fail "parts were left: $(ls "$dir")"
PATH=$PATH:$PWD/build/tools
if command -v promtool >/dev/null; then
    for r in 0 1; do promtool check metrics <"$dir/m-$r.prom" >"$dir/said" 2>&1 && [ ! -s "$dir/said" ] && pass || fail "promtool, rank $r: $(cat "$dir/said")"; done
else
    skip "promtool is not here (package prometheus)"
fi
for m in $(grep -o 'taut_[a-z_]*' docs/grafana.json docs/metrics.md | sed 's/.*://' | sort -u); do
    grep -q "^# TYPE $m " "$dir/m-0.prom" && pass || fail "a document asks for $m, which is not written"
done
if command -v python3 >/dev/null; then python3 -c 'import json, sys; d = json.load(open("docs/grafana.json")); ids = [p["id"] for p in d["panels"]]; sys.exit(len(ids) != len(set(ids)) or len(ids) < 8)' && pass || fail "docs/grafana.json"; fi
finish
