"""Writing files whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
  """Replaces the file at `path` by `text`; a kill at any moment leaves the old file or the new."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with temporary.open('w', encoding='utf-8', newline='') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
