#!/bin/sh
# coverage.sh : runs the tests of a coverage build and says which lines they execute, by folder (gcovr).
#   make coverage [T=PATTERN]    or BUILD=build/coverage tests/coverage.sh [PATTERN...]; lines of a file: $BUILD/lines.html
set -eu
BUILD=${BUILD:-build/coverage}
command -v gcovr >/dev/null || { echo "coverage: gcovr is not here" >&2; exit 1; }
# gcc -O0 with counters takes five to ten times as long: limits of cases and programs follow.
export CK_TIMEOUT_MULTIPLIER="${CK_TIMEOUT_MULTIPLIER:-10}" TIMEOUT="${TIMEOUT:-3600}"
export MODE=coverage TORCH=0 # for tests that call make: it would build all of this folder anew otherwise, and count nothing
tests/run.sh "$@" >"$BUILD/tests.log" 2>&1 || { tail -n 20 "$BUILD/tests.log"; echo "coverage: some tests failed; lines are counted all the same"; }
# Not counted: kernels, whose double on the CPU is the tests' own (the host code beside them is), and levels that this processor does not have.
aside='-e .*_cuda\.c -e .*_neon\.c'
grep -qw avx512f /proc/cpuinfo || aside="$aside -e .*_avx512"
grep -qw avx512_vbmi2 /proc/cpuinfo || aside="$aside -e .*_avx512vbmi2"
# shellcheck disable=SC2086
gcovr -r . --object-directory "$BUILD" -f 'comm/' -f 'compressors/' -f 'scheduler/' $aside --exclude-throw-branches -j "$(nproc)" \
    --json-summary "$BUILD/lines.json" --html "$BUILD/lines.html" "$BUILD" >/dev/null
python3 - "$BUILD/lines.json" <<'P'
import json, sys
folders, files = {}, json.load(open(sys.argv[1]))["files"]
for f in files:
    parts = f["filename"].split("/")
    for key in (parts[0], "/".join(parts[:2])):
        a, b = folders.get(key, (0, 0))
        folders[key] = a + f["line_covered"], b + f["line_total"]
for key in sorted(folders):
    covered, total = folders[key]
    print(f"{'' if '/' not in key else '  '}{key:34} {covered:6} of {total:6} lines  {100 * covered / max(1, total):5.1f}%")
low = sorted((f for f in files if f["line_total"] > 20), key=lambda f: f["line_percent"] or 0)[:15]
total = [sum(f[k] for f in files) for k in ("line_covered", "line_total")]
print(f"{'all':36} {total[0]:6} of {total[1]:6} lines  {100 * total[0] / max(1, total[1]):5.1f}%")
print("least covered:", ", ".join(f"{f['filename']} {f['line_percent']:.0f}%" for f in low))
P
