#!/usr/bin/env bash
# A SLURM cluster of its own, on this machine alone, to try jobs in for real. Needs root.
#
#   bash scripts/containers/slurm.sh install     SLURM and MUNGE, if missing and apt is there
#   bash scripts/containers/slurm.sh start DIR   installs, and starts a cluster that lives in DIR
#   bash scripts/containers/slurm.sh stop DIR    cancels its jobs, ends its daemons, deletes DIR
#
# Then: export SLURM_CONF=DIR/slurm.conf. with_slurm.sh does all of it around a command.
#
#   NODES=2         nodes, each a daemon of its own on this machine that says it has all its cores
#   CPUS=4          processors that each node says it has; by default the machine's own
#   GPUS=2          GPUs that each node says it has: device nodes that only look like some
#   GRACE_SEC=15    seconds from SIGTERM to SIGKILL where a job is preempted
#   REQUEUE_SEC=5   seconds that a job waits after it was put back into the queue; 5 is the least
#
# A job in partition `low` (the default) is preempted, and queued again, by one in `high`.
# Exit code 77: it cannot be had here, and why; 1: it does not start; 2: the command is wrong.
set -euo pipefail
# Daemons lie where the PATH of a plain user need not lead.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

skip() { echo "skipped: $*"; exit 77; }
fail() { echo "error: $*" >&2; exit 1; }

# apt asks policy-rc.d before it starts a service; where there is none, ours says no.
install_slurm() {
  local name missing=''
  for name in munged slurmctld slurmd sbatch srun scontrol; do
    command -v "$name" > /dev/null || missing="$missing $name"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get > /dev/null || skip "SLURM is not installed (no$missing), and there is no apt."
  # Neither is local: the traps run when this function is over.
  policy=/usr/sbin/policy-rc.d log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$log" "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
  fi
  { timeout 300 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get \
    -o DPkg::Lock::Timeout=300 install -qq --yes --no-install-recommends \
    slurm-wlm slurm-client munge; } > "$log" 2>&1 ||
    skip "apt cannot install SLURM: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")"
  # Nor are they to start with the machine.
  if command -v systemctl > /dev/null; then
    systemctl --quiet disable munge slurmctld slurmd >> "$log" 2>&1 || cat "$log" >&2
  fi
}

# Prints so many ports of this machine that nobody uses.
free_ports() {
  python3 -c 'import socket, sys
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(server.getsockname()[1] for server in taken))' "$1"
}

node_name() { echo "node$1"; }

# What the cluster is: its daemons' files and ports, what it does with jobs, nodes and partitions.
write_configuration() {
  local dir=$1 ports index memory nodes host
  host=$(hostname -s)
  read -ra ports < <(free_ports $((NODES + 1)))
  memory=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024 / NODES))
  nodes="node[1-$NODES]"
  cat > "$dir/slurm.conf" << END
ClusterName=trial
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A job put back into the queue waits until its old credentials have run out.
AuthInfo=socket=$dir/munge/socket,cred_expire=$REQUEUE_SEC
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/%n
MailProg=$(type -P true)
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobs
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=$((memory / CPUS / 2))
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
END
  for index in $(seq "$NODES"); do
    echo "NodeName=$(node_name "$index") NodeHostname=$host NodeAddr=127.0.0.1" \
      "Port=${ports[$index]} CPUs=$CPUS RealMemory=$memory Gres=gpu:$GPUS"
  done >> "$dir/slurm.conf"
  cat >> "$dir/slurm.conf" << END
PartitionName=low Nodes=$nodes Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE_SEC
PartitionName=high Nodes=$nodes PriorityTier=2 PreemptMode=OFF
END
  echo 'CgroupAutomount=no' > "$dir/cgroup.conf"
  for index in $(seq 0 $((GPUS - 1))); do
    mknod "$dir/gpu$index" c 1 3
  done
  : > "$dir/gres.conf"
  if [ "$GPUS" -gt 0 ]; then
    echo "NodeName=$nodes Name=gpu File=$dir/gpu[0-$((GPUS - 1))]" > "$dir/gres.conf"
  fi
}

# Starts a daemon apart from this terminal and its signals, and notes its process.
daemon() {
  local dir=$1 name=$2
  shift 2
  setsid "$@" > "$dir/log/$name.out" 2>&1 < /dev/null &
  echo "$!" >> "$dir/pids"
}

