"""Tests of --device: what is chosen, what is refused, and an HPU by a stand-in for its package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.frameworks import on_jax, on_pytorch

STANDIN = Path(__file__).parent / 'standin_habana'
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device here')


@pytest.fixture
def hpu(monkeypatch, tmp_path):
  """Processes started from here on find an HPU; gives what was asked of it so far."""
  monkeypatch.setenv('PYTHONPATH', str(STANDIN), prepend=os.pathsep)
  monkeypatch.setenv('STANDIN_HABANA_LOG', str(tmp_path / 'habana.json'))

  def counts():
    path = tmp_path / 'habana.json'
    return json.loads(path.read_text()) if path.exists() else {}

  return counts


def run(script):
  """What a process of its own prints, as JSON."""
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=100)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def test_the_kind_that_is_trained_on_has_a_name():
  assert on_jax.device() in ('cpu', 'cuda', 'tpu')
  assert on_pytorch.device() == ('cuda' if torch.cuda.is_available() else 'cpu')


def test_jax_knows_no_hpu():
  with pytest.raises(UsageError, match='--device=hpu is for --framework=pytorch'):
    frameworks.load('jax', device='hpu')


@no_cuda
@pytest.mark.parametrize(
  ('device', 'words'),
  [('cuda', 'torch.cuda.is_available'), ('hpu', 'habana_frameworks is not installed')],
)
def test_pytorch_tells_what_is_missing_and_stays_as_it_was(device, words):
  with pytest.raises(UsageError) as caught:
    frameworks.load('pytorch', device=device)
  for part in (f'--device={device}', '--framework=pytorch', words, 'choose another'):
    assert part in str(caught.value)
  assert frameworks.load('pytorch') is on_pytorch
  assert on_pytorch.pytorch_setup()[2].type == 'cpu'


@pytest.mark.skipif(on_pytorch.DEVICE.type != 'cpu', reason='the tests run on another device')
def test_the_device_that_is_in_use_may_be_asked_for_again(monkeypatch):
  monkeypatch.setattr(on_pytorch.devices, '_asked', ['auto'])
  assert frameworks.load('pytorch', device='cpu') is on_pytorch
  monkeypatch.setattr(on_pytorch, 'DEVICE', torch.device('cuda:0'))
  with pytest.raises(UsageError, match=r'--device=cpu is not to be had here .* runs on cuda'):
    frameworks.load('pytorch', device='cpu')


@no_cuda
def test_jax_runs_on_what_was_asked_for_or_says_that_it_is_not_there(monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  found = run(
    'import json\n'
    'from algorithmic_efficiency import errors, frameworks\n'
    'try:\n'
    '  frameworks.load("jax", device="cuda")\n'
    'except errors.UsageError as error:\n'
    '  told = str(error)\n'
    'print(json.dumps([told, frameworks.load("jax", device="cpu").device()]))\n'
  )
  assert found[1] == 'cpu'
  for part in ('--device=cuda', '--framework=jax', 'choose another'):
    assert part in found[0]
  assert '\n' not in found[0]


OF_PYTORCH = """
import json, sys
from algorithmic_efficiency import errors, frameworks, pytorch_utils
found = {}
for device in sys.argv[1].split():
  try:
    framework = frameworks.load('pytorch', device=device)
    _, _, chosen, n_gpus = pytorch_utils.pytorch_setup()
    described = framework.describe_devices()
    imported = 'habana_frameworks' in sys.modules
    found[device] = [framework.device(), chosen.type, n_gpus, described, imported]
  except errors.UsageError as error:
    found[device] = str(error)
