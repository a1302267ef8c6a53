"""How long the kernels of a convolution take, by batch size, stride, kernel size and filters.

  python measure_grid.py                 144 settings, two frameworks, three repeats; some minutes
  python measure_grid.py --grid=full     1,380 settings; hours on a CPU
  python measure_grid.py --device=cuda   on a GPU
  python measure_grid.py --smoke         four settings; seconds

Every trial is a network of one convolution that is built, warmed up and then traced for a few steps
by the framework's own profiler, in `traces/<framework>/b64s2k3f10/repeat_1`. All traces are then
exported as scripts/export_kernels.py does it, and results.csv gets a row a trial. The same command
goes on where it was stopped. The trials' order is drawn, repeat by repeat, so that what changes on
the machine during the hours does not look like an effect of a setting.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import grid

from algorithmic_efficiency.profiling import analysis, finding, parameters
from algorithmic_efficiency.profiling.activities import Kind
from algorithmic_efficiency.profiling.export import Exporter
from algorithmic_efficiency.profiling.one_trace import Options

FRAMEWORKS = ('jax', 'pytorch')
SEED = 0
PATTERN = (
  r'(?P<framework>\w+)/b(?P<batch_size>\d+)s(?P<stride>\d+)k(?P<kernel_size>\d+)f(?P<filters>\d+)'
  r'/repeat_(?P<repeat>\d+)'
)
# The layer as flax and as the network in PyTorch name it; with its bias, which PyTorch's operator
# has in it anyway.
LAYER = r'^(?:Conv_0|conv)$'
KEYS = ['framework', 'batch_size', 'stride', 'kernel_size', 'filters', 'repeat']
COLUMNS = [*KEYS, 'device', 'kind', 'forward_us', 'backward_us', 'unnamed_convolution_us',
           'unnamed_us', 'total_us', 'step_us', 'not_attributed_pct', 'covered_pct']  # fmt: skip
EVERY_SEC = 10.0

Trial = tuple[str, int, int, int, int, int]  # name, the setting, and the repeat


def main() -> None:
  """Measures what has not been measured, and writes results.csv."""
  given = parse()
  with contextlib.ExitStack() as stack:
    if given.traces is None:
      given.traces = HERE / 'traces'
      if given.smoke:
        given.traces = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    began = time.monotonic()
    count = sum(measure(framework, given) for framework in given.frameworks)
    measured = time.monotonic()
    rows = export(given)
    exported = time.monotonic()
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
  print(f'{count:,} trials measured in {measured - began:.0f} s; all {len(rows):,} exported and '
        f'summed in {exported - measured:.1f} s: {given.output}')  # fmt: skip
  summarize(rows)


def parse() -> argparse.Namespace:
  """The options."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--grid', choices=grid.NAMES, default='small')
  parser.add_argument('--smoke', action='store_true', help='four settings, once, not kept')
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--steps', type=int, default=2, help='traced steps of a trial')
  parser.add_argument('--frameworks', default=','.join(FRAMEWORKS))
  parser.add_argument('--device', default='cpu', help="the frameworks' name of it: cpu, cuda")
  parser.add_argument('--cores', type=int, default=1, help='that a process on a CPU may use')
  parser.add_argument('--traces', type=Path, help='default: traces/ beside this file')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  given.frameworks = given.frameworks.split(',')
  if not set(given.frameworks) <= set(FRAMEWORKS):
    parser.error(f'--frameworks are of {", ".join(FRAMEWORKS)}')
  if min(given.repeats, given.steps, given.cores) < 1:
    parser.error('--repeats, --steps and --cores are at least 1')
  if given.smoke:
    given.grid, given.repeats = 'smoke', 1
  return given


def asked_of(given: argparse.Namespace) -> dict[str, Any]:
  """What must be the same for a trial to be still good."""
  return {'steps': given.steps, 'device': given.device, 'cores': given.cores, 'seed': SEED}


def trials_of(framework: str, given: argparse.Namespace) -> list[Trial]:
  """All trials, each repeat in an order of its own."""
  generator = random.Random(SEED)
  trials: list[Trial] = []
  for repeat in range(1, given.repeats + 1):
    settings = grid.settings(given.grid)
    generator.shuffle(settings)
    for batch, stride, size, filters in settings:
      name = grid.Setting(batch, stride, size, filters).name
      trials.append((f'{framework}/{name}/repeat_{repeat}', batch, stride, size, filters, repeat))
  return trials


def marker(name: str, given: argparse.Namespace) -> dict[str, Any] | None:
  """What trial.json tells of a trial that was measured as it is asked for now; else None."""
  file = given.traces / name / 'trial.json'
  if not file.exists():
    return None
  content = json.loads(file.read_text(encoding='utf-8'))  # whole, or it would not be there
  return content if content['asked'] == asked_of(given) else None


def measure(framework: str, given: argparse.Namespace) -> int:
  """Measures the trials that are still to be done, in a fresh process; returns how many."""
  trials = trials_of(framework, given)
  waiting = [trial for trial in trials if marker(trial[0], given) is None]
  if len(waiting) < len(trials):
    print(f'{framework}: {len(trials) - len(waiting):,} of {len(trials):,} are measured already')
  if not waiting:
    return 0
  given.traces.mkdir(parents=True, exist_ok=True)
  plan = {
    'trials': waiting, 'traces': str(given.traces), 'asked': asked_of(given), **asked_of(given),
  }  # fmt: skip
  file, log = given.traces / f'{framework}_plan.json', given.traces / f'{framework}.log'
  file.write_text(json.dumps(plan))
  command = [sys.executable, str(HERE / 'one_framework.py'), framework, str(file)]
  with log.open('w') as errors:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
      show(framework, process.stdout or (), len(waiting))
    except BaseException:
      process.terminate()
      raise
    finally:
      code = process.wait()
  if code:
    last = '\n'.join(log.read_text().splitlines()[-20:])
    raise SystemExit(f'{framework}: the process ended with {code}; the same command goes on with '
                     f'what is left.\n{last}')  # fmt: skip
  return len(waiting)


