#!/bin/sh
# taut data: pack, info, verify, cat, bench as users type them; foreign readers (zstd, a Python reader made from the docs,
# indexed_zstd where it is installed); bad input; kills and a full disk while packing. LONG=1: more kills, MNIST with dense.
set -u
BUILD=${BUILD:-build/release}
TAUT=$(cd "$BUILD" && pwd)/bin/taut
DATA=${DATA:-../shared/data}
LONG=${LONG:-0}
PYTHON=${PYTHON:-python3}
here=$(pwd)
passed=0 failed=0 skipped=0
dir=$(mktemp -d)
mounted=
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf "$dir"' EXIT
pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*"
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $*"
}
ok() { # ok TEXT COMMAND...
    text=$1
    shift
    if "$@" >"$dir/log" 2>&1; then pass; else fail "$text: $(head -n 3 "$dir/log")"; fi
}
field() { sed -n "\$s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2"; }

if ! "$TAUT" data --help >"$dir/log" 2>&1; then
    grep -q 'left out' "$dir/log" && { skip "built without zstd: $(cat "$dir/log")"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
fi
cd "$dir" || exit 1

# ---- inputs ----
cat >gen.py <<'PY'
import json, random, struct
random.seed(1)
words = "the of and shard block sample error id=42 13:07:59 value=0.25 checked 0017".split()
with open("text.txt", "w") as f:
    for i in range(4000):
        f.write(" ".join(random.choice(words) for _ in range(random.randint(3, 12))) + "\n" + ("\n" if i % 40 == 39 else ""))
with open("rows.jsonl", "w") as f:
    for i in range(500):
        f.write(json.dumps({"text": "née %d" % i, "ids": [random.randint(0, 9) ** 3 for _ in range(i % 7)], "label": random.choice("abc"), "score": i / 8,
                            "soft": [random.random() for _ in range(4)]}, ensure_ascii=False) + "\n")
with open("rows.csv", "w") as f:
    f.write('name,x,y,label\n')
    for i in range(300):
        f.write('"a, ""b"" %d",%d,%g,%d\n' % (i, i - 150, i / 4, i % 3))
def idx(name, kind, shape, data):
    open(name, "wb").write(struct.pack(">BBBB", 0, 0, kind, len(shape)) + struct.pack(">%dI" % len(shape), *shape) + data)
pixels = bytes((x * y + i * 3) & 255 if 4 < x < 24 else 0 for i in range(200) for y in range(28) for x in range(28))
idx("images-idx3", 8, (200, 28, 28), pixels)
idx("labels-idx1", 8, (200,), bytes(i % 10 for i in range(200)))
open("pixels", "wb").write(pixels)
def npy(name, descr, shape, data, order=False):
    h = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
    h += " " * (63 - (10 + len(h)) % 64) + "\n"
    open(name, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(h)) + h.encode() + data)
floats = [random.gauss(0, 1) for _ in range(600)]
npy("x.npy", "<f4", (100, 6), struct.pack("<600f", *floats))
npy("big.npy", ">f4", (100, 6), struct.pack(">600f", *floats))
npy("fortran.npy", "<f4", (100, 6), struct.pack("<600f", *floats), True)
npy("fewer.npy", "<f4", (50, 2), struct.pack("<100f", *floats[:100]))
open("floats", "wb").write(struct.pack("<600f", *floats))
PY
"$PYTHON" gen.py || { echo "0 passed, 1 failed"; exit 1; }

# ---- text: zstd reads it back, and so do cat and the Python reader ----
reader="$PYTHON $here/tests/support/shard_reader.py"
same() { cmp -s "$1" "$2"; }
plain() { zstd -tq text.taut && zstd -dcq text.taut | cmp -s - text.txt && "$TAUT" data verify text.taut; }
for codec in zstd zstd:1 raw; do
    "$TAUT" data pack text.txt -o text.taut --codec $codec --block 8K >log 2>&1 || fail "pack $codec: $(cat log)"
    ok "$codec: zstd -t and zstd -dc" plain
