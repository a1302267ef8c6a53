#!/usr/bin/env python3
"""Analyses the power of one or more systems, with the training that they did.

  python scripts/analyse_power.py A100=nvidia_smi.txt,theta.txt Gaudi=hl_smi.txt,habana.txt
  python scripts/analyse_power.py Mine=logs/unet_pytorch/run_1 --output_dir=power

A system is NAME=SAMPLES[,RUN_LOG]. SAMPLES: a log of nvidia-smi or hl-smi, a telemetry.jsonl, or
the folder of a run, which has its phases beside it. Writes summary.json, summary.csv, power.png.
"""

import argparse
import csv
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.device_logs import analysis, systems
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.whole_files import write_whole


def main() -> int:
  """Returns the exit code: 0, 1 if a system has no power, 2 for a wrong command."""
  given = _parse()
  try:
    found = [systems.load(text, given.session) for text in given.system]
  except UsageError as error:
    print(f'analyse_power: error: {error}', file=sys.stderr)
    return 2
  summaries = [analysis.summary(system) for system in found]
  given.output_dir.mkdir(parents=True, exist_ok=True)
  write_whole(given.output_dir / 'summary.json', json.dumps(summaries, indent=2) + '\n')
  write_whole(given.output_dir / 'summary.csv', _csv(summaries))
  for summary in summaries:
    print('\n'.join(analysis.told(summary)))
  shown = [system for system in found if system.active]
  if shown:
    draw(shown, given.output_dir / 'power.png')
  print(f'written to {given.output_dir}')
  return 0 if len(shown) == len(found) else 1


def draw(systems: list[analysis.System], path: Path) -> None:
  """Power and energy of all systems over seconds since each began to work."""
  import matplotlib as mpl

  mpl.use('Agg')
  import matplotlib.pyplot as plt

  figure, (watts, joules) = plt.subplots(2, 1, figsize=(10, 7), sharex=True, height_ratios=[2, 1])
  colours = ['#1f6fb4', '#d9541e', '#2f8f4e', '#8a4fb0', '#7a7a7a']
  for system, colour in zip(systems, colours * len(systems), strict=False):
    begin, end = system.begin, system.end
    step = max((end - begin) / 1500, 0.5)
    times = [begin - 30 + i * step for i in range(int((end - begin + 60) / step))]
    pairs = [system.joules(t, t + step) for t in times]
    shown = [(t, p) for t, p in zip(times, pairs, strict=True) if p[2] > 50]
    x = [t - begin + step / 2 for t, _ in shown]
    watts.plot(x, [p[0] / step * 100 / p[2] for _, p in shown], color=colour, lw=1,
               label=f'{system.name}, {_count(len(system.active), "device")}')  # fmt: skip
    idle = sum(d.idle_watts or 0.0 for d in system.active)
    watts.axhline(idle, color=colour, lw=0.8, ls=':')
    for kind, net in (('gross', False), ('net of idle', True)):
      ends = [begin + i * (end - begin) / 200 for i in range(201)]
      energy = [system.joules(begin, e)[1 if net else 0] / 1000 for e in ends]
      joules.plot([e - begin for e in ends], energy, color=colour, lw=1.2, ls='--' if net else '-',
                  label=f'{system.name}, {kind}')  # fmt: skip
    if len(systems) == 1:
      _shade(watts, system)
  watts.set(ylabel='power [W]')
  watts.set_ylim(bottom=0)
  joules.set(ylabel='energy [kJ]', xlabel='seconds since the devices began to work')
  for axes in (watts, joules):
    axes.grid(color='#dddddd')
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
      axes.spines[side].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc='upper left', bbox_to_anchor=(1.0, 1.0))
  watts.set_title('Power of the devices that worked; dotted: their idle power', loc='left')
  figure.tight_layout()
  figure.savefig(path, dpi=130)
  plt.close(figure)


def _count(number: int, noun: str) -> str:
  return f'{number} {noun}{"" if number == 1 else "s"}'


def _shade(axes: Any, system: analysis.System) -> None:
  """The phases of a run behind its power, each kind named once."""
  tints = {'loaders_init': '#cfcfcf', 'eval': '#f2c14e', 'checkpoint': '#9ad0a8'}
  named = set[str]()
  for kind, _, begin, end in system.phases:
    if kind in tints:
      label = (
        None if kind in named else {'loaders_init': 'loading', 'eval': 'evaluation'}.get(kind, kind)
      )
      axes.axvspan(
        begin - system.begin, end - system.begin, color=tints[kind], alpha=0.5, lw=0, label=label
      )
      named.add(kind)


def _csv(summaries: list[dict[str, Any]]) -> str:
  text = io.StringIO()
  rows = [{'system': s['system'], **device} for s in summaries for device in s['devices']]
  writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('system', nargs='+', metavar='NAME=SAMPLES[,RUN_LOG]')
  parser.add_argument('--output_dir', type=Path, default=Path('power'))
  parser.add_argument('--session', type=int, default=0, help='of a log of several; the longest')
  return parser.parse_args()


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
  sys.exit(main())
