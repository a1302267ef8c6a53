#!/usr/bin/env bash
# Tests what needs servers, each against a real one that is started for it and gone afterwards: a
# Docker engine with the image for CPUs, SLURM, Ray. What this machine cannot have is skipped.
#
#   scripts/containers/test_servers.sh [docker] [slurm] [ray]     all of them by default
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scripts=${here%/*}

test_docker() {
  bash "$here/with_engine.sh" bash -c \
    'bash "$0/containers/build_image.sh" cpu jax,pytorch && bash "$0/test.sh" -m docker' "$scripts"
}

test_slurm() {
  bash "$here/with_slurm.sh" bash "$scripts/test.sh" -m slurm
}

test_ray() {
  (source "$scripts/environment.sh" && use_environment ray) || return 77
  bash "$scripts/test.sh" -m ray
}

[ $# -gt 0 ] || set -- docker slurm ray
for server in "$@"; do
  case $server in
    docker | slurm | ray) ;;
    *)
      echo "test_servers: error: '$server' is no server; give docker, slurm or ray." >&2
      exit 2
      ;;
  esac
  echo "== $server"
  code=0
  "test_$server" || code=$?
  if [ "$code" -eq 77 ]; then
    echo "skipped: $server, which cannot be had here"
  elif [ "$code" -ne 0 ]; then
    exit "$code"
  fi
done
