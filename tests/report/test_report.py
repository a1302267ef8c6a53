"""The page of a folder of logs: its numbers, its safety, and what it says of what is missing."""

import base64
import csv
import hashlib
import itertools
import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scripts_in_process
from report_logs import (
  COMMAND,
  HOSTILE,
  Page,
  write_algoperf,
  write_metadata,
  write_telemetry,
  write_trial,
)

from algorithmic_efficiency.report import effects, scales, svg, thinning
from algorithmic_efficiency.report.figure import Axis, Figure, Line, Shade

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts' / 'report.py'
TIMES = {'fast': [10.0, 12.0, 11.0], 'slow': [22.0, 20.0, None], 'never': [None, None, None]}


def make(logs: Path, *arguments: object) -> Page:
  output = logs.parent / 'report.html'
  result = scripts_in_process.run(SCRIPT, logs, '-o', output, '--samples=20', *arguments)
  assert result.returncode == 0, result.stderr
  return Page(output.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """Three submissions, three studies each, one with trials that went wrong."""
  root = tmp_path_factory.mktemp('made_up') / 'logs'
  for submission, times in TIMES.items():
    for number, reached in enumerate(times, start=1):
      folder = root / submission / f'study_{number}' / 'digits_jax'
      rate = {'learning_rate': 0.001 * number, 'beta': 0.9}
      write_trial(folder / 'run_1', reached, hparams=rate)
      write_metadata(folder)
  write_telemetry(root / 'fast' / 'study_1' / 'digits_jax' / 'run_1')
  bad = root / 'never' / 'study_1' / 'digits_jax'
  write_trial(bad / 'run_2', None, status='failed', reason=f'ValueError: {HOSTILE}')
  (bad / 'run_2' / 'error.txt').write_text(f'Traceback\n  {HOSTILE}\n')
  write_trial(bad / 'run_3', None, status='running', reason='')
  return root


@pytest.fixture(scope='module')
def page(logs: Path) -> Page:
  return make(logs, f'--tables={logs.parent / "tables"}')


def rows_of(logs: Path, name: str) -> list[dict[str, str]]:
  with (logs.parent / 'tables' / f'{name}.csv').open(encoding='utf-8') as file:
    return list(csv.DictReader(file))


def test_the_leaderboard_has_the_area_below_the_profile(page: Page, logs: Path):
  # The median of slow is 22 s, twice that of fast: its profile is 0 below 2 and 1 from there on.
  taus = [1.0 + 3.0 * i / 99 for i in range(100)]
  rho = [1.0 if tau >= 22.0 / 11.0 else 0.0 for tau in taus]
  area = sum((a + b) / 2 * 3.0 / 99 for a, b in itertools.pairwise(rho)) / 3.0
  table = page.tables['leaderboard'][0]
  names, scores = ([row[table[0].index(column)].split()[0] for row in table[1:]]
                   for column in ('Submission', 'Score'))  # fmt: skip
  assert names == ['fast', 'slow', 'never']
  assert [float(score) for score in scores] == pytest.approx([1.0, area, 0.0], abs=5e-4)
  written = {row['submission']: float(row['score']) for row in rows_of(logs, 'leaderboard')}
  assert written == pytest.approx({'fast': 1.0, 'slow': area, 'never': 0.0})


def test_the_first_sentence_says_who_won(page: Page):
  assert 'fast leads with a score of 1.000 and stays first in' in page.texts['']
  assert '3 submissions, 1 workload, 11 trials.' in page.texts['']


def test_times_are_medians_over_studies_and_unreached_ones_are_marked(page: Page, logs: Path):
  heading, *rows = page.tables['times'][0]
  assert heading == ['Submission', 'digits: accuracy ≥ 0.97']  # the fewer of the two go across
  fast = statistics.median(t for t in TIMES['fast'] if t)
  assert dict(rows) == {
    'fast': f'{fast:.1f} s 10.0 – 12.0 · 3/3',
    'slow': '22.0 s 20.0 – 22.0 · 2/3',
    'never': 'not reached 0/3',
  }
  written = {row['submission']: row for row in rows_of(logs, 'times_to_target')}
  assert float(written['fast']['digits: seconds']) == fast
  assert written['never']['digits: seconds'] == ''


def test_seconds_by_account_sum_up(page: Page, logs: Path):
  row = rows_of(logs, 'time_split')[0]
  parts = {name: float(row[f'{name}_sec']) for name in
           ('data', 'step', 'submission_rest', 'setup', 'evaluation', 'checkpoint')}  # fmt: skip
  assert parts == pytest.approx({'data': 0.5, 'step': 1.0, 'submission_rest': 0.5, 'setup': 1.0,
                                 'evaluation': 0.5, 'checkpoint': 0.5})  # fmt: skip
  assert float(row['total_sec']) == pytest.approx(sum(parts.values()))
  heading, first, *_ = page.tables['split'][0]
  assert dict(zip(heading, first, strict=True))['Step'] == '25.0\u202f%'


def test_failures_have_their_reasons_and_tracebacks(page: Page):
  heading, *rows = page.tables['failures'][0]
  assert heading == ['Run', 'Status', 'Reason']
  assert [row[1] for row in rows] == ['failed', 'killed']
  assert rows[0][2] == f'ValueError: {HOSTILE}'
  assert f'Traceback\n  {HOSTILE}' in page.texts['failures']
  assert '2 of 11 trials.' in page.texts['failures']


def test_each_study_tells_how_to_run_it_again(page: Page, logs: Path):
  assert page.texts['reproduce'].count(f'python3 {COMMAND}') == 9
  assert 'abc123, with changes not committed' in page.texts['reproduce']
  assert 'jax 0.10.2; all in packages.txt' in page.texts['reproduce']
  assert rows_of(logs, 'runs')[0]['command'] == f'python3 {COMMAND}'


def test_device_hours_count_every_trial(logs: Path, page: Page):
  written = {row['submission']: float(row['device_hours']) for row in rows_of(logs, 'leaderboard')}
  assert written['fast'] == pytest.approx(2 * 2 * sum(TIMES['fast']) / 3600)  # type: ignore[arg-type]


def test_a_page_may_load_nothing_and_run_only_its_own_script(page: Page):
  policy = next(a['content'] for n, a in page.elements if a.get('http-equiv'))
  assert policy is not None
  assert policy.startswith("default-src 'none';")
  assert 'unsafe' not in policy
  for kind in ('script', 'style'):
    (content,) = page.raw[kind]
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}'" in policy
  for name, attributes in page.elements:
    assert name not in ('link', 'img', 'iframe', 'object', 'base'), name
    assert 'style' not in attributes, 'the policy forbids it'
    for key in ('src', 'href', 'xlink:href'):
      assert (attributes.get(key) or '#').startswith('#')


