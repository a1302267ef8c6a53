"""This file predicts the runtime and power of layers, and the energy of a network of them.

  predictor = fit(tables.read_all([Path('layers.csv')]).rows)
  predictor.save(Path('device.npz'))
  network = load(Path('device.npz')).predict_network(rows)

A saved predictor is one .npz of numbers, with its settings as JSON text in it; loading it runs no
code and needs no scikit-learn.
"""

import json
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import choice, columns, descriptors
from algorithmic_efficiency.layer_power.choice import POWER, RUNTIME, Base, Candidates
from algorithmic_efficiency.layer_power.fitted import KINDS
from algorithmic_efficiency.layer_power.frames import Frame
from algorithmic_efficiency.layer_power.physics import LimitedPower, Roofline

FORMAT = 2
FEWEST_CONFIGURATIONS = 5
INTERVAL = 0.9
_SETTINGS = 'settings'
# A layer that needs more than this much less or more than all measured ones is outside them.
_MARGIN = 1.5


class Part(NamedTuple):
  """What predicts one target of one type of layers.

  Attributes:
    candidates: The fitted learners that have a weight.
    weights: Of each of them.
    chosen: The name of the choice.
    scores: RMSPE in percent of all candidates in the inner cross-validation.
    residuals: log(measured / predicted) there, ascending.
    ranges: Lowest and highest logarithm of (multiplications, bytes, their ratio) measured.
  """

  candidates: Candidates
  weights: dict[str, float]
  chosen: str
  scores: dict[str, float]
  residuals: np.ndarray
  ranges: np.ndarray

  def predict(self, rows: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(value, lower end, upper end of the interval that 90 % should be in)."""
    log = choice.mix(self.candidates.log_predictions(rows), self.weights)
    low, high = interval(self.residuals)
    return np.exp(log), np.exp(log + low), np.exp(log + high)

  def outside(self, rows: Frame) -> np.ndarray:
    """Whether a layer's size, or its work with a byte, is unlike all measured, or its op new."""
    sizes = _sizes(rows)
    margin = np.log(_MARGIN)
    far = (sizes < self.ranges[0] - margin) | (sizes > self.ranges[1] + margin)
    known = rows['op'].astype(str).isin(self.candidates.base.ops).to_numpy()
    return far.any(axis=1) | ~known


class Network(NamedTuple):
  """What a network is predicted to take.

  Attributes:
    layers: The rows given with predicted_runtime (ms), predicted_power (W), their intervals, and
      outside: whether a layer is unlike all that were measured.
    runtime_ms: Sum over the layers that have a prediction.
    runtime_interval_ms: The sum of all lower and of all upper ends: as if all layers were wrong in
      the same direction, so wider than 90 %.
    power_w: Mean weighted by time; NaN where no power was measured.
    energy_j: Sum of runtime x power; NaN likewise.
    unpredicted: How many layers have no prediction, by type.
  """

  layers: Frame
  runtime_ms: float
  runtime_interval_ms: tuple[float, float]
  power_w: float
  energy_j: float
  unpredicted: Counter[str]


class Predictor:
  """Predicts layers of one device, by type and target."""

  def __init__(self, device: str, parts: dict[tuple[str, str], Part], notes: list[str]) -> None:
    """Use fit or load."""
    self.device = device
    self.parts = parts
    self.notes = notes

  def predict(self, rows: Frame) -> Frame:
    """The rows with predictions; NaN where the type of a layer was not measured."""
    rows = rows.reset_index(drop=True)
    ends = ('', '_low', '_high')
    found = {
      f'predicted_{t}{e}': np.full(len(rows), np.nan) for t in (RUNTIME, POWER) for e in ends
    }
    outside = np.zeros(len(rows), bool)
    for (kind, target), part in self.parts.items():
      where = np.flatnonzero((rows['layer_type'] == kind).to_numpy())
      if where.size:
        some = rows.iloc[where]
        for end, values in zip(ends, part.predict(some), strict=True):
          found[f'predicted_{target}{end}'][where] = values
        outside[where] |= part.outside(some)
    return rows.assign(**found, outside=outside)

  def predict_network(self, rows: Frame) -> Network:
    """Runtime, power and energy of a network from its layers, one row for each time one runs."""
    layers = self.predict(rows)
    runtime = layers['predicted_runtime'].to_numpy()
    known = np.isfinite(runtime)
    unpredicted = Counter(layers['layer_type'].astype(str)[~known])
    total = float(runtime[known].sum())
    low, high = (float(np.nansum(layers[f'predicted_runtime_{e}'])) for e in ('low', 'high'))
    # A layer with a time but no power makes the power of the whole unknown: no part is passed off
    # as all.
    joules = float((runtime[known] * layers['predicted_power'].to_numpy()[known]).sum() / 1000)
    power = joules / total * 1000 if total > 0 else float('nan')
    return Network(layers, total, (low, high), power, joules, unpredicted)

  def save(self, path: Path) -> None:
    """Writes an .npz of arrays and one JSON text."""
    arrays: dict[str, np.ndarray] = {}
    parts = []
    for number, ((kind, target), part) in enumerate(self.parts.items()):
      base = part.candidates.base
      arrays[f'{number}/roofline'] = base.roofline.costs
      arrays[f'{number}/residuals'] = part.residuals
      arrays[f'{number}/ranges'] = part.ranges
      if base.power is not None:
        for name, value in base.power._asdict().items():
          arrays[f'{number}/power/{name}'] = np.asarray(value)
      kinds = {}
      for label, learner in part.candidates.learners.items():
        kinds[label] = learner.KIND
        for name, value in learner.arrays().items():
          arrays[f'{number}/learner/{label}/{name}'] = value
      parts.append({'layer_type': kind, 'target': target, 'chosen': part.chosen,
                    'weights': part.weights, 'scores': part.scores, 'ops': base.ops,
                    'learners': kinds, 'has_power': base.power is not None})  # fmt: skip
    settings = {'format': FORMAT, 'device': self.device, 'notes': self.notes, 'parts': parts}
    arrays[_SETTINGS] = np.frombuffer(json.dumps(settings).encode(), np.uint8)
    with path.open('wb') as file:
      np.savez_compressed(file, allow_pickle=False, **arrays)


def fit(rows: Frame, device: str | None = None) -> Predictor:
  """Fits a predictor to measured layers of one device.

  Types with few configurations are left out and told in notes. Raises UsageError where none is
  left, or where the rows are of several devices.
  """
  devices = sorted(set(rows['device'].astype(str)))
  if len(devices) > 1:
    raise UsageError(f'the rows are of several devices ({", ".join(devices)}); give those of one.')
  parts: dict[tuple[str, str], Part] = {}
  notes = []
  for kind, target, some in parts_of(rows, notes):
    chosen = choice.choose(some, target)
    labels = [label for label in chosen.weights if label != choice.PHYSICS]
    candidates = choice.fit_candidates(some, target, labels)
    sizes = _sizes(some)
    ranges = np.stack([sizes.min(axis=0), sizes.max(axis=0)])
    parts[kind, target] = Part(
      candidates, chosen.weights, chosen.name, chosen.scores, chosen.residuals, ranges
    )
  if not parts:
    raise UsageError(f'there is nothing to fit a predictor to: {"; ".join(notes)}.')
  return Predictor(device or devices[0], parts, notes)


def parts_of(rows: Frame, notes: list[str]) -> Iterable[tuple[str, str, Frame]]:
  """(type, target, its rows) of all that can be fitted; what cannot is told in notes."""
  from algorithmic_efficiency.layer_power import tables

  for kind, of_kind in rows.groupby('layer_type', sort=True):
    for target in (RUNTIME, POWER):
      some = of_kind[of_kind[target].notna()].reset_index(drop=True)
      count = len(set(tables.configurations(some))) if len(some) else 0
      if count >= FEWEST_CONFIGURATIONS and kind in columns.LAYER_TYPES:
        yield str(kind), target, some
      elif kind not in columns.LAYER_TYPES:
        notes.append(f'{kind}: {len(of_kind)} rows of an unknown type left out')
        break
      else:
        notes.append(
          f'{kind}: {count} configurations with {target}, {FEWEST_CONFIGURATIONS} needed'
        )


def load(path: Path) -> Predictor:
  """Reads a saved predictor; runs no code of it. Raises UsageError where it is none."""
  try:
    with path.open('rb') as opened, np.load(opened, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
    settings = json.loads(arrays[_SETTINGS].tobytes())
    if settings['format'] != FORMAT:
      raise UsageError(
        f'{str(path)!r} has the format {settings["format"]!r}, not {FORMAT}; fit it anew.'
      )
    parts = {
      (told['layer_type'], told['target']): _part(told, number, arrays)
      for number, told in enumerate(settings['parts'])
    }
  except OSError as error:
    raise UsageError(f'{str(path)!r} cannot be read ({error.strerror or error}).') from error
  except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
    raise UsageError(
      f'{str(path)!r} is no saved predictor, or a damaged one ({error}); fit it anew.'
    ) from error
  return Predictor(settings['device'], parts, settings['notes'])


def interval(residuals: np.ndarray, share: float = INTERVAL) -> tuple[float, float]:
  """Ends of the interval that holds this share of a new row's residuals, from those known.

  Quantiles (n + 1)/n further out than the plain ones, so that few rows give a wide one.
  """
  tail = (1 - share) / 2 * (1 - 1 / (len(residuals) + 1))
  low, high = np.quantile(residuals, [tail, 1 - tail])
  return min(float(low), 0.0), max(float(high), 0.0)


def _sizes(rows: Frame) -> np.ndarray:
  """Logarithms of multiplications, bytes, and of the first for each of the second.

  A layer may be of a usual size and still be none of those measured: a dense layer that sees
  thousands of vectors multiplies, where one that sees a single vector waits for its weights.
  """
  q = descriptors.quantities(rows)
  logs = np.log(np.maximum(np.stack([q.macs, q.bytes_moved], axis=1), 1.0))
  return np.column_stack([logs, logs[:, 0] - logs[:, 1]])


def _part(told: dict[str, Any], number: int, arrays: dict[str, np.ndarray]) -> Part:
  power = None
  if told['has_power']:
    limit, scale, parameters = (arrays[f'{number}/power/{n}'] for n in LimitedPower._fields)
    power = LimitedPower(float(limit), scale, parameters)
  learners = {}
  for label, kind in told['learners'].items():
    start = f'{number}/learner/{label}/'
    own = {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}
    learners[label] = KINDS[kind](**own)
  base = Base(Roofline(arrays[f'{number}/roofline']), power, tuple(told['ops']))
  return Part(
    Candidates(base, learners), told['weights'], told['chosen'], told['scores'],
    arrays[f'{number}/residuals'], arrays[f'{number}/ranges'],
  )  # fmt: skip
