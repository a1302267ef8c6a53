#!/usr/bin/env python3
"""Tells what a submission should mend: a few steps and an evaluation on synthetic data.

  python scripts/check_submission.py --submission_path=baselines/mnist/mnist_jax \\
      --framework=jax --tuning_search_space=baselines/mnist/tuning_search_space.json

A line for every point of the submission API: ok, mend (the API is broken), note (it runs, but is
worth a thought). Exit codes: 0 nothing to mend, 1 something to mend, 2 the command is wrong.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import NoReturn

sys.path[0] = str(Path(__file__).resolve().parents[1])

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.submissions.conventions import API_NAMES


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    """One line and exit code 2."""
    sys.exit(_refuse(f'{message} (see --help).'))


def _refuse(message: str) -> int:
  print(f'check_submission: error: {message}', file=sys.stderr)
  return 2


def _parser() -> _Parser:
  parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--submission_path', type=Path, required=True, help='file or folder')
  parser.add_argument('--workload', default='digits', help='what to train; digits unless given')
  parser.add_argument('--framework', help='jax or pytorch')
  parser.add_argument('--tuning_search_space', type=Path, help='JSON file')
  parser.add_argument('--tuning_ruleset', choices=('external', 'self'), default='external')
  parser.add_argument('--submission_api', choices=API_NAMES, default='auto')
  return parser


def main() -> int:
  """Checks; returns the exit code."""
  arguments = _parser().parse_args()
  from algorithmic_efficiency.runner import checkup

  options = checkup.Options(**vars(arguments))
  warnings.simplefilter('ignore')  # of the libraries that the submission uses
  try:
    report = checkup.check(options, lambda line: print(line, flush=True))
  except UsageError as error:
    return _refuse(str(error))
  mend, noted = report.mend_count, report.note_count
  print(f'\n{mend or "nothing"} to mend, {noted or "nothing"} to note')
  return 1 if mend else 0


if __name__ == '__main__':
  sys.exit(main())
