#!/usr/bin/env bash
# Installs Chromium from the system's packages, which tests of the report look with (Debian, root).
#
#   bash scripts/browser.sh     does nothing where a browser is there
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" > /dev/null; then
    exit 0
  fi
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo 'browser: not installed: that needs root and apt; tests in a browser will skip.' >&2
  exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { timeout 300 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 900 apt-get \
  -o DPkg::Lock::Timeout=300 install -qq --yes --no-install-recommends chromium; } > "$log" 2>&1
then
  echo "browser: not installed: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")" >&2
fi
