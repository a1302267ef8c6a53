"""What the tests share: running the command as a user does."""

import csv
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

# Before anything imports JAX. What one process compiled the others need not compile again (the
# workers of a session share the folder), and quick compilation gives the same numbers on a CPU.
SESSION = os.environ.get('PYTEST_XDIST_TESTRUNUID', str(os.getpid()))
COMPILED = Path(tempfile.gettempdir()) / f'compiled_by_tests_{SESSION}'
QUICKLY = '--xla_backend_optimization_level=1'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(COMPILED)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {QUICKLY}'.strip()

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / 'baselines' / 'mnist'
SPACE = BASELINE / 'tuning_search_space.json'

# Exact trials: drawing from a space costs a process two seconds to import scipy's sampler.
POINTS = [
  {'learning_rate': 1e-3, 'one_minus_beta_1': 0.95, 'epsilon': 1e-8},
  {'learning_rate': 3e-4, 'one_minus_beta_1': 0.9, 'epsilon': 1e-5},
  {'learning_rate': 5e-3, 'one_minus_beta_1': 0.99, 'epsilon': 1e-3},
]


class Command:
  """The runner's command, with the arguments of a small run unless others are given."""

  def __init__(self, log_dir: Path) -> None:
    self.log_dir = log_dir
    self._points = log_dir.with_name('points.json').absolute()
    self._points.parent.mkdir(parents=True, exist_ok=True)
    self._points.write_text(json.dumps(POINTS))

  def arguments(self, framework: str = 'jax', **flags: object) -> list[str]:
    """The command line; a flag of None is left out."""
    values: dict[str, object] = {
      'framework': framework,
      'workload': 'digits',
      'submission_path': BASELINE / f'mnist_{framework}' / 'submission.py',
      'tuning_search_space': self._points,
      'log_dir': self.log_dir,
      'rng_seed': 0,
      'max_global_steps': 20,
      'telemetry': 'row',  # a sampler beside each costs the others time
      'eval_period_steps': 1000,  # rows at step 1 and at the end, however slow the machine is
      **flags,
    }
    given = [f'--{name}={value}' for name, value in values.items() if value is not None]
    return [sys.executable, str(ROOT / 'submission_runner.py'), *given]

  def run(self, framework: str = 'jax', expect: int = 0, **flags: object) -> str:
    """Runs it; returns what it printed on stdout. Fails the test on another exit code."""
    done = subprocess.run(
      self.arguments(framework, **flags), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return done.stdout

  def rows(self, name: str, trial: int = 1) -> list[dict[str, str]]:
    """The rows of a trial's metrics.csv."""
    path = self.log_dir / name / f'run_{trial}' / 'metrics.csv'
    with path.open(newline='', encoding='utf-8') as file:
      return list(csv.DictReader(file))

  def metadata(self, name: str) -> dict[str, object]:
    """metadata.json."""
    return json.loads((self.log_dir / name / 'metadata.json').read_text())

  def state(self, name: str, trial: int = 1) -> dict[str, object]:
    """A trial's trial.json."""
    return json.loads((self.log_dir / name / f'run_{trial}' / 'trial.json').read_text())


def pytest_sessionfinish(session):
  """Removes what was compiled, once the workers have come to their end."""
  if 'docker' in sys.modules:
    # The SDK leaves the closing of its sockets to the garbage collector, which pytest calls once
    # more when no test's leave to do so holds any longer.
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', ResourceWarning)
      gc.collect()
  if not hasattr(session.config, 'workerinput'):
    shutil.rmtree(COMPILED, ignore_errors=True)


@pytest.fixture
def command(tmp_path: Path) -> Command:
  """A command whose record goes into the test's folder."""
  return Command(tmp_path / 'logs')


@pytest.fixture(autouse=True, scope='session')
def _processes_find_the_package_and_share_the_machine():
  """Processes that tests start import the package from any folder, and use one thread each.

  Small networks gain nothing from more, and threads that spin for a core slow all others down.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', str(ROOT), prepend=os.pathsep)
    patch.setenv('OMP_NUM_THREADS', '1')
    yield


@pytest.fixture(autouse=True, scope='session')
def _networks_are_narrow_within_the_tests_own_process():
  """The full ones take a CPU seconds a step; commands that tests start have them."""
  import narrow

  from algorithmic_efficiency.workloads import cifar, unet

  of_cifar, of_unet = narrow.make_cifar_narrow(), narrow.make_unet_narrow()
  yield
  cifar.FACTS, unet.FACTS = of_cifar, of_unet
