#!/usr/bin/env bash
# What a container runs first. Its arguments decide what it runs:
#
#   none, or the first begins with -    submission_runner.py, with these arguments
#   the first ends in .sh or .py        this script, with the arguments after it
#   anything else                       this command
#
# The exit code is that of the run. SIGTERM reaches the run itself: a script's shell lives on until
# its run has saved what it must.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# --user may give a user whom the image does not know: with no name, and / for a home.
give_a_home() {
  local name
  name=$(id -un 2> /dev/null) || name=uid$(id -u)
  export USER=${USER:-$name} LOGNAME=${LOGNAME:-$name}
  if [ ! -d "${HOME:-}" ] || [ ! -w "$HOME" ]; then
    HOME=$(mktemp -d /tmp/home.XXXXXX 2> /dev/null) || {
      echo "error: neither HOME (${HOME:-not set}) nor /tmp can be written; add --tmpfs /tmp." >&2
      exit 2
    }
    export HOME
  fi
}

# A script by its path from here, or from the project's folder, wherever the container starts.
find_script() {
  script=$1
  if [ ! -e "$script" ] && [ -e "$root/$script" ]; then
    script=$root/$script
  fi
}

# Whether a process has a handler for a signal.
handles() {
  local key value
  while read -r key value; do
    if [ "$key" = SigCgt: ]; then
      # No bare return: in a trap it gives the status of what the trap interrupted.
      ((16#$value >> $(kill -l "$2") - 1 & 1)) && return 0
    fi
  done 2> /dev/null < "/proc/$1/status"
  return 1
}

# Sends a signal to what a script runs, but not to a shell or a tee that it would only end: they
# would be gone before the run has ended, and with them its exit code and its last lines.
pass_on() {
  local stat pid name group
  signalled=yes
  for stat in /proc/[0-9]*/stat; do
    { read -r stat < "$stat"; } 2> /dev/null || continue
    pid=${stat%% *} name=${stat#*\(} group=${stat##*) }
    name=${name%)*}
    read -r _ _ group _ <<< "$group"
    [ "$group" = "$running" ] || continue
    case $name in
      bash | sh | dash | tee) handles "$pid" "$1" || continue ;;
    esac
    kill -s "$1" "$pid" 2> /dev/null || true
  done
}

# Waits for a script, however often a signal interrupts the wait, and exits as it did.
run_script() {
  local code signal
  set -m # a process group of its own, whose members pass_on finds
  bash "$@" &
  running=$!
  for signal in TERM INT HUP QUIT USR1 USR2; do
    # shellcheck disable=SC2064 # the name is known now
    trap "pass_on $signal" "$signal"
  done
  while :; do
    signalled='' code=0
    wait "$running" || code=$?
    [ -n "$signalled" ] || exit "$code"
  done
}

give_a_home
if [ $# -eq 0 ]; then
  exec python3 "$root/submission_runner.py"
fi
case $1 in
  -*) exec python3 "$root/submission_runner.py" "$@" ;;
  *.sh)
    find_script "$1"
    run_script "$script" "${@:2}"
    ;;
  *.py)
    find_script "$1"
    exec python3 "$script" "${@:2}"
    ;;
  *) exec "$@" ;;
esac
