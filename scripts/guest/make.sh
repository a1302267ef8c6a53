#!/usr/bin/env bash
# Gets what guests need. Nothing of the machine is altered but by `qemu`, which installs it (apt).
#
#   bash scripts/guest/make.sh qemu     QEMU, where it is missing, apt is there, and we are root
#   bash scripts/guest/make.sh stock    Debian 13's kernel as it is: has DAMON (108 MB to fetch)
#   bash scripts/guest/make.sh own      a kernel with idle page tracking, built from Debian 13's
#                                       source (153 MB to fetch; needs gcc, make, flex, bison, bc and
#                                       libelf's headers; 10 to 40 minutes, at the lowest priority)
#
# What is made is kept in ${XDG_CACHE_HOME:-~/.cache}/algorithmic_efficiency/guest, and is made again
# only where it is missing. Exit code 1: it cannot be made here, and why.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/algorithmic_efficiency/guest
suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { echo "error: $*" >&2; exit 1; }

# apt with sources, lists and packages of its own, under $work/apt.
private_apt() {
  local apt=$work/apt command=$1
  shift
  timeout 600 "$command" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
    -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o Debug::NoLocking=1 \
    -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -q "$@"
}

begin() {
  local tool
  for tool in apt-get dpkg-deb "$@"; do
    command -v "$tool" > /dev/null || fail "$tool is missing; guests are made from Debian's packages."
  done
  [ -r "$keyring" ] || fail "$keyring is missing; install debian-archive-keyring."
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/making.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/root" "$work/made"
  : > "$work/apt/status"
  echo "deb [signed-by=$keyring] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} $suite main" \
    > "$work/apt/sources.list"
  private_apt apt-get -o APT::Update::Error-Mode=any update > "$work/apt.log" 2>&1 || {
    tail -n 3 "$work/apt.log" >&2
    fail "Debian's packages cannot be reached."
  }
}

# Fetches a package and unpacks those of its paths that match; nothing is installed.
unpack() {
  local package=$1
  shift
  (cd "$work" && private_apt apt-get download "$package" > apt.log 2>&1) || {
    tail -n 3 "$work/apt.log" >&2
    fail "package $package cannot be fetched."
  }
  dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -x -C "$work/root" --wildcards "$@"
  rm "$work/$package"_*.deb
}

finish() {
  unpack busybox-static '*/bin/busybox'
  cp "$(find "$work/root" -name busybox -path '*/bin/*' -type f)" "$work/made/busybox"
  rm -rf "${cache:?}/$1"
  mv "$work/made" "$cache/$1"
  echo "made $cache/$1"
}

qemu() {
  if command -v qemu-system-x86_64 > /dev/null; then
    return
  fi
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null ||
    fail 'qemu-system-x86_64 is missing; on Debian and Ubuntu: apt-get install qemu-system-x86'
  (timeout 300 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -qq \
    --yes --no-install-recommends qemu-system-x86) > /dev/null 2>&1 || fail 'apt cannot install QEMU.'
}

stock() {
  local image module
  begin xz
  image=$(private_apt apt-cache depends linux-image-amd64 | sed -n 's/ *Depends: //p' | head -n 1)
  # 9p is in modules, in the order in which they are needed; virtio and the serial lines are not.
  unpack "$image" './boot/vmlinuz-*' '*/fs/netfs/netfs.ko*' '*/net/9p/*.ko*' '*/fs/9p/9p.ko*'
  cp "$work"/root/boot/vmlinuz-* "$work/made/kernel"
  mkdir "$work/made/modules"
  for module in netfs 9pnet 9pnet_virtio 9p; do
    xz -dc "$(find "$work/root" -name "$module.ko.xz")" > "$work/made/modules/$module.ko"
    echo "$module.ko" >> "$work/made/modules/order"
  done
  finish stock
}

own() {
  local option source
  begin gcc make flex bison bc xz
  echo '#include <libelf.h>' | gcc -E - > /dev/null 2>&1 || fail 'libelf.h is missing; install libelf-dev.'
  source=$(private_apt apt-cache depends linux-source | sed -n 's/ *Depends: //p' | head -n 1)
  unpack "$source" "./usr/src/$source.tar.xz"
  tar -xJf "$work/root/usr/src/$source.tar.xz" -C "$work"
  cd "$work/$source"
  make -s tinyconfig > /dev/null
  ./scripts/kconfig/merge_config.sh -m .config "$here/own.config" > /dev/null
  make -s olddefconfig
  while read -r option; do
    grep -qxF "$option" .config || fail "$source does not know $option of own.config."
  done < <(grep '^CONFIG_.*=y$' "$here/own.config")
  echo "building $source"
  nice -n 19 make -s -j "$(nproc)" bzImage > "$work/build.log" 2>&1 || {
    tail -n 20 "$work/build.log" >&2
    fail "$source does not build."
  }
  cp arch/x86/boot/bzImage "$work/made/kernel"
  mkdir "$work/made/modules"
  : > "$work/made/modules/order"
  cd "$here"
  finish own
}

[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
for target in "$@"; do
  case $target in
    qemu) qemu ;;
    stock | own) [ -e "$cache/$target/kernel" ] || ("$target") ;;
    *) echo "error: there is no target $target; there are qemu, stock and own." >&2; exit 2 ;;
  esac
done
