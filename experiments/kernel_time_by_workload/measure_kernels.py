"""Where a training step of each workload spends its time, operator by operator; writes results.csv.

  python measure_kernels.py                 three traced steps of each workload in both frameworks
  python measure_kernels.py --device=cuda   kernels of a GPU in place of operators on the host
  python measure_kernels.py --smoke         digits alone

A run of nine steps traces three of them (--profile_steps=5:8); its traces are exported as
`scripts/export_kernels.py --by_step` does it. A row is an operator in a phase, and its share of a
step. Two rows are no operators: 'not attributed' ran, but no operator claims it; in 'nothing' no
kernel or operator ran at all. All but digits train on synthetic data: what is in an image does not
change how long it takes.
"""

import argparse
import collections
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT)]

from algorithmic_efficiency.profiling import analysis, finding
from algorithmic_efficiency.profiling.activities import Kind
from algorithmic_efficiency.profiling.export import Exporter
from algorithmic_efficiency.profiling.one_trace import Options

# Workloads with the images of a step: few where two cores would take minutes for a step.
BATCHES = {'digits': 128, 'mnist': 1024, 'cifar': 16, 'unet': 8}
FRAMEWORKS = ('jax', 'pytorch')
FIRST, STOP, LAST = 5, 8, 9  # steps: the first that is traced, the one after, and the run's end
BASELINE = ROOT / 'baselines' / 'adamw'
COLUMNS = ['workload', 'framework', 'device', 'kind', 'batch_size', 'step_us', 'phase', 'operator',
           'us_per_step', 'share_pct']  # fmt: skip
LEAST_PCT = 0.5  # operators below are summed up by phase
UNKNOWN, NOTHING, REST = 'not attributed', 'nothing', 'smaller ones'


def main() -> None:
  """Runs, exports and writes."""
  given = parse()
  with tempfile.TemporaryDirectory() as temporary:
    logs = given.log_dir or Path(temporary)
    for workload in given.workloads:
      for framework in given.frameworks:
        run(workload, framework, logs, given)
        print(f'{workload} in {framework} is traced', flush=True)
    rows = export(logs, Path(temporary, 'kernels'), given)
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
  for row in rows:
    if row['share_pct'] >= 10:
      print(f'{row["workload"]} in {row["framework"]}: {row["share_pct"]:.0f}% '
            f'{row["phase"]} {row["operator"]}')  # fmt: skip


