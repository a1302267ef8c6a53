""".dockerignore: what an image is made of holds the source, and nothing that is somebody's own."""

import functools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def rules():
  """(pattern, allows) of each line, in their order."""
  found = []
  for line in (ROOT / '.dockerignore').read_text().splitlines():
    if line.strip() and not line.startswith('#'):
      allows = line.startswith('!')
      pattern = re.escape(line.removeprefix('!').strip('/'))
      pattern = pattern.replace(r'\*\*/', '(?:.*/)?').replace(r'\*', '[^/]*')
      pattern = pattern.replace(r'\[', '[').replace(r'\]', ']')
      found.append((re.compile(pattern), allows))
  return found


def is_sent(path):
  """Whether Docker is given a file: the last rule for it, or for a folder it is in, decides."""
  parts = path.split('/')
  names = ['/'.join(parts[:n]) for n in range(1, len(parts) + 1)]
  sent = True
  for pattern, allows in rules():
    if any(pattern.fullmatch(name) for name in names):
      sent = allows
  return sent


def test_everything_is_left_out_before_anything_is_let_in():
  pattern, allows = rules()[0]
  assert (pattern.pattern, allows) == ('[^/]*', False)


@pytest.mark.parametrize(
  'path',
  [
    'submission_runner.py',
    'algoperf.py',
    'setup.cfg',
    'LICENSE',
    'algorithmic_efficiency/workloads/digits/digits.npz',
    'algorithmic_efficiency/records/COLUMNS.md',
    'baselines/mnist/mnist_jax/submission.py',
    'experiments/simple_example_mnist_loss/measure_loss.sh',
    'scripts/watch.py',
    'docker/requirements.py',
    'docker/constraints-cuda.txt',
    'docker/entrypoint.sh',
  ],
)
def test_an_image_gets(path):
  assert is_sent(path)


@pytest.mark.parametrize(
  'path',
  [
    '.git/config',
    '.venv/bin/python',
    '.venv-other/x',
    '.env',
    'experiments/.env.local',
    'notes.txt',
    'core',
    'id_rsa',
    'tests/conftest.py',
    'logs/digits_jax/metadata.json',
    'experiments/energy_accuracy/logs/all_metrics.csv',
    'experiments/conv_kernel_grid/traces/x.pb',
    'algorithmic_efficiency/__pycache__/errors.cpython-311.pyc',
    'algorithmic_efficiency/runner/clock.pyc',
    'algorithmic_efficiency.egg-info/PKG-INFO',
    'scripts/guest/make.sh',
    'scripts/containers/engine.sh',
    'docker/Dockerfile',
    '.dockerignore',
  ],
)
def test_an_image_does_not_get(path):
  assert not is_sent(path)


def test_nothing_but_tracked_files_is_sent_from_a_clean_checkout():
  asked = ['git', '-C', str(ROOT), 'ls-files', '--cached', '--others', '--exclude-standard']
  if not (ROOT / '.git').exists():
    pytest.skip('this is no git checkout')
  known = set(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split('\n'))
  roots = [p for p in ROOT.iterdir() if is_sent(p.name) or p.name == 'docker']
  files = [f for p in roots for f in ([p] if p.is_file() else p.rglob('*')) if f.is_file()]
  sent = {path for f in files if is_sent(path := str(f.relative_to(ROOT)))}
  assert sent
  assert not sent - known


def test_an_image_is_sent_little():
  files = [f for f in (ROOT / 'experiments').rglob('*') if f.is_file()]
  sent = [f for f in files if is_sent(str(f.relative_to(ROOT)))]
  assert sum(f.stat().st_size for f in sent) < 20e6
