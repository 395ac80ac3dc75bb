#!/bin/sh
# One run of what users touch under valgrind: codecs, the page, the screen, an allreduce over threads with a plan: no error, nothing lost for good.
# (valgrind shows programs a CPU without AVX-512: these kernels are for the sanitizers.)
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
. tests/support/shell.sh
case $BUILD in *asan* | *tsan*) echo "SKIP a sanitizer is in this build"; echo "0 passed, 0 failed, 1 skipped"; exit 0 ;; esac
command -v valgrind >/dev/null || { echo "SKIP valgrind is not here"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
clean() { # clean COMMAND...
    if OPENBLAS_NUM_THREADS=1 valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite "$@" >"$dir/log" 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAIL $*: $(grep -v '^$' "$dir/log" | head -n 12)"
    fi
}
head -c 65536 "$TAUT" >"$dir/x.bin"
awk 'BEGIN { for (i = 0; i < 4096; i++) printf "%c", i % 128 }' >"$dir/x.f32"
for spec in quant:bits=4 grid:step=1e-30,code=rans grid:rel=0.1 topk:density=0.05 fp16; do
    clean "$TAUT" encode --codec "$spec" "$dir/x.f32" "$dir/x.taut"
    clean "$TAUT" decode "$dir/x.taut" "$dir/back.f32"
done
clean "$TAUT" info
if command -v python3 >/dev/null; then
    python3 tests/support/make_log.py 300 8 1 spike=70 >"$dir/run.jsonl"
    clean "$TAUT" report "$dir/run.jsonl" -o "$dir/page.html"
    clean "$TAUT" top --once "$dir/run.jsonl"
fi
[ ! -x "$BUILD/tests/multi/test_metrics" ] || CK_FORK=no clean "$BUILD/tests/multi/test_metrics"
for t in fuzz_frames fuzz_logs; do
    [ ! -x "$BUILD/tests/unit/test_$t" ] || CK_FORK=no CK_RUN_CASE=fuzz_corpus clean "$BUILD/tests/unit/test_$t"
done
finish
