#!/bin/sh
# taut report and taut top on logs: the figures of the page are the log's, what is wrong is named, a hundred thousand steps make a small page;
# top survives a window of any size and a log that begins anew.
set -u
BUILD=${BUILD:-build/release}
TAUT=$PWD/$BUILD/bin/taut top=$PWD
. tests/support/shell.sh
command -v python3 >/dev/null || { echo "SKIP python3 is not here"; skipped=1; finish; }
cd "$dir" || exit 1
make_log() { python3 "$top/tests/support/make_log.py" "$@"; }

# ---- the page is true ----
make_log 700 6 1 spike=90 >a.jsonl
make_log 90 6 2 codec=none >b.jsonl
true_page() { python3 "$top/tests/support/page_truth.py" "$@" >log 2>&1 && pass || fail "$*: $(cat log)"; }
"$TAUT" report a.jsonl b.jsonl -o page.html >log 2>&1 && pass || fail "report: $(cat log)"
true_page page.html a.jsonl b.jsonl
last=$("$TAUT" report a.jsonl --json -o one.html | tail -n 1)
case $last in *'"steps": 700'*'"ended": true'*) pass ;; *) fail "--json: $last" ;; esac
true_page one.html a.jsonl
# files of one name in different folders keep their folders
mkdir x y && cp a.jsonl x/run.jsonl && cp b.jsonl y/run.jsonl
"$TAUT" report x/run.jsonl y/run.jsonl -o two.html >/dev/null && grep -q 'x/run.jsonl' two.html && pass || fail "two files of one name are not told apart"

# ---- many steps: small, and still true ----
steps=6000
[ "${LONG:-0}" != 1 ] || steps=100000
make_log $steps 12 3 spike=900 end=0 >big.jsonl
"$TAUT" report big.jsonl -o big.html >/dev/null && pass || fail "a long run"
size=$(wc -c <big.html)
[ "$size" -lt 1000000 ] && pass || fail "the page of $steps steps has $size bytes"
true_page big.html big.jsonl
grep -q "steps are drawn as bins of" big.html && pass || fail "the page does not say that it draws bins"

# ---- a run that is under way: the last line is not complete ----
head -c $(($(wc -c <a.jsonl) / 2)) a.jsonl >half.jsonl
"$TAUT" report half.jsonl -o half.html >/dev/null && grep -q 'not ended, the log ends within a line' half.html && pass || fail "a log that is being written"

# ---- what taut plan found ----
printf '{"budget":"rel=0.03","break_even":[{"elements":16384,"gbit_per_s":1.0,"codec":"grid","speedup":3.25},{"elements":16384,"gbit_per_s":10.0,"codec":"none","speedup":1.0}]}\n' >plan.json
"$TAUT" report a.jsonl --plan plan.json -o p.html >/dev/null && grep -q "data-value='3.25'>grid<br><b>3.25×" p.html && pass || fail "--plan"

# ---- errors name what is wrong, and leave no page ----
bad() { # bad CODE WORDS ARGUMENTS...
    code=$1 words=$2
    shift 2
    "$TAUT" "$@" >out 2>log
    rc=$?
    if [ $rc = "$code" ] && grep -q -- "$words" log && [ ! -e no.html ]; then pass; else fail "taut $*: exit $rc, $(cat log)"; fi
}
printf 'hello\n' >text.jsonl
: >empty.jsonl
head -n 3 a.jsonl >broken.jsonl && printf '{"kind":"step",\n' >>broken.jsonl && tail -n 1 a.jsonl >>broken.jsonl
bad 2 'missing operand' report -o no.html
bad 1 'nothere.jsonl: No such file' report nothere.jsonl -o no.html
bad 1 'text.jsonl: line 1: is no JSON object' report text.jsonl -o no.html
bad 1 'empty.jsonl: is empty' report empty.jsonl -o no.html
bad 1 'broken.jsonl: line 4' report broken.jsonl -o no.html
bad 1 'nofolder/no.html: cannot be written: No such file' report a.jsonl -o nofolder/no.html
: >real.html && ln -s real.html link.html
"$TAUT" report a.jsonl -o link.html >/dev/null && [ -L link.html ] && [ -s real.html ] && pass || fail "a page in the place of a link"
ln -s new.html dangling.html
"$TAUT" report a.jsonl -o dangling.html >/dev/null && [ -L dangling.html ] && [ -s new.html ] && pass || fail "a page in the place of a link to nothing yet"
mkfifo pipe
bad 1 'pipe: cannot be written: it is there and not a regular file' report a.jsonl -o pipe
bad 2 '-o x/../a.jsonl: is a.jsonl, which is read' report b.jsonl a.jsonl -o x/../a.jsonl
bad 2 'is plan.json, which is read' report a.jsonl --plan plan.json -o plan.json
bad 1 'x: Is a directory' top --once x
case $BUILD in
*asan* | *tsan*) ;; # which take all addresses
*) truncate -s 300M long.jsonl # one line, for which there is no memory
    (ulimit -v 400000 && exec "$TAUT" report long.jsonl -o no.html) >out 2>log
    grep -q 'long.jsonl: line 1: Cannot allocate memory' log && [ ! -e no.html ] && pass || fail "a line that is too long: $(cat log)" ;;
