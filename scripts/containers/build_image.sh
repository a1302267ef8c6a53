#!/usr/bin/env bash
# docker/build.sh where there is no registry and perhaps no index of PyTorch's: builds on the base
# that stands in, with this machine's network, and with the wheels of the folder that pip looks in.
#
#   scripts/containers/build_image.sh ACCELERATOR [FRAMEWORKS] [-- ARGUMENTS OF docker build]
#
# WHEELS=…          such a folder; else that of pip's find-links setting, if it has one
# WHEELS_PORT=18099 where it is served on loopback while the image is built
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
port=${WHEELS_PORT:-18099}

own=() theirs=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  own+=("$1")
  shift
done
[ $# -eq 0 ] || theirs=("${@:2}")

found=${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2> /dev/null || true)}
wheels=${WHEELS:-$found}
unset PIP_FIND_LINKS
if [ -d "$wheels" ]; then
  python3 -m http.server "$port" --bind 127.0.0.1 --directory "$wheels" > /dev/null 2>&1 &
  server=$!
  trap 'kill "$server" 2> /dev/null || true' EXIT
  # The port is part of what a layer is cached by, so it must not change from build to build.
  for _ in $(seq 50); do
    kill -0 "$server" 2> /dev/null || {
      echo "error: port $port of this machine is taken; give another: WHEELS_PORT=…" >&2
      exit 1
    }
    (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null && break
    sleep .1
  done
  export PIP_FIND_LINKS=http://127.0.0.1:$port/
fi
export BASE_IMAGE=${BASE_IMAGE:-${BASE_TAG:-python:3.11-slim}}
bash "$root/docker/build.sh" "${own[@]}" -- --network host "${theirs[@]}"
