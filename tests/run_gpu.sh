#!/bin/sh
# run_gpu.sh: the tests that need a GPU. Where there is none they are skipped with a counted reason; where there is one
# a skip is a failure.
set -eu
BUILD=${BUILD:-build/release}
passed=0 failed=0 skipped=0
found=0
for t in "$BUILD"/tests/gpu/test_*; do
    case $t in *.o | *.d | *'*') continue ;; esac
    found=1
    if ! nvidia-smi -L >/dev/null 2>&1; then
        echo "SKIP ${t##*/}: no GPU on this machine"
        skipped=$((skipped + 1))
    elif "$t"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
[ $found = 1 ] || { echo "SKIP no GPU code is built yet"; skipped=$((skipped + 1)); }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