start() {
  local dir=$1 index
  NODES=${NODES:-2} CPUS=${CPUS:-$(nproc)} GPUS=${GPUS:-2}
  GRACE_SEC=${GRACE_SEC:-15} REQUEUE_SEC=${REQUEUE_SEC:-5}
  [ "$(id -u)" = 0 ] || skip 'a cluster of its own takes root.'
  install_slurm
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  [ -z "$(ls -A "$dir")" ] || fail "$dir is not empty; name a new folder."
  [ "${#dir}" -le 80 ] || fail "the path $dir is too long for a socket; 80 characters are allowed."
  : > "$dir/pids"
  mkdir -p "$dir"/{log,munge,spool,state}
  chmod 755 "$dir" "$dir/munge"
  (umask 077 && head -c 128 /dev/urandom > "$dir/munge/key")
  write_configuration "$dir"
  export SLURM_CONF=$dir/slurm.conf
  daemon "$dir" munged munged --foreground --socket="$dir/munge/socket" \
    --key-file="$dir/munge/key" --log-file="$dir/log/munged" --pid-file="$dir/munged.pid" \
    --seed-file="$dir/munge/seed"
  daemon "$dir" slurmctld slurmctld -D -f "$SLURM_CONF"
  for index in $(seq "$NODES"); do
    daemon "$dir" "slurmd$index" slurmd -D -f "$SLURM_CONF" -N "$(node_name "$index")"
  done
  for _ in $(seq 300); do
    if [ "$(sinfo --noheader --Node --partition=low --format=%T 2> /dev/null | grep -c idle)" = \
      "$NODES" ]; then
      return
    fi
    sleep 0.1
  done
  tail -n 5 "$dir"/log/* >&2
  (stop "$dir") || true
  fail 'no node was idle after 30 s; what the daemons said is above.'
}

# Whether the process is still the daemon that was started: its number may be another's by now.
is_ours() { { tr '\0' '\n' < "/proc/$1/cmdline" | grep -qF "$2/"; } 2> /dev/null; }

# Sends a signal to the daemons, the last started first, and waits up to 10 s for their end.
end_daemons() {
  local dir=$1 signal=$2 pid
  for pid in $(tac "$dir/pids"); do
    if is_ours "$pid" "$dir"; then
      kill "-$signal" "$pid" 2> /dev/null || true
    fi
  done
  for pid in $(tac "$dir/pids"); do
    for _ in $(seq 100); do
      is_ours "$pid" "$dir" || break
      sleep 0.1
    done
  done
}

# Prints the processes of jobs: they have the cluster's files open, are its jobs' by their
# variables, or wait for a job.
job_processes() {
  local of
  {
    find /proc/[0-9]*/fd -lname "$1/spool/*" -o -lname "$1/log/node*"
    for of in /proc/[0-9]*; do
      if tr '\0' '\n' < "$of/environ" | grep -qxF "SLURM_CONF=$1/slurm.conf" &&
        { tr '\0' '\n' < "$of/environ" | grep -q '^SLURM_JOB_ID=' ||
          grep -qxE 'srun|salloc|sbatch' "$of/comm"; }; then
        echo "$of"
      fi
    done
  } 2> /dev/null | cut -d / -f 3 | sort -u | grep -vxF -f "$1/pids" || true
}

stop() {
  local dir pid
  [ -e "$1/pids" ] && [ -e "$1/slurm.conf" ] || fail "$1 is no cluster of this script."
  dir=$(cd "$1" && pwd)
  export SLURM_CONF=$dir/slurm.conf
  # Nothing is started any more; then what waits is cancelled and what runs is killed.
  if timeout 10 scontrol update PartitionName=low,high State=DOWN > /dev/null 2>&1; then
    for _ in $(seq 50); do
      [ -n "$(timeout 10 squeue --noheader 2> /dev/null)$(job_processes "$dir")" ] || break
      timeout 10 scancel --user="$(id -un)" --quiet > /dev/null 2>&1 || true
      timeout 10 scancel --user="$(id -un)" --full --signal=KILL --quiet > /dev/null 2>&1 || true
      sleep 0.2
    done
  fi
  end_daemons "$dir" TERM
  end_daemons "$dir" KILL
  for pid in $(job_processes "$dir"); do
    kill -KILL "$pid" 2> /dev/null || true
  done
  rm -rf "$dir"
}

case "${1:-} $#" in
  'install 1') install_slurm ;;
  'start 2') start "$2" ;;
  'stop 2') stop "$2" ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
