"""The published v0.5 self-tuning leaderboard, from the logs behind it."""

import tarfile
from pathlib import Path

import pytest
from made_logs import read_csv
from scripts_in_process import run

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT.parent / 'shared' / 'data' / 'algoperf_v05_self_tuning.tar.gz'

SCORES = {
  'schedule_free_adamw': 0.8542, 'baseline': 0.8194, 'nadamw_sequential': 0.3308,
  'sinv6_75': 0.1420, 'sinv6': 0.0903, 'adamg': 0.0000,
}  # fmt: skip
WORKLOADS = (
  'criteo1tb', 'criteo1tb_embed_init', 'fastmri', 'fastmri_tanh', 'imagenet_resnet',
  'imagenet_resnet_large_bn_init', 'imagenet_vit', 'librispeech_conformer',
  'librispeech_conformer_layernorm', 'librispeech_deepspeech', 'ogbg', 'ogbg_model_size', 'wmt',
  'wmt_glu_tanh',
)  # fmt: skip
MEDIANS = {
  'adamg': 'inf inf inf inf inf inf inf inf inf inf inf inf inf inf',
  'baseline': '5794.3 503.1 1976.4 4549.0 inf inf 73981.3 57674.5 56241.4 36051.1 8422.8 12748.0 '
  '40361.5 28607.5',
  'nadamw_sequential': '22791.2 4410.0 2381.1 3903.2 inf inf 122357.4 inf 70640.1 80703.4 10109.0 '
  '17792.7 113506.0 75697.3',
  'schedule_free_adamw': '5763.7 1924.6 1321.4 5114.2 inf inf 52380.8 58997.1 37412.7 49010.3 '
  '5993.7 10292.1 45376.4 10147.9',
  'sinv6': 'NaN NaN 4309.6 7679.5 inf inf inf inf 111004.8 136881.9 25004.4 inf 111822.8 21952.1',
  'sinv6_75': 'NaN NaN 3991.5 7116.1 inf inf inf inf 155643.5 122484.0 27643.3 inf 87459.3 21111.4',
}


@pytest.fixture(scope='module')
def scored(tmp_path_factory):
  """The folder that scripts/score.py wrote, and what it said."""
  if not LOGS.exists():
    pytest.skip('the published logs are not here (shared/data)')
  folder = tmp_path_factory.mktemp('published')
  with tarfile.open(LOGS) as archive:
    archive.extractall(folder, filter='data')
  done = run(
    ROOT / 'scripts' / 'score.py', folder / 'algoperf_v05_self_tuning', '--edition=0.5',
    '--tuning_ruleset=self', f'--output_dir={folder / "scores"}', '--samples=200',
  )  # fmt: skip
  assert done.returncode == 0
  return folder / 'scores', done


def test_the_published_scores_come_out_to_four_decimals(scored):
  rows = read_csv(scored[0] / 'scores.csv')
  assert {row['submission']: round(float(row['score']), 4) for row in rows} == SCORES
  assert [row['submission'] for row in rows] == list(SCORES)


def test_the_median_times_to_target_come_out_to_one_decimal(scored):
  rows = {row['submission']: row for row in read_csv(scored[0] / 'time_to_targets.csv')}
  assert set(rows) == set(MEDIANS)
  for submission, expected in MEDIANS.items():
    found = [rows[submission][workload] for workload in WORKLOADS]
    told = [f'{float(cell):.1f}' if cell else 'NaN' for cell in found]
    assert told == expected.split()


def test_what_is_odd_about_these_logs_is_warned_of_once_each(scored):
  lines = scored[1].stderr.splitlines()
  assert [line for line in lines if 'trials read' not in line] == [
    'score: warning: workloads with another number of studies than 5: 1 '
    '(adamg librispeech_conformer_layernorm)',
    'score: warning: workloads that a submission has no trial of count as never reached: 4 '
    '(sinv6 criteo1tb, sinv6 criteo1tb_embed_init and 2 more)',
  ]


def test_intervals_hold_what_they_are_of(scored):
  for row in read_csv(scored[0] / 'scores.csv'):
    assert float(row['score_low']) <= float(row['score']) <= float(row['score_high'])
    assert int(row['rank_low']) <= int(row['rank']) <= int(row['rank_high'])
