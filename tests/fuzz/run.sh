#!/bin/sh
# run.sh : builds fuzz targets with clang's libFuzzer under ASan and UBSan, and runs them on their seeds.
#   tests/fuzz/run.sh [SECONDS [TARGET...]]       60 seconds each; targets: shard mds tar npy idx tfrecord arrow megatron places
# New inputs go to build/fuzz/NAME; what crashes stays there as crash-*.
set -eu
CLANG=${CLANG:-clang}
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- mds tar npy idx tfrecord arrow megatron places shard
out=build/fuzz
mkdir -p $out
flags="-g -O1 -std=c11 -D_GNU_SOURCE -DTAUT_HAVE_ZSTD -I. -fsanitize=address,undefined -fno-sanitize-recover=undefined"
objects=
for c in comm/base/*.c compressors/crc/*.c compressors/dataset/*.c compressors/dataset/*/*.c compressors/*.c compressors/*/*.c; do
    case $c in *_cuda.c | *_neon.c | *_avx*.c | *loader/* | *plan/* | *sampler/*) continue ;; esac
    o=$out/obj/${c%.c}.o
    mkdir -p "${o%/*}"
    [ "$o" -nt "$c" ] || nice $CLANG $flags -fsanitize=fuzzer-no-link -c -o "$o" "$c"
    case " $objects " in *" $o "*) ;; *) objects="$objects $o" ;; esac
done
for t in "$@"; do
    $CLANG $flags -fsanitize=fuzzer -o $out/fuzz_$t tests/fuzz/fuzz_$t.c $objects -lzstd -lxxhash -ljansson -lm -pthread
    mkdir -p $out/$t
    seeds=
    [ ! -d tests/fuzz/corpus/$t ] || seeds=tests/fuzz/corpus/$t
    TAUT_LOG=error nice -n 19 $out/fuzz_$t -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=3000 -artifact_prefix=$out/$t/ \
        -print_final_stats=1 $out/$t $seeds >$out/$t.log 2>&1 || { tail -n 40 $out/$t.log; echo "fuzz_$t: failed, see $out/$t.log"; exit 1; }
    echo "fuzz_$t: $(sed -n 's/^stat::number_of_executed_units: *//p' $out/$t.log) executions in $seconds s, nothing found"
done
