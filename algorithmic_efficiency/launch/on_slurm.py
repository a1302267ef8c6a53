"""This file gives a plan to SLURM as job arrays, and watches them if it is asked to.

LOG_DIR/slurm/<plan id>.sbatch     the batch script (`slurm_script.py`)
LOG_DIR/slurm/submitted.json       the arrays that were submitted
LOG_DIR/slurm/<array>_<task>.log   what the script and `task.py` said

SLURM runs each task, on what node and in what order it likes; what became of it is read from the
run folders and jobs/*.json, never from SLURM's accounting, which not every cluster has.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import endings, progress, slurm_client, slurm_script
from algorithmic_efficiency.launch.endings import Ending
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slurm_client import NoAnswer, Queued
from algorithmic_efficiency.launch.slurm_script import How
from algorithmic_efficiency.records.whole_files import write_whole

_LOOK_SEC = 2.0
_LINE_EVERY_SEC = 30.0
_SETTLE_SEC = 10.0  # for a shared file system to show what a node wrote

_GONE = Queued('')
Say = Callable[[str], None]


def add_flags(group: Any) -> None:
  """The flags of this engine."""
  group.add_argument(
    '--sbatch', action='append', default=[], metavar='OPTION', type=_option,
    help='an option of sbatch, such as --sbatch=--partition=gpu; may be given many times',
  )  # fmt: skip
  group.add_argument(
    '--slurm_container', choices=slurm_script.CONTAINERS, default='none',
    help='what a task runs in (default: none)',
  )  # fmt: skip
  group.add_argument('--slurm_image', help="a .sif file or an image's name (default: the plan's)")
  group.add_argument('--slurm_python', default=sys.executable, help='on the nodes (default: this)')
  group.add_argument('--slurm_gres', default='', help="the accelerators' name (default: gpu, hpu)")
  group.add_argument(
    '--slurm_signal_sec', type=int, default=60, metavar='SEC',
    help='a run saves itself so long before its time limit (default: 60)',
  )  # fmt: skip
  group.add_argument('--slurm_wait', action='store_true', help='watch until all jobs have ended')


def _option(text: str) -> str:
  name = text.partition('=')[0]
  if not text.startswith('-'):
    raise argparse.ArgumentTypeError(f'{text!r} does not begin with -, as options of sbatch do')
  if name in ('-a', '--array', '-J', '--job-name', '-W', '--wait', '--wrap', '--parsable'):
    raise argparse.ArgumentTypeError(f'{name} is set by the launcher')
  return text


def run(given: argparse.Namespace, plan: Plan, folder: PlanFolder, say: Say) -> int:
  """Submits what is not finished and not in the queue. Returns 0 once it is submitted, or, having
  watched, if all trials ran. Raises UsageError if SLURM refuses, MeasurementError if it does not
  answer."""
  how = _how(given, plan)
  slurm = Slurm(plan, folder, how)
  jobs = plan.jobs()
  left = [job for job in jobs if folder.finished(job) is None]
  before = len(jobs) - len(left)
  script = slurm_script.text(plan, folder, how)
  if given.dry_run:
    say(script)
    for words, _ in slurm.commands(left, given.slots, slurm_client.largest_array()):
      say(slurm_client.line(words))
    return 0
  in_queue = slurm.in_queue()
  new = [job for job in left if job.index not in in_queue]
  head = f'{plan.name}: {len(jobs)} trials, {before} ended before'
  say(head + (f', {len(left) - len(new)} are in the queue' if len(left) > len(new) else ''))
  try:
    if new:
      _submit(slurm, script, new, given.slots, say)
    if left and given.slurm_wait:
      return _tell_end(Watch(slurm, left, before, say).until_the_end(), before, say)
  except KeyboardInterrupt as stop:
    say(
      f'What was submitted goes on without this launcher; {slurm.cancel_line()} ends it, and '
      '--resume --engine=slurm --slurm_wait watches it again.'
    )
    return 143 if stop.args else 130
  if not left:
    return _tell_end({}, before, say)
  say(f'python scripts/launch.py --status --log_dir={folder.root}    tells what became of it')
  return 0


def _how(given: argparse.Namespace, plan: Plan) -> How:
  image = given.slurm_image
  images = set(plan.images.values())
  if given.slurm_container == 'none':
    if image is not None:
      raise UsageError(
        '--slurm_image is given and --slurm_container is none; give --slurm_container=docker or '
        '--slurm_container=apptainer too.'
      )
    image = ''
  elif image is None:
    if len(images) > 1:
      raise UsageError(
        f'The plan has {len(images)} images ({", ".join(sorted(images))}), and an array runs in '
        'one; name one that has all frameworks by --slurm_image, or make a plan of each framework.'
      )
    image = images.pop()
  if given.slurm_container == 'apptainer' and '://' not in image:
    image = str(Path(image).expanduser().absolute())
    if not Path(image).exists():
      raise UsageError(
        f'The image {image!r} is not there; build it with apptainer build, as '
        'docker/apptainer.def says, and name it by --slurm_image.'
      )
  if given.slurm_signal_sec < 1:
    raise UsageError(
      f'--slurm_signal_sec is {given.slurm_signal_sec}; give the seconds that a run needs to save '
      'itself, at least 1.'
    )
  return How(
    container=given.slurm_container, image=image, python=given.slurm_python,
    gres=given.slurm_gres, signal_sec=given.slurm_signal_sec, options=given.sbatch,
  )  # fmt: skip


def _submit(slurm: 'Slurm', script: str, jobs: Sequence[Job], slots: int | None, say: Say) -> None:
  largest = slurm_client.largest_array()
  slurm.write_script(script)
  arrays = slurm.commands(jobs, slots, largest)
  after: str | None = None
  done = 0
  try:
    for words, indices in arrays:
      # With --slots, one array after the other: each has its limit for itself.
      chained = [f'--dependency=afterany:{after}'] if after is not None and slots else []
      after = slurm_client.submit([*words[:1], *chained, *words[1:]])
      slurm.note(after, indices)
      done += len(indices)
      say(f'SLURM job {after}: {len(indices)} trials ({slurm_script.ranges(indices)})')
    time.sleep(_LOOK_SEC)  # the scheduler looks at them first
    tell_hopeless(slurm.in_queue(), say)
  except UsageError as error:
    part = f' {done} of {len(jobs)} trials are submitted; --resume goes on.' if done else ''
    raise UsageError(f'{error}{part}') from error


def tell_hopeless(queue: dict[int, Queued], say: Say) -> None:
  """Says what will never begin: clusters take jobs in that none of their nodes can run."""
  for why in sorted({task.why_for_ever for task in queue.values() if task.why_for_ever}):
    say(f'warning: SLURM took them in and will not begin them: {why}; scancel and mend the plan.')


def _tell_end(ended: dict[str, Ending], before: int, say: Say) -> int:
  for line in progress.summary(ended, before):
    say(line)
  return 0 if all(end.outcome == endings.COMPLETE for end in ended.values()) else 1


class Slurm:
  """The arrays of one plan."""

  def __init__(self, plan: Plan, folder: PlanFolder, how: How) -> None:
    self.plan, self.folder, self.how = plan, folder, how
    self.place = folder.engine_file('slurm')
    self._script = self.place / f'{plan.id}.sbatch'
    self._noted = self.place / 'submitted.json'
    self._prefix = f'algorithmic_efficiency-{plan.id}-'

  def write_script(self, text: str) -> None:
    """Writes it. Raises UsageError if the disk does not take it."""
    try:
      self.place.mkdir(exist_ok=True)
      write_whole(self._script, text)
    except OSError as error:
      raise self._trouble(error) from error

  def commands(
    self, jobs: Sequence[Job], slots: int | None, largest: int
  ) -> list[tuple[list[str], list[int]]]:
    """The calls of sbatch that submit these jobs, each with the indices of its jobs."""
    found: list[tuple[list[str], list[int]]] = []
    for offset, tasks in slurm_script.split((job.index for job in jobs), largest):
      array = slurm_script.ranges(tasks) + (f'%{slots}' if slots else '')
      words = [
        'sbatch', '--parsable', *self.how.options, f'--job-name={self._prefix}{offset}',
        f'--array={array}', str(self._script), str(offset),
      ]  # fmt: skip
      found.append((words, [offset + task for task in tasks]))
    return found

  def in_queue(self) -> dict[int, Queued]:
    """The plan's jobs that SLURM has, by index. Raises NoAnswer."""
    tasks = slurm_client.queue(self._prefix)
    return {int(name.removeprefix(self._prefix)) + task: s for (name, task), s in tasks.items()}

  def submitted(self) -> list[dict[str, Any]]:
    """The arrays that were submitted, the oldest first."""
    try:
      return list(json.loads(self._noted.read_text(encoding='utf-8'))['arrays'])
    except FileNotFoundError:
      return []
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise UsageError(f'{str(self._noted)!r} cannot be read ({error}); delete it.') from error

  def note(self, job_id: str, indices: Sequence[int]) -> None:
    """Remembers an array. Raises UsageError if the disk does not take it."""
    entry = {'job_id': job_id, 'indices': list(indices), 'submitted': time.time()}
    content = {'plan': self.plan.id, 'arrays': [*self.submitted(), entry]}
    try:
      write_whole(self._noted, json.dumps(content, indent=2) + '\n')
    except OSError as error:
      raise self._trouble(error) from error

  def task_of(self, job: Job, largest: int) -> str:
    """What SLURM last called a job, such as 12_3; '' if it was never submitted."""
    ids = [array['job_id'] for array in self.submitted() if job.index in array['indices']]
    return f'{ids[-1]}_{job.index % largest}' if ids else ''

  def cancel_line(self) -> str:
    """What ends all of the plan's jobs."""
    return 'scancel ' + ' '.join(array['job_id'] for array in self.submitted())

  def _trouble(self, error: OSError) -> UsageError:
    return UsageError(
      f'{str(self.place)!r} cannot be written to ({error.strerror}); free space or mend its '
      'permissions, then go on with --resume.'
    )


