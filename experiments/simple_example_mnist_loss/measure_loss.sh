#!/usr/bin/env bash
# Trains a small network with a few settings of Adam and leaves logs/all_metrics.csv.
#
#   bash experiments/simple_example_mnist_loss/measure_loss.sh
#
# DATA=embedded        uses the digits inside the package; without it MNIST, downloaded if needed
# FRAMEWORK=pytorch    (jax by default)
# TRIALS=2 SEED=2022 DATA_DIR=~/data PYTHON=python3
# LOG_DIR=…            in place of logs/ beside this script
# Further arguments go to submission_runner.py as they are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
framework=${FRAMEWORK:-jax}
log_dir=${LOG_DIR:-$here/logs}
python=${PYTHON:-python3}
workload=mnist period=49 # steps: an epoch of MNIST at batch 1024
[ "${DATA:-}" = embedded ] && workload=digits period=38 # two epochs of the digits at batch 64

mkdir -p "$log_dir"
"$python" "$root/submission_runner.py" \
  --framework="$framework" \
  --workload="${workload}_${framework}" \
  --submission_path="$root/baselines/mnist/mnist_${framework}/submission.py" \
  --tuning_search_space="$root/baselines/mnist/tuning_search_space.json" \
  --num_tuning_trials="${TRIALS:-2}" \
  --rng_seed="${SEED:-2022}" \
  --eval_period_steps="$period" \
  --data_dir="${DATA_DIR:-$HOME/data}" \
  --log_dir="$log_dir" \
  --overwrite \
  "$@" 2>&1 | tee -a "$log_dir/console_output.log"

cd "$root"
"$python" -c 'import sys; from algorithmic_efficiency import logging_utils
print("table:", logging_utils.concatenate_csvs(sys.argv[1]))' "$log_dir"
