#!/usr/bin/env bash
# Builds an image of the project, with whatever builder Docker has here.
#
#   docker/build.sh ACCELERATOR [FRAMEWORKS] [-- ARGUMENTS OF docker build]
#
# ACCELERATOR is cpu, cuda or habana; FRAMEWORKS jax, pytorch or jax,pytorch (habana: pytorch). The
# image is algorithmic_efficiency:ACCELERATOR, or with a framework left out :ACCELERATOR-FRAMEWORK.
#
# BASE_IMAGE=…   in place of the usual one; habana has none and needs it
# PIP_FIND_LINKS=…, TORCH_INDEX_URL=…   handed on to pip
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
  echo "error: $1" >&2
  exit "${2:-2}"
}

accelerator=${1:-}
case $accelerator in
  cpu) base=${BASE_IMAGE:-} frameworks=jax,pytorch ;;
  cuda) base=${BASE_IMAGE:-nvidia/cuda:13.0.1-base-ubuntu24.04} frameworks=jax,pytorch ;;
  habana) base=${BASE_IMAGE:-} frameworks=pytorch ;;
  *) fail "'$accelerator' is no accelerator; give cpu, cuda or habana." ;;
esac
shift
if [ $# -gt 0 ] && [ "$1" != -- ]; then
  frameworks=$1
  shift
fi
case $accelerator:$frameworks in
  habana:pytorch) tag=habana ;;
  habana:jax | habana:jax,pytorch) fail 'jax does not run on habana; give pytorch.' ;;
  *:jax,pytorch | *:pytorch,jax) tag=$accelerator frameworks=jax,pytorch ;;
  *:jax | *:pytorch) tag=$accelerator-$frameworks ;;
  *) fail "'$frameworks' is no list of frameworks; give jax, pytorch or jax,pytorch." ;;
esac
if [ $# -gt 0 ]; then
  [ "$1" = -- ] || fail "'$1' is one argument too many; what docker build must get comes after --."
  shift
fi
[ "$accelerator:$base" != habana: ] ||
  fail 'BASE_IMAGE is not set; give the PyTorch image of the Gaudi release that the host runs.'
command -v docker > /dev/null || fail 'docker is not installed.' 1
docker version > /dev/null 2>&1 ||
  fail "no Docker engine answers at ${DOCKER_HOST:-its socket}; start it or set DOCKER_HOST." 1

commit='' branch=''
if commit=$(git -C "$root" rev-parse HEAD 2> /dev/null); then
  branch=$(git -C "$root" rev-parse --abbrev-ref HEAD)
  [ -z "$(git -C "$root" status --porcelain)" ] || commit=$commit-dirty
fi
version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$root/algorithmic_efficiency/__init__.py")

arguments=()
give() {
  [ -z "$2" ] || arguments+=(--build-arg "$1=$2")
}
give ACCELERATOR "$accelerator"
give FRAMEWORKS "$frameworks"
give BASE_IMAGE "$base"
give COMMIT "$commit"
give BRANCH "$branch"
give VERSION "$version"
give PIP_FIND_LINKS "${PIP_FIND_LINKS:-}"
give TORCH_INDEX_URL "${TORCH_INDEX_URL:-}"

image=algorithmic_efficiency:$tag
SECONDS=0
docker build --file "$root/docker/Dockerfile" --tag "$image" "${arguments[@]}" "$@" "$root" ||
  fail "$image was not built; what docker said is above." 1

# The versions that are really inside, as labels; nothing else changes, so nothing is built again.
versions=$(docker run --rm --network none --entrypoint python3 "$image" -c '
import importlib.metadata, platform
print(f"LABEL algorithmic_efficiency.python=\"{platform.python_version()}\"")
for name in ("jax", "torch"):
  try:
    print(f"LABEL algorithmic_efficiency.{name}=\"{importlib.metadata.version(name)}\"")
  except importlib.metadata.PackageNotFoundError:
    pass')
printf 'FROM %s\n%s\n' "$image" "$versions" | docker build --quiet --tag "$image" - > /dev/null

size=$(docker image inspect --format '{{.Size}}' "$image")
echo "built $image: $((size / 1000000)) MB in $SECONDS s"
