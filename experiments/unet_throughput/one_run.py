"""Trains unet on made-up slices for a few steps, at any image size; prints its last row as JSON.

python one_run.py FRAMEWORK IMAGE_SIZE BATCH_SIZE STEPS DEVICE FOLDER
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency.runner import settings
from algorithmic_efficiency.workloads import unet

BASELINE = ROOT / 'baselines' / 'adamw'


def main() -> None:
  """Runs it; the first of several processes prints."""
  framework, image_size, batch_size, steps, device, folder = sys.argv[1:]
  size = int(image_size)
  unet.FACTS = dataclasses.replace(
    unet.FACTS, input_shape=(size, size, 3), target_shape=(size, size, 1), eval_batch_size=8,
    num_eval_train_examples=8, num_validation_examples=8, num_test_examples=8,
  )  # fmt: skip
  logging.disable(logging.INFO)
  from algorithmic_efficiency.runner.study import Study

  study = Study(settings.check(settings.Settings(
    workload='unet', framework=framework, tuning_ruleset='external', num_tuning_trials=1,
    submission_path=str(BASELINE / framework / 'submission.py'),
    tuning_search_space=str(BASELINE / 'tuning_search_space.json'), log_dir=folder,
    experiment_dir=None, experiment_name=None, data_dir=None, data='synthetic', rng_seed=0,
    max_global_steps=int(steps), eval_period_steps=int(steps), batch_size=int(batch_size),
    hparam_start_index=None, hparam_end_index=None, record_extra_metadata=[], overwrite=True,
    resume=False, save_checkpoints=False, edition='1.0', submission_api='auto', device=device,
    torch_compile='auto', command='',
  )))  # fmt: skip
  (outcome,) = study.run()
  if study.is_first:
    rows = Path(folder, f'unet_{framework}', 'run_1', 'metrics.jsonl').read_text().splitlines()
    first, last = json.loads(rows[0]), json.loads(rows[-1])
    names = ('accumulated_submission_time', 'global_step', 'energy.submission_joules')
    content = {name: last[name] - first[name] for name in names if name in last and name in first}
    content['steps_per_epoch'] = last['steps_per_epoch']
    content['energy.source'] = last.get('energy.source', 'none')
    content['status'] = outcome['status']
    print(json.dumps(content))
  study.framework.processes.leave()


if __name__ == '__main__':
  main()
