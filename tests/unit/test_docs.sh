#!/bin/sh
# The public headers compile alone, as C11 and as C++17; every function they export is documented, exported and nothing
# else is; every setting is in docs/env.md, which is what `taut info --env` prints.
set -u
BUILD=${BUILD:-build/release}
CC=${CC:-cc} CXX=${CXX:-c++}
TAUT=$BUILD/bin/taut
. tests/support/shell.sh

# ---- errors name the bad value (python3) ----
if command -v python3 >/dev/null; then expect "every error names the value, or has none: $(python3 tests/support/error_texts.py --check)" python3 tests/support/error_texts.py --check; fi

# ---- headers alone ----
strict="-Wall -Wextra -Wpedantic -Wshadow -Werror -fsyntax-only"
mpi=$(mpicc --showme:compile 2>/dev/null | sed 's/-I/-isystem /g' || true) # its headers warn; that is not ours
for h in comm/*.h shim/torch.h; do
    case $h in
    comm/taut.h | comm/taut_nccl.h | comm/taut_tcp.h | comm/taut_data.h | shim/torch.h) flags= ;;
    comm/taut_mpi.h | comm/taut_data_mpi.h) flags=$mpi ;;
    *) continue ;; # internal
    esac
    [ -f "$h" ] || continue
    case $h in *_mpi.h)
        if [ -z "$mpi" ]; then
            skip "no mpicc: $h is not compiled"
            continue
        fi ;;
    esac
    printf '#include "%s"\n#include "%s"\n' "$PWD/$h" "$PWD/$h" >"$dir/twice.h"
    expect "$h compiles alone as C11" $CC -std=c11 $strict $flags -Icomm -x c "$dir/twice.h"
    expect "$h compiles alone as C++17" $CXX -std=c++17 $strict $flags -Icomm -x c++ "$dir/twice.h"
done
only_std() { ! grep '#include' comm/taut.h | grep -v -e '<stddef.h>' -e '<stdint.h>'; }
expect "taut.h includes <stddef.h> and <stdint.h> only" only_std

# ---- architecture.md: files that it names are there, and so are the functions that it names behind them ----
named_files() {
    grep -oE '`(comm|compressors|scheduler|launch|shim|tests)/[A-Za-z0-9_./]*`' docs/architecture.md | tr -d '`' | sort -u |
        while read -r f; do [ -e "$f" ] || echo "docs/architecture.md names $f, which is not there"; done | grep . && return 1
    return 0
}
named_functions() { # `file.c`: `name`, `name`
    tr '\n' ' ' <docs/architecture.md | grep -oE '`[a-z_/]+\.[ch]`: *(the table )?`[a-z0-9_]+`(, *`[a-z0-9_]+`)*' |
        while read -r line; do
            file=$(echo "$line" | cut -d'`' -f2)
            echo "$line" | sed 's/^`[^`]*`//' | grep -oE '`[a-z0-9_]+`' | tr -d '`' | while read -r name; do
                grep -qE "\\b$name\\b(\\(|\\[)|\\} $name\\[" "$file" || echo "docs/architecture.md: $file has no $name"
            done
        done | grep . && return 1
    return 0
}
expect "files named in architecture.md exist" named_files
expect "functions named in architecture.md exist" named_functions

# ---- functions: declared, documented, exported ----
# A comment belongs to a declaration when it stands in the lines of its paragraph (no blank line between) or names it.
undocumented() {
    awk '
    FNR == 1 { text = 0; inside = 0 }
    /^$/ { text = 0 }
    { opens = index($0, "/*"); if (opens || inside || index($0, "//")) text = 1
      if (opens) inside = 1; if (index($0, "*/")) inside = 0 }
    { all = all $0 "\n" }
    /^TAUT_API/ && match($0, /taut_[a-z0-9_]+\(/) {
        name[++n] = substr($0, RSTART, RLENGTH - 1); near[n] = text
    }
    END { for (i = 1; i <= n; i++) if (!near[i] && !index(all, name[i] "() :") && !index(all, name[i] "() is")) {
              print name[i] ": no comment beside its declaration"; bad = 1 }
          exit bad }' "$@"
}
declared() { grep -h '^TAUT_API' comm/taut.h comm/taut_tcp.h "$@" | grep -o 'taut_[a-z0-9_]*(' | tr -d '(' | sort -u; }
exported() { nm -D --defined-only "$BUILD/lib/libtaut.so" | awk '$2 ~ /[TBDRVW]/{print $3}' | sed 's/@.*//' | sort -u; }
same_names() {
    more=comm/taut_nccl.h
    if [ -n "$mpi" ] && "$TAUT" info --json | grep -q '"mpi": true'; then more="$more comm/taut_mpi.h"; fi
    if "$TAUT" data --help >/dev/null 2>&1; then more="$more comm/taut_data.h"; fi # left out without zstd
    declared $more >"$dir/declared"
    exported >"$dir/exported"
    diff "$dir/declared" "$dir/exported"
}
expect "every exported function is documented in its header" undocumented comm/taut.h comm/taut_nccl.h comm/taut_tcp.h comm/taut_mpi.h comm/taut_data.h
expect "libtaut.so exports what the headers declare, and nothing else" same_names

# ---- settings ----
env_current() { "$TAUT" info --env | diff docs/env.md -; }
env_complete() { # every TAUT_... that the sources read is in the manual
    rc=0
    for v in $(grep -rhoE 'getenv\("TAUT_[A-Z_]+"' comm compressors scheduler launch shim --include=*.c --include=*.cpp |
        grep -o 'TAUT_[A-Z_]*' | sort -u); do
        grep -q "\`$v\`" docs/env.md || { echo "$v is read but not in docs/env.md"; rc=1; }
    done
    return $rc
}
fields_documented() { # every field of taut_config but size has its variable
    rc=0
    for f in $(sed -n '/^typedef struct taut_config {/,/^} taut_config;/p' comm/taut.h |
        sed -n 's/^    [a-z][a-z0-9_ ]*[ *]\([a-z_]*\); .*/\1/p'); do
        [ "$f" = size ] && continue
        v=TAUT_$(echo "$f" | tr a-z A-Z)
        grep -q "\`$v\`" docs/env.md || { echo "taut_config.$f: $v is not in docs/env.md"; rc=1; }
    done
    return $rc
}
expect "docs/env.md is what taut info --env prints" env_current
expect "every variable that is read is documented" env_complete
expect "every field of taut_config has a documented variable" fields_documented

# ---- docs/scaling.md: the table is what the program prints ----
scaling_is_current() {
    sed -n '/<!-- begin scaling -->/,/<!-- end scaling -->/p' docs/scaling.md | grep -v '^<!--' >"$dir/written"
    "$BUILD/tests/bench/scaling" >"$dir/printed" && [ -s "$dir/written" ] && diff "$dir/written" "$dir/printed"
}
if [ -x "$BUILD/tests/bench/scaling" ]; then expect "docs/scaling.md" scaling_is_current; else skip "tests/bench/scaling was not built"; fi
finish
