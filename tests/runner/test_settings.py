"""Which commands belong to one study: the settings compared, and the slices of its trials."""

import dataclasses
import hashlib
import json

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records import metadata
from algorithmic_efficiency.runner import settings as settings_module
from algorithmic_efficiency.runner.settings import Settings, check, check_batch_size, claim

SUBMISSION = """
def get_batch_size(workload_name): return 8
def init_optimizer_state(workload, params, model_state, hyperparameters, rng): return None
def update_params(**arguments): return None, None, None
def data_selection(workload, queue, optimizer_state, params, model_state, point, step, rng):
  return next(queue)
"""
SPACE = {'learning_rate': {'min': 0.1, 'max': 1.0, 'scaling': 'log'}}


@pytest.fixture
def settings(tmp_path):
  """A command that is right; every test changes something."""
  (tmp_path / 'submission.py').write_text(SUBMISSION)
  (tmp_path / 'space.json').write_text(json.dumps(SPACE))
  return Settings(
    workload='digits',
    framework='jax',
    submission_path=str(tmp_path / 'submission.py'),
    tuning_ruleset='external',
    tuning_search_space=str(tmp_path / 'space.json'),
    num_tuning_trials=5,
    log_dir=str(tmp_path / 'logs'),
    experiment_dir=None,
    experiment_name=None,
    data_dir=None,
    data='real',
    rng_seed=7,
    max_global_steps=None,
    eval_period_steps=None,
    batch_size=None,
    hparam_start_index=None,
    hparam_end_index=None,
    record_extra_metadata=[],
    overwrite=False,
    resume=False,
    edition='1.0',
    submission_api='auto',
    torch_compile='auto',
    command='',
  )


def record(plan, status='interrupted', trials=1):
  """Leaves what a run of this plan leaves: its metadata and some trials."""
  plan.folder.make()
  metadata.write(plan.folder.metadata, {**plan.identity(), 'batch_size': 8, 'note': 'x'})
  for index in range(trials):
    trial = plan.folder.trial(index)
    trial.path.mkdir()
    trial.state.write_text(json.dumps({'status': status}))


def changed(settings, **changes):
  return dataclasses.replace(settings, **changes)


def resumed(settings, **changes):
  return check(changed(settings, resume=True, **changes))


def test_identity_is_what_a_record_is_known_by(settings):
  plan = check(settings)
  assert plan.identity() == {
    'workload': 'digits_jax',
    'submission_sha256': hashlib.sha256(SUBMISSION.encode()).hexdigest(),
    'tuning_search_space_sha256': hashlib.sha256(json.dumps(SPACE).encode()).hexdigest(),
    'tuning_ruleset': 'external',
    'rng_seed': 7,
    'data': 'real',
    'edition': '1.0',
  }
  more = check(changed(settings, max_global_steps=10, eval_period_steps=2, batch_size=4))
  assert more.identity() == {
    **plan.identity(), 'max_global_steps': 10, 'eval_period_steps': 2, 'batch_size': 4,
  }  # fmt: skip


@pytest.mark.parametrize(
  'limits',
  [{}, {'max_global_steps': 10}, {'eval_period_steps': 2}, {'batch_size': 8}],
)
def test_the_same_command_may_go_on(settings, limits):
  record(check(changed(settings, **limits)))
  claim(resumed(settings, **limits))


def test_what_does_not_change_the_numbers_may_change(settings):
  record(check(settings))
  claim(resumed(settings, num_tuning_trials=9, command='other', record_extra_metadata=['a=b']))
  claim(resumed(settings, workload='digits_jax', framework=None))


@pytest.mark.parametrize(
  ('changes', 'name'),
  [
    ({'rng_seed': 8}, 'rng_seed is 8, there it is 7'),
    ({'rng_seed': 0}, 'rng_seed is 0, there it is 7'),
    ({'data': 'synthetic'}, "data is 'synthetic', there it is 'real'"),
    ({'edition': '0.5'}, "edition is '0.5', there it is '1.0'"),
    ({'max_global_steps': 10}, 'max_global_steps is 10, there it is None'),
    ({'eval_period_steps': 10}, 'eval_period_steps is 10, there it is None'),
    ({'batch_size': 16}, 'batch_size is 16, there it is 8'),
    ({'tuning_ruleset': 'self', 'tuning_search_space': None}, "tuning_ruleset is 'self'"),
  ],
)
def test_another_command_may_not_go_on(settings, changes, name):
  record(check(settings))
  with pytest.raises(UsageError, match='holds another run') as caught:
    claim(resumed(settings, **changes))
  assert name in str(caught.value)
  assert '--overwrite' in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['max_global_steps', 'eval_period_steps'])
def test_a_limit_may_not_be_left_out_either(settings, name):
  record(check(changed(settings, **{name: 10})))
  with pytest.raises(UsageError, match=f'{name} is None, there it is 10'):
    claim(resumed(settings))