done
for how in "--split windows --window 333" "--split lines" "--separator \\n\\n" "--split documents"; do
    for codec in zstd:3 raw dict:3 dense log; do
        [ "$how" != "--split documents" ] || [ $codec = zstd:3 ] || continue # one sample
        "$TAUT" data pack text.txt -o text.taut --codec $codec --block 16K $how >log 2>&1 || fail "pack $codec $how: $(cat log)"
        "$TAUT" data cat text.taut >back
        ok "cat: $codec $how" same back text.txt
        ok "zstd -t: $codec $how" zstd -tq text.taut
        [ $codec = dense ] && continue
        $reader text.taut text >back
        ok "the Python reader: $codec $how" same back text.txt
    done
done
ok "seek table against the frames" $reader text.taut --frames
if "$PYTHON" -c 'import indexed_zstd' 2>/dev/null; then
    "$TAUT" data pack text.txt -o text.taut --block 8K >/dev/null
    ok "indexed_zstd seeks" "$PYTHON" -c '
import indexed_zstd
f, o = indexed_zstd.IndexedZstdFile("text.taut"), open("text.txt", "rb").read()
assert f.size() == len(o)
for p in (0, 8192, 70000, len(o) - 100, 5):
    f.seek(p)
    assert f.read(500) == o[p:p + 500]'
else
    skip "indexed_zstd is not installed (pip install indexed_zstd): seeking by a foreign reader"
fi
"$TAUT" data pack text.txt -o a.taut --threads 1 >/dev/null
"$TAUT" data pack text.txt -o b.taut --threads 3 >/dev/null
ok "the same bytes from any number of threads" same a.taut b.taut
"$TAUT" data cat a.taut --samples 3:5 >back
tail -c +3073 text.txt | head -c 2048 >want
ok "cat --samples" same back want
gzip -k text.txt
"$TAUT" data pack text.txt.gz -o b.taut >/dev/null && zstd -dcq b.taut >back
ok "a gzip file is packed decoded" same back text.txt

# ---- other formats, every field through the Python reader ----
fields() { # fields SHARD NAME...
    s=$1
    shift
    for f in "$@"; do
        "$TAUT" data cat $s --field $f >x1 2>log && $reader $s $f >x2 2>>log
        if [ -s x1 ] && cmp -s x1 x2; then pass; else fail "$s: field $f: $(tail -n 1 log)"; fi
    done
}
"$TAUT" data pack rows.jsonl -o j.taut >log 2>&1 || fail "jsonl: $(cat log)"
fields j.taut text ids label score soft
"$TAUT" data info j.taut --json | tail -n 1 | grep -q '"labels": "a\\nb\\nc"' && pass || fail "names of classes"
head -c 5000 text.txt >tiny.txt
"$TAUT" data pack tiny.txt -o t.taut --codec dense:prime=2300 --window 500 --block 1500 >log 2>&1 || fail "dense: $(cat log)"
fields t.taut text
"$PYTHON" -c '
import struct
pixels = bytes((x * y + i * 3) & 255 if 2 < x < 9 else 0 for i in range(24) for y in range(11) for x in range(12))
open("few-idx3", "wb").write(struct.pack(">BBBBIII", 0, 0, 8, 3, 24, 11, 12) + pixels)'
"$TAUT" data pack few-idx3 -o t.taut --codec dense:prime=700 --block 1000 >log 2>&1 || fail "dense: $(cat log)"
fields t.taut image
"$TAUT" data pack rows.csv -o c.taut --block 1K >log 2>&1 || fail "csv: $(cat log)"
fields c.taut name x y label
"$TAUT" data pack images-idx3 labels-idx1 -o i.taut --block 16K --field image=med >log 2>&1 || fail "idx: $(cat log)"
fields i.taut image label
"$TAUT" data cat i.taut --field image >back
ok "pixels" same back pixels
for x in x.npy big.npy; do
    "$TAUT" data pack $x -o x.taut >/dev/null && "$TAUT" data cat x.taut >back
    ok "$x" same back floats
