"""The loop: the order of its calls, what is on the clock, and what a submission is told.

A workload of numpy arrays on a clock that moves only when told; no framework takes part.
"""

import inspect
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.runner.clock import Clock
from algorithmic_efficiency.runner.rules import Rules
from algorithmic_efficiency.runner.seeds import TrialSeeds
from algorithmic_efficiency.runner.trial import Course, Trial, run_trial
from algorithmic_efficiency.spec import LossType, TrainingCompleteError
from algorithmic_efficiency.submissions.submission import Submission
from algorithmic_efficiency.workloads import in_memory

# What each call costs, in seconds; binary fractions, so that sums are exact.
SELECT, UPDATE, PREPARE, EVALUATE, RECORD, TICK = 0.125, 0.5, 2.0, 64.0, 1024.0, 0.0
SAVE = 4096.0
STEP = SELECT + UPDATE
Point = namedtuple('Point', ['learning_rate'])


class World:
  """A linear regression, a submission that trains it, and a list of all that happened.

  `device_sec` of an update's time is queued on a device instead of spent at once.
  """

  edition = '1.0'
  max_allowed_runtime_sec = 1000.0
  eval_period_time_sec = 5.0
  loss_type = LossType.MEAN_SQUARED_ERROR

  def __init__(self, **changes):
    self.device_sec = 0.0
    self.has_prepare = True
    self.reaches_goal_at = None
    self.fails = {}  # the name of a call to (number of the call, exception)
    for name, value in changes.items():
      assert name in ('device_sec', 'has_prepare', 'reaches_goal_at', 'fails') or hasattr(
        type(self), name
      )
      setattr(self, name, value)
    self.time = 500.0
    self.device_ready = 0.0
    self.events = []
    self.given = {}  # the last arguments of each call
    self.rows = []
    generator = np.random.default_rng(0)
    self.arrays = {'inputs': generator.normal(size=(20, 3))}
    self.arrays['targets'] = self.arrays['inputs'] @ np.array([1.0, -2.0, 0.5])

  def spend(self, event, seconds):
    number = sum(e == event for e in self.events) + 1
    self.events.append(event)
    self.time += seconds
    if event in self.fails and self.fails[event][0] == number:
      raise self.fails[event][1]

  def wait(self):
    self.time = max(self.time, self.device_ready)

  # The workload.

  def training_queue(self, seed, batch_size, start=0):
    self.events.append(f'queue from {start}')
    return in_memory.training_batches(self.arrays, batch_size, seed, start)

  def evaluate(self, params, model_state):
    self.given['evaluate'] = (params, model_state)
    self.spend('evaluate', EVALUATE)
    errors = self.arrays['inputs'] @ params - self.arrays['targets']
    loss = float((errors**2).mean())
    return {'validation/loss': loss, 'test/loss': loss}

  def has_reached_validation_target(self, metrics):
    return self._reached(metrics)

  def has_reached_test_target(self, metrics):
    return self._reached(metrics)

  def _reached(self, metrics):
    assert set(metrics) == {'validation/loss', 'test/loss'}
    return self.reaches_goal_at == sum(event == 'evaluate' for event in self.events)

  # The submission.

  def data_selection(self, *arguments):
    self.given['select'] = arguments
    self.spend('select', SELECT)
    return next(arguments[1])

  def update_params(self, **arguments):
    self.given['update'] = arguments
    self.spend('update', UPDATE)
    self.device_ready = max(self.device_ready, self.time) + self.device_sec
    return train(**arguments)

  def prepare_for_eval(self, **arguments):
    self.given['prepare'] = arguments
    self.spend('prepare', PREPARE)
    return arguments['optimizer_state'], arguments['current_param_container'], 'prepared'

  def submission(self, update_params=None):
    update = update_params or self.update_params
    return Submission(
      path=Path('submission.py'),
      get_batch_size=lambda name: 8,
      init_optimizer_state=lambda *arguments: {'steps': 0},
      update_params=update,
      data_selection=self.data_selection,
      prepare_for_eval=self.prepare_for_eval if self.has_prepare else None,
      get_eval_batch_size=None,
      wants_train_state='train_state' in inspect.signature(update).parameters,
    )

  # The run.

  def record(self, trial, metrics):
    self.spend('record', RECORD)
    spent = self.clock.seconds('submission')
    self.rows.append((trial.global_step, trial.last_eval_submission_sec, spent, dict(metrics)))
    trial.eval_results.append((trial.global_step, metrics))

  def tick(self, trial, seconds):
    self.spend('tick', TICK)
    self.given['tick'] = (trial.global_step, seconds)

  def run(self, start=0, params=None, update_params=None, **rules):
    """Trains from `start` on; returns the reason for its end."""
    self.clock = Clock(self.wait, lambda: self.time)
    self.rules = Rules(self, **rules)
    self.trial = Trial(
      params=np.zeros(3) if params is None else params,
      model_state='fresh',
      optimizer_state={'steps': start},
      param_types='types',
      global_step=start,
      clock=self.clock,
      rules=self.rules,
    )
    self.seeds = TrialSeeds(17, lambda numbers: numbers)
    self.course = Course(
      workload=self,
      submission=self.submission(update_params),
      hyperparameters=Point(0.1),
      seeds=self.seeds,
      rules=self.rules,
      clock=self.clock,
      queue=self.training_queue(self.seeds.data, 8, start),
      evaluate=lambda trial: self.evaluate(trial.params, trial.model_state),
      record=self.record,
      save=lambda: self.spend('save', SAVE),
      tick=self.tick,
    )
    return run_trial(self.trial, self.course)


