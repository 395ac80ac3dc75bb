#!/bin/sh
# Every command of docs/guide.md, in the order in which it stands there: an indented line below a blank one. One after the other, in one folder, as a reader would.
set -u
BUILD=${BUILD:-build/release}
top=$PWD
passed=0 failed=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
case $BUILD in /*) ;; *) BUILD=$top/$BUILD ;; esac
finish() {
    echo "$passed passed, $failed failed, ${1:-0} skipped"
    [ "$failed" -eq 0 ]
    exit
}
[ -x "$BUILD/libexec/taut-train" ] || { echo "SKIP built without libtorch: taut train"; finish 1; }
command -v "${MPIRUN:-mpirun}" >/dev/null || { echo "SKIP no mpirun"; finish 1; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OPENBLAS_NUM_THREADS=1
# as installed: tautrun finds its library beside itself
make --no-print-directory -C "$top" BUILD="$BUILD" DESTDIR= PREFIX="$dir/prefix" install >"$dir/log" 2>&1 || { echo "FAIL make install: $(tail -n 3 "$dir/log")"; failed=1; finish; }
export PATH="$dir/prefix/bin:$PATH"
ls /usr/share/common-licenses/GPL-* >/dev/null 2>&1 || { echo "SKIP no /usr/share/common-licenses: the guide's text"; finish 1; }
grep -E '^ {4,8}[A-Za-z_].*' "$top/docs/guide.md" | sed 's/^ *//' | grep -E '^([A-Z_]+=[^ ]* )*(taut|mpirun|tautrun|cat) ' >"$dir/commands"
cd "$dir" || exit 1
while IFS= read -r command; do
    case $command in "taut top"*) command="$command --once" ;; esac # which else would wait for a key
    if timeout 300 sh -c "$command" </dev/null >log 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAIL $command: $(tail -n 5 log)"
    fi
done <commands
[ "$passed" -ge 12 ] || { failed=$((failed + 1)); echo "FAIL only $passed commands were found in docs/guide.md"; }
for f in report.html budgets.html taut.prom; do [ -s $f ] && passed=$((passed + 1)) || { failed=$((failed + 1)); echo "FAIL $f was not written"; }; done
if command -v python3 >/dev/null; then
    python3 "$top/tests/support/page_truth.py" budgets.html loose.jsonl auto.jsonl none.jsonl >log 2>&1 && passed=$((passed + 1)) || { failed=$((failed + 1)); echo "FAIL budgets.html: $(cat log)"; }
fi
finish