@pytest.mark.parametrize('file', ['submission.py', 'space.json'])
def test_another_algorithm_may_not_go_on(settings, tmp_path, file):
  record(check(settings))
  with (tmp_path / file).open('a') as text:
    text.write('\n')
  with pytest.raises(UsageError, match='sha256'):
    claim(resumed(settings))


def test_all_differences_are_told_at_once(settings):
  record(check(settings))
  with pytest.raises(UsageError, match=r'rng_seed .*data .*edition .*max_global_steps'):
    claim(resumed(settings, rng_seed=1, data='synthetic', edition='0.6', max_global_steps=3))


def test_without_a_word_nothing_is_mixed_with(settings):
  record(check(settings))
  with pytest.raises(UsageError, match='--resume goes on with it'):
    claim(check(settings))


def test_overwriting_asks_nothing(settings):
  record(check(settings))
  claim(check(changed(settings, overwrite=True, rng_seed=3)))


def test_resume_begins_where_there_is_nothing(settings):
  claim(resumed(settings))


def test_frameworks_and_workloads_share_a_folder(settings):
  record(check(settings))
  claim(check(changed(settings, framework='pytorch')))
  claim(check(changed(settings, workload='mnist')))


def test_other_slices_of_the_same_study_may_be_added(settings):
  record(check(settings), status='complete', trials=2)
  claim(check(changed(settings, hparam_start_index=2, hparam_end_index=4)))
  with pytest.raises(UsageError, match='finished run'):
    claim(check(changed(settings, hparam_start_index=1, hparam_end_index=4)))
  with pytest.raises(UsageError, match='holds another run'):
    claim(check(changed(settings, hparam_start_index=2, hparam_end_index=4, rng_seed=1)))


@pytest.mark.parametrize(
  ('start', 'end', 'trials'),
  [
    (None, None, range(5)), (0, None, range(5)), (2, None, range(2, 5)), (None, 3, range(3)),
    (2, 3, range(2, 3)), (4, 5, range(4, 5)),
  ],
)  # fmt: skip
def test_slices(settings, start, end, trials):
  plan = check(changed(settings, hparam_start_index=start, hparam_end_index=end))
  assert plan.trials == trials
  assert plan.num_trials == 5


@pytest.mark.parametrize(('start', 'end'), [(5, None), (3, 3), (4, 2), (None, 6), (9, 10)])
def test_slices_that_name_no_trials(settings, start, end):
  with pytest.raises(UsageError, match='--hparam_'):
    check(changed(settings, hparam_start_index=start, hparam_end_index=end))


@pytest.mark.parametrize(('asked', 'trials'), [(1, 1), (3, 3), (50, 3)])
def test_a_list_has_no_more_trials_than_it_has(settings, tmp_path, asked, trials):
  (tmp_path / 'space.json').write_text('[{"a": 1}, {"a": 2}, {"a": 3}]')
  plan = check(changed(settings, num_tuning_trials=asked))
  assert plan.trials == range(trials)
  assert plan.num_trials == trials


def test_self_tuning_has_no_space(settings):
  plan = check(changed(settings, tuning_ruleset='self', tuning_search_space=None))
  assert plan.self_tuning
  assert plan.space is None
  assert 'tuning_search_space_sha256' not in plan.identity()
  assert not check(settings).self_tuning


def test_the_seed_given_holds_and_0_is_one(settings):
  assert check(changed(settings, rng_seed=0)).seed == 0
  assert check(changed(settings, rng_seed=-3)).seed == -3


def test_a_seed_is_drawn_and_going_on_takes_that_of_the_record(settings):
  drawn = {check(changed(settings, rng_seed=None)).seed for _ in range(8)}
  assert len(drawn) == 8
  assert all(0 <= seed < 2**32 for seed in drawn)
  record(check(settings))
  again = resumed(settings, rng_seed=None)
  assert again.seed == 7
  claim(again)


def test_both_layouts(settings, tmp_path):
  assert check(settings).folder.trial(1).path == tmp_path / 'logs' / 'digits_jax' / 'run_2'
  named = changed(settings, log_dir=None, experiment_dir=str(tmp_path), experiment_name='e')
  plan = check(named)
  assert plan.folder.trial(1).path == tmp_path / 'e' / 'digits_jax' / 'trial_2'
  assert plan.folder.algoperf


def test_checking_writes_nothing(settings, tmp_path):
  before = sorted(tmp_path.rglob('*'))
  claim(check(settings))
  assert sorted(tmp_path.rglob('*')) == before


def test_the_batch_size_that_the_submission_chose_is_compared_once_it_is_known(settings):
  check_batch_size(check(settings), 99)  # there is no record yet
  record(check(settings))
  check_batch_size(resumed(settings), 8)
  with pytest.raises(UsageError, match='batch_size is 99, there it is 8'):
    check_batch_size(resumed(settings), 99)
  check_batch_size(check(changed(settings, overwrite=True)), 99)


def test_read_metadata_gives_the_record(settings):
  plan = check(settings)
  record(plan)
  assert settings_module.read_metadata(plan.folder)['note'] == 'x'
