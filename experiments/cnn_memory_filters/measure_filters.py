"""What leaving out some mappings does to the working set and reuse distances of a CNN.

  python measure_filters.py            six minutes on two cores; half if measure_basic.py has run
  python measure_filters.py --smoke    half a minute

The traces are those of cnn_memory_basic (made if they are not there), and each filter is applied to
them afterwards. Once for each framework a trial is also traced with the study's filters while it is
sampled, to see whether that tells the same. Writes results.csv.
"""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tracing_cnn
from tracing_cnn import Done, Table

from algorithmic_efficiency.memory_trace import filters

STUDY = 'executable,inaccessible,small'  # what it drops
FILTERS = {
  'none': filters.parse(),
  **{f'drop {name}': filters.parse([name]) for name in STUDY.split(',')},
  'drop all three': filters.parse(STUDY.split(',')),
  'heap only': filters.parse(kept=['heap']),
  'heap and anonymous': filters.parse(kept=['heap', 'anonymous']),
}


def main() -> None:
  """Measures what was not measured, and writes the table."""
  made = tracing_cnn.parser(__doc__, 20, 3, HERE)
  made.set_defaults(traces=HERE.parent / 'cnn_memory_basic' / 'traces')
  smoke = {'seconds': 6, 'repeats': 1, 'images': 5_000, 'batch_size': 16}
  given = tracing_cnn.parse(made, smoke)
  trials = tracing_cnn.in_drawn_order(
    [tracing_cnn.whole_life(given, f) for f in given.frameworks], given.repeats
  )
  trials += [tracing_cnn.whole_life(given, f, f'--drop={STUDY}') for f in given.frameworks]
  table: Table = []
  for done in tracing_cnn.measured(trials, given.traces):
    if any('drop' in flag for flag in done.trial.outside):
      table.append(row_of(done, 'none', 'sampling'))
    else:
      table += [row_of(done, name, 'afterwards') for name in FILTERS]
  table.sort(key=lambda row: (row['framework'], row['repeat']))
  tracing_cnn.write_table(given.output / 'results.csv', table)


def row_of(done: Done, name: str, when: str) -> dict[str, Any]:
  """A row of results.csv; a trace that was filtered while sampling tells no other mappings."""
  found = tracing_cnn.read_life(done, FILTERS[name])
  return {
    'framework': done.trial.framework,
    'filter': name if when == 'afterwards' else 'drop all three',
    'when': when,
    'repeat': done.trial.repeat,
    **tracing_cnn.sizes(found),
    **tracing_cnn.reuses(found),
  }


if __name__ == '__main__':
  main()
