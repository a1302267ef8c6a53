"""This file hands a trial's profiler what it needs of the rooms around it."""

import contextlib
import os
import socket
from collections.abc import Callable, Generator
from typing import Any

from algorithmic_efficiency.profiling import window
from algorithmic_efficiency.profiling.window import NoProfiler, Profiler, Surroundings
from algorithmic_efficiency.records import metadata
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.runner.clock import Clock
from algorithmic_efficiency.runner.trial import Trial
from algorithmic_efficiency.telemetry import sample


def make(
  study: Any, folder: TrialFolder, trial: Trial, clock: Clock, warn: Callable[[str], None]
) -> NoProfiler:
  """The profiler of a trial; one that does nothing without --profile_steps."""
  if study.plan.profile is None:
    return NoProfiler()
  framework = study.framework
  index, count = framework.processes.index(), framework.processes.count()
  collector = window.load_collector(study.plan.framework, framework.device())
  clocks = sample.clocks()

  @contextlib.contextmanager
  def charge() -> Generator[None, None, None]:
    # A trace that is being written is not cut off: the run stops at the end of the step.
    with clock.charge('profiling'), study.interrupts.held(then_check=False):
      yield

  def facts() -> dict[str, Any]:
    return {
      'framework': study.plan.framework,
      'device': framework.device(),
      **collector.describe(),
      'torch_compile': study.compiles.chosen,
      **{key: value for key, value in metadata.describe_host().items() if value is not None},
      **clocks.describe(),
      'host': socket.gethostname(),
      'pid': os.getpid(),
      'process': index,
      'num_processes': count,
    }

  around = Surroundings(
    warn=warn,
    charge=charge,
    seconds=lambda: clock.seconds('profiling'),
    steps_made=lambda: trial.global_step,
    model=lambda: None if study.compiles.chosen else trial.params,
    facts=facts,
    hardware=lambda: {**sample.clock_pair(), **clocks.read()},
  )
  return Profiler(study.plan.profile, collector, folder.trace(index, count), around)