def train(current_param_container, batch, hyperparameters, optimizer_state, model_state, **_):
  """A step of gradient descent on the mean squared error."""
  errors = batch['inputs'] @ current_param_container - batch['targets']
  gradient = 2 * batch['inputs'].T @ errors / len(errors)
  params = current_param_container - hyperparameters.learning_rate * gradient
  return {'steps': optimizer_state['steps'] + 1}, params, model_state


# What is done to prepare an evaluation is part of the step before it.
STEP_CALLS = ['select', 'update', 'tick']
EVALUATION_STEP_CALLS = ['select', 'update', 'prepare', 'tick', 'evaluate', 'record', 'save']


def test_the_order_of_calls():
  world = World()
  reason = world.run(max_global_steps=3)
  assert '3 steps' in reason
  assert world.events == [
    'queue from 0',
    *EVALUATION_STEP_CALLS,  # after the first step
    *STEP_CALLS,
    *EVALUATION_STEP_CALLS,  # and at the end
  ]  # fmt: skip
  assert world.trial.global_step == 3
  assert world.trial.optimizer_state == {'steps': 3}


def test_it_trains_as_a_plain_loop_does():
  world = World()
  world.run(max_global_steps=40)
  params, order = np.zeros(3), in_memory.training_batches(world.arrays, 8, world.seeds.data)
  for _ in range(40):
    batch = next(order)
    slope = [2 * np.mean((batch['inputs'] @ params - batch['targets']) * batch['inputs'][:, i])
             for i in range(3)]  # fmt: skip
    params = params - 0.1 * np.array(slope)
  np.testing.assert_allclose(world.trial.params, params, rtol=1e-9)
  assert world.rows[-1][3]['validation/loss'] < 0.1 * world.rows[0][3]['validation/loss']


def test_only_the_submissions_calls_are_scored():
  world = World()
  world.run(max_global_steps=10)
  evaluations = world.events.count('evaluate')
  assert world.clock.accounts() == {
    'setup': 0,
    'submission': 10 * STEP + evaluations * PREPARE,
    'evaluation': evaluations * EVALUATE,
    'recording': evaluations * RECORD,
    'checkpoint': evaluations * SAVE,
  }


def test_prepare_for_eval_is_on_the_clock_of_its_own_evaluation():
  world = World()
  world.run(max_global_steps=3)
  assert [row[:2] for row in world.rows] == [
    (1, STEP + PREPARE),
    (3, 3 * STEP + 2 * PREPARE),
  ]
  assert all(at_evaluation == spent for _, at_evaluation, spent, _ in world.rows)


def test_an_evaluation_comes_every_period_of_submission_time_and_of_no_other():
  world = World()
  world.run(max_global_steps=60)
  steps, last = [], 0.0
  seconds = 0.0
  for step in range(1, 61):  # what the rule means, counted by hand
    seconds += STEP
    if step in (1, 60) or seconds - last >= World.eval_period_time_sec:
      seconds += PREPARE
      steps.append(step)
      last = seconds
  assert [row[0] for row in world.rows] == steps
  assert 4 < len(steps) < 12


def test_evaluations_by_steps_come_at_the_same_steps_whatever_they_take():
  rows = []
  for device_sec in (0.0, 30.0):
    world = World(device_sec=device_sec)
    world.run(max_global_steps=11, eval_period_steps=4)
    rows.append([row[0] for row in world.rows])
  assert rows == [[1, 4, 8, 11]] * 2


def test_without_prepare_for_eval_the_evaluation_comes_at_once():
  world = World(has_prepare=False)
  world.run(max_global_steps=1)
  assert world.events == ['queue from 0', *STEP_CALLS, 'evaluate', 'record', 'save']
  assert world.clock.seconds('submission') == STEP


