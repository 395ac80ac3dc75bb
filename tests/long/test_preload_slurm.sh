#!/bin/bash
# test_preload_slurm.sh : the sbatch lines of docs/preload.md, submitted to a Slurm of our own: munged, slurmctld and two slurmd on this
# machine, in a folder of the test; whatever Slurm the machine may run is left alone. Needs root and Debian's slurm-wlm and munge.
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
WORK=$(mktemp -d)
. tests/support/preload.sh
leave() { echo "SKIP $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
[ -f "$LIB" ] && [ -f "$BUILD/lib/libtaut-preload-openmpi.so" ] || leave "the preload library was not built for Open MPI"
[ "$(id -u)" = 0 ] || leave "a Slurm needs root"
for c in munged slurmctld slurmd sbatch sinfo mpicc.openmpi; do
    PATH=$PATH:/usr/sbin command -v $c >/dev/null 2>&1 || leave "no $c: apt-get install slurm-wlm munge"
done
export PATH=$PATH:/usr/sbin SLURM_CONF=$WORK/slurm.conf
pids=''
stop() {
    for p in $pids; do kill "$p" 2>/dev/null; done
    sleep 1
    for p in $pids; do kill -KILL "$p" 2>/dev/null; done
    rm -rf "$WORK"
}
trap stop EXIT
host=$(hostname -s)
port=$((20000 + $$ % 20000))

start() { "$@" >"$WORK/${1##*/}$pids.log" 2>&1 & pids="$pids $!"; }
mkdir -p "$WORK"/{state,spool0,spool1,munge}
chmod 711 "$WORK"
dd if=/dev/urandom of="$WORK/munge/key" bs=128 count=1 2>/dev/null && chmod 400 "$WORK/munge/key" && chmod 755 "$WORK/munge"
cat >"$SLURM_CONF" <<EOF
ClusterName=taut
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=socket=$WORK/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool%n
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
NodeName=n0 NodeHostname=$host Port=$((port + 1)) CPUs=2 State=UNKNOWN
NodeName=n1 NodeHostname=$host Port=$((port + 2)) CPUs=2 State=UNKNOWN
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=10 State=UP
EOF
mkdir -p "$WORK/spooln0" "$WORK/spooln1"
start munged --foreground --force --socket="$WORK/munge/socket" --key-file="$WORK/munge/key" --pid-file="$WORK/munge/pid" --log-file="$WORK/munge/log" --seed-file="$WORK/munge/seed" --num-threads=2
for _ in $(seq 50); do [ -S "$WORK/munge/socket" ] && break; sleep 0.1; done
start slurmctld -D -f "$SLURM_CONF"
for n in n0 n1; do start slurmd -D -N $n -f "$SLURM_CONF"; done
for _ in $(seq 300); do [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && break; sleep 0.2; done
[ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] || { fail "Slurm does not come up: $(tail -n 3 "$WORK"/*.log)"; echo "$passed passed, $failed failed"; exit 1; }

example loop.c >"$WORK/loop.c" && mpicc.openmpi -O2 -o "$WORK/loop" "$WORK/loop.c" || fail "loop.c does not compile"
example loop.sbatch >"$WORK/loop.sbatch"
cd "$WORK" || exit 1
PATH=$OLDPWD/launch:$PATH
export BUILD PATH
ended() { # JOB: wait for its end; its output is in slurm-JOB.out
    for _ in $(seq 600); do [ -n "$(squeue -h -j "$1" 2>/dev/null)" ] || return 0; sleep 0.2; done
    scancel "$1"
    return 1
}
check() { # WHAT SBATCH'S ARGUMENTS...
    local what=$1 job; shift
    rm -f saved.json
    job=$(sbatch --parsable "$@") || { fail "$what: sbatch: $job"; return; }
    ended "$job" || { fail "$what: job $job does not end: $(tail -n 5 "slurm-$job.out")"; return; }
    grep -q '^step 40 loss 0.0' "slurm-$job.out" && grep -q 'Taut saved' "slurm-$job.out" && pass || fail "$what: $(tail -n 8 "slurm-$job.out")"
    [ -f saved.json ] && [ "$(json 'j["ranks"] == 2 and sum(s["calls"] for s in j["sites"]) == 40' saved.json)" = True ] && pass || fail "$what: no report, or a wrong one: $(cat saved.json)"
}
check "the script" loop.sbatch
TAUT_CODEC=quant:bits=4 check "the line" -N 2 -n 2 --wrap "tautrun -n 2 --report saved.json ./loop"
[ "$(json 'j["sites"][0]["coded_calls"] > 30' saved.json)" = True ] && pass || fail "the line: TAUT_CODEC did not reach the ranks"
echo "$passed passed, $failed failed, $skipped skipped"
