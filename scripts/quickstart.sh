#!/usr/bin/env bash
# The main job on data that is in the package: two trials, their table and their picture.
#
#   bash scripts/quickstart.sh [jax|pytorch|both]
#
# Makes .venv in the project's root. JAX alone by default: the smaller download.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case "${1:-jax}" in
  jax | pytorch) frameworks=${1:-jax} ;;
  both) frameworks='jax pytorch' ;;
  *)
    echo "quickstart: error: '$1' is no framework; give jax, pytorch or both." >&2
    exit 2
    ;;
esac

use_environment "plots,${frameworks// /,}"
experiment=$root/experiments/simple_example_mnist_loss
for framework in $frameworks; do
  DATA=embedded FRAMEWORK=$framework PYTHON=python bash "$experiment/measure_loss.sh"
done
python "$experiment/plot_loss.py"
