"""This file lists every column of metrics.csv and key of metadata.json, with unit and meaning.

The one list: the order of the columns, the table in COLUMNS.md and the names that extra metadata
may not take all come from here. Names are an interface: add, never rename.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
  """A column or key.

  Attributes:
    name: as written; a part in angle brackets stands for any name.
    unit: of the value; empty for names, counts and flags.
    meaning: one line.
  """

  name: str
  unit: str
  meaning: str

  @functools.cached_property
  def pattern(self) -> re.Pattern[str]:
    """What the names of this column match."""
    parts = re.split(r'(<[^>]+>)', self.name)
    return re.compile(''.join('.+' if p.startswith('<') else re.escape(p) for p in parts))


EXTRA = Column('<key>', '', 'extra metadata, given with --record_extra_metadata="key=value"')

IDENTITY = (
  Column('workload', '', 'the workload and framework, as in the folder: mnist_jax'),
  Column('framework', '', 'jax or pytorch'),
  Column('run_idx', '', 'the trial, counted from 1'),
)
PROGRESS = (
  Column(
    'accumulated_submission_time',
    's',
    'scored time: data selection, update_params, prepare_for_eval and the device work of all three',
  ),
  Column('global_step', '', 'updates made so far'),
  Column('epoch', '', 'passes over the training split so far, a fraction'),
)
RESULTS = (
  Column('accuracy', '0 to 1', 'validation accuracy'),
  Column('dice', '0 to 1', 'validation Dice coefficient, mean per example'),
  Column('loss', '', 'validation loss, mean per example'),
  Column('train/num_examples', '', 'examples of the training split evaluated'),
  Column('train/<metric>', '', 'the metric on the fixed part of the training split'),
  Column('validation/num_examples', '', 'examples of the validation split evaluated'),
  Column('validation/<metric>', '', 'the metric on the validation split'),
  Column('test/num_examples', '', 'examples of the test split evaluated'),
  Column('test/<metric>', '', 'the metric on the test split'),
)
SETTINGS = (
  Column('batch_size', '', 'examples in a training batch, over all devices'),
  Column('hparam.<name>', '', 'a hyperparameter of this trial'),
  Column('workload.<property>', '', 'a property of the workload; times in seconds'),
  Column('steps_per_epoch', '', 'training examples over batch size'),
  Column('global_start_time', 's since 1970', 'when the trial started'),
  Column(
    'goal_reached',
    'TRUE or FALSE',
    'whether validation and test target have been met, now or before; not with synthetic data',
  ),
  Column(
    'validation_goal_reached',
    'TRUE or FALSE',
    'whether the validation target has been met, now or before',
  ),
  Column(
    'test_goal_reached', 'TRUE or FALSE', 'whether the test target has been met, now or before'
  ),
  Column('accumulated_eval_time', 's', 'time spent in evaluations, this one included'),
  Column('accumulated_logging_time', 's', 'time spent recording, this row not included'),
  Column(
    'accumulated_compile_time',
    's',
    'time the framework spent compiling in this trial, in whichever account it fell',
  ),
  Column('total_duration', 's', 'the sum of all accounts, lost time included'),
  Column('recorded_at', 's since 1970', "when the row was made, by the system's clock"),
  Column('preemption_count', '', 'how often the trial was taken up again from a checkpoint'),
  Column(
    'profiled',
    'TRUE or FALSE',
    'whether a profiler has run by now, so that times are not those of a plain run '
    '(only with --profile_steps)',
  ),
  Column(
    'accumulated_profiling_time',
    's',
    'time spent starting, stopping and writing the profiler (only with --profile_steps)',
  ),
  Column(
    'memory_traced',
    'TRUE',
    'the process was stopped to see which memory it touches (only with --trace_memory)',
  ),
  Column(
    'accumulated_memory_trace_time',
    's',
    'time it stood still for that, which no other time has in it (only with --trace_memory)',
  ),
  Column('accumulated_lost_time', 's', 'work done after a checkpoint, lost when a run was killed'),
  Column(
    'trial_seed',
    '',
    "the trial's own seed, derived from the study's rng_seed and the trial's index",
  ),
  Column('rng_seed', '', 'the seed of the study'),
  Column('trace_memory', '', 'which memory was traced: BACKEND:WINDOW'),
  Column('data', '', 'real or synthetic'),
  Column('edition', '', 'the edition of the rules: 0.5, 0.6 or 1.0'),
)
HARDWARE = (
  Column('cpu.util.avg_percent_since_last', '%', 'busy time of all CPUs since the last row'),
  Column('cpu.freq.current', 'MHz', 'mean clock of the CPUs'),
  Column('temp.<chip>.current', '°C', 'the hottest sensor of the chip'),
  Column('mem.total', 'bytes', 'memory of the machine'),
  Column('mem.available', 'bytes', 'memory that can be had without swapping'),
  Column('mem.used', 'bytes', 'memory in use'),
  Column('mem.percent_used', '%', 'memory that is not available'),
  Column('mem.read_bytes_since_boot', 'bytes', 'read from disks (the name is historical)'),
  Column('mem.write_bytes_since_boot', 'bytes', 'written to disks (the name is historical)'),
  Column('net.bytes_sent_since_boot', 'bytes', 'sent by all network interfaces'),
  Column('net.bytes_recv_since_boot', 'bytes', 'received by all network interfaces'),
  Column('cgroup.mem.limit_bytes', 'bytes', 'memory the container may use; none where unlimited'),
  Column('cgroup.mem.used_bytes', 'bytes', 'memory the container uses, file cache included'),
  Column('cgroup.mem.working_set_bytes', 'bytes', 'the same without file cache not used lately'),
  Column('cgroup.mem.oom_kills', '', 'processes killed in it for want of memory'),
  Column('cgroup.cpu.limit_cores', 'cores', 'processors the container may use'),
  Column('cgroup.cpu.sec', 's', 'processor time the container has used'),
  Column('cgroup.cpu.throttled_sec', 's', 'time it was held back by that limit'),
  Column('cgroup.cpu.cores_used_since_last', 'cores', 'processors in use since the last reading'),
  Column('proc.count', '', "processes of the job; the sampler's own is none"),
  Column('proc.rss_bytes', 'bytes', 'memory they hold, shared pages counted in each'),
  Column('proc.threads', '', 'their threads'),
  Column('proc.cpu.sec', 's', 'processor time they have used, those that ended included'),
  Column('proc.disk.read_bytes', 'bytes', 'read from disks by those that live'),
  Column('proc.disk.write_bytes', 'bytes', 'written to disks by those that live'),
  Column('gpu.count', '', 'GPUs the driver knows'),
  Column('gpu.<i>.compute.util', '0 to 1', 'share of time a kernel was running'),
  Column('gpu.<i>.mem.util', '0 to 1', 'memory used over memory there'),
  Column('gpu.<i>.mem.total', 'MiB', 'memory of the GPU'),
  Column('gpu.<i>.mem.used', 'MiB', 'memory in use'),
  Column('gpu.<i>.mem.free', 'MiB', 'memory free'),
  Column('gpu.<i>.temp.current', '°C', 'temperature of the GPU'),
  Column('gpu.<i>.power.watts', 'W', 'power drawn, as the driver reports it'),
  Column('gpu.<i>.power.average_watts', 'W', 'mean over the last second'),
  Column('gpu.<i>.power.instant_watts', 'W', 'measured last'),
  Column('gpu.<i>.clock.sm', 'MHz', 'clock of the multiprocessors'),
  Column('gpu.<i>.clock.mem', 'MHz', 'clock of the memory'),
  Column('gpu.<i>.throttle.reasons', 'bit mask', 'why clocks are held back, as NVML numbers it'),
  Column('gpu.<i>.throttle.power_sec', 's', 'time held back by the power limit, since the driver'),
  Column(
    'gpu.<i>.throttle.thermal_sec', 's', 'time held back by heat, since the driver was loaded'
  ),
  Column('hpu.count', '', 'Gaudis the driver knows'),
  Column('hpu.<i>.compute.util', '0 to 1', 'busy share; on Gaudi 1 derived from the power'),
  Column('hpu.<i>.mem.util', '0 to 1', 'memory used over memory there'),
  Column('hpu.<i>.mem.total', 'MiB', 'memory of the Gaudi with module id i'),
  Column('hpu.<i>.mem.used', 'MiB', 'memory in use'),
  Column('hpu.<i>.mem.free', 'MiB', 'memory free'),
  Column('hpu.<i>.temp.current', '°C', 'temperature of the chip'),
  Column('hpu.<i>.clock.soc', 'MHz', 'clock of the chip'),
  Column('hpu.<i>.power.watts', 'W', 'power drawn, as the driver reports it'),
  Column(
    '<device>.energy.joules_since_load',
    'J',
    'the counter itself, since the driver was loaded; a device is gpu.<i>, hpu.<i>, cpu.package.<i>'
    ' or cpu.dram.<i>',
  ),
)
ENERGY = (
  Column('energy.joules_since_start', 'J', 'drawn by all devices of the job since training began'),
  Column('energy.joules_since_last', 'J', 'the same since the last row'),
  Column('energy.submission_joules', 'J', 'the part of the scored time'),
  Column('energy.evaluation_joules', 'J', 'the part of the evaluations'),
  Column('energy.net_joules_since_start', 'J', 'since the start, without the measured idle power'),
  Column('energy.source', '', 'counter, integrated, derived, or mixed over the devices'),
  Column('energy.devices', '', 'the devices in the sum'),
  Column('<device>.energy.joules_since_start', 'J', 'drawn by the device since training began'),
  Column('<device>.energy.joules_since_last', 'J', 'the same since the last row'),
  Column('<device>.energy.submission_joules', 'J', 'the part of the scored time'),
  Column('<device>.energy.evaluation_joules', 'J', 'the part of the evaluations'),
  Column('<device>.energy.net_joules_since_start', 'J', 'since the start, without the idle power'),
  Column(
    '<device>.energy.source',
    '',
    'counter: read at both ends of every phase; integrated: from samples of the power; derived: '
    'from the power at the rows alone; none',
  ),
  Column(
    '<device>.energy.coverage_percent', '%', 'time since the start that samples of the power cover'
  ),
  Column('<device>.energy.integrated_joules_since_start', 'J', 'from samples, where they cover'),
  Column(
    '<device>.energy.counter_and_integral_differ',
    'TRUE or FALSE',
    'by more than 5 %, where samples cover 95 % of the time',
  ),
)
PHASES = (
  Column('phase.data_sec', 's', "the host's time in data selection since the start"),
  Column('phase.step_sec', 's', "the host's time in update_params; the device may lag behind"),
  Column(
    'phase.prepare_for_eval_sec', 's', 'time in prepare_for_eval, with the wait for the device'
  ),
)
METRICS = (*IDENTITY, *PROGRESS, *RESULTS, *SETTINGS, EXTRA, *PHASES, *ENERGY, *HARDWARE)

METADATA = (
  Column('workload', '', 'the workload and framework, as in the folder'),
  Column('framework', '', 'jax or pytorch'),
  Column('log_dir', '', 'the folder given with --log_dir'),
  Column('datetime', 'ISO 8601', 'local time at which the run started, to the microsecond'),
  Column('schema', '', 'the version of this record; changes only when a meaning does'),
  Column('command', '', 'the command as it was given'),
  Column('submission_path', '', 'the file of the training algorithm'),
  Column('submission_sha256', '', 'digest of that file'),
  Column('tuning_ruleset', '', 'external or self'),
  Column('tuning_search_space', '', 'the file of the search space'),
  Column('tuning_search_space_sha256', '', 'digest of that file'),
  Column('num_tuning_trials', '', 'trials of the study'),
  Column('rng_seed', '', 'the seed of the study, given or drawn'),
  Column('batch_size', '', 'examples in a training batch, over all devices'),
  Column('max_global_steps', '', 'the limit given with --max_global_steps'),
  Column('eval_period_steps', '', 'evaluated every so many steps, not by time'),
  Column('profile_steps', '', 'the steps traced by a profiler: START:STOP, STOP not included'),
  Column('data', '', 'real or synthetic'),
  Column('data_source', '', 'where the data came from'),
  Column('edition', '', 'the edition of the rules'),
  Column('algorithmic_efficiency_version', '', 'version of this package'),
  Column('python_version', '', 'version of Python'),
  Column('python_compiler', '', 'compiler Python was built with'),
  Column('os_platform', '', 'operating system, kernel and processor'),
  Column('git_branch', '', 'branch of the checkout this package runs from, or of its image'),
  Column('git_commit_hash', '', 'its commit'),
  Column('git_dirty', 'true or false', 'whether tracked files differ from that commit'),
  Column('container.image', '', 'the image it ran in, as the launcher names it: name@digest'),
  Column('cpu_model_name', '', 'the processor'),
  Column('cpu_count', '', 'logical CPUs of the machine'),
  Column('gpu_model_name', '', 'the first GPU'),
  Column('gpu_count', '', 'GPUs the driver knows'),
  Column('gpu_driver', '', 'version of the driver'),
  Column('hpu_model_name', '', 'the first Gaudi'),
  Column('hpu_count', '', 'Gaudis the driver knows'),
  Column('hpu_driver', '', 'version of its driver'),
  Column(
    '<device>.idle_watts', 'W', 'power measured before the first trial (--telemetry_idle_sec)'
  ),
  Column('device', '', 'the kind that the run trained on: cpu, cuda, hpu, or what else JAX found'),
  Column('num_devices', '', 'devices the run trained on'),
  Column('num_processes', '', 'processes the run trained in'),
  Column('submission_api', '', 'v05 (pmap) or v06 (jit): what a JAX submission was written for'),
  Column('torch_compile', '', 'whether PyTorch models were compiled'),
  Column('torch_compile_reason', '', 'why they were not, or who asked'),
  Column('workload.<property>', '', 'a property of the workload; times in seconds'),
  EXTRA,
)

# What concatenation and AlgoPerf's files add; no run brings a column of the same name.
SOURCE = Column('source', '', 'the metrics.csv the row came from (all_metrics.csv alone)')
RESERVED = (
  SOURCE,
  Column('score', 's', "the submission time, in AlgoPerf's files"),
)


def find(name: str, among: Iterable[Column] = METRICS) -> Column | None:
  """The column a name belongs to, an exact name before a pattern; None for a name that is nobody's.

  >>> find('gpu.3.mem.used').unit
  'MiB'
  """
  matches = [c for c in among if c is not EXTRA and c.pattern.fullmatch(name)]
  exact = [c for c in matches if c.name == name]
  return (exact or matches or [None])[0]


def is_taken(name: str) -> bool:
  """Whether extra metadata may not use this name because a column or key has it."""
  return find(name, (*METRICS, *METADATA, *RESERVED)) is not None


@functools.lru_cache(maxsize=64)
def in_order(names: tuple[str, ...]) -> tuple[str, ...]:
  """The names sorted as the columns are listed; names of one pattern keep their order."""
  places = {column: place for place, column in enumerate(METRICS)}
  return tuple(sorted(names, key=lambda name: places[find(name) or EXTRA]))


def primitive(value: Any) -> bool:
  """Whether a value may stand in a record: a number, a text, a flag, or a tuple of them."""
  if isinstance(value, tuple | list):
    return all(primitive(v) for v in value)  # pyright: ignore[reportUnknownVariableType]
  return isinstance(value, bool | int | float | str)


_OTHER_FILES = """
## telemetry.jsonl