class Watch:
  """Watches jobs until none of them is in the queue.

  Args:
    slurm: the arrays.
    jobs: those to watch.
    before: how many ended before.
    say: prints a line.
  """

  def __init__(self, slurm: Slurm, jobs: Sequence[Job], before: int, say: Say) -> None:
    self._slurm, self._folder, self._say = slurm, slurm.folder, say
    self._jobs, self._before = jobs, before
    self._largest = slurm_client.largest_array()
    self._seen = {job.name: len(self._ended_attempts(job)) for job in jobs}
    self._answers = True
    self._said = time.monotonic()

  def until_the_end(self) -> dict[str, Ending]:
    """How each job ended, by its name."""
    while (states := self._look()) is None or states:
      self._tell_ends(states or {})
      if states is not None and time.monotonic() - self._said > _LINE_EVERY_SEC:
        self._tell_how_far(states)
      time.sleep(_LOOK_SEC)
    until = time.monotonic() + _SETTLE_SEC
    while time.monotonic() < until and any(self._is_unclear(job) for job in self._jobs):
      time.sleep(_LOOK_SEC)
    self._tell_ends({})
    return {job.name: self._ending(job) for job in self._jobs}

  def _look(self) -> dict[int, Queued] | None:
    """Those in the queue; None where the controller does not answer, which is told once."""
    try:
      states = self._slurm.in_queue()
    except NoAnswer as error:
      if self._answers:
        self._say(f'{error} The jobs that run go on meanwhile.')
      self._answers = False
      return None
    if not self._answers:
      self._say("SLURM's controller answers again.")
    self._answers = True
    mine = {job.index for job in self._jobs}
    return {index: state for index, state in states.items() if index in mine}

  def _ended_attempts(self, job: Job) -> list[dict[str, Any]]:
    return [attempt for attempt in self._folder.attempts(job) if 'ended' in attempt]

  def _tell_ends(self, states: dict[int, Queued]) -> None:
    for job in self._jobs:
      ended = self._ended_attempts(job)
      for attempt in ended[self._seen[job.name] :]:
        reason = f': {attempt["reason"]}' if attempt.get('reason') else ''
        again = '; it waits to go on' if states.get(job.index, _GONE).state == 'PENDING' else ''
        self._say(f'{job.name}: {attempt["outcome"]}{reason}{again}')
        self._said = time.monotonic()
      self._seen[job.name] = len(ended)

  def _tell_how_far(self, states: dict[int, Queued]) -> None:
    counts: dict[str, int] = {}
    for state, reason in states.values():
      word = state.lower() + (f' ({reason})' if state == 'PENDING' else '')
      counts[word] = counts.get(word, 0) + 1
    words = ', '.join(f'{count} {word}' for word, count in counts.items())
    done = self._before + len(self._jobs) - len(states)
    self._say(f'{done}/{self._before + len(self._jobs)} done; {words}')
    self._said = time.monotonic()

  def _is_unclear(self, job: Job) -> bool:
    attempts = self._folder.attempts(job)
    if attempts:
      return 'ended' not in attempts[-1]
    return not (self._slurm.place / f'{self._slurm.task_of(job, self._largest)}.log').exists()

  def _ending(self, job: Job) -> Ending:
    """From the run's own record, else from the last attempt at it, else from SLURM."""
    state = self._folder.finished(job)
    if state is not None:
      outcome = endings.FAILED if state['status'] == 'failed' else endings.COMPLETE
      return Ending(outcome, str(state.get('reason') or ''))
    attempts, task = self._folder.attempts(job), self._slurm.task_of(job, self._largest)
    last = attempts[-1] if attempts else {}
    theirs = slurm_client.state(task) if task else ''
    said = f"SLURM's last word is {theirs}" if theirs else 'SLURM has forgotten it'
    if last.get('job_id') == task and 'ended' in last:
      more = f' ({said})' if theirs in ('CANCELLED', 'TIMEOUT', 'PREEMPTED') else ''
      return Ending(last['outcome'], f'{last.get("reason") or ""}{more}')
    if last.get('job_id') == task:
      return Ending(endings.LOST, f'it did not say how it ended; {said}; --resume goes on with it')
    log = self._slurm.place / f'{task}.log'
    told = endings.last_words(log)
    if not told and not log.exists():
      told = f'{said}, and there is no {log}; do the nodes see this folder?'
    return Ending(endings.NOT_STARTED, told or said)
