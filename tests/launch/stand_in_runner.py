"""Stands in for submission_runner in milliseconds: TRIAL_FOLDER DEEDS, a deed for each attempt."""

import json
import os
import signal
import sys
import time
from pathlib import Path

trial, deeds = Path(sys.argv[1]), sys.argv[2].split(',')
trial.mkdir(parents=True, exist_ok=True)
with (trial / 'ran').open('a+') as ran:  # a line each time, to tell what ran twice
  ran.write(f'{time.time()}\n')
  ran.seek(0)
  count = len(ran.readlines())
deed = deeds[min(count, len(deeds)) - 1]


def record(status: str, reason: str) -> None:
  """As the runner records it."""
  (trial / 'trial.json').write_text(json.dumps({'status': status, 'reason': reason}))


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
  os.kill(os.getpid(), signal.SIGKILL)
elif deed in ('wait', 'stubborn'):
  if deed == 'stubborn':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
  (trial / 'waits').touch()
  time.sleep(60)
else:
  assert deed == 'vanish'
