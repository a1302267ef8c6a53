"""Tests that a submission's convention is found in its own source."""

import pytest

from algorithmic_efficiency.submissions import conventions


def found(folder, text, **others):
  folder.joinpath('mine').mkdir()
  for name, other in others.items():
    path = folder / f'{name.replace("__", "/")}.py'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(other)
  path = folder / 'mine' / 'submission.py'
  path.write_text(text)
  return conventions.find(path, 'jax')


@pytest.mark.parametrize(
  'text',
  [
    'import jax\nstep = jax.pmap(f)',
    'from jax import pmap\nstep = pmap(f)',
    'import functools, jax\n@functools.partial(jax.pmap, axis_name="batch")\ndef step(): pass',
    'import jax as j\nstep = j.pmap(f)',
  ],
)
def test_pmap_tells(text, tmp_path):
  assert found(tmp_path, text) == 'v05'


@pytest.mark.parametrize(
  'text',
  [
    'import jax\nstep = jax.jit(f)',
    '# once jax.pmap\nimport jax\n"""jax.pmap"""\nx = "pmap"',
    'from algorithmic_efficiency import spec',  # the package's name tells nothing
    'def broken(:',
  ],
)
def test_other_text_does_not(text, tmp_path):
  assert found(tmp_path, text) == 'v06'


@pytest.mark.parametrize(
  'imports',
  [
    'from .step import run',
    'from . import step',
    'import step',
    'from step import run',
    'from submissions.mine.step import run',
    'def late():\n  from step import run',
  ],
)
def test_a_sibling_counts(imports, tmp_path):
  assert found(tmp_path, imports, mine__step='import jax\nrun = jax.pmap(f)') == 'v05'


def test_a_sibling_that_is_not_imported_does_not_count(tmp_path):
  assert found(tmp_path, 'import jax', mine__step='import jax\nrun = jax.pmap(f)') == 'v06'


def test_files_that_import_each_other(tmp_path):
  others = {'mine__a': 'import b', 'mine__b': 'import a'}
  assert found(tmp_path, 'import a', **others) == 'v06'


def test_what_is_installed_does_not_count(tmp_path):
  assert found(tmp_path, 'import flax.jax_utils') == 'v06'  # it maps over devices itself


def test_pytorch_has_one_convention_and_a_choice_overrides(tmp_path):
  assert found(tmp_path, 'import jax\nstep = jax.pmap(f)') == 'v05'
  path = tmp_path / 'mine' / 'submission.py'
  assert conventions.find(path, 'pytorch') == 'v06'
  assert conventions.find(path, 'jax', 'v06') == 'v06'
