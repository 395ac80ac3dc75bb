#!/bin/sh
# taut data index: files of seven formats, made from the formats' descriptions by tests/support/foreign_files.py (Arrow: by pyarrow,
# tests/fuzz/corpus/arrow), read back sample by sample, planned, benched, trained on; bad files; files that change. The files themselves must
# not change. LONG=1: training on every format.
set -u
BUILD=${BUILD:-build/release}
TAUT=$(cd "$BUILD" && pwd)/bin/taut
LONG=${LONG:-0}
PYTHON=${PYTHON:-python3}
here=$(pwd)
. tests/support/shell.sh
ok() { # ok TEXT COMMAND...
    text=$1
    shift
    if "$@" >"$dir/log" 2>&1; then pass; else fail "$text: $(head -n 3 "$dir/log")"; fi
}
refuses() { # refuses WORDS COMMAND...: exit code 1 or 2, and the message has these words
    words=$1
    shift
    "$@" >"$dir/log" 2>&1
    code=$?
    if [ $code -ne 1 ] && [ $code -ne 2 ]; then fail "$*: exit code $code: $(head -n 2 "$dir/log")"; return; fi
    if grep -q -- "$words" "$dir/log"; then pass; else fail "$*: no '$words' in: $(head -n 2 "$dir/log")"; fi
}
if ! "$TAUT" data --help >"$dir/log" 2>&1; then
    grep -q 'left out' "$dir/log" && { echo "SKIP built without zstd"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
fi
"$PYTHON" tests/support/foreign_files.py "$dir/files" || { echo "0 passed, 1 failed"; exit 1; }
cd "$dir/files" || exit 1
for f in "$here"/tests/fuzz/corpus/arrow/*; do
    case $f in
    */plain.* | */zstd.* | */legacy.*) tail -c +2 "$f" >"${f##*/}.arrow" ;;
    *) tail -c +2 "$f" >"bad/${f##*/}.arrow" ;;
    esac
done
sums() { find . -type f ! -name '*.taut' ! -name '*.plan' -exec cksum {} + | sort; }
sums >"$dir/before"

