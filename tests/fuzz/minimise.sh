#!/bin/sh
# minimise.sh : the smallest inputs of a fuzzer's corpus that cover what all of it covers; of those the smallest ones, as many as fit.
#   tests/fuzz/minimise.sh TARGET FROM TO
set -eu
MOST=${MOST:-24} MOST_BYTES=${MOST_BYTES:-600}
part=$(mktemp -d)
trap 'rm -rf "$part"' EXIT
"$1" -merge=1 "$part" "$2" ${3:+$([ ! -d "$3" ] || echo "$3")} >/dev/null 2>&1
mkdir -p "$3"
find "$part" -type f -size -"$MOST_BYTES"c -printf '%s %p\n' | sort -n | awk -v most="$MOST" '{ all[NR] = $2 } END { step = NR > most ? NR / most : 1; for (i = 1; i <= NR; i += step) print all[int(i)] }' |
    while read -r f; do cp "$f" "$3/$(sha1sum "$f" | cut -c1-10)"; done
echo "minimise: $3 has $(ls "$3" | wc -l) files, $(du -sb "$3" | cut -f1) bytes"
