"""This file reads the raw files of an edge study: power log, layer times, engine, idle power.

A folder of a model holds `<model>_power_log.log` (a line `YYYYmmdd-HH:MM:SS.ffffff,mV,mA` for each
reading of the board's input), `trt_profiling/trt_layer_latency.json` ({layer: [[ms, stamp], …]},
the stamp taken when the layer had ENDED) and `trt_profiling/trt_engine_info.json` (TensorRT's
layers). `idling_power.json`, for all models, is beside them. Times are microseconds since 1970 of
the board's clock, powers microwatts.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithmic_efficiency.errors import UsageError

_LINE = re.compile(
  r'(\d{4})(\d\d)(\d\d)-(\d\d:\d\d:\d\d(?:\.\d{1,6})?),(\d+(?:\.\d*)?),(\d+(?:\.\d*)?)'
)
_STAMP = re.compile(r'(\d{4})(\d\d)(\d\d)-(\d\d:\d\d:\d\d(?:\.\d{1,6})?)')
_CHUNK_CHARACTERS = 1 << 20


class Readings(NamedTuple):
  """Power readings in the order of their times, and the lines that gave none."""

  times_us: np.ndarray
  power_uw: np.ndarray
  refused: tuple[str, ...]


class EngineLayer(NamedTuple):
  """A layer of a compiled network: its name, TensorRT's type of it, and all that was told."""

  name: str
  layer_type: str
  told: dict[str, Any]


def read_power(path: Path) -> Readings:
  """All readings of a power log; millivolts times milliamperes are microwatts.

  A line that is no reading, or one of no power at all, is refused and told with its number. The
  times of a clock that was set back are sorted. Raises UsageError where no reading is left.
  """
  stamps: list[str] = []
  volts: list[float] = []
  amperes: list[float] = []
  refused: list[str] = []
  with _opened(path) as file:
    for number, line in enumerate(file, 1):
      text = line.strip()
      found = _LINE.fullmatch(text)
      if found is None or not float(found[5]) * float(found[6]) > 0:
        if text:
          refused.append(f'line {number}: {text[:60]!r}')
        continue
      stamps.append(f'{found[1]}-{found[2]}-{found[3]}T{found[4]}')
      volts.append(float(found[5]))
      amperes.append(float(found[6]))
  if not stamps:
    raise UsageError(
      f'{str(path)!r} holds no reading of power; its lines should be '
      "'YYYYmmdd-HH:MM:SS.ffffff,millivolts,milliamperes'."
    )
  times = _microseconds(stamps, path)
  order = np.argsort(times, kind='stable')
  return Readings(times[order], (np.array(volts) * np.array(amperes))[order], tuple(refused))


def read_latencies(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
  """(layer, milliseconds of each run, when each ended) layer by layer.

  The file of a large network has millions of runs, so no more than one layer of it is held.
  Raises UsageError where it is damaged.
  """
  for name, runs in _members(path):
    if not isinstance(runs, list) or not all(_is_run(run) for run in runs):
      raise UsageError(
        f'{str(path)!r}: the layer {name!r} should be a list of [milliseconds, stamp]; it is not.'
      )
    durations = np.array([run[0] for run in runs], dtype=float)
    yield name, durations, _microseconds([_iso(run[1]) for run in runs], path)


def read_engine(path: Path) -> list[EngineLayer]:
  """The layers of an engine. One that is told by its name alone has the type 'unknown'."""
  content = _json(path)
  if not isinstance(content, dict) or not isinstance(content.get('Layers'), list):
    raise UsageError(f"{str(path)!r} is no description of an engine: it has no list 'Layers'.")
  return [
    EngineLayer(str(told.get('Name', '')), str(told.get('LayerType', 'unknown')), told)
    if isinstance(told, dict)
    else EngineLayer(str(told), 'unknown', {})
    for told in content['Layers']
  ]


def read_idle_uw(path: Path) -> float:
  """Microwatts of the idle board."""
  content = _json(path)
  value = content.get('avg_idle_power') if isinstance(content, dict) else None
  if not isinstance(value, int | float) or not 0 < value < float('inf'):
    raise UsageError(f"{str(path)!r} has no 'avg_idle_power' above 0 (microwatts): {value!r}.")
  return float(value)


def only_file(folder: Path, pattern: str) -> Path:
  """The one file that fits the pattern. Raises UsageError."""
  found = sorted(folder.glob(pattern))
  if len(found) != 1:
    raise UsageError(
      f'{str(folder)!r} should have one {pattern!r}; it has {len(found)}. A folder of a model '
      'holds <model>_power_log.log and trt_profiling/.'
    )
  return found[0]


def _is_run(run: Any) -> bool:
  return (
    isinstance(run, list)
    and len(run) == 2
    and isinstance(run[0], int | float)
    and 0 <= run[0] < float('inf')
    and isinstance(run[1], str)
  )


def _iso(stamp: str) -> str:
  found = _STAMP.fullmatch(stamp)
  if found is None:
    raise UsageError(f"{stamp!r} is no time; it should be 'YYYYmmdd-HH:MM:SS.ffffff'.")
  return f'{found[1]}-{found[2]}-{found[3]}T{found[4]}'


def _microseconds(stamps: list[str], path: Path) -> np.ndarray:
  try:
    return np.array(stamps, dtype='datetime64[us]').astype(np.int64)
  except ValueError as error:
    raise UsageError(f'{str(path)!r} has a time that does not exist: {error}.') from error


def _members(path: Path) -> Iterator[tuple[str, Any]]:
  """The members of a JSON object, one at a time; the file is read in pieces."""
  decoder = json.JSONDecoder()
  separators = ' \t\r\n,:'
  with _opened(path) as file:
    rest = file.read(_CHUNK_CHARACTERS).lstrip()
    if not rest.startswith('{'):
      raise UsageError(f'{str(path)!r} is no JSON object of layers.')
    rest = rest[1:]
    key: str | None = None
    more = True
    while True:
      rest = rest.lstrip(separators)
      if rest.startswith('}'):
        return
      try:
        value, end = decoder.raw_decode(rest)
      except json.JSONDecodeError as error:
        if not more:
          raise UsageError(f'{str(path)!r} is cut short or damaged: {error}.') from error
        # Twice as much each time: what was read is looked at again from its start.
        piece = file.read(max(_CHUNK_CHARACTERS, len(rest)))
        more = bool(piece)
        rest += piece
        continue
      rest = rest[end:]
      if key is None:
        key = str(value)
      else:
        yield key, value
        key = None


def _json(path: Path) -> Any:
  with _opened(path) as file:
    try:
      return json.load(file)
    except json.JSONDecodeError as error:
      raise UsageError(f'{str(path)!r} is no JSON: {error}.') from error


def _opened(path: Path) -> Any:
  try:
    return path.open(encoding='utf-8', errors='replace')
  except OSError as error:
    raise UsageError(f'{str(path)!r} cannot be read ({error.strerror}).') from error
