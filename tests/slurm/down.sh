#!/bin/bash
# down.sh [ROOT] - ends what up.sh started, by the pids that it wrote down, and nothing else.
set -u
ROOT=$(realpath -m "${1:-${TMPDIR:-/tmp}/o2obench-slurm}")
[[ -d $ROOT/run ]] || { echo "down: nothing at $ROOT" >&2; exit 0; }
alive() { # a zombie that its parent has not yet reaped is dead for us: kill -0 would call it alive
  [[ -r /proc/$1/stat ]] && ! grep -qE '^[0-9]+ \(.*\) [ZX]' "/proc/$1/stat" 2>/dev/null
}
stop() {
  local f=$1 p i
  [[ -s $f ]] || return 0
  p=$(cat "$f")
  if alive "$p"; then
    kill -TERM "$p"
    for i in $(seq 150); do alive "$p" || break; sleep 0.1; done
    if alive "$p"; then kill -KILL "$p"; echo "down: $f needed KILL"; fi
  fi
  rm -f "$f"
}
# 1. Jobs first: a slurmstepd is a process of its own and outlives its slurmd.
if [[ -s $ROOT/env.sh && -s $ROOT/run/slurmctld.pid ]]; then
  . "$ROOT/env.sh"
  for u in $(squeue -h -o %u 2>/dev/null | sort -u); do scancel -u "$u" 2>/dev/null; done
  for i in $(seq 100); do [[ -z $(squeue -h 2>/dev/null) ]] && break; sleep 0.1; done
fi
# 2. Daemons, in the reverse of the order in which they were started.
for f in "$ROOT"/run/n[0-9]*.pid; do stop "$f"; done
for n in slurmctld slurmdbd mariadbd munged; do stop "$ROOT/run/$n.pid"; done
echo "down: stopped"
