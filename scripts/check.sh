#!/usr/bin/env bash
# Looks for what the style forbids: ruff's lint and format, pyright's types. Mends nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

use_environment jax,pytorch,dev
cd "$root"
ruff check .
ruff format --check .
pyright
