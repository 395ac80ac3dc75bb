#!/bin/sh
# cuda_report.sh OBJECT...: what nvcc made of each kernel, as a Markdown table: registers, shared memory, stack and spills of
# every architecture. A stack that is not a spill holds arrays of rare paths.
set -eu
command -v cuobjdump >/dev/null || { echo "cuda_report: cuobjdump is missing: it comes with nvcc" >&2; exit 1; }
echo "| kernel | architecture | registers | shared, bytes | stack, bytes |"
echo "|---|---|---|---|---|"
for o in "$@"; do
    cuobjdump -res-usage "$o" 2>/dev/null | c++filt | awk '
        /^arch = /{arch = $3}
        / Function /{name = $0; sub(/^ *Function */, "", name); sub(/:$/, "", name); sub(/\(.*/, "", name); sub(/^void /, "", name)}
        /REG:/{match($0, /REG:[0-9]+/); r = substr($0, RSTART + 4, RLENGTH - 4); match($0, /STACK:[0-9]+/); s = substr($0, RSTART + 6, RLENGTH - 6)
               match($0, /SHARED:[0-9]+/); m = substr($0, RSTART + 7, RLENGTH - 7); printf "| %s | %s | %s | %s | %s |\n", name, arch, r, m, s}'
done | sort -u