esac
bad 1 'has no object with "break_even"' report a.jsonl --plan a.jsonl -o no.html
bad 2 'unexpected operand' report a.jsonl a.jsonl a.jsonl a.jsonl a.jsonl a.jsonl a.jsonl a.jsonl a.jsonl -o no.html
bad 1 'nothere: No such file' top --once nothere
bad 1 'text.jsonl: line 1' top --once text.jsonl
bad 2 '0.05..3600' top a.jsonl --every 0

# ---- top ----
case $("$TAUT" top --json a.jsonl) in *'"step": 700'*'"steps_over_budget": 7'*'"ended": true'*) pass ;; *) fail "top --json: $("$TAUT" top --json a.jsonl)" ;; esac
COLUMNS=70 LINES=18 "$TAUT" top --once half.jsonl >out
[ "$(wc -l <out)" -le 18 ] && grep -q 'step .*/700' out && pass || fail "top --once: $(cat out)"
for columns in 48 60 80 120; do # what does not fit goes into a line of its own: no figure is cut
    COLUMNS=$columns LINES=60 "$TAUT" top --once a.jsonl >out
    whole=0
    for words in 'data [0-9.]* [mµ]*s' 'forward [0-9.]* [mµ]*s' 'backward [0-9.]* [mµ]*s' 'wait [0-9.]* [mµ]*s' 'optimizer [0-9.]* [mµ]*s' 'scales [0-9.]* [mµ]*s' \
        'steps over the budget$' 'so far, rank 0$' 'budget like:quant:bits=4$' ' ended$'; do grep -q "$words" out && whole=$((whole + 1)); done
    [ $whole = 10 ] && pass || fail "top in $columns columns: $whole of 10 figures whole: $(cat out)"
done
python3 - "$TAUT" a.jsonl <<'P' >log 2>&1 && pass || fail "top in a terminal: $(tail -n 5 log)"
import fcntl, os, pty, re, select, shutil, signal, struct, sys, termios, time
taut, log = sys.argv[1:]
lines = open(log).read().splitlines(True)
open("live.jsonl", "w").writelines(lines[:40])
def start(term):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = term
        os.environ["LANG"] = "C.UTF-8"
        os.execv(taut, [taut, "top", "live.jsonl", "--every", "0.1"])
    return pid, fd
pid, fd = start("dumb")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0   # nothing to draw on: once
pid, fd = start("xterm")
def resize(rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.kill(pid, signal.SIGWINCH)
def read(seconds):
    out, until = b"", time.time() + seconds
    while time.time() < until:
        if select.select([fd], [], [], 0.05)[0]:
            try: out += os.read(fd, 65536)
            except OSError: break
    return out.decode("utf-8", "replace")
def wait_for(what, seconds=20):
    out, until = "", time.time() + seconds
    while time.time() < until:
        out += read(0.1)
        if what in out: return out
    raise SystemExit(f"no '{what}' in: {out[-500:]!r}")
wait_for("taut top  live.jsonl")
for rows, columns in ((40, 120), (10, 30), (24, 80)):
    resize(rows, columns)
    read(0.3)
    text = read(0.5)
    for frame in text.split("\033[H")[1:-1]:
        shown = [re.sub(r"\033\[[\d;?]*[A-Za-z]", "", l) for l in frame.replace("\r", "").split("\n")]
        assert all(len(l) <= columns for l in shown[:-1]), (columns, shown)
        assert len(shown) <= rows, (rows, len(shown))
open("live.jsonl", "a").writelines(lines[40:])
wait_for("step 700/700")
open("new.jsonl", "w").writelines(lines[:30])
os.rename("new.jsonl", "live.jsonl")   # a run that begins anew
wait_for("/700")
os.write(fd, b"\033[A")                  # an arrow is no escape
os.kill(pid, signal.SIGTSTP)
wait_for("\033[?1049l")
assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
assert termios.tcgetattr(fd)[3] & termios.ECHO
os.kill(pid, signal.SIGCONT)
wait_for("\033[?1049h")
wait_for("/700")
os.write(fd, b"q")
out = read(0.5)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
P
finish
