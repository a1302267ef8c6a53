"""Working sets, longer windows, filters and heat maps of made traces, against sets and sums."""

import numpy as np
import pytest
from made_traces import PAGE, SEC, mapping, realistic, touched, window, write

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.memory_trace import filters, unit_runs, working_set
from algorithmic_efficiency.memory_trace.analysis import Options, analyse, summary
from algorithmic_efficiency.memory_trace.backends import Extent, Touched
from algorithmic_efficiency.memory_trace.trace_file import Trace, Window
from algorithmic_efficiency.memory_trace.windows import Windows, restricted

HEAP = mapping(100, 50, path='[heap]')
LIBRARY = mapping(5000, 600, 'r-xp', '/usr/lib/libm.so.6')
SMALL = mapping(9000, 2)
KERNEL = mapping((1 << 52) - 10240, 1, '--xp', '[vsyscall]')
ALL = [HEAP, LIBRARY, SMALL, KERNEL]


def random_sets(seed, count):
  generator = np.random.default_rng(seed)
  pages = np.concatenate([np.arange(100, 150), np.arange(5000, 5600), [9000, 9001]])
  return [
    np.sort(generator.choice(pages, n, replace=False)) for n in generator.integers(1, 400, count)
  ]


def single(path, sets, steps=None, **header):
  steps = steps or [None] * len(sets)
  return write(
    path,
    ([(7, window(j, step), touched(ALL, pages))]
     for j, (pages, step) in enumerate(zip(sets, steps, strict=True))),
    **header,
  )  # fmt: skip


