"""How wrong is energy by sampling? Against a power whose integral is known; writes results.csv.

  python measure_energy.py            seconds
  python measure_energy.py --smoke    the same with fewer offsets

The power swings between 100 and 300 W over periods from 0.4 to 20 s, as training with evaluations
does. It is sampled at 0.1 to 10 Hz, with the scatter of a busy machine, from many offsets, and
integrated over a minute; and read by a counter that the driver updates every 100 ms. Gaps: for 6 s
there are no samples; what is covered is compared with the truth there.
"""

import argparse
import csv
import math
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from algorithmic_efficiency.telemetry.energy import Power

BASE, SWING, SPAN_SEC, UPDATE_SEC = 200.0, 100.0, 61.3, 0.1
RATES_HZ = (0.1, 0.5, 1.0, 2.0, 10.0)
PERIODS_SEC = (0.4, 1.0, 3.0, 7.0, 20.0)


def joules(at: float, period: float) -> float:
  """The integral of the power from 0 on, in closed form."""
  return BASE * at - SWING * period / (2 * math.pi) * math.cos(2 * math.pi * at / period)


def error(period: float, hz: float, begin: float, draw: random.Random, gap: float) -> float:
  """Relative error over a minute that begins at `begin`, of the covered part."""
  power = Power(3 / hz)
  at = begin - 2 / hz
  times: list[float] = []
  hole = (begin + 20.0, begin + 20.0 + gap)
  while at < begin + SPAN_SEC + 2 / hz:
    time = at + abs(draw.gauss(0.0, 0.002))
    if not hole[0] < time < hole[1]:
      times.append(time)
      power.add(time, BASE + SWING * math.sin(2 * math.pi * time / period))
    at += 1 / hz
  found, _ = power.joules(begin, begin + SPAN_SEC)
  truth = joules(begin + SPAN_SEC, period) - joules(begin, period)
  if gap:
    low = max(t for t in times if t <= hole[0])
    high = min(t for t in times if t >= hole[1])
    if high - low > 3 / hz:  # else it is short enough to be bridged
      truth -= joules(high, period) - joules(low, period)
  return (found - truth) / truth


def counter_error(period: float, begin: float) -> float:
  """The same by a counter that shows its last update."""
  first, last = (math.floor(t / UPDATE_SEC) * UPDATE_SEC for t in (begin, begin + SPAN_SEC))
  truth = joules(begin + SPAN_SEC, period) - joules(begin, period)
  return (joules(last, period) - joules(first, period) - truth) / truth


def main() -> None:
  """Writes results.csv and tells the worst of each."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  draw = random.Random(0)
  offsets = [draw.uniform(100, 200) for _ in range(5 if given.smoke else 60)]
  table = []
  for period in PERIODS_SEC:
    for gap in (0.0, 6.0):
      for hz in RATES_HZ:
        errors = [error(period, hz, begin, draw, gap) for begin in offsets]
        table.append((f'{hz:g} Hz', period, gap, errors))
    table.append(('counter', period, 0.0, [counter_error(period, begin) for begin in offsets]))
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['source', 'period_sec', 'gap_sec', 'mean_percent', 'worst_percent'])
    for source, period, gap, errors in table:
      mean = 100 * sum(errors) / len(errors)
      worst = 100 * max(errors, key=abs)
      writer.writerow([source, period, gap, round(mean, 5), round(worst, 5)])
      gaps = f', gap of {gap:g} s' if gap else ''
      print(f'{source:8} swings of {period:4g} s{gaps}: worst {worst:+.3f} %, mean {mean:+.3f} %')


if __name__ == '__main__':
  main()