def test_device_work_is_paid_by_the_submission_and_waited_for_only_at_evaluations():
  world = World(device_sec=3.0, has_prepare=False, eval_period_time_sec=100.0)
  ticks = []
  world.tick = lambda trial, seconds: ticks.append(seconds)
  world.run(max_global_steps=4)
  # The first step is evaluated; the queue of the other three grows behind the processor's back.
  assert ticks[:3] == [STEP + 3, STEP + 3 + STEP, STEP + 3 + 2 * STEP]
  assert world.rows[0][1] == STEP + 3
  end = (STEP + 3) + STEP + 3 * 3.0  # the device is never idle once it has begun
  assert world.rows[1][1] == end
  assert world.clock.accounts()['submission'] == end
  assert world.clock.accounts()['evaluation'] == 2 * EVALUATE


def test_the_keys_of_each_step():
  world = World()
  keys = []
  world.tick = lambda trial, seconds: keys.append(
    (world.given['select'][7].tolist(), world.given['update']['rng'].tolist())
  )
  world.run(max_global_steps=3)
  expected = [world.seeds.of_step(step).tolist() for step in range(3)]
  assert keys == [(select, update) for select, update, _ in expected]
  assert world.given['prepare']['rng'].tolist() == expected[2][2]


def test_what_the_functions_are_given():
  world = World()
  world.run(max_global_steps=2)
  trial, point = world.trial, world.course.hyperparameters
  select, update, prepare = (world.given[name] for name in ('select', 'update', 'prepare'))
  assert len(select) == 8
  assert select[0] is world
  assert select[2] == {'steps': 1}
  assert select[4] == 'prepared'  # by the first evaluation
  assert select[5] is point
  assert select[6] == 1  # updates made before this one
  assert set(update) == {
    'workload', 'current_param_container', 'current_params_types', 'model_state',
    'hyperparameters', 'batch', 'loss_type', 'optimizer_state', 'eval_results', 'global_step',
    'rng',
  }  # fmt: skip
  assert set(prepare) == set(update) - {'batch'}
  assert (update['global_step'], prepare['global_step']) == (1, 2)
  for given in (update, prepare):
    assert given['workload'] is world
    assert given['loss_type'] is LossType.MEAN_SQUARED_ERROR
    assert given['current_params_types'] == 'types'
    assert given['hyperparameters'] is point
    assert given['eval_results'] is trial.eval_results
  assert update['batch']['inputs'].shape == (8, 3)
  assert world.given['evaluate'][1] == 'prepared'
  assert world.given['evaluate'][0] is trial.params
  assert world.given['tick'][0] == 2


def test_a_submission_sees_the_evaluations_made():
  world = World()
  seen = []

  def update_params(eval_results, global_step, **arguments):
    seen.append([step for step, _ in eval_results])
    return world.update_params(eval_results=eval_results, global_step=global_step, **arguments)

  world.run(max_global_steps=6, eval_period_steps=2, update_params=update_params)
  assert seen == [[], [1], [1, 2], [1, 2], [1, 2, 4], [1, 2, 4]]
  assert [step for step, _ in world.trial.eval_results] == [1, 2, 4, 6]


def test_train_state_is_given_to_those_who_name_it_and_read_only():
  world = World()
  states = []

  def update_params(train_state, **arguments):
    with pytest.raises(TypeError):
      train_state['accumulated_submission_time'] = 0.0
    states.append(dict(train_state))
    return world.update_params(**arguments)

  world.run(max_global_steps=3, update_params=update_params)
  assert [s['accumulated_submission_time'] for s in states] == [
    SELECT, STEP + PREPARE + SELECT, 2 * STEP + PREPARE + SELECT,
  ]  # fmt: skip
  assert states[1] == {
    'validation_goal_reached': False,
    'test_goal_reached': False,
    'is_time_remaining': True,
    'last_eval_time': STEP + PREPARE,
    'training_complete': False,
    'accumulated_submission_time': STEP + PREPARE + SELECT,
    'accumulated_eval_time': EVALUATE,
    'accumulated_logging_time': RECORD,
    'last_step_end_time': STEP + PREPARE + EVALUATE + RECORD + SAVE + SELECT,
  }


def test_a_submission_that_swallows_keywords_is_not_given_train_state():
  world = World()
  world.run(max_global_steps=1)
  assert 'train_state' not in world.given['update']


def test_train_state_tells_when_the_time_is_used_up():
  world = World(max_allowed_runtime_sec=STEP + PREPARE + SELECT)
  left = []

  def update_params(train_state, **arguments):
    left.append(train_state['is_time_remaining'])
    return world.update_params(**arguments)

  world.run(update_params=update_params)
  assert left == [True, False]