A line of kind `begin` (devices, units, the reasons for what is absent), one of kind `sample` a
tick, `note` for people, and `end` with what the sampler cost; several of each after a resume. Each
line has `monotonic_sec` (CLOCK_MONOTONIC) and `time` (seconds since 1970). A sample has the
hardware columns that were due: utilisation, memory, power and energy of devices at every tick;
their clocks and temperatures, processors, memory, disks, network, container and processes once a
second; CPU clock and sensors every ten.

## phases.jsonl

One object a phase: `phase`, `begin` and `end` on the monotonic clock, `step`. `step` is a slice of
training, of a second or what lies between two evaluations, with `steps`, `data_sec` and `step_sec`
of the host's time; `prepare_for_eval` ends it. `evaluation`, `recording`, `checkpoint` and
`profiling` have the `joules` of each device that counts; `compile` has `sec` and `within`.

## traces

With `--profile_steps=START:STOP`: the trace of the profiler, JAX's in
`plugins/profile/<time>/<host>.xplane.pb`, PyTorch's in `<host>_<pid>.<unix-ns>.pt.trace.json.gz`;
of several processes each has a folder `process_<i>`. `profile.json` beside it has `steps_asked` and
`steps_traced` (half-open), `files`, the `seconds` it took, the `problem` if there was one,
versions, devices, and the devices' clocks at the `begin` and `end` of the window.

