#!/bin/sh
# tests/run_gpu.sh on machines that are made up: what it decides with a GPU and without one, from programs that answer as the real ones would. No device needed.
# It mostly waits.
set -u
PYTHON=${PYTHON:-python3}
. tests/support/shell.sh
export BUILD="$dir/b" MPIRUN="$dir/bin/mpirun"
mkdir -p "$dir/bin" "$dir/wheel/lib" "$BUILD/bin" "$BUILD/libexec" "$BUILD/tests/twin" "$BUILD/tests/bench" "$BUILD/tests/multi"
touch "$dir/wheel/lib/libnccl.so.2"
program() { cat >"$1" && chmod +x "$1"; } # FILE, of what is said on stdin

program "$dir/bin/nvidia-smi" <<'END'
#!/bin/sh
case $MACHINE in
none) echo 'No devices found.' && exit 6 ;;
broken) echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver." && exit 9 ;;
esac
case $1 in
-L) echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)' ;;
*) echo 'NVIDIA H100 80GB HBM3, 580.159.04, 81559 MiB' ;;
esac
END
program "$MPIRUN" <<'END'
#!/bin/sh
[ "$1" = -n ] && export OMPI_COMM_WORLD_RANK=$(($2 - 1)) && shift 2 && exec "$@"
END
program "$dir/bin/python" <<END
#!/bin/sh
echo "$dir/wheel/lib/libnccl.so.2"
END
program "$dir/bin/compute-sanitizer" <<'END'
#!/bin/sh
case $SANITIZER,$2 in
refuses,*) echo '========= Error: Device not supported' && exit 1 ;;
finds,memcheck) echo '========= Invalid __global__ write of size 4 bytes' && exit 9 ;;
finds,racecheck) echo '========= Error: Race reported between Write access' && echo '========= Warning: potential RAW hazard' ;;
esac
[ "$2" = memcheck ] || exec sleep 30
echo '========= ERROR SUMMARY: 0 errors'
END
# Sums are those of how often and by what they were made, which must be the same everywhere.
program "$BUILD/bin/taut" <<'END'
#!/bin/sh
[ "$MACHINE" = gpu ] || case "$1 $*" in *cuda*) echo 'no CUDA device' && exit 1 ;; esac
case $1,$2 in
info,*) if [ "${TAUT_NCCL_LIBRARY:-}" ]; then echo 'NCCL      2.28.9'; else echo 'NCCL      none: libnccl.so.2: no such file'; fi ;;
bench,allreduce)
    error=0.001
    case $*,$BAD in *--nccl*--algorithm*,sums) error=0.002 ;; esac
    case $* in *'--seconds 3600'*) ;; *) error=$$ ;; esac # else how often follows from the time
    case $* in *'--algorithm sra'* | *'--codec auto'* | *'--nccl --codec quant:bits=4 --sizes'*) ;; *) error=$$ ;; esac
    echo table
    echo "{\"results\": [{\"codec\": \"fp16\", \"ranks\": 2, \"bytes\": 4096, \"algorithm\": \"sra\", \"rel_err2\": $error, \"bit_identical\": true}]}" ;;
bench,codec) echo '{"results": []}' ;;
train,*)
    loss=2.5
    case $*,$BAD in *cuda*,loss) loss=2.6 ;; esac
    ratio=4
    case $*,$BAD in *cuda*,bytes) ratio=0.9 ;; esac
    echo "{\"loss_val\": $loss, \"ratio\": $ratio}" ;;
esac
END
cp "$BUILD/bin/taut" "$BUILD/libexec/taut-train"
for t in twin/test_cuda_vec_quant twin/test_cuda_grid twin/test_cuda_sparse twin/test_cuda_powersgd twin/test_cuda_space twin/test_cuda_ops bench/graph_mpi; do
    printf '#!/bin/sh\nexit 0\n' | program "$BUILD/tests/$t"
done

# on MACHINE EXPRESSION [SETTING...]: the report of that machine, about which EXPRESSION of python is true; r: the report, rc: its exit code
on() {
    machine=$1 expression=$2
    shift 2
    rc=0
    env MACHINE="$machine" BAD= SANITIZER= PATH="$dir/bin:$PATH" PYTHON="$dir/bin/python" SANITIZER_SECONDS=1 "$@" tests/run_gpu.sh >"$dir/out" 2>&1 || rc=$?
    grep '^{' "$dir/out" | tail -n 1 >"$dir/report"
    expect "$machine $*: $expression" "$PYTHON" -c "
import json, sys
r, rc = json.load(open('$dir/report')), $rc
v = {t['name']: t['verdict'] for t in r['tests']}
print(rc, r, open('$dir/out').read()[-1500:])
sys.exit(not ($expression))"
}
all="rc == 0 and r['failed'] == 0 and r['gpu'].startswith('NVIDIA H100') and r['nccl'] == '2.28.9'"
on gpu "$all and r['partly'] == 4 and len(r['allreduce']) == 8 and r['train']['nccl']['loss_val'] == 2.5 and r['bench'] is not None"
on gpu "rc == 1 and v['the host\\'s sums, 2 ranks, by NCCL'] == v['the host\\'s sums, 3 ranks, by NCCL'] == 'failed' and r['failed'] == 2" BAD=sums PARTS=allreduce
on gpu "rc == 1 and r['failed'] == 2 and v['its loss is the CPU\\'s, its bytes are few, by mpi'] == 'failed'" BAD=loss PARTS=training
on gpu "rc == 1 and r['failed'] == 2 and v['its loss is the CPU\\'s, its bytes are few, by nccl'] == 'failed'" BAD=bytes PARTS=training
on gpu "rc == 0 and set(v) == {'PyTorch with gradients on the GPU'}" PARTS=python
on gpu "rc == 1 and r['failed'] == 8 and r['partly'] == 0" SANITIZER=finds PARTS=sanitizer
on gpu "rc == 0 and r['failed'] == 0 and r['skipped'] == 8" SANITIZER=refuses PARTS=sanitizer
on gpu "rc == 0 and r['train'] is None and set(v) == {'a step captured in a graph, 2 ranks'}" PARTS=graph
on gpu "rc == 1 and v['training: not begun, 0 s are over'] == 'failed' and r['partly'] == 8" LIMIT_SECONDS=0
on gpu "rc == 1 and r['nccl'] is None and v['NCCL'] == 'failed' and v['the host\\'s sums, 3 ranks, by MPI'] == 'passed'" PYTHON=/nonexistent PARTS=allreduce
# a driver without a device says so on stdout
for machine in none broken; do on $machine "rc == 0 and r['gpu'] is None and r['failed'] == 0 and r['passed'] >= 9"; done
finish
