#!/bin/bash
# up.sh - a real SLURM on one machine: several virtual nodes, no systemd, no cgroups. Debian 12, as root.
#
#   bash up.sh [ROOT]      ROOT (default ${TMPDIR:-/tmp}/o2obench-slurm) holds configuration, state, logs and pids
#   . ROOT/env.sh                then sinfo / srun / sbatch / squeue / scancel / scontrol / sacct work
#   bash down.sh [ROOT]    ends exactly the processes that this script started, by pid
#
# Knobs, from the environment:
#   NODES=4 CPUS=4 MEM_MB=4000   virtual nodes and what each claims; more than the machine has is fine
#   GPUS=0                       pretended GPUs per node: jobs that ask for them are placed and get
#                                CUDA_VISIBLE_DEVICES, but there is no device behind them
#   CRED_EXPIRE=5                seconds a requeued job must wait before it runs again (SLURM's default: 120)
#   ACCOUNTING=1 (default)       MariaDB + slurmdbd on loopback, so that `sacct` answers. submitit learns job
#                                states only from sacct: without it a job that was cancelled, or killed before it
#                                wrote its result, stays UNKNOWN and job.wait() never returns.
#   ACCOUNTING=0                 no database: sbatch, srun and squeue work, sacct exits 1
set -euo pipefail
ROOT=$(realpath -m "${1:-${TMPDIR:-/tmp}/o2obench-slurm}")
NODES=${NODES:-4} CPUS=${CPUS:-4} MEM_MB=${MEM_MB:-4000} ACCOUNTING=${ACCOUNTING:-1} CRED_EXPIRE=${CRED_EXPIRE:-5} GPUS=${GPUS:-0}
CTL_PORT=${CTL_PORT:-26817} DBD_PORT=${DBD_PORT:-26819} SQL_PORT=${SQL_PORT:-26820} NODE_PORT0=${NODE_PORT0:-26900}
HOST=$(hostname -s)
T0=${EPOCHREALTIME/./}
say() { local t=$(((${EPOCHREALTIME/./} - T0) / 1000)); printf '[%3d.%03ds] %s\n' $((t / 1000)) $((t % 1000)) "$*"; }
die() { echo "up: $*" >&2; exit 1; }
wait_for() { # tries of 0.1 s, then a command
  local n=$1; shift
  while ((n-- > 0)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
  die "gave up waiting for: $* (see $ROOT/log)"
}
[[ $(id -u) = 0 ]] || die "run as root: slurmd starts each job as the user who submitted it"

# 1. Packages. Nothing is started by the install: there is no systemd (or policy-rc.d says no).
need=(slurmctld slurmd slurm-client munge)
[[ $ACCOUNTING = 1 ]] && need+=(slurmdbd mariadb-server)
miss=()
for p in "${need[@]}"; do dpkg -s "$p" >/dev/null 2>&1 || miss+=("$p"); done
if ((${#miss[@]})); then
  export DEBIAN_FRONTEND=noninteractive
  [[ -n $(apt-cache policy slurmctld | sed -n 's/ *Candidate: *\((none)\)*//p') ]] || apt-get update -q >/dev/null
  apt-get install -y -q --no-install-recommends "${miss[@]}" >"${TMPDIR:-/tmp}/slurm_apt.log" 2>&1 ||
    { apt-get update -q >/dev/null; apt-get install -y -q --no-install-recommends "${miss[@]}" >"${TMPDIR:-/tmp}/slurm_apt.log" 2>&1; } ||
    die "apt-get install ${miss[*]} failed, see ${TMPDIR:-/tmp}/slurm_apt.log"
fi
say "packages (installed now: ${miss[*]:-none})"

# 2. Folders. A second start over a running one is refused. (A zombie is not running: in a container pid 1 may be
#    slow to reap, and kill -0 would still find it.)
mkdir -p "$ROOT"/{etc,log,run,spool/ctld}
alive() { [[ -r /proc/$1/stat ]] && ! grep -qE '^[0-9]+ \(.*\) [ZX]' "/proc/$1/stat" 2>/dev/null; }
for f in "$ROOT"/run/*.pid; do
  if [[ -s $f ]] && alive "$(cat "$f")"; then die "already running: $f"; fi
done
rm -f "$ROOT"/run/*

# 3. munge signs every message. Its key comes with the Debian package; /run/munge normally comes from systemd.
#    It runs as its own user and checks who may write to its folders, so they stay where the package has them.
install -d -o munge -g munge -m 755 /run/munge
install -d -o munge -g munge -m 700 /var/log/munge /var/lib/munge
if [[ ! -s /etc/munge/munge.key ]]; then
  (umask 077; head -c 1024 /dev/urandom >/etc/munge/munge.key); chown munge: /etc/munge/munge.key
fi
works() { munge -n </dev/null | unmunge; }
if ! works >/dev/null 2>&1; then # one that already runs is used, and left alone by down.sh
  rm -f /run/munge/munge.socket.2*
  runuser -u munge -- /usr/sbin/munged --foreground --syslog >"$ROOT/log/munged.out" 2>&1 &
  wait_for 100 works
  pgrep -o -u munge -x munged >"$ROOT/run/munged.pid"
  say "munged"
fi

# 4. Accounting: a private MariaDB on a loopback port, and slurmdbd.
acct="AccountingStorageType=accounting_storage/none"
if [[ $ACCOUNTING = 1 ]]; then
  install -d -o mysql -g mysql -m 700 "$ROOT/mysql"
  [[ -d $ROOT/mysql/mysql ]] || mariadb-install-db --no-defaults --user=mysql --datadir="$ROOT/mysql" \
    --auth-root-authentication-method=socket --skip-test-db >"$ROOT/log/mariadb-install.log" 2>&1
  mariadbd --no-defaults --user=mysql --datadir="$ROOT/mysql" --socket="$ROOT/mysql/s.sock" \
    --bind-address=127.0.0.1 --port="$SQL_PORT" --pid-file="$ROOT/mysql/pid" \
    --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 >"$ROOT/log/mariadbd.out" 2>&1 &
  echo $! >"$ROOT/run/mariadbd.pid"
  sql() { mariadb --no-defaults -S "$ROOT/mysql/s.sock" -e "$1"; }
  wait_for 200 sql 'select 1'
  sql "create database if not exists slurm_acct_db; create user if not exists slurm@localhost identified by 'loopback';
       create user if not exists slurm@'127.0.0.1' identified by 'loopback';
       grant all on slurm_acct_db.* to slurm@localhost; grant all on slurm_acct_db.* to slurm@'127.0.0.1';"
  say "mariadbd"
  (umask 077; cat >"$ROOT/etc/slurmdbd.conf" <<C
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$SQL_PORT
StorageUser=slurm
StoragePass=loopback
StorageLoc=slurm_acct_db
LogFile=$ROOT/log/slurmdbd.log
PidFile=$ROOT/run/slurmdbd.self
C
  )
  acct="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT"
fi

# 5. slurm.conf
gres_types="" gres_node=""
if ((GPUS > 0)); then # slurmd wants device files and takes the index from the name: links to /dev/null do
  mkdir -p "$ROOT/dev"
  for g in $(seq 0 $((GPUS - 1))); do ln -sfn /dev/null "$ROOT/dev/gpu$g"; done
  gres_types="GresTypes=gpu" gres_node=" Gres=gpu:$GPUS"
  echo "NodeName=n[1-$NODES] Name=gpu File=$ROOT/dev/gpu[0-$((GPUS - 1))]" >"$ROOT/etc/gres.conf"
else
  rm -f "$ROOT/etc/gres.conf"
fi
cat >"$ROOT/etc/slurm.conf" <<C
ClusterName=o2obench
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$CTL_PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job must wait (BeginTime) before it runs again: 120 s by default
AuthInfo=cred_expire=${CRED_EXPIRE}
CredType=cred/munge
# no systemd and no cgroups: follow processes through /proc, bind nothing, measure nothing
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
# jobs share a node by cores and memory; NodeName lines win over what the machine has
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=200
$gres_types
ReturnToService=2
JobRequeue=1
# quick reactions for tests (a production cluster waits 30-300 s at each of these)
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0
KillWait=5
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=60
MaxArraySize=2001
$acct
JobCompType=jobcomp/filetxt
JobCompLoc=$ROOT/log/jobcomp.txt
StateSaveLocation=$ROOT/spool/ctld
SlurmdSpoolDir=$ROOT/spool/%n
SlurmctldPidFile=$ROOT/run/slurmctld.self
SlurmdPidFile=$ROOT/run/%n.self
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/%n.log
# virtual nodes: every one is this host, on a port of its own (Debian's slurmd has -N)
$(for i in $(seq "$NODES"); do echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((NODE_PORT0 + i)) CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM_MB$gres_node State=UNKNOWN"; done)
PartitionName=main Nodes=n[1-$NODES] Default=YES MaxTime=INFINITE State=UP
C
printf 'CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\n' >"$ROOT/etc/cgroup.conf"
for i in $(seq "$NODES"); do mkdir -p "$ROOT/spool/n$i"; done
printf 'export SLURM_CONF=%q\n' "$ROOT/etc/slurm.conf" >"$ROOT/env.sh"
export SLURM_CONF=$ROOT/etc/slurm.conf

# 6. Daemons, each in the foreground (-D) of a background job of this shell, so that $! is the very process to end.
if [[ $ACCOUNTING = 1 ]]; then
  slurmdbd -D >"$ROOT/log/slurmdbd.out" 2>&1 &
  echo $! >"$ROOT/run/slurmdbd.pid"
  wait_for 300 sacctmgr -n -i list cluster
  # the cluster must be known before slurmctld first talks to the database
  [[ $(sacctmgr -n list cluster format=cluster) =~ o2obench ]] || sacctmgr -i -Q add cluster o2obench
  say "slurmdbd"
fi
slurmctld -D -i >"$ROOT/log/slurmctld.out" 2>&1 &
echo $! >"$ROOT/run/slurmctld.pid"
up() { scontrol ping | grep -q 'is UP'; }
wait_for 200 up
say "slurmctld"
for i in $(seq "$NODES"); do
  slurmd -D -N "n$i" >"$ROOT/log/n$i.out" 2>&1 &
  echo $! >"$ROOT/run/n$i.pid"
done
idle() { [[ $(sinfo -h -N -o %T | grep -c '^idle$') = "$NODES" ]]; }
wait_for 300 idle
say "slurmd x $NODES"
sinfo