def test_ids_are_unique_and_links_lead_somewhere(page: Page):
  ids = [a['id'] for _, a in page.elements if 'id' in a]
  assert len(ids) == len(set(ids))
  assert {a['href'] for n, a in page.elements if n == 'a'} <= {f'#{i}' for i in ids}


def test_charts_say_what_they_show(page: Page):
  charts = [a for n, a in page.elements if n == 'svg' and a.get('class') == 'chart']
  assert len(charts) >= 6
  assert all(a['role'] == 'img' and a['aria-label'] for a in charts)


def test_names_that_are_markup_stay_text(tmp_path: Path):
  hostile = '<script>alert(1)<img src=x onerror=alert(2)>"\''
  for number in (1, 2):
    folder = tmp_path / 'logs' / hostile / f'study_{number}' / 'digits_jax'
    for run in (1, 2):
      write_trial(folder / f'run_{run}', 5.0 * run, hparams={'<b onclick=x>': run, 'kind': '</td>'})
    write_metadata(folder, datetime='</dd><script>x</script>')
  page = make(tmp_path / 'logs')
  assert [n for n, _ in page.elements].count('script') == 1
  assert 'img' not in {n for n, _ in page.elements}
  assert not any(key.startswith('on') for _, a in page.elements for key in a)
  assert page.tables['leaderboard'][0][1][1] == hostile
  assert '</dd><script>x</script>' in page.texts['reproduce']


