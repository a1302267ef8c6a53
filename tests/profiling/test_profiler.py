"""The window by itself, with a profiler that only notes what it is told to do."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from algorithmic_efficiency.profiling.window import Profiler, Surroundings, Window
from algorithmic_efficiency.records.run_folder import TraceFolder


class Stage:
  """A collector and what stands around it; `events` is all that happened, in its order."""

  def __init__(self, folder: Path) -> None:
    self.events: list[str] = []
    self.told: list[str] = []
    self.fails: dict[str, Exception] = {}
    self.step_number = 0
    self.folder = TraceFolder(folder / 'traces')

  def _note(self, event: str) -> None:
    self.events.append(event)
    if event in self.fails:
      raise self.fails[event]

  def prepare(self) -> None:
    self._note('prepare')

  def start(self, model: Any, folder: TraceFolder) -> None:
    assert (model, folder) == ('the model', self.folder)
    self._note('start')

  def stop(self, folder: TraceFolder) -> None:
    self._note('stop')
    (folder.path / 'trace').write_text('of a stage')

  def abandon(self) -> None:
    self._note('abandon')

  @contextlib.contextmanager
  def step(self, number: int):
    self._note(f'step {number}')
    yield
    self._note(f'end {number}')

  def annotate(self, name: str) -> contextlib.AbstractContextManager[Any]:
    self._note(name)
    return contextlib.nullcontext()

  @contextlib.contextmanager
  def charge(self):
    self._note('(')
    yield
    self._note(')')

  def facts(self) -> dict[str, Any]:
    if 'facts' in self.fails:
      raise self.fails['facts']
    return {'of': 'a stage'}

  def profiler(self, window: Window, state: Any = None) -> Profiler:
    around = Surroundings(
      warn=self.told.append,
      charge=self.charge,
      seconds=lambda: 1.5,
      steps_made=lambda: self.step_number,
      model=lambda: 'the model',
      facts=self.facts,
      hardware=lambda: {'clock': 1000},
    )
    profiler = Profiler(window, self, self.folder, around)
    profiler.take_up(state, self.step_number)
    return profiler

  def run(self, profiler: Profiler, steps: int) -> str:
    """Makes so many steps more; an evaluation follows each fourth. What happened, as a line."""
    with profiler:
      for step in range(self.step_number, self.step_number + steps):
        profiler.begin_step(step)
        profiler.end_step()
        self.step_number = step + 1
        if step % 4 == 0:
          with profiler.annotate('evaluation'):
            pass
    return ' '.join(self.events)


@pytest.fixture
def stage(tmp_path) -> Stage:
  return Stage(tmp_path)


def test_the_window_is_warmed_up_opened_and_closed_off_the_submissions_account(stage):
  assert stage.run(stage.profiler(Window(3, 6)), 9) == (
    '( prepare ) ( start ) step 3 end 3 step 4 end 4 evaluation step 5 end 5 ( stop )'
  )
  assert stage.told == []


def test_a_window_at_the_first_step_that_may_be_traced(stage):
  line = '( prepare ) ( start ) step 1 end 1 ( stop )'
  assert stage.run(stage.profiler(Window(1, 2)), 5) == line


def test_a_trial_taken_up_within_the_window_opens_it_at_once(stage):
  stage.step_number = 4
  profiler = stage.profiler(Window(3, 6), {**stage.profiler(Window(3, 6)).state(), 'opened': True})
  assert profiler.columns()['profiled'] is True
  assert stage.run(profiler, 4) == (
    '( prepare start ) step 4 end 4 evaluation step 5 end 5 ( stop )'
  )
  assert profiler.summary()['steps_traced'] == [4, 6]


def test_a_window_that_has_passed_is_not_opened_again_and_tells_what_it_told(stage):
  first = stage.profiler(Window(3, 6))
  stage.run(first, 7)
  stage.events.clear()
  again = stage.profiler(Window(3, 6), json.loads(json.dumps(first.state())))
  assert stage.run(again, 5) == ''
  assert again.summary() == first.summary()
  assert again.columns() == {'profiled': True, 'accumulated_profiling_time': 1.5}
  assert stage.told == []


def test_a_failing_trial_leaves_no_step_open_and_is_not_charged(stage):
  profiler = stage.profiler(Window(1, 9))
  with pytest.raises(ZeroDivisionError), profiler:
    profiler.begin_step(1)
    raise ZeroDivisionError
  assert ' '.join(stage.events) == '( prepare start ) step 1 end 1 stop'
  assert stage.told == []  # why the trial failed is told elsewhere
  assert profiler.summary()['files'] == ['trace']


@pytest.mark.parametrize('event', ['prepare', 'start'])
def test_what_cannot_begin_is_told_once_and_left_alone(event, stage):
  stage.fails[event] = RuntimeError('no counters.\nhere')
  profiler = stage.profiler(Window(3, 6))
  line = stage.run(profiler, 9)
  assert line.endswith(f'{event} abandon )')
  assert 'step' not in line
  assert stage.told == ['cannot be profiled (no counters); it goes on without a trace']
  assert profiler.columns()['profiled'] is False
  assert json.loads(stage.folder.profile.read_text())['problem'] == stage.told[0]


def test_half_a_trace_is_removed(stage):
  stage.fails['stop'] = OSError(28, 'No space left on device')
  profiler = stage.profiler(Window(3, 6))
  stage.folder.path.mkdir()
  (stage.folder.path / 'old').touch()
  assert stage.run(profiler, 9).endswith('( stop abandon )')
  assert stage.told == [
    'has no trace, which cannot be written ([Errno 28] No space left on device); it goes on'
  ]
  assert [path.name for path in stage.folder.path.iterdir()] == ['profile.json']
  aside = stage.folder.path.with_name('traces.attempt_1')
  assert [path.name for path in aside.iterdir()] == ['old']
  assert profiler.columns()['profiled'] is True  # it ran


def test_a_profile_json_that_cannot_be_written_is_told_and_the_trace_is_kept(stage):
  stage.fails['facts'] = ValueError('nobody knows')
  profiler = stage.profiler(Window(3, 6))
  stage.run(profiler, 9)
  assert stage.told == ['has a trace that no profile.json describes (nobody knows); it goes on']
  assert profiler.summary()['files'] == ['trace']
  assert profiler.summary()['problem'] == stage.told[0]


@pytest.mark.parametrize(
  ('steps', 'told', 'events'),
  [
    (2, 'there is no trace', 'abandon'),
    (3, 'there is no trace', '( prepare ) abandon'),
    (4, 'the trace has 1 of the steps', '( prepare ) ( start ) step 3 end 3 ( stop )'),
  ],
)
def test_a_trial_that_ends_too_early(steps, told, events, stage):
  assert stage.run(stage.profiler(Window(3, 6)), steps) == events
  (line,) = stage.told
  assert line == (
    f'ended after {steps} steps, so {told} of --profile_steps=3:6; give earlier steps, or let '
    'trials train for longer'
  )
