# slurm.sh : a Slurm of a test's own on this machine: munged, slurmctld and two slurmd (n0, n1) in a folder of the test; whatever Slurm
# the machine may run is left alone. Sourced by bash; needs root and Debian's slurm-wlm and munge.
# shellcheck shell=bash
PATH=$PATH:/usr/sbin

# slurm_lacks: what keeps it from running here; empty: nothing
slurm_lacks() {
    [ "$(id -u)" = 0 ] || { echo "a Slurm needs root"; return; }
    local c
    for c in munged slurmctld slurmd sbatch sinfo; do
        command -v $c >/dev/null 2>&1 || { echo "no $c: apt-get install slurm-wlm munge"; return; }
    done
}

slurm_pids=''
slurm_daemon() { # DIR COMMAND...
    local dir=$1; shift
    "$@" >"$dir/${1##*/}$slurm_pids.log" 2>&1 &
    slurm_pids="$slurm_pids $!"
}

# slurm_config DIR PORT: two partitions share the nodes, and jobs of the second one preempt those of the first. Two GPUs a node,
# which are no GPUs: Slurm asks only that the files are there.
slurm_config() {
    local dir=$1 port=$2 host
    host=$(hostname -s)
    cat <<EOF
ClusterName=taut
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=5
MessageTimeout=60
BatchStartTimeout=120
UnkillableStepTimeout=180
MinJobAge=600
GresTypes=gpu
NodeName=n0 NodeHostname=$host Port=$((port + 1)) CPUs=4 Gres=gpu:2 State=UNKNOWN
NodeName=n1 NodeHostname=$host Port=$((port + 2)) CPUs=4 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=120 State=UP
PartitionName=urgent Nodes=n0,n1 MaxTime=INFINITE PriorityTier=9 PreemptMode=OFF State=UP
EOF
}

# slurm_start DIR: sets SLURM_CONF; 1: it does not come up, and its logs say why
slurm_start() {
    local dir=$1 port=$((20000 + $$ % 20000)) n
    export SLURM_CONF=$dir/slurm.conf
    mkdir -p "$dir"/{state,spooln0,spooln1,munge}
    chmod 711 "$dir"
    dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 2>/dev/null && chmod 400 "$dir/munge/key" && chmod 755 "$dir/munge"
    slurm_config "$dir" "$port" >"$SLURM_CONF"
    printf 'NodeName=n[0-1] Name=gpu File=/dev/null\nNodeName=n[0-1] Name=gpu File=/dev/zero\n' >"$dir/gres.conf"
    slurm_daemon "$dir" munged --foreground --force --socket="$dir/munge/socket" --key-file="$dir/munge/key" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --num-threads=2
    for _ in $(seq 50); do [ -S "$dir/munge/socket" ] && break; sleep 0.1; done
    slurm_daemon "$dir" slurmctld -D -f "$SLURM_CONF"
    for n in n0 n1; do slurm_daemon "$dir" slurmd -D -N $n -f "$SLURM_CONF"; done
    for _ in $(seq 900); do [ "$(sinfo -h -p all -t idle -o %D 2>/dev/null)" = 2 ] && return 0; sleep 0.2; done
    tail -n 3 "$dir"/*.log
    return 1
}

# slurm_stop: everything that slurm_start started, and the jobs that are left
slurm_stop() {
    local p
    [ -z "$slurm_pids" ] || scancel -u root --quiet 2>/dev/null
    [ -z "$slurm_pids" ] || for _ in $(seq 50); do [ -n "$(squeue -h 2>/dev/null)" ] || break; sleep 0.2; done
    for p in $slurm_pids; do kill "$p" 2>/dev/null; done
    for _ in $(seq 20); do kill -0 $slurm_pids 2>/dev/null || break; sleep 0.1; done
    for p in $slurm_pids; do kill -KILL "$p" 2>/dev/null; done
    slurm_pids=''
}

# slurm_hurry: from now on. Slurm lets a requeued job wait for two minutes, which a test need not; but two seconds it must: slurmd takes a job that comes back
# in the second in which it was killed for the killed one, and the job fails ("credential revoked")
slurm_hurry() {
    local job now before='' earlier='' # lists of jobs, a second apart
    while sleep 1; do
        now=" $(squeue -h -t PD -o '%i %r' 2>/dev/null | sed -n 's/ BeginTime$//p' | tr '\n' ' ')"
        for job in $now; do
            case $before in *" $job "*) ;; *) continue ;; esac
            case $earlier in *" $job "*) scontrol update jobid="$job" StartTime=now 2>/dev/null ;; esac
        done
        earlier=$before before=$now
    done &
    slurm_pids="$slurm_pids $!"
}

# slurm_state JOB: RUNNING, COMPLETED, ...; empty: forgotten
slurm_state() { scontrol show job "$1" 2>/dev/null | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' | head -n 1; }

# slurm_ended JOB [SECONDS]: waits until it has ended, requeued runs included; 1: it has not within so many, 900, and is cancelled. What is waited for so long is
# a machine with a load of thirty
slurm_ended() {
    local state
    for _ in $(seq $((${2:-900} * 5))); do
        state=$(slurm_state "$1")
        case $state in PENDING | RUNNING | COMPLETING | CONFIGURING | SUSPENDED | REQUEUED | PREEMPTED | STOPPED | SIGNALING) ;; *) return 0 ;; esac
        sleep 0.2
    done
    scancel "$1"
    return 1
}
