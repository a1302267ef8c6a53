"""This file is the hot loop, and the state it changes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from algorithmic_efficiency.profiling.window import NoProfiler
from algorithmic_efficiency.runner.agreement import Agreement
from algorithmic_efficiency.runner.clock import Clock
from algorithmic_efficiency.runner.rules import Rules
from algorithmic_efficiency.runner.seeds import TrialSeeds
from algorithmic_efficiency.submissions.submission import Submission
from algorithmic_efficiency.telemetry.phases import NoPhases

Metrics = dict[str, Any]


@dataclass
class Trial:
  """All that changes while a trial trains.

  Attributes:
    params, model_state, optimizer_state: the framework's and the submission's own.
    param_types: the tree of ParameterTypes, which does not change.
    global_step: updates made.
    eval_results: (global_step, metrics) of every evaluation, as submissions see them.
    validation_goal_reached, test_goal_reached: met once, met for good.
    training_complete: the submission has ended training.
    submission_sec: submission time after the last step, as all processes agree on it.
    last_eval_submission_sec: submission time at the last evaluation.
    evaluation_pending: an evaluation is due and prepared for, and not made yet.
    whole: between two steps, when all of this could be saved.
    alone: no other process takes part.
  """

  params: Any = None
  model_state: Any = None
  optimizer_state: Any = None
  param_types: Any = None
  global_step: int = 0
  eval_results: list[tuple[int, Metrics]] = field(default_factory=list[tuple[int, Metrics]])
  validation_goal_reached: bool = False
  test_goal_reached: bool = False
  training_complete: bool = False
  submission_sec: float = 0.0
  last_eval_submission_sec: float = 0.0
  evaluation_pending: bool = False
  whole: bool = False
  alone: bool = True
  clock: Clock | None = None
  rules: Rules | None = None

  @property
  def goal_reached(self) -> bool:
    """Whether both targets have been met."""
    return self.validation_goal_reached and self.test_goal_reached

  def train_state(self) -> dict[str, Any]:
    """What a submission may know about the run; the API's keys, times in seconds."""
    assert self.clock is not None and self.rules is not None
    spent = self.clock.seconds('submission')
    evaluating, recording = self.clock.seconds('evaluation'), self.clock.seconds('recording')
    if not self.alone:  # what all processes know alike: the last step's, and the last evaluation's
      last = self.eval_results[-1][1] if self.eval_results else {}
      spent = self.submission_sec
      evaluating = last.get('accumulated_eval_time', 0.0)
      recording = last.get('accumulated_logging_time', 0.0)
    return {
      'validation_goal_reached': self.validation_goal_reached,
      'test_goal_reached': self.test_goal_reached,
      'is_time_remaining': spent < self.rules.budget_sec,
      'last_eval_time': self.last_eval_submission_sec,
      'training_complete': self.training_complete,
      'accumulated_submission_time': spent,
      'accumulated_eval_time': evaluating,
      'accumulated_logging_time': recording,
      'last_step_end_time': self.clock.total_seconds(),
    }


@dataclass(frozen=True)
class Course:
  """What does not change while a trial trains."""

  workload: Any
  submission: Submission
  hyperparameters: Any
  seeds: TrialSeeds
  rules: Rules
  clock: Clock
  queue: Iterator[Any]
  evaluate: Callable[[Trial], Metrics]
  record: Callable[[Trial, Metrics], None]
  save: Callable[[], None]
  tick: Callable[[Trial, float], None]
  agreement: Agreement = field(default_factory=Agreement)
  phases: NoPhases = field(default_factory=NoPhases)
  profiler: NoProfiler = field(default_factory=NoProfiler)


def run_trial(trial: Trial, course: Course) -> str:
  """Trains until a rule says stop; returns the reason.

  Only the account 'submission' is scored. Evaluation and recording are the bench's own work, and
  the clock is off the submission while they run.
  """
  workload, submission, clock = course.workload, course.submission, course.clock
  rules, hyperparameters, agreement = course.rules, course.hyperparameters, course.agreement
  phases, profiler = course.phases, course.profiler
  with clock.charge('submission'):
    trial.submission_sec = agreement.slowest(trial.global_step, clock.seconds('submission'))
    while trial.evaluation_pending or not (reason := rules.reason_to_stop(trial)):
      if not trial.evaluation_pending:
        trial.whole = False
        profiler.begin_step(trial.global_step)
        phases.turn('data')
        select_rng, update_rng, prepare_rng = course.seeds.of_step(trial.global_step)
        batch = submission.select(workload, trial, hyperparameters, course.queue, select_rng)
        phases.turn('step')
        submission.update(workload, trial, hyperparameters, batch, update_rng)
        trial.global_step += 1
        phases.step_ended(trial.global_step)

        seconds = clock.seconds('submission')
        due = rules.next_decision_sec(trial)
        trial.submission_sec = agreement.seconds(trial.global_step, seconds, due)
        if rules.evaluation_is_due(trial, trial.submission_sec):
          phases.turn('prepare_for_eval')
          submission.prepare(workload, trial, hyperparameters, prepare_rng)
          seconds = clock.settled_seconds('submission')  # device work is paid by who queued it
          trial.submission_sec = agreement.slowest(trial.global_step, seconds)
          trial.evaluation_pending = rules.may_evaluate(trial.submission_sec)
        profiler.end_step()
        trial.whole = True
        course.tick(trial, seconds)
      if trial.evaluation_pending:
        _evaluate(trial, course)
  return reason


def _evaluate(trial: Trial, course: Course) -> None:
  """Evaluates, records and saves, each on an account of its own."""
  clock = course.clock
  with clock.charge('evaluation'), course.profiler.annotate('evaluation'):
    metrics = course.evaluate(trial)
  with clock.charge('recording'):
    course.rules.note_evaluation(trial, metrics)
    trial.last_eval_submission_sec = trial.submission_sec
    trial.evaluation_pending = False
    course.record(trial, metrics)
  with clock.charge('checkpoint'):
    course.save()
