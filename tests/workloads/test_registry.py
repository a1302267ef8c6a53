"""Tests of finding workloads by name, and of the command that lists and describes them."""

import subprocess
import sys

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads import __main__ as command
from algorithmic_efficiency.workloads import digits, registry


def test_digits_and_mnist_are_found_by_name():
  found = registry.find_all()
  assert {'digits', 'mnist'} <= set(found)
  for name, each in found.items():
    assert each.facts.name == name
    assert name == each.folder or name.startswith(f'{each.folder}_')


def test_every_folder_has_its_parts():
  for found in registry.find_all().values():
    assert callable(found.part('input_pipeline').load)
    assert callable(found.part('input_pipeline').source)
    assert callable(found.part('metrics').summed_metrics)
    for framework in ('jax', 'pytorch'):
      assert callable(found.part(f'model_{framework}').build_model)
      assert found.part(f'model_{framework}').OUTPUT_PARAMS


def test_a_variant_is_a_workload_in_its_parents_folder(monkeypatch):
  variant = digits.FACTS.variant('wide', model={'hidden': 256}, validation_target_value=0.98)
  monkeypatch.setattr(digits, 'VARIANTS', (variant,), raising=False)
  found = registry.find('digits_wide')
  assert found.folder == 'digits'
  assert found.facts.model == {'hidden': 256, 'activation': 'relu'}
  assert found.facts.validation_target_value == 0.98
  assert found.facts.test_target_value == digits.FACTS.test_target_value
  assert registry.split_name('digits_wide_jax', None) == ('digits_wide', 'jax')


def test_a_wrong_name_is_told_with_the_nearest():
  with pytest.raises(UsageError) as caught:
    registry.find('mnits')
  assert "'mnits'" in str(caught.value)
  assert "did you mean 'mnist'?" in str(caught.value)
  assert 'digits' in str(caught.value)


@pytest.mark.parametrize(
  ('name', 'framework', 'expected'),
  [
    ('mnist_jax', None, ('mnist', 'jax')),
    ('mnist_pytorch', None, ('mnist', 'pytorch')),
    ('digits', 'jax', ('digits', 'jax')),
    ('digits_pytorch', 'pytorch', ('digits', 'pytorch')),
  ],
)
def test_a_name_may_carry_its_framework(name, framework, expected):
  assert registry.split_name(name, framework) == expected


@pytest.mark.parametrize(
  ('name', 'framework', 'message'),
  [
    ('mnist', None, r'Which framework\?.*mnist_jax'),
    ('mnist_jax', 'pytorch', 'names jax but --framework=pytorch'),
    ('mnist', 'tensorflow', "No framework is called 'tensorflow'"),
    ('mnist_torch', None, "No workload is called 'mnist_torch'"),
    ('jax', None, "No workload is called 'jax'"),
    ('_jax', None, "No workload is called '_jax'"),
    ('', 'jax', "No workload is called ''"),
  ],
)
def test_a_name_that_cannot_be_split_is_told(name, framework, message):
  with pytest.raises(UsageError, match=message):
    registry.split_name(name, framework)


def test_the_command_lists_every_workload_a_line(capsys):
  assert command.main([]) == 0
  lines = capsys.readouterr().out.splitlines()
  found = registry.find_all()
  assert [line.split()[0] for line in lines] == sorted(found)
  for line, name in zip(lines, sorted(found), strict=True):
    assert found[name].facts.summary in line


def test_the_command_describes_a_workload(capsys):
  assert command.main(['mnist']) == 0
  out = capsys.readouterr().out
  for fact in ('101,770', '50,000 training', 'accuracy at least 0.97', '28 x 28 x 1', '7,813'):
    assert fact in out
  assert max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize('arguments', [['mnits'], ['mnist', 'digits'], ['--help']])
def test_the_command_tells_what_is_wrong_in_a_line(arguments, capsys):
  assert command.main(arguments) == 2
  captured = capsys.readouterr()
  assert captured.out == ''
  assert captured.err.startswith('workloads: error: ')
  assert captured.err.count('\n') == 1


def test_the_command_runs_as_a_module():
  module = [sys.executable, '-m', 'algorithmic_efficiency.workloads', 'digits']
  done = subprocess.run(module, capture_output=True, text=True, timeout=60)
  assert (done.returncode, done.stderr) == (0, '')
  assert '9,610' in done.stdout