# ---- every field of every format ----
equal() { # equal INDEX PREFIX: the samples of its fields are PREFIX.FIELD.want
    n=0
    for w in "$2".*.want; do
        field=${w#"$2".}
        "$TAUT" data cat "$1" --field "${field%.want}" | cmp - "$w" || return 1
        n=$((n + 1))
    done
    [ $n -gt 0 ] && "$TAUT" data verify "$1"
}
made() { # made INDEX PREFIX ARGS...
    index=$1 prefix=$2
    shift 2
    ok "index $*" "$TAUT" data index "$@"
    ok "samples of $*" equal "$index" "$prefix"
}
for block in "" "--block 256"; do
    made idx.taut idx images-idx3 labels-idx1 -o idx.taut $block
    made floats-idx2.taut floats-idx2 floats-idx2 $block
    made npy.taut npy x.npy y.npy -o npy.taut $block
    made ids.bin.taut ids ids.bin $block
    made wide.idx.taut wide wide.idx $block
    made ex.tfrecord.taut ex.tfrecord ex.tfrecord $block
    made raw.tfrecord.taut raw.tfrecord raw.tfrecord --raw $block
    for t in gnu pax long ustar; do made $t.tar.taut $t.tar $t.tar $block; done
    ok "index of a folder of MDS" "$TAUT" data index mds $block
    for s in mds/*.mds; do ok "samples of $s" equal $s.taut $s; done
    for a in plain.file plain.stream zstd.file zstd.stream; do made $a.arrow.taut "$here/tests/fuzz/corpus/arrow" $a.arrow $block; done
done
ok "an Arrow stream without markers" "$TAUT" data index legacy.stream.arrow
"$TAUT" data index gnu.tar -o a.taut >/dev/null && "$TAUT" data index gnu.tar -o b.taut >/dev/null
ok "the same index twice" cmp a.taut b.taut

# ---- everything that takes a shard ----
json() { sed -n "\$s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2"; }
ok "info" "$TAUT" data info gnu.tar.taut
ok "info by the file's own name" "$TAUT" data info gnu.tar
ok "bench" "$TAUT" data bench --seconds 0 --samples 5 gnu.tar.taut npy.taut
ok "plan" "$TAUT" data plan rs2 mds/*.taut -o mds.plan --budget 50% --strata label --rounds 3
"$TAUT" data cat gnu.tar.taut --field txt --samples 7:9 >"$dir/two"
tail -n +8 gnu.tar.txt.want | head -n 2 | cmp - "$dir/two" && pass || fail "cat --samples"
"$TAUT" data info label.arrow.taut >/dev/null 2>&1
tail -c +2 "$here/tests/fuzz/corpus/arrow/label.file" >label.arrow
ok "a dictionary as classes" "$TAUT" data index label.arrow --label name
"$TAUT" data info label.arrow.taut --json | grep -q 'cat.ndog.nemu' && pass || fail "names of classes"
rm -f label.arrow
sums >"$dir/after"
ok "the files are as they were" cmp "$dir/before" "$dir/after"
"$TAUT" data pack x.npy -o x.npy.taut >/dev/null
refuses 'x.npy.taut: is there and no index' "$TAUT" data index x.npy
rm -f x.npy.taut

# ---- export, and back by index ----
back() { # back INDEX FIELD WANT
    "$TAUT" data cat "$1" --field "$2" | cmp - "$3"
}
ok "export to tar" "$TAUT" data export gnu.tar.taut -o out.tar
ok "index of it" "$TAUT" data index out.tar
for f in txt cls image x; do ok "exported tar: $f" back out.tar.taut $f gnu.tar.$f.want; done
ok "Python's tarfile reads it" "$PYTHON" -c 'import tarfile
t = tarfile.open("out.tar"); n = t.getnames()
assert n[:4] == ["000000000.txt", "000000000.cls", "000000000.image.npy", "000000000.x.npy"], n[:5]
assert t.extractfile("000000119.txt").read() == open("gnu.tar.txt.want", "rb").read().splitlines(True)[-1]'
ok "export to MDS of two shards" "$TAUT" data export mds/*.taut -o out-mds --shard-bytes 10K
ok "index of it" "$TAUT" data index out-mds
for f in text label image ids blob weight; do
    cat mds/shard.0000?.mds.$f.want >"$dir/want"
    for s in out-mds/*.mds; do "$TAUT" data cat "$s.taut" --field $f; done | cmp -s - "$dir/want" && pass || fail "exported MDS: $f"
done
[ "$(ls out-mds/*.mds | wc -l)" -ge 3 ] && pass || fail "MDS shards of 10K"
ok "export to npy" "$TAUT" data export npy.taut -o arrays --format npy
tail -c 2880 arrays/x.npy | cmp -s - npy.x.want && pass || fail "exported npy: x"
ok "npy and index" "$TAUT" data index arrays/x.npy arrays/label.npy -o arrays/back.taut
ok "npy and back: label" back arrays/back.taut label npy.label.want
ok "one npy" "$TAUT" data export npy.taut --select x -o one.npy
cmp -s one.npy arrays/x.npy && pass || fail "one.npy"
refuses 'field txt: its samples differ in length' "$TAUT" data export gnu.tar.taut -o arrays --format npy
refuses 'out-mds: holds a data set' "$TAUT" data export npy.taut -o out-mds
refuses 'sample 0 of field tokens is empty' "$TAUT" data export zstd.file.arrow.taut --select tokens -o empty-mds
[ ! -e empty-mds/index.json ] && pass || fail "an index.json after a failure"
refuses 'gnu.tar.taut: field blob is missing' "$TAUT" data export mds/shard.00000.mds.taut gnu.tar.taut -o mixed.tar
[ ! -e mixed.tar ] && pass || fail "a tar after a failure"
refuses 'format=zip: must be one of mds, tar, npy' "$TAUT" data export npy.taut -o x --format zip
refuses '-o OUT is missing' "$TAUT" data export npy.taut

# ---- repeats ----
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat gnu.tar.txt.want; done >lines
"$PYTHON" -c 'for i in range(3000): print("line %d of them is unlike %d" % (i, i * 7919 % 3001))' >>lines
"$TAUT" data pack lines -o lines.taut --split lines >/dev/null
ok "the repeat audit" "$TAUT" data info --repeats --exact lines.taut --json
grep -q 'warning: ' "$dir/log" && [ "$(json exact_duplicates "$dir/log")" = 1320 ] && pass || fail "repeats: $(tail -n 1 "$dir/log")"
"$TAUT" data info --repeats gnu.tar --field txt --json >"$dir/log" && [ "$(json exact_duplicates "$dir/log")" = 0 ] && pass || fail "repeats of an indexed tar"
refuses "no field 'nix'; fields are " "$TAUT" data info --repeats gnu.tar.taut --field nix

# ---- training ----
run= # in front of taut: a launcher of ranks
trains() { # trains TEXT ARGS...: it runs, and its loss falls
    text=$1
    shift
    ok "$text" $run "$TAUT" train --steps 30 --batch 16 --seed 1 --json "$@"
    "$PYTHON" - "$dir/log" <<'PY' && pass || fail "$text: the loss does not fall: $(tail -n 1 "$dir/log" | head -c 300)"
import json, sys
r = json.loads(open(sys.argv[1]).read().strip().splitlines()[-1])
sys.exit(not r["loss_train"] < r["loss_first"])
PY
}
if "$TAUT" train --help 2>&1 | grep -q 'left out\|is not there'; then
    skip "training: taut train is left out"
else
    trains "train on an indexed tar" --model mlp --data gnu.tar.taut --lr 0.01
    if command -v "${MPIRUN:-mpirun}" >/dev/null && "$TAUT" info --json | grep -q '"mpi": true'; then run="${MPIRUN:-mpirun} -n 2"; fi
    trains "train on a folder of indexed MDS, by a plan, $run" --model mlp --data mds --plan mds.plan --rounds 20 --lr 0.01
    run=
    if [ "$LONG" = 1 ]; then
        trains "train on a tar by its own name" --model mlp --data gnu.tar --lr 0.01
        trains "train on IDX" --model mlp --data idx.taut --lr 0.01
        trains "train on npy" --model mlp --data npy.taut --lr 0.01
        trains "train on tokens of Megatron" --model gpt --data ids.bin.taut --lr 0.003
        trains "train on TFRecord" --model mlp --data ex.tfrecord.taut --lr 0.01
        trains "train on a text of TFRecord" --model gpt --data ex.tfrecord.taut --lr 0.003
        trains "train on an Arrow file" --model mlp --data zstd.file.arrow.taut --lr 0.01
        trains "train on an Arrow stream" --model mlp --data plain.stream.arrow.taut --lr 0.01
    fi
fi

# ---- bad files: file and record in the message ----
bad() { refuses "$1" "$TAUT" data index "bad/$2" -o out.taut; }
bad 'cut-idx: has 7675 bytes' cut-idx
bad 'longer-idx: has 7681 bytes' longer-idx
bad 'huge-idx' huge-idx
bad 'fortran.npy: stored column by column' fortran.npy
bad "half.npy: elements of type '<f2': must" half.npy
bad 'cut.npy: has 2879 bytes' cut.npy
bad 'head.npy' head.npy
refuses "119 samples, but x.npy has 120" "$TAUT" data index x.npy bad/fewer.npy -o out.taut
bad 'outside.idx: sequence 50: .*lie outside bad/outside.bin' outside.idx
bad 'long.idx: sequence 119: ' long.bin
bad 'cut.idx: has 2433 bytes' cut.idx
bad 'version.idx: not a .idx' version.idx
bad 'minus.bin: .*sample 1 has a negative id' minus.idx
bad 'crc.tfrecord: record 17 (byte [0-9]*): the CRC of its data' crc.tfrecord
bad 'length.tfrecord: record 3 (byte [0-9]*): the CRC of its length' length.tfrecord
bad 'cut.tfrecord: record 119 .*truncated' cut.tfrecord
bad 'example.tfrecord: record 2 .*not a tf.train.Example' example.tfrecord
bad 'missing.tfrecord: record 2 .*no feature' missing.tfrecord
bad 'hole.tar: sample 4 (000004) has no .cls' hole.tar
bad "digits.tar: field cls.*'two' is no whole number" digits.tar
bad 'cut.tar: member .*truncated' cut.tar
bad 'sum.tar: member 166 (byte [0-9]*).*checksum' sum.tar
bad 'sparse.tar: member 0 .*s.data: a sparse file' sparse.tar
bad 'sparse-pax.tar: member 0 .*a sparse file' sparse-pax.tar
bad 'zeros.tar: no samples' zeros.tar
bad 'joined.tar: member .*behind the zero blocks that end the tar' joined.tar
ok "a tar with links" "$TAUT" data index linked.tar
grep -q 'linked.tar: 2 members are links, which are left out' "$dir/log" && pass || fail "links are not told: $(cat "$dir/log")"
bad 'gz.tar.gz: compressed by gzip' gz.tar.gz
bad 'sizes.mds: sample 5: its columns take' sizes.mds
bad 'cut.mds: its samples end .*truncated' cut.mds
bad 'json.mds: its header is no JSON' json.mds
bad 'half.mds: elements of type float16' half.mds
refuses 'shard 0 is compressed (shard.00000.mds.zstd)' "$TAUT" data index bad/zip
refuses 'shard.00000.mds: has .* the index.json beside it says' "$TAUT" data index bad/wrong
for e in empty.npy empty.tar empty.mds empty.tfrecord empty.arrow empty-idx; do bad "$e: an empty file" $e; done
bad 'lz4.file.arrow: record batch 0: compressed by lz4' lz4.file.arrow
bad 'nulls.file.arrow: record batch 0: 1 of 3 values are null' nulls.file.arrow
bad 'others.file.arrow: column s: type number 13' others.file.arrow
ok "one column beside such that cannot be indexed" "$TAUT" data index bad/others.file.arrow --select x -o out.taut
refuses "select=nix: no such field; fields are x, s, b, l" "$TAUT" data index bad/others.file.arrow --select nix
for part in 100 2000 5000; do
    head -c $part plain.stream.arrow >bad/cut.stream.arrow
    bad 'cut.stream.arrow: the message at byte [0-9]*, behind [0-9]* record batches: .*truncated' cut.stream.arrow
done
head -c 6000 plain.file.arrow >bad/cut.file.arrow
bad 'cut.file.arrow: an Arrow file that does not end with ARROW1: truncated' cut.file.arrow
refuses 'select=nix' "$TAUT" data index gnu.tar --select nix
refuses 'label=x: no integer field' "$TAUT" data index ex.tfrecord --label x
refuses 'format=zip: must be one of' "$TAUT" data index gnu.tar --format zip
refuses 'of no format that can be indexed' "$TAUT" data index gnu.tar.txt.want
[ ! -e out.taut.part ] && ls -A | grep -q '^\.out' && fail "left-overs of a refused index" || pass

# ---- files that change under the index ----
changed() { # changed WORDS: verify, cat, plan or train notices
    refuses "$1" "$TAUT" data verify work.tar.taut
    refuses "$1" "$TAUT" data cat work.tar.taut --field txt
}
fresh() { cp gnu.tar work.tar && "$TAUT" data index work.tar --block 1K >/dev/null; }
fresh && printf x >>work.tar && changed 'work.tar was changed after it was indexed: it has 624641 bytes and had 624640: index it anew'
fresh && head -c 100000 gnu.tar >work.tar && changed 'work.tar was changed after it was indexed'
fresh && at=$(grep -abo 'sample 60: ' work.tar | head -n 1 | cut -d: -f1) && printf S | dd of=work.tar bs=1 seek="$at" conv=notrunc 2>/dev/null &&
    changed 'block [0-9]* of field txt (samples [0-9]*\.\.[0-9]*): XXH64 .*work.tar is not what it was when it was indexed: index it anew'
ok "blocks that did not change" "$TAUT" data cat work.tar.taut --field txt --samples 3
ok "a plan reads no samples" "$TAUT" data plan full work.tar.taut -o work.plan
if [ "$LONG" = 1 ] && [ $skipped -eq 0 ]; then
    refuses 'field txt .*work.tar is not what it was when it was indexed' "$TAUT" train --model gpt --data work.tar --plan work.plan --codec none --batch 10 --rounds 2
fi
fresh && sleep 0.02 && touch work.tar && ok "touched only: still good" "$TAUT" data verify work.tar.taut
grep -q 'work.tar is newer than its index' "$dir/log" && pass || fail "a warning that the file is newer: $(cat "$dir/log")"
fresh && rm work.tar && changed 'work.tar: cannot open'
cp ids.bin w.bin && cp ids.idx w.idx && "$TAUT" data index w.bin >/dev/null && sleep 0.02 && printf '\001' | dd of=w.idx bs=1 seek=40 conv=notrunc 2>/dev/null
refuses 'w.idx was changed after it was indexed: its XXH64 differs' "$TAUT" data verify w.bin.taut
mkdir -p moved && cp gnu.tar moved/work.tar && (cd moved && "$TAUT" data index work.tar >/dev/null) && mv moved away
ok "an index moved together with its file" "$TAUT" data verify away/work.tar.taut
finish
