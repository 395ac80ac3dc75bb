# shell.sh : counting and a folder of its own for a test in shell; sourced from the project's root. Last line: finish.
# shellcheck shell=sh
passed=0 failed=0 skipped=0
slow=${CK_TIMEOUT_MULTIPLIER:-1} # a slow build's limits are so many times as long: timeout $((60 * slow)) COMMAND
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*"
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $*"
}
expect() { # expect NAME COMMAND...: which succeeds; what it said is in $dir/log
    name=$1
    shift
    if "$@" >"$dir/log" 2>&1; then pass; else
        fail "$name"
        tail -n 15 "$dir/log" | sed 's/^/  | /'
    fi
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}