def parse() -> argparse.Namespace:
  """The options."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--smoke', action='store_true', help='digits alone')
  parser.add_argument('--workloads', default=','.join(BATCHES))
  parser.add_argument('--frameworks', default=','.join(FRAMEWORKS))
  parser.add_argument('--device', default='cpu', help='as --device of the runner')
  parser.add_argument('--cores', type=int, default=1, help='that a run on a CPU may use')
  parser.add_argument('--batch_size', type=int, help='of all workloads, in place of their own')
  parser.add_argument('--log_dir', type=Path, help='keeps the records there; default: temporary')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  given.workloads = ['digits'] if given.smoke else given.workloads.split(',')
  given.frameworks = given.frameworks.split(',')
  if not set(given.workloads) <= set(BATCHES):
    parser.error(f'--workloads are of {", ".join(BATCHES)}')
  return given


def run(workload: str, framework: str, logs: Path, given: argparse.Namespace) -> None:
  """A run of few steps that traces itself."""
  flags = {
    'workload': workload, 'framework': framework, 'log_dir': logs, 'rng_seed': 0,
    'data': 'real' if workload == 'digits' else 'synthetic', 'overwrite': 'true',
    'submission_path': BASELINE / framework / 'submission.py',
    'tuning_search_space': BASELINE / 'tuning_search_space.json',
    'max_global_steps': LAST, 'eval_period_steps': LAST, 'profile_steps': f'{FIRST}:{STOP}',
    'batch_size': given.batch_size or BATCHES[workload], 'device': given.device,
    # A compiled network has neither layers nor operators by PyTorch's names.
    'torch_compile': 'false', 'save_checkpoints': 'false', 'telemetry': 'off',
  }  # fmt: skip
  cores = given.cores if given.device == 'cpu' else 0
  command = [sys.executable, str(HERE / 'one_run.py'), str(cores)]
  done = subprocess.run(
    [*command, *(f'--{name}={value}' for name, value in flags.items())],
    capture_output=True, text=True,
  )  # fmt: skip
  if done.returncode:
    raise SystemExit(f'{workload} in {framework} failed:\n{done.stderr}')
  if done.stderr:  # such as a profiler that left no trace
    print(done.stderr, end='', file=sys.stderr)


def export(logs: Path, folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
  """The rows of all traces."""
  sources = list(finding.find([logs]))
  kinds = [Kind.HOST] if given.device == 'cpu' else [Kind.KERNEL, Kind.HOST]
  for kind in kinds:
    exporter = Exporter(folder / kind, Options(frozenset({kind}), by_step=True), None, 1)
    manifest = exporter.run(sources, lambda done, line: None)
    for line in manifest:
      if line['status'] != 'ok':
        print(f'{line["trace"]}: {line["status"]}: {line["reason"]}', file=sys.stderr)
    if any(line['status'] == 'ok' for line in manifest):
      steps = [rows for _, rows in exporter.steps(sources)]
      pairs = zip(exporter.rows(sources), steps, strict=True)
      found = [
        {**known(line, kind, given), **row}
        for (line, rows), own in pairs
        if line['status'] == 'ok'
        for row in shares(rows, own)
      ]
      order = {name: place for place, name in enumerate(BATCHES)}
      return sorted(found, key=lambda r: (order[r['workload']], r['framework'], -r['share_pct']))
  raise SystemExit(f'there is no trace in {logs} that can be exported.')


def known(line: dict[str, Any], kind: Kind, given: argparse.Namespace) -> dict[str, Any]:
  """What is the same in all rows of a trace."""
  told = line['parameters']
  workload = told['workload'].removesuffix(f'_{told["framework"]}')  # as the record has it
  return {
    'workload': workload, 'framework': told['framework'], 'device': given.device, 'kind': str(kind),
    'batch_size': told.get('batch_size') or BATCHES[workload],
  }  # fmt: skip


def shares(rows: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """What each operator of a trace took of a step, and what was left.

  Of the traced steps it is the shortest: other programs on the machine only add time.
  """
  chosen = min(steps, key=lambda step: step['duration_us'])
  own = [row for row in rows if row['step'] == chosen['step']]
  totals: dict[tuple[str, str], float] = collections.defaultdict(float)
  for share in analysis.shares(own, ('phase', 'op_name', 'hlo_op')):
    phase, op_name, hlo_op = share.key
    operator = name_of(op_name, hlo_op)
    totals['' if operator == UNKNOWN else phase, operator] += share.total_us
  totals['', NOTHING] = chosen['duration_us'] - chosen['busy_us']
  return list(summed(totals, chosen['duration_us']))


def summed(totals: dict[tuple[str, str], float], whole: float) -> Iterator[dict[str, Any]]:
  """A row for each but the small ones, which have one a phase."""
  rest: dict[str, float] = collections.defaultdict(float)
  kept: dict[tuple[str, str], float] = {}
  for (phase, operator), total in totals.items():
    if operator not in (UNKNOWN, NOTHING) and 100 * total < LEAST_PCT * whole:
      rest[phase] += total
    else:
      kept[phase, operator] = total
  kept.update({(phase, REST): total for phase, total in rest.items()})
  for (phase, operator), total in kept.items():
    yield {
      'step_us': round(whole, 1), 'phase': phase, 'operator': operator,
      'us_per_step': round(total, 1),
      'share_pct': round(100 * total / whole, 2),
    }  # fmt: skip


def name_of(op_name: str, hlo_op: str) -> str:
  """The operator without where in the network it is."""
  if not op_name:
    return UNKNOWN
  if op_name.startswith('autograd::engine::evaluate_function: '):
    return op_name.rpartition(' ')[2]
  name = op_name if '::' in op_name else op_name.rpartition('/')[2]
  # XLA takes the transposition of a gradient into the product, and keeps the former's name.
  is_product = hlo_op.partition('.')[0] == 'dot' and name != 'dot_general'
  return f'{name} (a dot)' if is_product else name


if __name__ == '__main__':
  main()
