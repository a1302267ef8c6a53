"""Tests of what `import` means within a submission."""

import sys

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.submissions import loader

API = """
def get_batch_size(workload_name):
  return NAME

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  return None

def data_selection(workload, input_queue, optimizer_state, params, model_state, hyperparameters,
                   global_step, rng):
  return None

def update_params(workload, current_param_container, current_params_types, model_state,
                  hyperparameters, batch, loss_type, optimizer_state, eval_results, global_step,
                  rng):
  return None
"""


def name_seen(folder, imports, place='mine', file='submission.py', **others):
  """The NAME that a submission in `folder`/`place` has after its `imports`.

  Args:
    others: further files, by their path below `folder` with __ for /; each defines NAME.
  """
  for path, name in others.items():
    target = folder / f'{path.replace("__", "/")}.py'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(name if '\n' in name else f'NAME = {name!r}\n')
  path = folder / place / file
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(imports + API)
  return loader.load(path.resolve()).get_batch_size('any')


def test_siblings_relative(tmp_path):
  assert name_seen(tmp_path, 'from .util import NAME\n', mine__util='beside') == 'beside'


def test_siblings_of_the_folder_above_relative(tmp_path):
  assert name_seen(tmp_path, 'from ..util import NAME\n', util='above') == 'above'


def test_siblings_absolute(tmp_path):
  assert name_seen(tmp_path, 'from util import NAME\n', mine__util='beside') == 'beside'


def test_packages_without_init_absolute(tmp_path):
  imports = 'import optimizers.inner.foo\nNAME = optimizers.inner.foo.NAME\n'
  assert name_seen(tmp_path, imports, mine__optimizers__inner__foo='deep') == 'deep'


def test_a_sibling_comes_before_what_is_installed(tmp_path):
  # As if the folder came first on the path, though absl is installed.
  assert name_seen(tmp_path, 'from absl import NAME\n', mine__absl='beside') == 'beside'


def test_a_folder_without_python_packages_does_not_hide_what_is_installed(tmp_path):
  imports = 'import numpy\nNAME = numpy.__name__\n'
  assert name_seen(tmp_path, imports, mine__numpy__plot='no package') == 'numpy'


@pytest.mark.parametrize(
  'imports',
  [
    'from reference.external.mine.util import NAME\n',
    'import reference.external.mine.util as util\nNAME = util.NAME\n',
    'from reference.external.mine import util\nNAME = util.NAME\n',
    'import reference.external.mine.util\nNAME = reference.external.mine.util.NAME\n',
  ],
)
def test_dotted_names_of_another_layout(imports, tmp_path):
  assert name_seen(tmp_path, imports, mine__util='by its tail') == 'by its tail'


def test_a_folder_above_that_happens_to_have_the_name_of_another_layout(tmp_path):
  imports = 'from reference.external.mine.util import NAME\n'
  others = {'reference__else': 'in the way', 'mine__util': 'by its tail'}
  assert name_seen(tmp_path, imports, **others) == 'by its tail'


def test_a_tail_does_not_hide_that_an_installed_package_lacks_a_module(tmp_path):
  with pytest.raises(UsageError, match=r"needs the module 'numpy\.nowhere'"):
    name_seen(tmp_path, 'import numpy.nowhere\n', mine__util='beside')


def test_a_missing_module_of_a_sibling_is_named(tmp_path):
  with pytest.raises(UsageError, match=r"needs the module 'no_such_thing'.*util\.py, line 2"):
    name_seen(tmp_path, 'from util import NAME\n', mine__util='\nimport no_such_thing\n')


def test_a_module_next_to_the_folder_that_has_its_name(tmp_path):
  assert name_seen(tmp_path, "NAME = 'right'\n", mine="raise RuntimeError('wrong')\n") == 'right'


def test_the_init_of_its_folder_is_run(tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / '__init__.py').write_text('NAME = "of the folder"')
  assert name_seen(tmp_path, 'from . import NAME\n') == 'of the folder'


def test_siblings_of_one_name_do_not_meet(tmp_path):
  imports = 'import util\nNAME = util.NAME\n'
  names = [
    name_seen(tmp_path / place, imports, **{f'{place}__util': place}, place=place)
    for place in ('one', 'other')
  ]
  assert names == ['one', 'other']
  assert 'util' not in sys.modules


def test_an_import_within_a_function_comes_late(tmp_path):
  late = '\ndef name():\n  import other\n  return other.NAME\n'
  imports = 'from util import name\nNAME = name()\n'
  assert name_seen(tmp_path, imports, mine__util=late, mine__other='late') == 'late'


def test_a_changed_submission_is_read_anew(tmp_path):
  imports = 'from util import NAME\n'
  assert name_seen(tmp_path, imports, mine__util='first') == 'first'
  assert name_seen(tmp_path, imports, mine__util='the second') == 'the second'


@pytest.mark.parametrize('place', ['v0.5/some-one', 'with space', 'class'])
def test_folders_may_have_any_name(place, tmp_path):
  (tmp_path / 'setup.cfg').touch()  # the root of a project
  assert name_seen(tmp_path, 'from util import NAME\n', place, **{f'{place}__util': 'x'}) == 'x'


def test_a_module_of_the_projects_root(tmp_path):
  (tmp_path / 'setup.cfg').touch()
  seen = name_seen(tmp_path, 'from lib.tools import NAME\n', 'a/b/mine', lib__tools='of the root')
  assert seen == 'of the root'


@pytest.mark.parametrize('order', [('algoperf', 'algorithmic_efficiency'), None])
def test_both_names_of_the_package_are_one(order, tmp_path):
  first, second = order or ('algorithmic_efficiency', 'algoperf')
  imports = (
    f'import {first}.spec, {second}.spec\n'
    f'from {second} import jax_sharding_utils as j\n'
    f'NAME = ({first}.spec is {second}.spec, j.__name__)\n'
  )
  assert name_seen(tmp_path, imports) == (True, 'algorithmic_efficiency.jax_sharding_utils')
