#!/usr/bin/env bash
# Mends what scripts/check.sh finds, as far as ruff can.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

use_environment dev
cd "$root"
ruff check --fix .
ruff format .
