#!/bin/sh
# cuda_report.sh SOURCE...: what ptxas says of each kernel, as a Markdown table: registers, shared memory, stack and spills. A stack
# that is not spills holds what rare paths pass by address. NVCC, NVCCFLAGS: compiler and flags.
set -eu
NVCC=${NVCC:-nvcc}
command -v "$NVCC" >/dev/null || { echo "cuda_report: $NVCC is missing" >&2; exit 1; }
object=$(mktemp)
trap 'rm -f "$object"' EXIT
echo "| kernel | architecture | registers | shared, bytes | stack, bytes | spilled, bytes |"
echo "|---|---|---|---|---|---|"
for f in "$@"; do
    $NVCC ${NVCCFLAGS:--std=c++17 -O2 --fmad=false -arch=sm_80} -DTAUT_HAVE_CUDA -Xptxas -v -c -o "$object" "$f" 2>&1 | sed "s/'//g" | c++filt | awk '
        function number(text, unit) { return match(text, "[0-9]+ bytes " unit) ? substr(text, RSTART) + 0 : 0 }
        /Compiling entry function/ { name = $0; sub(/.*entry function /, "", name); arch = name; sub(/.* for /, "", arch); sub(/ for .*/, "", name); gsub(/<\([a-z_]+\)/, "<", name)
                                     sub(/\(.*/, "", name); sub(/^void /, "", name); of = name }
        /Function properties for/ { current = $0; sub(/.*properties for /, "", current); gsub(/<\([a-z_]+\)/, "<", current); sub(/\(.*/, "", current); sub(/^void /, "", current); at = current == of }
        /bytes stack frame/ && at { stack = number($0, "stack"); spill = number($0, "spill stores") }
        /Used [0-9]+ registers/ { match($0, /Used [0-9]+/); regs = substr($0, RSTART + 5, RLENGTH - 5)
                                  printf "| %s | %s | %s | %d | %d | %d |\n", of, arch, regs, number($0, "smem"), stack, spill }'
done | sort -u
