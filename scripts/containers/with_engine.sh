#!/usr/bin/env bash
# Runs a command with a Docker engine: the one that DOCKER_HOST names if it answers, else one of its
# own, which is gone afterwards with everything in it, whatever becomes of the command.
#
#   scripts/containers/with_engine.sh COMMAND [ARGUMENT]...
#
# Exit code: the command's; 77 where this machine cannot have an engine, with the reason.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ $# -eq 0 ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | head -n -1 >&2
  exit 2
fi
if [ -n "${DOCKER_HOST:-}" ] && docker version > /dev/null 2>&1; then
  exec "$@"
fi

dir=$(mktemp -d /tmp/engine.XXXXXX)
running=
finish() {
  local code=$?
  trap '' TERM INT HUP
  if [ -n "$running" ]; then
    kill -TERM "$running" 2> /dev/null || true # where it is this script that was told to end
    wait "$running" || true
  fi
  [ ! -e "$dir/daemon.json" ] || bash "$here/engine.sh" stop "$dir" || code=1
  rm -rf "$dir"
  exit "$code"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

bash "$here/engine.sh" start "$dir"
export DOCKER_HOST=unix://$dir/docker.sock
# In the background, for a shell that waits for what is in front of it hears no signal.
"$@" <&0 &
running=$!
wait "$running"
