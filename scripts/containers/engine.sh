#!/usr/bin/env bash
# A Docker engine of one's own, in one folder, that touches nothing of the machine's network.
#
#   scripts/containers/engine.sh start DIR     then: export DOCKER_HOST=unix://DIR/docker.sock
#   scripts/containers/engine.sh stop DIR      ends it with its containers, and deletes DIR
#
# DIR must be short: the paths of sockets have a limit of 107 bytes. What the engine needs is
# installed where it is missing (apt, as root). The base image stands in for python:3.11-slim, which
# no registry gives here: it is made of Debian's packages once, and kept.
#
# CACHE=…            the folder of the base image (~/.cache/algorithmic_efficiency/containers)
# DEBIAN_SUITE=bookworm BASE_TAG=python:3.11-slim   what the base is made of, and stands in for
# TMPDIR=…           where it is made
# NVIDIA_HOOK=none   an engine that cannot give GPUs; FAIL_NVIDIA_HOOK=1: one whose driver is broken
#
# Exit code 77: this machine cannot have an engine, and why.
set -euo pipefail
# Daemons lie where the PATH of a plain user need not lead.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/algorithmic_efficiency/containers}
suite=${DEBIAN_SUITE:-bookworm}
base_tag=${BASE_TAG:-python:3.11-slim}
base_tar=$cache/base-$suite.tar
certificates=/etc/ssl/certs/ca-certificates.crt

fail() { echo "error: $*" >&2; exit 1; }
skip() { echo "skipped: $*" >&2; exit 77; }
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | head -n -1 >&2; exit 2; }

# The tools of the engine, from apt where they are missing.
install_tools() {
  local tool packages=()
  [ "$(id -u)" = 0 ] || skip 'an engine of its own needs root.'
  command -v dockerd > /dev/null && command -v docker > /dev/null || packages+=(docker.io)
  for tool in runc iptables mmdebstrap; do
    command -v "$tool" > /dev/null || packages+=("$tool")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  command -v apt-get > /dev/null || skip "there is no ${packages[*]}, and no apt-get to install it."
  echo "installing ${packages[*]}"
  local apt=(timeout 600 apt-get --option=DPkg::Lock::Timeout=120 -qq --yes)
  ("${apt[@]}" update &&
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "${packages[@]}") \
    > /dev/null 2>&1 ||
    skip "apt cannot install ${packages[*]}."
}

# The base image as a plain tar. It trusts whom this machine trusts, or pip could not reach its
# index from networks that re-sign what passes.
make_base() {
  local making hook
  [ ! -s "$base_tar" ] || return 0
  mkdir -p "$cache"
  echo "making $base_tar"
  making=$(mktemp "$base_tar.XXXXXX")
  hook='rm -f "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED
ln -s /usr/bin/python3 "$1/usr/local/bin/python"; ln -s /usr/bin/pip3 "$1/usr/local/bin/pip"
printf "Dir::Cache::%s \"\";\n" pkgcache srcpkgcache > "$1/etc/apt/apt.conf.d/90small"
rm -f "$1"/var/cache/apt/*.bin'
  local options=(--quiet --variant=minbase --dpkgopt=force-unsafe-io
    --include=ca-certificates,python3,python3-pip,python3-venv
    --aptopt='Acquire::Check-Valid-Until "false"')
  for path in man doc locale; do
    options+=(--dpkgopt="path-exclude=/usr/share/$path/*")
  done
  [ ! -r "$certificates" ] ||
    options+=(--customize-hook="copy-in $certificates ${certificates%/*}")
  mmdebstrap "${options[@]}" --customize-hook="$hook" --format=tar "$suite" "$making" \
    > "$cache/base-$suite.log" 2>&1 || {
    rm -f "$making"
    tail -n 3 "$cache/base-$suite.log" >&2
    skip "mmdebstrap cannot make $suite; its log is $cache/base-$suite.log."
  }
  mv "$making" "$base_tar"
}

import_base() {
  docker image inspect "$base_tag" > /dev/null 2>&1 && return
  docker import --change 'CMD ["python3"]' --change "ENV PIP_CERT=$certificates" \
    --change 'ENV PIP_DEFAULT_TIMEOUT=180' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    "$base_tar" "$base_tag" > /dev/null
}

start() {
  local version
  [ ${#dir} -le 40 ] || fail "$dir is too long a path for sockets; give one of 40 letters or fewer."
  export DOCKER_HOST=unix://$dir/docker.sock
  docker version > /dev/null 2>&1 && fail "an engine runs in $dir already; stop it first."
  install_tools
  make_base
  mkdir -p "$dir/bin"
  echo '{}' > "$dir/daemon.json"
  # The engine looks for NVIDIA's hook on its PATH, and only when it starts.
  [ "${NVIDIA_HOOK:-stand-in}" = none ] ||
    ln -sf "$here/nvidia_hook.py" "$dir/bin/nvidia-container-runtime-hook"
  PATH=$dir/bin:$PATH setsid dockerd --config-file="$dir/daemon.json" --data-root="$dir/data" \
    --exec-root="$dir/exec" --pidfile="$dir/dockerd.pid" --host="$DOCKER_HOST" \
    --storage-driver=overlay2 --bridge=none --iptables=false --ip-forward=false \
    --add-runtime="limited=$here/limited_runtime.py" --default-runtime=limited \
    --add-runtime="habana=$here/habana_runtime.py" \
    > "$dir/dockerd.log" 2>&1 < /dev/null &
  for _ in $(seq 300); do
    docker version > /dev/null 2>&1 && break
    sleep .1
  done
  docker version > /dev/null 2>&1 || {
    tail -n 3 "$dir/dockerd.log" >&2
    stop
    skip 'the engine does not start here; its last lines are above.'
  }
  import_base
  version=$(docker version --format '{{.Server.Version}}')
  echo "engine $version runs: export DOCKER_HOST=$DOCKER_HOST"
}

stop() {
  local pid
  export DOCKER_HOST=unix://$dir/docker.sock
  [ -e "$dir/daemon.json" ] || fail "there is no engine in $dir."
  docker ps --all --quiet 2> /dev/null | xargs --no-run-if-empty docker rm --force \
    > /dev/null 2>&1 || true
  if pid=$(cat "$dir/dockerd.pid" 2> /dev/null); then
    kill "$pid" 2> /dev/null || rm -f "$dir/dockerd.pid"
    # Not until the process is gone: it may stay a zombie.
    for _ in $(seq 200); do
      [ -e "$dir/dockerd.pid" ] || break
      sleep .1
    done
  fi
  awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r |
    xargs --no-run-if-empty umount 2> /dev/null || true
  rm -rf --one-file-system "${dir:?}"
}

[ $# -eq 2 ] && [ -n "$2" ] || usage
dir=$(realpath -m "$2")
case $1 in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