def test_a_row_tells_a_window_of_all_its_processes(tmp_path):
  one = touched(ALL, np.array([100, 101, 5001, 9000]), unplaced=PAGE, huge=3 * PAGE)
  two = touched([HEAP], np.array([100]), huge=PAGE)
  late = Window(4, 8 * SEC + 1000, 8 * SEC + SEC // 2, SEC // 50, None)
  path = write(
    tmp_path / 'a.jsonl',
    [[(7, window(3, 5), one)], [(7, window(4, 6), one), (8, late, two)]],
  )
  found = analyse(Trace(path), Options())
  first, second = (row.cells() for row in found.rows)
  assert (first['window'], first['begin_sec'], first['length_sec']) == (3, 0, 0.2)
  assert (first['touched_bytes'], first['heap_bytes'], first['library_bytes']) == (
    4 * PAGE, 2 * PAGE, PAGE,
  )  # fmt: skip
  assert (first['anonymous_bytes'], first['unplaced_bytes']) == (PAGE, PAGE)
  assert (second['processes'], second['step'], second['paused_sec']) == (2, 6, 0.02)
  assert second['begin_sec'] == pytest.approx(0.21)
  assert second['end_sec'] == pytest.approx(8.5 - 7.63)
  assert (second['touched_bytes'], second['huge_bytes']) == (5 * PAGE, 4 * PAGE)
  assert second['resident_bytes'] == one.resident + two.resident
  assert second['virtual_bytes'] == one.virtual + two.virtual
  # The same address in two processes is two pages.
  assert (found.reuse.cold, found.reuse.reuses) == (5, 4)


def test_steady_is_the_later_half_unless_it_is_said(tmp_path):
  sets = [np.arange(100, 150)] * 4 + [np.arange(100, 110), np.arange(100, 112)] * 3
  path = single(tmp_path / 'a.jsonl', sets)
  told = summary(analyse(Trace(path), Options()))
  assert told['steady_from_window'] == 5
  assert told['steady_working_set_bytes']['mean'] == pytest.approx(11.2 * PAGE)
  assert told['working_set_bytes']['max'] == 50 * PAGE
  assert told['working_set_bytes']['median'] == 12 * PAGE
  assert told['unique_bytes'] == 50 * PAGE
  assert not any('steady' in note for note in told['notes'])
  told = summary(analyse(Trace(path), Options(start_up=1)))
  assert told['steady_working_set_bytes']['max'] == 50 * PAGE
  assert any('-7' in note and '--steady' in note for note in told['notes'])
  assert working_set.steady_from([None] * 3, 99) == 2


@pytest.mark.parametrize('seed', range(4))
def test_longer_windows_are_unions(tmp_path, seed):
  sets = random_sets(seed, 23)
  found = analyse(Trace(single(tmp_path / 'a.jsonl', sets)), Options(rebin=(1, 3, 5), start_up=4))
  rows = {row['joined']: row for row in found.rebinned}
  for count in (1, 3, 5):
    starts = [start for start in range(0, 23 - count + 1, count) if start >= 4]
    sizes = [PAGE * len(set().union(*map(set, sets[s : s + count]))) for s in starts]
    row = rows[f'{count} windows']
    assert row['unions'] == len(starts)
    assert (row['mean_bytes'], row['max_bytes']) == (round(np.mean(sizes)), max(sizes))
    assert row['seconds_each'] == pytest.approx(0.2 * count)


def test_windows_are_joined_by_training_steps(tmp_path):
  sets = random_sets(9, 9)
  steps = [None, 0, 2, 4, 5, 6, 10, 11, 12]
  options = Options(rebin=(1,), rebin_steps=(4,), start_up=0)
  found = analyse(Trace(single(tmp_path / 'a.jsonl', sets, steps)), options)
  (row,) = (row for row in found.rebinned if row['joined'] == '4 steps')
  # Windows begin at steps -, -, 0, 2, 4, 5, 6, 10, 11: of 0..3, 4..7, and 8..11, which may go on.
  sizes = [PAGE * len(set().union(*map(set, sets[a:b]))) for a, b in ((2, 4), (4, 7))]
  assert row['unions'] == 2
  assert row['mean_bytes'] == round(np.mean(sizes))
  assert row['steps_each'] == ((4 - 0) + (10 - 4)) / 2


def test_filters_keep_units_and_bytes_of_their_mappings(tmp_path):
  path = single(tmp_path / 'a.jsonl', random_sets(2, 10))
  kept = analyse(Trace(path), Options(filters=filters.parse(['executable', 'small'])))
  every = analyse(Trace(path), Options())
  for row, whole in zip(kept.rows, every.rows, strict=True):
    assert row.touched == dict(zip(working_set.REGIONS, whole.regions, strict=True))['heap']
    assert (row.virtual, row.resident) == (whole.virtual, whole.resident)
  assert kept.reuse.cold == len({p for pages in random_sets(2, 10) for p in pages if p < 150})
  table = {row['filter']: row for row in every.filters}
  assert table['none']['kept_pct'] == 100
  sums = {
    name: np.mean([sum(low <= p < high for p in pages) for pages in random_sets(2, 10)]) * PAGE
    for name, low, high in (('heap', 0, 200), ('library', 5000, 6000), ('anonymous', 9000, 9002))
  }
  for name, size in sums.items():
    assert table[f'keep {name}']['mean_bytes'] == round(size)
  assert table['drop executable']['mean_bytes'] == round(sums['heap'] + sums['anonymous'])
  assert table['drop small']['mean_bytes'] == round(sums['heap'] + sums['library'])
  assert table['drop all of these']['mean_bytes'] == round(sums['heap'])


def test_a_chunk_of_which_a_part_is_kept_is_kept():
  """Units of 4 pages: the heap's 100 to 149 are 25 to 37, of which the last is half another's."""
  beside = mapping(150, 30)
  whole = Touched(
    [Extent(HEAP, 0, 9 * PAGE), Extent(beside, 0, 8 * PAGE)],
    units=np.array([[24, 3], [36, 4]]), unplaced=8 * PAGE,
  )  # fmt: skip
  heap = restricted(whole, filters.parse(kept=['heap']), 4 * PAGE)
  assert unit_runs.units_of(heap.units).tolist() == [25, 26, 36, 37]
  assert (heap.touched, heap.unplaced) == (9 * PAGE, 0)
  assert restricted(whole, filters.parse(kept=['stack']), 4 * PAGE).units.tolist() == []


def test_a_heat_map_counts_what_was_touched(tmp_path):
  sets = random_sets(5, 12)
  found = analyse(Trace(single(tmp_path / 'a.jsonl', sets)), Options())
  heat = found.heat_map
  units = sorted(set().union(*map(set, sets)))
  expected = np.array([[unit in set(pages) for pages in sets] for unit in units])
  assert heat.units == len(units)
  binned = [part.mean(0) for part in np.split(expected, _cuts(len(units), len(heat.touched)))]
  np.testing.assert_allclose(heat.touched, binned, rtol=1e-6)
  names = [(part.name, part.region, part.first, part.last) for part in heat.parts]
  heap, library = (sum(low <= u < high for u in units) for low, high in ((0, 200), (5000, 6000)))
  assert names == [
    ('heap', 'heap', 0, heap),
    ('libm.so.6', 'library', heap, heap + library),
    ('anonymous', 'anonymous', heap + library, len(units)),
  ]


def _cuts(units, rows):
  row_of = np.arange(units) * rows // units
  return np.flatnonzero(np.diff(row_of)) + 1


def test_a_heat_map_joins_windows_and_tells_areas_apart(tmp_path):
  areas = [mapping(1000, 400), mapping(1400, 400), mapping(3000, 700)]  # the second adjoins
  sets = [np.concatenate([np.arange(1000, 1800), 3000 + np.arange(7 * (j + 1))]) for j in range(10)]
  path = write(
    tmp_path / 'a.jsonl', ([(7, window(j), touched(areas, p))] for j, p in enumerate(sets))
  )
  from algorithmic_efficiency.memory_trace import heat_map

  windows, seen = Windows(Trace(path)), heat_map.Seen()
  for joint in windows:
    seen.add(joint, windows.pids)
  heat = heat_map.heat_map(seen, windows, PAGE, rows=87, columns=4)
  assert heat.edges.tolist() == [0, 3, 5, 8, 10]
  assert heat.touched.shape == (87, 4)
  assert (heat.touched[:80] == 1).all()
  # Rows of 10 pages; in the last only 1, 2 or 3 windows have come so far.
  late = np.array(
    [[min(max(7 * (j + 1) - 10 * r, 0), 10) / 10 for j in range(10)] for r in range(7)]
  )
  joined = [late[:, a:b].mean(1) for a, b in zip(heat.edges, heat.edges[1:], strict=False)]
  np.testing.assert_allclose(heat.touched[80:], np.transpose(joined), rtol=1e-6)
  assert [(part.first, part.last) for part in heat.parts] == [(0, 800), (800, 870)]


def test_the_hot_set_of_a_realistic_trace_is_found(tmp_path):
  found = analyse(Trace(realistic(tmp_path / 'a.jsonl', 60)), Options(start_up=6))
  told = summary(found)
  assert told['steady_working_set_bytes']['median'] / PAGE == pytest.approx(23_300, rel=0.02)
  names = [part.name for part in found.heat_map.parts if part.last - part.first > 2000]
  assert names == ['heap', 'anonymous', 'anonymous', 'weights.bin', 'libjaxlib.so']
  bounds = told['reuse']['memory_for_bytes']['50%']
  assert bounds[0] < told['steady_working_set_bytes']['median'] < bounds[1]


def test_a_trace_without_units_has_working_sets_alone(tmp_path):
  path = write(
    tmp_path / 'a.jsonl',
    ([(7, window(j), touched(ALL, p, units=None))] for j, p in enumerate(random_sets(0, 6))),
    granularity='mapping', unit_bytes=None,
  )  # fmt: skip
  found = analyse(Trace(path), Options())
  assert (found.reuse, found.heat_map, found.rebinned) == (None, None, [])
  assert any('not which pages' in note for note in found.notes)
  assert analyse(Trace(path), Options(rebin=(1,))).rows == found.rows
  for options in (Options(rebin=(1, 2)), Options(rebin_steps=(1,))):
    with pytest.raises(UsageError, match='cannot be joined: by mapping'):
      analyse(Trace(path), options)


def test_regions_have_a_heat_map_and_no_reuse(tmp_path):
  found = analyse(
    Trace(single(tmp_path / 'a.jsonl', random_sets(0, 6), granularity='region')), Options()
  )
  assert found.reuse is None
  assert found.heat_map.units > 0
  assert any('found by sampling' in note for note in found.notes)


def test_no_windows_are_a_failed_measurement(tmp_path):
  with pytest.raises(MeasurementError, match='no windows'):
    analyse(Trace(write(tmp_path / 'a.jsonl', [])), Options())


def test_windows_in_which_nothing_was_touched(tmp_path):
  path = single(tmp_path / 'a.jsonl', [np.array([], np.int64)] * 5)
  found = analyse(Trace(path), Options())
  assert summary(found)['working_set_bytes']['max'] == 0
  assert found.heat_map.units == 0
  assert {row['kept_pct'] for row in found.filters} == {None}