print(json.dumps(found))
"""


def of_pytorch(*devices):
  return run(f'import sys; sys.argv = ["", {" ".join(devices)!r}]\n{OF_PYTORCH}')


@no_cuda
@pytest.mark.slow
def test_an_hpu_is_found_and_without_one_the_cpu_serves(hpu, monkeypatch):
  on_hpu = ['hpu', 'hpu', 0, '1 x GAUDI STANDIN', True]
  assert of_pytorch('auto', 'hpu') == {'auto': on_hpu, 'hpu': on_hpu}
  monkeypatch.setenv('STANDIN_HABANA_DEVICES', '0')  # the package without a device
  found = of_pytorch('cpu', 'hpu', 'auto')
  assert found['cpu'] == ['cpu', 'cpu', 0, '1 x cpu', False]
  assert found['auto'] == ['cpu', 'cpu', 0, '1 x cpu', True]
  assert 'torch.hpu.is_available() is false' in found['hpu']
  assert hpu() == {}


@no_cuda
def test_a_package_that_cannot_be_imported_is_told(hpu, monkeypatch, tmp_path):
  broken = tmp_path / 'habana_frameworks' / 'torch'
  broken.mkdir(parents=True)
  (broken.parent / '__init__.py').touch()
  (broken / '__init__.py').write_text('raise ImportError("libhl.so is not here")')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
  found = of_pytorch('hpu', 'auto', 'cpu')
  assert 'libhl.so is not here' in found['hpu']
  assert '--framework=pytorch is installed but does not start: libhl.so' in found['auto']


PROCESSES = """
import json, os
os.environ.update(LOCAL_RANK='1', RANK='1', WORLD_SIZE='2')
from torch import distributed
calls = []
distributed.init_process_group = lambda *arguments, **options: calls.append([arguments, options])
from algorithmic_efficiency.frameworks import devices_pytorch, processes_pytorch
devices_pytorch.choose('hpu')
processes_pytorch.join()
print(json.dumps(calls))
"""


def test_several_hpus_talk_by_their_own_backend(hpu):
  assert run(PROCESSES) == [[['cpu:gloo,hpu:hccl'], {}]]
  assert hpu() == {'hccl': 1}


@pytest.mark.slow
@pytest.mark.parametrize('mode', [None, '0'])
def test_every_update_is_marked_where_the_mode_is_lazy(hpu, monkeypatch, mode):
  monkeypatch.delenv('PT_HPU_LAZY_MODE', raising=False)
  if mode is not None:
    monkeypatch.setenv('PT_HPU_LAZY_MODE', mode)
  marks = run(
    'import json, torch\n'
    'from algorithmic_efficiency import frameworks\n'
    'framework = frameworks.load("pytorch", device="hpu")\n'
    'from habana_frameworks.torch import counts\n'
    'weight = torch.nn.Parameter(torch.ones(3))\n'
    'marks = []\n'
    'for kind in (torch.optim.SGD, torch.optim.Adam):\n'
    '  optimizer = kind([weight], lr=0.1)\n'
    '  for _ in range(2):\n'
    '    weight.sum().backward()\n'
    '    optimizer.step()\n'
    '    marks.append(counts.get("mark_step", 0))\n'
    'framework.wait(weight)\n'
    'print(json.dumps([*marks, counts["mark_step"], counts["synchronize"]]))\n'
  )
  assert marks == ([0, 0, 0, 0, 1, 1] if mode == '0' else [1, 2, 3, 4, 5, 1])


@no_cuda
@pytest.mark.slow
def test_a_run_on_an_hpu_is_that_on_the_cpu(command, hpu):
  command.run('pytorch', device='hpu')
  rows = command.rows('digits_pytorch')
  assert command.metadata('digits_pytorch')['device'] == 'hpu'
  assert command.metadata('digits_pytorch')['torch_compile'] is False
  counts = hpu()
  assert counts['mark_step'] == 20 + counts['synchronize']
  assert counts['synchronize'] >= 2  # at the evaluations
  assert counts['moved'] > 2 * 20
  command.run('pytorch', device='cpu', overwrite=True)
  assert hpu() == counts
  assert command.metadata('digits_pytorch')['device'] == 'cpu'
  assert [row['loss'] for row in command.rows('digits_pytorch')] == [row['loss'] for row in rows]
