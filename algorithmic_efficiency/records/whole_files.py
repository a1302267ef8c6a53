"""Writing files whole or not at all."""

import contextlib
import os
from pathlib import Path

from algorithmic_efficiency.errors import MeasurementError


def write_whole(path: Path, text: str) -> None:
  """Replaces the file at `path` by `text`; a kill at any moment leaves the old file or the new.

  Raises MeasurementError if the disk refuses it; the old file is then still there.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with temporary.open('w', encoding='utf-8', errors='backslashreplace', newline='') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except BaseException as error:
    with contextlib.suppress(OSError):
      temporary.unlink()
    if isinstance(error, OSError):
      raise MeasurementError(
        f'{str(path)!r} cannot be written ({error.strerror}); what was there before is kept. '
        'Free space or mend the folder, then go on with --resume.'
      ) from error
    raise