def test_logs_of_algoperf_get_sentences_where_nothing_is_known(tmp_path: Path):
  root = tmp_path / 'logs'
  for study in (0, 1, 2):
    write_algoperf(root, 'one', study, 3600.0 * (study + 1))
    write_algoperf(root, 'other', study, None)
  page = make(root, '--edition=0.5', '--tuning_ruleset=self')
  assert 'These logs have no metadata' in page.texts['reproduce']
  assert 'no trial here has a telemetry.jsonl' in page.texts['hardware'].lower()
  assert 'do not tell how their trials ended' in page.texts['failures']
  assert 'No hyperparameter was varied' in page.texts['effects']
  heading, first, *_ = page.tables['split'][0]
  shares = dict(zip(heading, first, strict=True))
  assert (shares['Submission'], shares['Evaluation']) == ('66.7\u202f%', '33.3\u202f%')


def test_runs_that_go_on_are_no_failures(tmp_path: Path):
  trial = tmp_path / 'logs' / 'one' / 'study_1' / 'digits_jax' / 'run_1'
  write_trial(trial, None, status='running', reason='')
  (trial.parent / '.run_1.lock').touch()
  page = make(tmp_path / 'logs')
  assert '1 trial still running' in page.texts['failures']
  assert 'None of 1 trial failed.' in page.texts['failures']
  assert 'No submission reached a target.' in page.texts['']


def test_records_that_cannot_be_read_are_told(tmp_path: Path):
  study = tmp_path / 'logs' / 'one' / 'study_1' / 'digits_jax'
  write_trial(study / 'run_1', 3.0)
  (study / 'run_1' / 'trial.json').write_text('[1')
  (study / 'metadata.json').write_text('{')
  page = make(tmp_path / 'logs')
  assert page.tables['failures'][0][1][1] == 'unreadable'
  assert 'its metadata cannot be read' in page.texts['reproduce']