done
# an error budget over all float fields, spent by the solver of plans; what comes out is measured
"$TAUT" data pack x.npy big.npy -o x.taut --budget rel=0.001 >log 2>&1 || fail "pack --budget: $(cat log)"
"$TAUT" data info x.taut --json | tail -n 1 >out
"$PYTHON" - <<'PY' && pass || fail "--budget rel=0.001: $(cat out)"
import json
f = json.load(open("out"))["fields"]
assert sum(x["rel_err2"] for x in f) <= 0.001 * len(f) and sum(x["rel_err2"] for x in f) > 0
assert sum(x["stored_bytes"] for x in f) < 0.6 * sum(x["decoded_bytes"] for x in f)
PY
mkdir -p photos/cat photos/dog
for i in 1 2 3; do head -c ${i}000 pixels >photos/cat/$i.jpg && head -c ${i}500 text.txt >photos/dog/$i.png; done
"$TAUT" data pack photos -o p.taut >/dev/null
fields p.taut file label
"$TAUT" data cat p.taut --field file --samples 4 >back
ok "a file passes through" same back photos/dog/2.png
"$TAUT" data bench i.taut --samples 50 --seconds 0 --json >out
[ -n "$(field prepare_ms out)" ] && pass || fail "bench --json"

# ---- what editors and spreadsheets write; a shard of one block is read anew each time that it is timed ----
printf '\357\273\277{"a":1}\n{"a":2}\n' >mark.jsonl
ok "a byte order mark before JSON" "$TAUT" data pack mark.jsonl -o t.taut
printf 'id,x\n18446744073709551615,1\n7,2\n\n' >ids.csv
printf 'x\n1\n2\n\n' >column.csv
awk 'BEGIN { print "label"; for (i = 0; i < 70000; i++) print i ".5" }' >prices.csv
ok "numbers beyond 64 bits" "$TAUT" data pack ids.csv -o t.taut
"$TAUT" data cat t.taut --field id >back
printf 184467440737095516157 >want
ok "stay what they are" same back want
for f in column prices; do
    "$TAUT" data pack $f.csv -o t.taut >log 2>&1 && "$TAUT" data info t.taut --json | tail -n 1 >out
    grep -q '"kind": "text"' out && fail "$f.csv: numbers have become texts" || pass
    [ "$(sed 's/.*"samples": *\([0-9]*\).*/\1/' out)" = "$(grep -c '[0-9]' $f.csv)" ] || fail "$f.csv: $(cat log)"
done
"$PYTHON" -c 'open("accents.txt", "w", encoding="utf-8").write("né à l’été " * 300)'
"$TAUT" data pack accents.txt -o t.taut --window 100 >/dev/null && "$TAUT" data export t.taut -o t.tar >log 2>&1 || fail "accents: $(cat log)"
ok "windows end between characters" "$PYTHON" -c '
import tarfile
t = tarfile.open("t.tar")
parts = [t.extractfile(m).read() for m in t]
assert "".join(p.decode("utf-8") for p in parts) == open("accents.txt", encoding="utf-8").read()
assert max(map(len, parts)) <= 100 and min(map(len, parts[:-1])) > 96'
"$TAUT" data pack text.txt -o one.taut --block 1G --codec zstd:1 >/dev/null && "$TAUT" data bench one.taut --samples 5 --seconds 0 --json | tail -n 1 >out
awk -v r="$(sed 's/.*"read_gbps": *\([0-9.]*\).*/\1/' out)" -v us="$(sed 's/.*"sample_us": *\([0-9.]*\).*/\1/' out)" 'BEGIN { exit !(r > 0 && r < 60 && us > 2) }' &&
    pass || fail "bench of one block: $(cat out)"