@pytest.mark.parametrize('at', [1, 4])
def test_a_submission_may_end_itself_and_gets_a_last_evaluation(at):
  world = World(fails={'update': (at, TrainingCompleteError())})
  reason = world.run()
  assert 'submission' in reason
  assert world.trial.training_complete
  assert world.events[-7:] == EVALUATION_STEP_CALLS
  assert world.events.count('evaluate') == (1 if at == 1 else 2)
  assert world.trial.global_step == at
  assert world.trial.optimizer_state == {'steps': at - 1}  # nothing came of the step that ended it


def test_it_ends_when_both_targets_are_reached():
  world = World(reaches_goal_at=3)
  reason = world.run()
  assert 'target' in reason
  assert world.trial.goal_reached
  assert world.events.count('evaluate') == 3
  assert world.events[-2:] == ['record', 'save']


def test_the_goal_is_noted_before_the_row_is_recorded():
  world = World(reaches_goal_at=1)
  noted = []
  world.record = lambda trial, metrics: noted.append(trial.goal_reached)
  world.run()
  assert noted == [True]


def test_synthetic_data_trains_to_the_end():
  world = World(reaches_goal_at=1)
  world.run(max_global_steps=2, goal_counts=False)
  assert world.trial.global_step == 2
  assert not world.trial.goal_reached


@pytest.mark.parametrize(('edition', 'evaluations'), [('0.5', 2), ('0.6', 1), ('1.0', 1)])
def test_the_budget_ends_training(edition, evaluations):
  """An evaluation falls due in the very step that uses the budget up."""
  budget = STEP + PREPARE + 8 * STEP  # a period of 5 s after the first evaluation
  world = World(edition=edition, max_allowed_runtime_sec=budget)
  reason = world.run()
  assert 'budget' in reason
  assert world.trial.global_step == 9
  assert world.events.count('prepare') == 2
  assert world.events.count('evaluate') == evaluations


def test_preparing_may_use_the_budget_up():
  budget = STEP + PREPARE + 8 * STEP + 0.5 * PREPARE
  world = World(max_allowed_runtime_sec=budget)
  assert 'budget' in world.run()
  assert world.events.count('prepare') == 2
  assert world.events.count('evaluate') == 1
  assert world.clock.seconds('submission') == budget + 0.5 * PREPARE


def test_evaluations_do_not_use_the_budget_up():
  world = World(max_allowed_runtime_sec=EVALUATE, eval_period_time_sec=0.0)
  world.run()
  assert world.trial.global_step == EVALUATE // (STEP + PREPARE) + 1


def test_self_tuning_has_the_longer_budget():
  steps = []
  for self_tuning in (False, True):
    world = World(max_allowed_runtime_sec=20.0, eval_period_time_sec=1e6, has_prepare=False)
    world.run(self_tuning=self_tuning)
    steps.append(world.trial.global_step)
  assert steps == [20 / STEP, 30 / STEP]


@pytest.mark.parametrize('start', [1, 3, 7])
def test_on_restart_the_data_goes_on_where_it_was(start):
  def batches(world, steps, **more):
    seen = []
    world.tick = lambda trial, seconds: seen.append(world.given['update']['batch']['inputs'])
    world.run(max_global_steps=steps, **more)
    return seen

  straight = World()
  whole = batches(straight, 12)
  first, second = World(), World()
  parts = batches(first, start)
  parts += batches(second, 12, start=start, params=first.trial.params)
  assert second.events[0] == f'queue from {start}'
  np.testing.assert_array_equal(parts, whole)
  np.testing.assert_array_equal(second.trial.params, straight.trial.params)
  assert second.given['update']['rng'].tolist() == straight.given['update']['rng'].tolist()


def test_a_trial_that_is_over_makes_no_step():
  world = World()
  assert world.run(start=5, max_global_steps=5)
  assert world.events == ['queue from 5']


class DiskError(MeasurementError):
  pass


@pytest.mark.parametrize('call', ['select', 'update', 'prepare', 'evaluate', 'record', 'tick'])
@pytest.mark.parametrize('error', [ValueError('broken'), KeyboardInterrupt(), DiskError('full')])
def test_an_exception_of_any_call_comes_out_as_it_is(call, error):
  world = World(fails={call: (2, error)})
  with pytest.raises(type(error)) as caught:
    world.run(max_global_steps=30)
  assert caught.value is error
  spent = world.clock.accounts()
  assert sum(spent.values()) == world.clock.total_seconds()
  assert spent['evaluation'] == world.events.count('evaluate') * EVALUATE
  assert spent['recording'] == world.events.count('record') * RECORD


def test_training_complete_is_asked_of_update_params_alone():
  world = World(fails={'select': (2, TrainingCompleteError())})
  with pytest.raises(TrainingCompleteError):
    world.run(max_global_steps=5)
