#!/bin/sh
# Every .cu with nvcc, where it is, as far as PTX, which is quick: kernels that only the execution model has compiled do not rot. What ptxas makes of them for
# each architecture: tests/long/test_cuda_nvcc.sh.
set -eu
. tests/support/shell.sh
NVCC=${NVCC:-nvcc}
command -v "$NVCC" >/dev/null || { skip "$NVCC is missing: kernels are compiled by g++ alone"; finish; }
compile() { "$NVCC" -std=c++17 -O2 --fmad=false -Werror all-warnings -arch=sm_80 -I. -DTAUT_HAVE_CUDA -ptx -o "$dir/$(basename "$1").ptx" "$1"; }
for f in compressors/*/*_cuda.cu; do expect "$f" compile "$f"; done
printf '__global__ void k(int *x) { *x = undeclared; }\n' >"$dir/wrong_cuda.cu"
if compile "$dir/wrong_cuda.cu" 2>/dev/null; then fail "a kernel that is wrong compiles"; else pass; fi
finish
