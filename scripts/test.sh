#!/usr/bin/env bash
# The whole test suite, both frameworks, in .venv. Arguments go to pytest:
#
#   bash scripts/test.sh                              everything
#   bash scripts/test.sh tests/runner/test_clock.py   one file
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

use_environment jax,pytorch,plots,data,telemetry,dev
cd "$root"
python -m pytest "$@"
