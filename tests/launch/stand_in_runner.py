"""Stands in for submission_runner in milliseconds.

stand_in_runner.py TRIAL_FOLDER DEED,DEED,…     a deed for each attempt
stand_in_runner.py FLAGS --deeds=DEED,…/DEED,…/…    for each trial, by the runner's own flags
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

if sys.argv[1].startswith('--'):
  given = dict(flag.lstrip('-').partition('=')[::2] for flag in sys.argv[1:])
  number = int(given['hparam_start_index'])
  trial = Path(given['log_dir']) / given['workload'] / f'run_{number + 1}'
  deeds = given['deeds'].split('/')[number].split(',')
else:
  trial, deeds = Path(sys.argv[1]), sys.argv[2].split(',')
trial.mkdir(parents=True, exist_ok=True)
with (trial / 'ran').open('a+') as ran:  # a line each time, to tell what ran twice
  ran.write(f'{time.time()}\n')
  ran.seek(0)
  count = len(ran.readlines())
deed = deeds[min(count, len(deeds)) - 1]


def record(status: str, reason: str) -> None:
  """As the runner records it."""
  whole = trial / 'trial.json.tmp'
  whole.write_text(json.dumps({'status': status, 'reason': reason}))
  whole.replace(trial / 'trial.json')


def save(*_: object) -> None:
  """As the runner ends on SIGTERM."""
  record('interrupted', 'saved')
  os._exit(75)


signal.signal(signal.SIGTERM, save)
if deed == 'complete':
  record('complete', 'done')
elif deed == 'fail':
  record('failed', 'it went wrong')
  sys.exit(1)
elif deed == 'refuse':
  print('submission_runner: error: No such thing.')
  sys.exit(2)
elif deed == 'die':
  if os.getpid() == 1:  # of a container: the kernel does not end it by its own signal
    os._exit(137)
  os.kill(os.getpid(), signal.SIGKILL)
elif deed == 'eat':
  memory = []
  while True:
    memory.append(bytearray(os.urandom(1 << 20)))
elif deed == 'write':
  (Path(given['data_dir']) / 'written').touch()
elif deed in ('wait', 'stubborn'):
  if deed == 'stubborn':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
  (trial / 'waits').touch()
  time.sleep(60)
else:
  assert deed == 'vanish'
