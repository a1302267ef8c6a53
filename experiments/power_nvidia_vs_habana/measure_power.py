"""Compares the power of two systems from logs that were made by hand; writes results.csv.

  python measure_power.py A100=nvidia_smi.txt,theta.txt Gaudi=hl_smi.txt,habana.txt
  python measure_power.py                on logs that are made up here, in the tools' own formats
  python measure_power.py --smoke        the same

NAME=SAMPLES[,RUN_LOG] as in scripts/analyse_power.py, which writes summary.json and a figure of its
own; results.csv has the power and the energy of each system over time, a row every few seconds.
"""

import argparse
import csv
import datetime
import json
import random
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency.device_logs import analysis, systems

EPOCHS = 4
# What is made up: (epoch seconds, idle W, W at work, devices, devices that work)
MADE_UP = {'nvidia': (60.0, 53.0, 250.0, 1, 1), 'habana': (35.0, 101.0, 160.0, 8, 2)}


def main() -> None:
  """Writes results.csv and summary.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('system', nargs='*')
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    texts = given.system or made_up(Path(folder))
    found = [systems.load(text) for text in texts]
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['system', 'devices', 'seconds', 'watts', 'joules', 'net_joules', 'phase'])
    for system in found:
      for row in series(system):
        writer.writerow([system.name, len(system.active), *row])
  summaries = [analysis.summary(system) for system in found]
  given.output.with_name('summary.json').write_text(json.dumps(summaries, indent=2) + '\n')
  for summary in summaries:
    print('\n'.join(analysis.told(summary)))


def series(system: analysis.System) -> list[tuple[float, float, float, float, str]]:
  """(seconds since it began to work, watts, joules, net joules, phase)."""
  begin, end = system.begin, system.end
  step = max(2.0, (end - begin) / 600)
  rows = []
  at = begin - 10 * step
  while at < end + 10 * step:
    gross, _, coverage = system.joules(at, at + step)
    if coverage > 50:
      watts = gross / step * 100 / coverage
      total, net, _ = system.joules(begin, min(max(at + step, begin), end))
      phase = next((kind for kind, _, a, b in system.phases if a <= at + step / 2 < b), '')
      row = (at + step / 2 - begin, watts, total, net)
      rows.append((*(round(value, 2) for value in row), phase))
    at += step
  return rows


def made_up(folder: Path) -> list[str]:
  """Logs as nvidia-smi and hl-smi write them, with their dirt, and those of the training."""
  draw = random.Random(0)
  texts = []
  for kind, (epoch_sec, idle, busy, count, active) in MADE_UP.items():
    period = 1.05 if kind == 'nvidia' else 4.0
    at, start = 0.0, datetime.datetime(2022, 10, 18, 20, 0, 0)
    phases = [('idle', 40.0), *[('train', epoch_sec), ('eval', 6.0)] * EPOCHS, ('idle', 40.0)]
    lines, ends = [], []
    for phase, seconds in phases:
      ends.append((at + seconds, phase))
      at += seconds
    now = 0.0
    while now < at:
      phase = next(p for end, p in ends if now < end)
      level = {'idle': idle, 'train': busy, 'eval': (idle + busy) / 2}[phase]
      stamp = start + datetime.timedelta(seconds=now)
      lines += poll(kind, stamp, count, active, idle, level, draw)
      now += period * draw.uniform(0.95, 1.1)
    lines.insert(len(lines) // 2, 'Unable to determine the device handle: Unknown Error')
    (folder / f'{kind}.txt').write_text('\n'.join(lines) + '\n')
    rows = [f'train,{e},{epoch_sec},0.5,\neval,{e},6.0,0.4, 0.6' for e in range(1, EPOCHS + 1)]
    text = '\n'.join(['Begin CSV', 'type,epoch,time,loss,dsc', *rows, 'End CSV', ''])
    (folder / f'{kind}_run.txt').write_text(text)
    texts.append(f'made-up {kind}={folder / kind}.txt,{folder / kind}_run.txt')
  return texts


def poll(
  kind: str, stamp: datetime.datetime, count: int, active: int, idle: float, level: float,
  draw: random.Random,
) -> list[str]:  # fmt: skip
  """The lines of one call of the tool."""
  watts = [(level if i < active else idle) + draw.uniform(-2, 2) for i in range(count)]
  if kind == 'nvidia':
    time = f'{stamp:%Y/%m/%d %H:%M:%S}.{stamp.microsecond // 1000:03}'
    return [
      'index, timestamp, power.draw [W]',
      *(f'{i}, {time}, {w:.2f} W' for i, w in enumerate(watts)),
    ]
  rows = [f'{stamp:%a %b %e %H:%M:%S} UTC 202, {i}, {w:.0f} W' for i, w in enumerate(watts)]
  draw.shuffle(rows)  # as the tool lists them
  return ['timestamp, module_id, power.draw [W]', *rows]


if __name__ == '__main__':
  main()
