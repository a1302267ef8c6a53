#!/usr/bin/env bash
# Looks for what the style forbids: ruff's lint and format, basedpyright's types, hadolint's rules
# for the Dockerfile. Mends nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

use_environment jax,pytorch,plots,data,telemetry,launch,dev
cd "$root"
ruff check .
ruff format --check .
basedpyright
hadolint docker/Dockerfile
