#!/usr/bin/env bash
# The whole test suite, both frameworks, in .venv. Arguments go to pytest:
#
#   bash scripts/test.sh                              everything but what takes long
#   bash scripts/test.sh -m slow                      that
#   bash scripts/test.sh tests/runner/test_clock.py   one file
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

extras=jax,pytorch,baselines,networks,plots,data,telemetry,habana,launch,tensorboard,dev
# Two large packages that only slow tests need: half a minute and 200 MB.
if [[ " $* " == *" slow "* ]]; then
  extras+=,wandb,mlflow
fi
use_environment "$extras"
cd "$root"
if [ $# -gt 0 ]; then
  python -m pytest "$@"
else
  # A worker a core, up to four; a file's tests share what they prepare, so they stay together.
  python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile
fi