# ---- bad input ----
bad() { # bad CODE 'WORDS|MORE WORDS' ARGUMENTS...: nothing is left behind
    code=$1 words=$2
    shift 2
    rm -f x.out .x.out.part
    timeout 60 "$TAUT" data "$@" >out 2>&1
    rc=$?
    [ "$rc" -eq "$code" ] || { fail "exit $rc, not $code: $*: $(head -n 3 out)"; return; }
    [ ! -e x.out ] && [ ! -e .x.out.part ] || { fail "left a file: $*"; return; }
    echo "$words" | tr '|' '\n' >words
    while read -r w; do grep -qF -- "$w" out || echo "$w"; done <words >missing
    if [ -s missing ]; then fail "no '$(cat missing)' in: $*: $(head -n 3 out)"; else pass; fi
}
: >empty
printf 'ok\nfine\nnot \377 text\n' >latin.txt
printf '{"a":1}\n{"a":2\n' >broken.jsonl
printf '{"a":1}\n{"b":2}\n' >other.jsonl
printf '{"a":1}\n{"a":2,"b":3}\n' >more.jsonl
printf '{"a":1}\n{"a":"x"}\n' >mixed.jsonl
printf 'a,b\n1,2\n1,2,3\n' >ragged.csv
printf 'a,b\n' >norows.csv
printf 'a b,a_b\n1,2\n' >alike.csv
printf '{"a b":1,"a_b":2}\n' >alike.jsonl
printf '{"label":"r\\u0000x"}\n{"label":"r"}\n' >nul.jsonl
printf 'n\351e,b\n1,2\n' >names.csv
head -c 1000 images-idx3 >short-idx3
mkdir -p nothing
bad 1 'empty|is empty' pack empty -o x.out
bad 1 'latin.txt|line 3|0xff|--bytes' pack latin.txt -o x.out
bad 1 'broken.jsonl:2|invalid JSON' pack broken.jsonl -o x.out
bad 1 "other.jsonl:2|'a'|is not there" pack other.jsonl -o x.out
bad 1 "more.jsonl:2|'b'|--select" pack more.jsonl -o x.out
ok "--select of what all lines have" "$TAUT" data pack more.jsonl --select a -o t.taut
bad 1 "mixed.jsonl:2|'a'" pack mixed.jsonl -o x.out
bad 1 'ragged.csv:3|3 fields|2' pack ragged.csv -o x.out
bad 1 'norows.csv|no records' pack norows.csv -o x.out
bad 1 "alike.csv|'a_b'|rename it|--select" pack alike.csv -o x.out
bad 1 "alike.jsonl|'a_b'|rename it" pack alike.jsonl -o x.out
bad 1 "class 'r|NUL" pack nul.jsonl -o x.out
bad 1 'names.csv:1|not UTF-8|0xe9' pack names.csv -o x.out
printf 'y,x\n3,4\n' >other.csv
printf 'x,y\n1,2\n' >first.csv
printf 'x\n1.5\n-2e39\n' >wide.csv
printf '{"x":1.5}\n{"x":2e39}\n' >wide.jsonl
bad 1 "other.csv:1|'y'|'x' in first.csv" pack first.csv other.csv -o x.out
bad 1 "wide.csv:3|'x'|-2e+39|--float64" pack wide.csv -o x.out
bad 1 "wide.jsonl:2|2e+39|--float64" pack wide.jsonl -o x.out
ok "--float64" "$TAUT" data pack wide.csv --float64 -o t.taut
tar -cf texts.tar first.csv && gzip -c texts.tar >texts.tar.gz
for f in texts.tar texts.tar.gz; do bad 1 "$f|format tar|taut data index|--format text" pack $f -o x.out; done
bad 1 't.taut|is a shard already' pack t.taut -o x.out
ok "a tar as text" "$TAUT" data pack texts.tar --format text -o t.taut
bad 1 '/dev/null|read twice' pack --format csv /dev/null -o x.out
bad 1 '/dev/null|read twice' pack --format jsonl /dev/null -o x.out
bad 2 '--delimiter' pack first.csv --delimiter '"' -o x.out
# what is read is not written over, nor a device or a pipe taken for a file
mkdir -p left right
"$TAUT" data export a.taut -o left/a.tar >/dev/null && cp left/a.tar right/
ln -s text.txt link.txt
bad 2 'is link.txt, which is read' pack link.txt -o text.txt
bad 2 'is a.taut, which is read' cat a.taut -o ./a.taut
bad 2 'is a.taut, which is read' export a.taut --format tar -o a.taut
bad 2 'is a.taut, which is read' plan full a.taut -o a.taut
bad 2 'would index' index x.npy -o x.npy
bad 2 'index of two files' index left/a.tar right/a.tar -o nothing
bad 1 'no-such-folder|cannot be written' plan full a.taut -o no-such-folder/x.out
ok "nothing was written over" "$TAUT" data verify a.taut
# a link stays one, /dev/stdout among them
: >t.taut && : >t.plan && ln -s t.taut l.taut && ln -s t.plan l.plan
"$TAUT" data plan full a.taut -o l.plan >/dev/null && "$TAUT" data pack text.txt -o l.taut >/dev/null
[ -L l.taut ] && [ -s t.taut ] && [ -L l.plan ] && [ -s t.plan ] && pass || fail "results in the place of links: $(ls -l l.* t.*)"
ln -s new.taut ld.taut && ln -s new.plan ld.plan
"$TAUT" data plan full a.taut -o ld.plan >/dev/null && "$TAUT" data pack text.txt -o ld.taut >/dev/null
[ -L ld.taut ] && [ -s new.taut ] && [ -L ld.plan ] && [ -s new.plan ] && pass || fail "results in the place of links to nothing yet: $(ls -l ld.* new.*)"
mkfifo pipe
bad 1 'not a regular file' plan full a.taut -o pipe
bad 1 'pipe: not a regular file' info pipe
bad 1 'short-idx3|truncated' pack short-idx3 -o x.out
bad 1 'x.npy|100|fewer.npy|50' pack x.npy fewer.npy -o x.out
bad 1 'fortran.npy|fortran_order' pack fortran.npy -o x.out
bad 1 'nowhere.txt|No such file' pack nowhere.txt -o x.out
bad 1 'nothing|without files' pack nothing -o x.out
bad 1 'no-such-folder' pack text.txt -o no-such-folder/x.out
bad 2 'zst|field codecs are' pack text.txt -o x.out --codec zst
bad 2 'level=99' pack text.txt -o x.out --codec zstd:99
bad 2 'NAME=CODEC' pack text.txt -o x.out --field dense
bad 2 'nofield|fields are text' pack text.txt -o x.out --field nofield=raw
bad 2 '--block=1|256' pack text.txt -o x.out --block 1
bad 2 '-o OUT.taut' pack text.txt
bad 2 '--budget=5|rel=' pack x.npy -o x.out --budget 5
bad 2 '--format=xml' pack text.txt -o x.out --format xml
bad 1 'too few' pack x.npy -o x.out --codec dict
bad 1 'text.txt|not a shard' info text.txt
bad 1 'empty|empty file' verify empty
bad 2 'fields are' cat j.taut
bad 2 'samples=9:3' cat a.taut --samples 9:3
bad 2 'unknown subcommand|did you mean' verfy a.taut
gzip -c text.txt >g.taut
bad 1 'g.taut|gzip' info g.taut
head -c 1000 a.taut >cut.taut
bad 1 'cut.taut|truncated' verify cut.taut

