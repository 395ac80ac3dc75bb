#!/bin/sh
# The rooms of comm/ as the linker sees them: an arrow goes from a file to every file whose symbols it uses. Arrows between folders point
# to folders further up in the list only, none of these go in a circle, and circles within a folder hold two files at most.
#   ARROWS=print: the arrows between folders, "from to: symbols", for docs and curiosity.
set -u
BUILD=${BUILD:-build/release}
ORDER="base transport sum engine context reduce plan core"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for o in $(find "$BUILD/comm" -name '*.o' -path "$BUILD/comm/*/*" | sort); do
    file=${o#"$BUILD"/comm/}
    case $file in preload/*) continue ;; esac
    nm "$o" | awk -v f="${file%.o}" '$(NF-1) == "U" { print "u", $NF, f } $(NF-1) ~ /^[TDRBVW]$/ { print "d", $NF, f }'
done >"$dir/symbols"
# how to break it on purpose: PLANT="u symbol folder/file" adds an arrow
[ -z "${PLANT:-}" ] || echo "$PLANT" >>"$dir/symbols"
awk -v order="$ORDER" -v print_all="${ARROWS:-}" '
    function folder(f) { sub(/\/.*/, "", f); return f }
    function reach(a,    i, n, list, b) { # files that a leads to, into seen[]
        n = split(to[a], list, " ")
        for (i = 1; i <= n; i++) if (!((a0, list[i]) in seen)) { seen[a0, list[i]] = 1; reach(list[i]) }
    }
    BEGIN { n = split(order, name, " "); for (i = 1; i <= n; i++) rank[name[i]] = i }
    $1 == "d" { where[$2] = $3; files[$3] = 1 }
    $1 == "u" { use[++uses] = $2 " " $3; files[$3] = 1 }
    END {
        for (f in files) if (!(folder(f) in rank)) { print "FAIL comm/" f ": its folder is not among: " order; bad++ }
        for (i = 1; i <= uses; i++) {
            split(use[i], u, " ")
            b = where[u[1]]
            if (b == "" || b == u[2]) continue
            arrows++
            if (!((u[2], b) in edge)) to[u[2]] = to[u[2]] " " b
            edge[u[2], b] = u[1]
            x = folder(u[2]); y = folder(b)
            if (x != y) between[x " -> " y] = between[x " -> " y] " " u[1]
            if (rank[y] > rank[x]) { print "FAIL comm/" u[2] ".c uses " u[1] " of comm/" b ".c, which lies below it"; bad++ }
        }
        for (f in files) { a0 = f; reach(f) }
        for (f in files) if (!(f in done)) {
            m = 0; text = ""
            for (g in files) if ((f, g) in seen && (g, f) in seen) { m++; text = text " " g; done[g] = 1 }
            if (m > 2) { print "FAIL a circle of " m " files:" text; bad++ }
        }
        if (print_all != "") for (b in between) print b ":" between[b]
        printf("%d passed, %d failed\n", (arrows > bad ? arrows - bad : 0), bad + (arrows < 100))
        exit (bad > 0 || arrows < 100)
    }' "$dir/symbols"
