"""This file opens a log: plain or gzipped, in UTF-8 or what PowerShell's `>` makes."""

import codecs
import gzip
import io
from pathlib import Path
from typing import TextIO

_BOMS = {codecs.BOM_UTF16_LE: 'utf-16', codecs.BOM_UTF16_BE: 'utf-16', codecs.BOM_UTF8: 'utf-8-sig'}


def text_of(path: Path) -> TextIO:
  """The file's text; bytes that are none are replaced, so that their lines can be told."""
  data = path.read_bytes()
  data = gzip.decompress(data) if path.suffix == '.gz' else data
  encoding = next((name for bom, name in _BOMS.items() if data.startswith(bom)), 'utf-8')
  return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, errors='replace')