## memory.jsonl

With `--trace_memory=BACKEND:WINDOW`: which memory the trial's process touched, as
[MEMORY.md](../memory_trace/MEMORY.md) describes; `memory_<n>.jsonl` when the trial was taken up
again, `memory_process_<i>.jsonl` of several processes.
"""


def table() -> str:
  """COLUMNS.md, generated: `python -m algorithmic_efficiency.records.columns > …/COLUMNS.md`."""
  lines = [
    '# Columns and keys',
    '',
    '<!-- Generated by `python -m algorithmic_efficiency.records.columns`; do not edit. -->',
    '',
    'A part in angle brackets stands for any name. What a machine does not have is left out.',
    'Times come from a monotonic clock unless they say otherwise.',
  ]
  for title, columns in (('metrics.csv', METRICS), ('metadata.json', METADATA)):
    lines += ['', f'## {title}', '', '| name | unit | meaning |', '|---|---|---|']
    lines += [f'| `{c.name}` | {c.unit} | {c.meaning} |' for c in columns]
  lines += [
    '',
    '`gpu.avg.…` is the mean over the GPUs: utilisation, memory, temperature, power.',
  ]
  lines += ['`all_metrics.csv` has one column more: `source`, ' + SOURCE.meaning + '.']
  return '\n'.join(lines) + '\n' + _OTHER_FILES


if __name__ == '__main__':
  import sys

  sys.stdout.write(table())