def show(framework: str, lines: Any, total: int) -> None:
  """A line now and then; on a terminal one that is written over."""
  began = said = time.monotonic()
  terminal = sys.stdout.isatty()
  for done, line in enumerate(lines):  # the first tells that the process is ready
    now = time.monotonic()
    if not done:
      began = now
    elif done == total or now - said > (0.1 if terminal else EVERY_SEC):
      said = now
      left = (total - done) * (now - began) / done
      text = f'{framework}: {done:,}/{total:,} trials, {left:.0f} s left: {line.strip()}'
      print(f'\r{text:<78}' if terminal else text, end='' if terminal else '\n', flush=True)
  if terminal:
    print()


def export(given: argparse.Namespace) -> list[dict[str, Any]]:
  """A row a trial, in the order of the settings."""
  names = {trial[0] for framework in given.frameworks for trial in trials_of(framework, given)}
  sources = [s for s in finding.find([given.traces]) if '/'.join(s.name.split('/')[:3]) in names]
  kinds = [Kind.HOST] if given.device == 'cpu' else [Kind.KERNEL, Kind.HOST]
  for kind in kinds:
    rows = list(rows_of(sources, kind, given))
    if rows:
      return sorted(rows, key=lambda row: [row[key] for key in KEYS])
    print(f'no trace has activities of the kind {kind}', file=sys.stderr)
  raise SystemExit(f'nothing in {given.traces} can be exported.')


def rows_of(
  sources: Sequence[finding.Source], kind: Kind, given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
  """A row for each trace that could be read; what is wrong with the others is told."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1
  options = Options(frozenset({kind}), by_step=True)
  folder, pattern = given.traces / f'{kind}_export', parameters.pattern(PATTERN)
  exporter = Exporter(folder, options, pattern, cores)
  for line in exporter.run(sources, lambda done, line: None):
    if line['status'] not in ('ok', 'no kernels'):
      print(f'{line["trace"]}: {line["status"]}: {line["reason"]}', file=sys.stderr)
  steps = {line['trace']: rows for line, rows in exporter.steps(sources)}
  for line, rows in exporter.rows(sources):
    if line['status'] == 'ok' and all(row['step'] is None for row in rows):
      print(f'{line["trace"]}: nothing in it belongs to a step', file=sys.stderr)
    elif line['status'] == 'ok':
      name = '/'.join(line['trace'].split('/')[:3])
      trial = json.loads((given.traces / name / 'trial.json').read_text(encoding='utf-8'))
      yield row_of(line, rows, steps[line['trace']], trial)


def row_of(
  line: dict[str, Any], rows: list[dict[str, Any]], steps: list[dict[str, Any]],
  trial: dict[str, Any]
) -> dict[str, Any]:  # fmt: skip
  """The row of a trial: sums over a step of its trace.

  It is the step in which least time was taken, since other programs on the machine only add some.
  """
  known = {**line['parameters'], 'trace': line['trace'], 'host': line['host']}
  of_steps: dict[int, list[dict[str, Any]]] = {}
  for row in rows:
    if row['step'] is not None:
      of_steps.setdefault(row['step'], []).append({**known, **row})
  chosen = min(of_steps, key=lambda number: sum(r['total_duration_us'] for r in of_steps[number]))
  told = of_steps[chosen]
  layer = analysis.keep(told, LAYER, 'layer')
  unnamed = analysis.keep(told, '^$', 'op_name')

  def total(rows: Sequence[dict[str, Any]]) -> float:
    sums = analysis.per_trace(rows, KEYS)
    return round(sums[0]['total_us'], 3) if sums else 0.0

  return {
    **{key: line['parameters'][key] for key in KEYS},
    'device': trial['device_kind'],
    'kind': rows[0]['kind'],
    'forward_us': total(analysis.keep(layer, '^forward$', 'phase')),
    'backward_us': total(analysis.keep(layer, '^backward$', 'phase')),
    # XLA calls it a convolution, but whether forward or backward is nowhere told; the rest that has
    # no name may be one too, within a fusion.
    'unnamed_convolution_us': total(analysis.keep(unnamed, '^convolution', 'hlo_op')),
    'unnamed_us': total(unnamed),
    'total_us': total(told),
    'step_us': round(trial['step_us'], 1),
    'not_attributed_pct': round(told[0]['not_attributed_pct'], 2),
    'covered_pct': next((round(s['covered_pct'], 1) for s in steps if s['step'] == chosen), ''),
  }


def summarize(rows: Sequence[dict[str, Any]]) -> None:
  """Prints how far repeats of one setting lie apart."""
  for framework in dict.fromkeys(row['framework'] for row in rows):
    own = [{**row, 'total_us': row['forward_us']} for row in rows if row['framework'] == framework]
    settings = [s for s in analysis.spreads(own, KEYS[1:-1]) if s.median_us]
    far = [100 * (s.max_us - s.min_us) / s.median_us for s in settings]
    nobodys = [row['not_attributed_pct'] for row in own]
    print(
      f'{framework}: {len(settings):,} settings; forward {settings[0].median_us:,.1f} us in the '
      f'first; between repeats the median setting differs by {statistics.median(far):.0f}%; '
      f'{statistics.fmean(nobodys):.1f}% of the time has no name'
    )


if __name__ == '__main__':
  main()