@pytest.mark.parametrize(
  ('arguments', 'told'),
  [
    (['nowhere'], 'is no folder'),
    (['.', '-o', 'no_such_folder/report.html'], 'its folder is not there'),
    (['.', '--edition=9'], 'edition'),
    (['.', '--hardware_runs=some'], 'not a whole number'),
  ],
)
def test_wrong_commands_are_told_in_one_line(
  arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
  monkeypatch.chdir(tmp_path)
  result = scripts_in_process.run(SCRIPT, *arguments)
  assert result.returncode == 2
  assert told in result.stderr.splitlines()[-1]
  assert list(tmp_path.iterdir()) == []


def test_help_imports_no_framework():
  code = (f'import runpy, sys; sys.argv = [{str(SCRIPT)!r}, "--help"]\n'
          f'try: runpy.run_path({str(SCRIPT)!r}, run_name="__main__")\n'
          'except SystemExit: pass\n'
          'print({"jax", "torch", "matplotlib", "flax"} & set(sys.modules))')  # fmt: skip
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
  assert result.stdout.splitlines()[-1] == 'set()', result.stderr


def test_hardware_is_drawn_over_its_phases(page: Page, logs: Path):
  from algorithmic_efficiency.records.run_folder import TrialFolder
  from algorithmic_efficiency.report import hardware

  folder = TrialFolder(logs / 'fast' / 'study_1' / 'digits_jax' / 'run_1')
  shown = hardware.of_trial(folder, 'one')
  assert shown is not None
  figures = {figure.title: figure for figure in shown.figures}
  assert set(figures) == {'Devices: power', 'Processors of the machine: busy',
                          'Memory of the job’s processes'}  # fmt: skip
  (power,) = figures['Devices: power'].lines
  assert power.y.tolist() == [100.0 + i for i in range(40)]
  (shade,) = figures['Devices: power'].shades
  assert (shade.kind, shade.begin.tolist(), shade.end.tolist()) == ('evaluation', [10.0], [20.0])
  assert '1 trial, the longest' in page.texts['hardware']


def test_a_gap_in_the_samples_stays_a_gap(tmp_path: Path):
  from algorithmic_efficiency.records.run_folder import TrialFolder
  from algorithmic_efficiency.report import hardware

  write_telemetry(tmp_path)
  lines = (tmp_path / 'telemetry.jsonl').read_text().splitlines(keepends=True)
  (tmp_path / 'telemetry.jsonl').write_text(''.join(lines[:10] + lines[30:]))
  shown = hardware.of_trial(TrialFolder(tmp_path), 'one')
  assert shown is not None
  assert np.isnan(shown.figures[0].lines[0].y).sum() == 1


def test_shades_cover_what_their_stretches_do():
  generator = np.random.default_rng(0)
  begin = generator.uniform(0, 90, 30)
  shade = Shade('evaluation', begin, begin + generator.uniform(0, 5, 30))
  fine = np.linspace(0, 100, 200_001)[:-1]
  inside = np.zeros(len(fine), bool)
  for a, b in zip(shade.begin, shade.end, strict=True):
    inside |= (fine >= a) & (fine < b)
  expected = inside.reshape(50, -1).mean(axis=1)
  assert svg.coverage(shade, 0.0, 100.0, 50) == pytest.approx(expected, abs=2e-3)


def test_a_line_from_far_outside_enters_the_frame_where_it_should():
  line = Line(np.array([0.0, 1.0]), np.array([0.0, 100.0]))
  figure = Figure('one', 'one', 'one', Axis('x', 0.0, 1.0), Axis('y', 99.0, 100.0), (line,))
  drawn = svg.draw(figure)
  (path,) = drawn.iter('path')
  begin_x, begin_y, move_x, move_y = map(float, re.findall(r'-?[\d.]+', path.attrib['d']))
  ticks = {text.text: float(text.attrib['y']) - 3.7 for text in drawn.iter('text')
           if text.attrib.get('class') == 'end' and text.text != 'x'}  # fmt: skip
  at_bottom = begin_x + move_x * (ticks['99'] - begin_y) / move_y
  assert at_bottom == pytest.approx(begin_x + 0.99 * move_x, abs=0.2)


@pytest.mark.parametrize('seed', range(8))
def test_no_point_left_out_lies_away_from_the_line(seed: int):
  generator = np.random.default_rng(seed)
  x = np.sort(generator.uniform(0, 300, 500))
  if seed % 2:
    x = np.repeat(x, 2)[:500]  # stairs
  y = np.cumsum(generator.normal(0, 0.3, 500))
  kept = thinning.keep(x, y)
  assert (kept[0], kept[-1]) == (0, 499)
  assert len(kept) < 400
  for a, b in itertools.pairwise(kept):
    for i in range(a + 1, b):
      on_line = y[a] + (y[b] - y[a]) * (x[i] - x[a]) / (x[b] - x[a])
      assert abs(on_line - y[i]) <= thinning.TOLERANCE_PIXELS + 1e-9


@pytest.mark.parametrize('log', [False, True])
@pytest.mark.parametrize(('low', 'high'), [(0.9, 0.975), (1e-5, 3.0), (17.0, 61_068.0)])
def test_ticks_are_round_and_within(low: float, high: float, log: bool):
  found = scales.ticks(Axis('', low, high, log=log))
  assert 2 <= len(found) <= 8
  assert all(low * 0.999 <= tick <= high * 1.001 for tick in found)
  for tick in found:
    assert len(f'{tick:.10e}'.split('e')[0].rstrip('0').replace('.', '')) <= 4, tick


@pytest.mark.parametrize(
  ('wanted', 'apart'), [([5.0, 5.0, 5.0], 13.0), ([100.0] * 8, 13.0), ([0.0, 50.0, 51.0], 13.0)]
)
def test_labels_do_not_touch_and_keep_their_order(wanted: list[float], apart: float):
  placed = svg.spread(wanted, 0.0, 100.0)
  assert all(b - a >= apart - 1e-9 for a, b in itertools.pairwise(placed))
  assert placed[0] >= 0.0
  assert placed[-1] <= 100.0 + 1e-9


@pytest.mark.parametrize(
  ('value', 'text'),
  [(61068.4, '61,068'), (0.00123456, '0.00123'), (2.0, '2'), (0.0, '0'), (-1.5, '−1.5'),
   (1e-8, '1e−8'), (math.inf, '∞'), (math.nan, '–')],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str):
  assert scales.number(value) == text


def test_times_have_a_unit_that_suits():
  assert [scales.duration(s) for s in (0.515, 90.0, 754.0, 61068.0)] == [
    '0.515 s', '90.0 s', '12.6 min', '17.0 h',
  ]  # fmt: skip


@pytest.mark.slow  # imports scipy.stats
def test_rank_correlations_and_chance_are_those_of_scipy(tmp_path: Path):
  from scipy import stats

  generator = np.random.default_rng(3)
  rates, times = 10 ** generator.uniform(-4, -2, 12), generator.uniform(5, 50, 12)
  for number, (rate, time) in enumerate(zip(rates, times, strict=True), start=1):
    folder = tmp_path / 'logs' / 'one' / 'study_1' / 'digits_jax' / f'run_{number}'
    write_trial(folder, float(time), points=2, hparams={'rate': float(rate), 'same': 1})
  make(tmp_path / 'logs', f'--tables={tmp_path / "tables"}')
  (row,) = rows_of(tmp_path / 'logs', 'hyperparameter_effects')
  expected = stats.spearmanr(rates, times)
  assert row['hyperparameter'] == 'rate'
  assert float(row['spearman']) == pytest.approx(expected.statistic)
  assert float(row['p']) == pytest.approx(expected.pvalue)


def test_chance_is_told_from_ten_trials_on():
  assert effects.chance(0.9, 9) is None
  assert effects.chance(0.9, 10) == pytest.approx(0.00039, rel=0.05)


def test_the_same_logs_give_the_same_page(logs: Path, tmp_path: Path):
  pages = list[str]()
  for name in ('a.html', 'b.html'):
    result = scripts_in_process.run(SCRIPT, logs, '-o', tmp_path / name, '--samples=20')
    assert result.returncode == 0
    pages.append(re.sub(r'Made [^<]*', '', (tmp_path / name).read_text(encoding='utf-8')))
  assert pages[0] == pages[1]


@pytest.mark.parametrize('value', [10**400, math.nan, True, '1'])
def test_what_no_axis_takes_is_no_number(value: object):
  assert not effects._is_number(value)
  assert effects._is_number(10**300)


@pytest.mark.slow  # imports matplotlib
def test_pictures_have_the_charts_of_the_page(logs: Path, tmp_path: Path):
  pytest.importorskip('matplotlib')
  folder = tmp_path / 'pictures'
  arguments = [
    '-o',
    tmp_path / 'r.html',
    f'--pictures={folder}',
    '--hardware_runs=0',
    '--samples=0',
  ]
  result = scripts_in_process.run(SCRIPT, logs, *arguments)
  assert result.returncode == 0, result.stderr
  names = {path.name for path in folder.iterdir()}
  assert {'performance_profiles.png', 'learning_curves_digits.png'} <= names
  assert all(path.read_bytes().startswith(b'\x89PNG') for path in folder.iterdir())


def test_no_pictures_without_matplotlib(
  logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  arguments = ['-o', tmp_path / 'r.html', f'--pictures={tmp_path / "p"}', '--samples=0']
  result = scripts_in_process.run(SCRIPT, logs, *arguments)
  assert result.returncode == 2
  assert 'algorithmic-efficiency[plots]' in result.stderr


def test_a_page_of_a_run_of_this_bench_in_algoperfs_layout_has_its_command(tmp_path: Path):
  write_algoperf(tmp_path / 'logs', 'one', 1, 100.0)
  trial = tmp_path / 'logs' / 'one' / 'study_1' / 'ogbg_jax' / 'trial_1'
  flags = {'framework': 'jax', 'workload': 'ogbg', 'rng_seed': 3, 'submission_path': 'a b.py'}
  (trial / 'flags_0.json').write_text(json.dumps(flags))
  page = make(tmp_path / 'logs')
  command = ("python3 submission_runner.py --framework=jax --workload=ogbg "
             "'--submission_path=a b.py' --rng_seed=3")  # fmt: skip
  assert command in page.texts['reproduce']
