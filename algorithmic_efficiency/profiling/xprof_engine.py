"""This file asks xprof, a second and independent engine, for the kernel table of a trace.

It is not trusted to fail loudly: of a broken file it gives nothing and raises nothing; its cache is
keyed on the folder, so that of two traces in one folder the second gives the first one's table; it
writes files beside the trace. So it gets a private folder with a link, its cache is refused, and an
answer without a table is a failure.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.profiling import operators
from algorithmic_efficiency.profiling.activities import Kind, TraceError
from algorithmic_efficiency.profiling.columns import KERNEL
from algorithmic_efficiency.profiling.kernels import OTHER, Row


def rows(path: Path) -> Iterator[Row]:
  """The rows that xprof gives for an xplane.pb. Raises TraceError, UsageError without xprof."""
  for row in _table(path):
    told = {column.name: row.get(column.name) for column in KERNEL}
    for name in ('registers_per_thread', 'shmem_bytes', 'occurrences'):
      told[name] = int(told[name] or 0)
    op_name = told['op_name'] or ''
    yield {
      'device': '',
      'step': None,
      'phase': operators.phase(op_name) or OTHER,
      'layer': operators.layer(op_name),
      'kind': str(Kind.KERNEL),
      'hlo_op': '',
      **told,
      'op_name': op_name,
    }


def _table(path: Path) -> Iterator[dict[str, Any]]:
  try:
    from xprof.convert import raw_to_tool_data  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise UsageError(
      '--source=xprof needs xprof, which is not installed; pip install xprof.'
    ) from error
  with tempfile.TemporaryDirectory(prefix='xprof_') as folder:
    link = Path(folder) / path.name
    link.symlink_to(path.absolute())
    data, _ = raw_to_tool_data.xspace_to_tool_data(
      [str(link)], 'kernel_stats', {'use_saved_result': False}
    )
  if not data:
    raise TraceError('xprof gives no table for it')
  table = json.loads(data)
  names = [column['id'] for column in table['cols']]
  for row in table['rows']:
    yield dict(zip(names, (cell.get('v') for cell in row['c']), strict=True))
