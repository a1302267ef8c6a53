"""This file writes trials as TensorBoard's event files, without TensorFlow.

A file is made of its trial's points alone, so that two exports of one record are alike to the byte.
Scalars are of double precision, since a time in seconds since 1970 is 64 s coarse in a float.
"""

# The names in protobuf's modules are made when they are imported.
# pyright: reportAttributeAccessIssue=false

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from algorithmic_efficiency.exports.trials import Point, Status, Trial

_FILE = 'events.out.tfevents.algorithmic_efficiency'  # TensorBoard looks for the middle
_STATUS = {
  'failed': api_pb2.STATUS_FAILURE,
  'running': api_pb2.STATUS_RUNNING,
  'unknown': api_pb2.STATUS_UNKNOWN,
  'complete': api_pb2.STATUS_SUCCESS,
  'interrupted': api_pb2.STATUS_FAILURE,
  'killed': api_pb2.STATUS_FAILURE,
}


class Sink:
  """A folder for `tensorboard --logdir`, with a folder a trial."""

  def __init__(self, folder: Path, project: str, say: Callable[[str], None]) -> None:
    del project, say
    self.place = str(folder)
    self._folder = folder

  def open(self, trial: Trial, points: Sequence[Point]) -> 'TensorboardExport':
    """Begins the trial's file anew."""
    return TensorboardExport(self._folder / trial.name, trial, points)


class TensorboardExport:
  """One event file, which takes the place of the one before when it has caught up with it."""

  def __init__(self, folder: Path, trial: Trial, points: Sequence[Point]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    self._path = folder / _FILE
    self._temporary = folder / '.unfinished'  # a name that TensorBoard does not look for
    self._file: BinaryIO = self._temporary.open('wb')
    self._in_place = False
    self._time = points[0].time if points else time.time()
    self._known: set[str] = set()
    self._write(event_pb2.Event(wall_time=self._time, file_version='brain.Event:2'))
    start = plugin_data_pb2.SessionStartInfo(group_name=trial.key, start_time_secs=self._time)
    for name, value in trial.hparams.items():
      _set_hparam(start.hparams[name], value)
    self._write_hparams(
      hparams_metadata.SESSION_START_INFO_TAG,
      plugin_data_pb2.HParamsPluginData(session_start_info=start),
    )
    self._write_text('hparams', _as_table(trial.hparams))
    self._write_text('metadata', _as_table(trial.metadata))

  def log(self, points: Sequence[Point]) -> None:
    """Writes an event a point."""
    for point in points:
      self._time = point.time
      values = [self._scalar(name, value) for name, value in point.values.items()]
      summary = summary_pb2.Summary(value=values)
      self._write(event_pb2.Event(wall_time=point.time, step=point.step, summary=summary))
    self._file.flush()
    if points:
      self._put_in_place()

  def close(self, status: Status) -> None:
    """Writes how the trial ended."""
    told = {'status': status.word, 'reason': status.reason, 'goal_reached': status.goal_reached}
    self._write_text('status', _as_table({n: v for n, v in told.items() if v is not None}))
    end = plugin_data_pb2.SessionEndInfo(
      status=_STATUS.get(status.word, api_pb2.STATUS_UNKNOWN), end_time_secs=self._time
    )
    self._write_hparams(
      hparams_metadata.SESSION_END_INFO_TAG,
      plugin_data_pb2.HParamsPluginData(session_end_info=end),
    )
    self._file.flush()
    self._put_in_place()
    self._file.close()

  def _put_in_place(self) -> None:
    if not self._in_place:
      self._temporary.replace(self._path)
      self._in_place = True

  def _write(self, event: Any) -> None:
    record = io.BytesIO()  # one write a record: a reader never sees half a header
    RecordWriter(record).write(event.SerializeToString())
    self._file.write(record.getvalue())

  def _scalar(self, name: str, value: float) -> Any:
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_DOUBLE, double_val=[value])
    found = summary_pb2.Summary.Value(tag=name, tensor=tensor)
    if name not in self._known:  # the first value of a tag tells what it is
      self._known.add(name)
      found.metadata.plugin_data.plugin_name = 'scalars'
      found.metadata.data_class = summary_pb2.DATA_CLASS_SCALAR
    return found

  def _write_text(self, tag: str, text: str) -> None:
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    tensor = tensor_pb2.TensorProto(
      dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=[text.encode()]
    )
    value = summary_pb2.Summary.Value(tag=f'{tag}/text_summary', tensor=tensor)
    value.metadata.plugin_data.plugin_name = 'text'
    value.metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    summary = summary_pb2.Summary(value=[value])
    self._write(event_pb2.Event(wall_time=self._time, summary=summary))

  def _write_hparams(self, tag: str, data: Any) -> None:
    empty = tensor_pb2.TensorProto(
      dtype=types_pb2.DT_FLOAT, tensor_shape=tensor_shape_pb2.TensorShapeProto()
    )
    value = summary_pb2.Summary.Value(
      tag=tag, metadata=hparams_metadata.create_summary_metadata(data), tensor=empty
    )
    summary = summary_pb2.Summary(value=[value])
    self._write(event_pb2.Event(wall_time=self._time, summary=summary))


def _set_hparam(field: Any, value: Any) -> None:
  if isinstance(value, bool):
    field.bool_value = value
  elif isinstance(value, int | float):
    field.number_value = value
  else:
    field.string_value = value if isinstance(value, str) else json.dumps(value)


def _as_table(facts: Mapping[str, Any]) -> str:
  """Markdown, which TensorBoard shows as a table."""
  cells: list[str] = []
  for name, value in facts.items():
    text = value if isinstance(value, str) else json.dumps(cast(object, value))
    shown = ' '.join(text.split()).replace('|', '\\|')
    cells.append(f'| {name} | {shown} |')
  return '\n'.join(['| name | value |', '|---|---|', *cells])