# ---- damage: named, the rest can be read ----
"$TAUT" data pack text.txt -o d.taut --block 8K >/dev/null
cp d.taut e.taut
printf '\125' | dd of=e.taut bs=1 seek=9000 conv=notrunc 2>/dev/null
bad 1 'e.taut|block|of field text|samples' verify e.taut
bad 1 '--skip-bad' cat e.taut -o x.out
timeout 20 cat pipe >/dev/null &
bad 1 '--skip-bad' cat e.taut -o pipe
wait $!
[ -p pipe ] && pass || fail "cat removed a pipe that it wrote to"
"$TAUT" data cat e.taut --skip-bad >back 2>log
"$PYTHON" - <<'PY' && pass || fail "cat --skip-bad: $(cat log)"
a, b = open("text.txt", "rb").read(), open("back", "rb").read()
assert len(a) - len(b) == 8192, len(a) - len(b)
n = next(i for i in range(len(b)) if a[i] != b[i]) // 8192 * 8192
assert b == a[:n] + a[n + 8192:]
PY
grep -q 'block' log && pass || fail "skipped blocks are named"

# ---- kill -9 while packing: the old file or none ----
cp d.taut old.taut
kills=15
[ "$LONG" = 0 ] || kills=100
wrong=0
for i in $(seq 1 $kills); do
    rm -f k.taut
    [ $((i % 2)) = 0 ] || cp old.taut k.taut
    "$TAUT" data pack text.txt -o k.taut --codec zstd:12 --block 8K >/dev/null 2>&1 &
    pid=$!
    sleep "0.$(printf '%03d' $((i * 37 % 250)))"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ ! -e k.taut ] || "$TAUT" data verify k.taut >/dev/null 2>&1 || wrong=$((wrong + 1))
    [ $((i % 2)) = 0 ] || [ -e k.taut ] || wrong=$((wrong + 1))
