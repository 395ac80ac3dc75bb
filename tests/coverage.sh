#!/bin/sh
# coverage.sh : runs the tests of a coverage build and says which lines they execute, by folder (gcovr). What only a GPU runs is left out.
#   make coverage            or BUILD=build/coverage tests/coverage.sh [PATTERN...]
set -eu
BUILD=${BUILD:-build/coverage}
command -v gcovr >/dev/null || { echo "coverage: gcovr is not here" >&2; exit 1; }
tests/run.sh "$@" >"$BUILD/tests.log" 2>&1 || { tail -n 20 "$BUILD/tests.log"; echo "coverage: some tests failed; lines are counted all the same"; }
gcovr -r . --object-directory "$BUILD" -f 'comm/' -f 'compressors/' -f 'scheduler/' -e '.*_cuda\.c' -e 'compressors/cuda/' -e '.*_device\.c' -e '.*_neon\.c' --exclude-throw-branches \
    --exclude-lines-by-pattern '.*FUZZ_HOLDS.*' --json-summary "$BUILD/lines.json" --html "$BUILD/lines.html" "$BUILD" >/dev/null
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
print("least covered:", ", ".join(f"{f['filename']} {f['line_percent']:.0f}%" for f in low))
P
