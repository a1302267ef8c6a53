#!/usr/bin/env bash
# Runs a command beside a SLURM cluster of its own, which ends with it, however that ends.
#
#   bash scripts/containers/with_slurm.sh srun --nodes=2 hostname
#
# The command sees SLURM_CONF; its exit code is returned. What there is to set: slurm.sh. Exit code
# 77: SLURM cannot be had here, and why.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }

# A socket's path has a hundred characters at most, which not every TMPDIR leaves.
parent=${TMPDIR:-/tmp}
[ "${#parent}" -le 60 ] || parent=/tmp
dir=$(mktemp -d "$parent/slurm.XXXXXX")
command='' guard=''

finish() {
  [ -z "$guard" ] || kill "$guard" 2> /dev/null || true
  if [ -e "$dir/pids" ]; then
    bash "$here/slurm.sh" stop "$dir"
  else
    rm -rf "$dir"
  fi
}
trap finish EXIT
# Both reach the command as SIGTERM: what a script starts beside itself does not hear SIGINT.
trap '[ -z "$command" ] || kill -TERM "$command" 2> /dev/null || true' INT TERM

# A job around this command is no matter of the cluster's.
for name in ${!SLURM_@}; do
  unset "$name"
done
bash "$here/slurm.sh" start "$dir" || exit
# Ends the cluster where this script was killed and could not.
setsid bash -c 'while [ -e "/proc/$0" ]; do sleep 2; done; exec bash "$1/slurm.sh" stop "$2"' \
  $$ "$here" "$dir" > /dev/null 2>&1 < /dev/null &
guard=$!
SLURM_CONF=$dir/slurm.conf "$@" <&0 &
command=$!
# A signal ends the waiting, not the command.
code=128
while [ "$code" -ge 128 ] && [ -e "/proc/$command" ]; do
  wait "$command" && code=0 || code=$?
done
exit "$code"