done
[ $wrong = 0 ] && pass || fail "$wrong of $kills kills left half a shard"
ok "the next writer cleans up" "$TAUT" data pack text.txt -o k.taut
[ ! -e .k.taut.part ] && pass || fail ".part is left after a complete pack"

# ---- disk full: no file, a clear message ----
mkdir -p small
if mount -t tmpfs -o size=64k tmpfs small 2>/dev/null; then
    mounted=$dir/small
    "$TAUT" data pack pixels --bytes --codec raw -o small/x.taut >out 2>&1 && fail "packed more than fits"
    grep -q 'disk is full' out && pass || fail "disk full: $(cat out)"
    [ -z "$(ls -A small)" ] && pass || fail "disk full left $(ls -A small)"
    umount small && mounted=
else
    skip "cannot mount a small tmpfs: a full disk"
fi

# ---- sizes, everything counted: against zstd's own on text that every clone has, and the figures of docs/results.md on real data ----
cd "$here" || exit 1
packed() { # packed LIMIT FILE CODEC
    "$TAUT" data pack "$2" -o "$dir/r.taut" --codec "$3" --threads 2 >"$dir/log" 2>&1 || fail "pack $2 $3: $(cat "$dir/log")"
    size=$(wc -c <"$dir/r.taut")
    if [ "$size" -le "$1" ]; then pass; else fail "$2 with $3: $size bytes, more than $1"; fi
}
cat README.md CONTRIBUTING.md CHANGELOG.md docs/*.md >"$dir/prose"
whole=$(zstd -12 -c "$dir/prose" | wc -c)
packed $((whole + whole / 8)) "$dir/prose" zstd # in blocks, each of which can be read alone: they share no history
packed $((whole - whole / 50)) "$dir/prose" dense
"$TAUT" data cat "$dir/r.taut" | cmp -s - "$dir/prose" && pass || fail "dense is not lossless on prose"
if [ -f "$DATA/tinyshakespeare.txt" ]; then
    packed 435000 "$DATA/tinyshakespeare.txt" zstd
    zstd -dcq "$dir/r.taut" | cmp -s - "$DATA/tinyshakespeare.txt" && pass || fail "zstd -dc of tinyshakespeare"
    packed 405000 "$DATA/tinyshakespeare.txt" dict
    packed 342000 "$DATA/tinyshakespeare.txt" dense
    "$TAUT" data cat "$dir/r.taut" | cmp -s - "$DATA/tinyshakespeare.txt" && pass || fail "dense is not lossless"
    if [ "$LONG" != 0 ]; then
        packed 1650000 "$DATA/t10k-images-idx3-ubyte.gz" zstd
        packed 1280000 "$DATA/t10k-images-idx3-ubyte.gz" dense
    fi
else
    skip "$DATA is not here: sizes on real data"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
