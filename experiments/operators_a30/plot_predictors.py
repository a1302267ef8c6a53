"""Draws the error of each predictor: results.csv to plot_predictors.png."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

MODELS = ('mean', 'study_lasso', 'physics', 'average', 'chosen')
NAMES = ('the mean', "the study's Lasso", 'physics alone', 'average of learners', 'chosen')
SHAPE, RANDOM = '#1f6fb4', '#b9b9b9'


def main() -> None:
  """Draws the figure."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  kinds = list(dict.fromkeys(row['layer_type'] for row in rows))
  figure, panels = plt.subplots(2, len(kinds), figsize=(11, 5), squeeze=False, sharey=True)
  for line, target in zip(panels, ('runtime', 'power'), strict=True):
    for axes, kind in zip(line, kinds, strict=True):
      here = [row for row in rows if (row['layer_type'], row['target']) == (kind, target)]
      for place, model in enumerate(MODELS):
        shape = errors(here, 'by_shape', model)
        if shape:
          middle = sum(shape) / len(shape)
          axes.barh(place, middle, 0.6, color=SHAPE)
          axes.plot(shape, [place] * len(shape), 'o', color='black', markersize=3)
          axes.annotate(f'{middle:.3g}', (max(shape), place), (6, 0),
                        textcoords='offset points', va='center', fontsize=9)  # fmt: skip
        for error in errors(here, 'random', model):
          axes.plot([error], [place], 'D', color=RANDOM, markeredgecolor='black', markersize=5)
      for error in errors(here, 'floor', 'repeats'):
        axes.axvline(error, color='black', linestyle=':', linewidth=1)
      axes.set(xscale='log', title=f'{kind}, {target}')
      axes.margins(x=0.2)
      axes.set_xlim(0.1, None)
  for axes in panels[1]:
    axes.set_xlabel('RMSPE, %')
  panels[0][0].set_yticks(range(len(MODELS)), NAMES)
  panels[0][0].invert_yaxis()
  figure.suptitle('bars: shapes never seen (dots: ways to cut the folds); diamonds: random rows, '
                  'which leak; dotted: repeats', fontsize=9)  # fmt: skip
  figure.tight_layout()
  style.save(figure, HERE / 'plot_predictors.png')


def errors(rows: list[dict[str, str]], split: str, model: str) -> list[float]:
  """RMSPE of each seed, percent."""
  return [float(r['rmspe_pct']) for r in rows if (r['split'], r['model']) == (split, model)]


if __name__ == '__main__':
  main()
