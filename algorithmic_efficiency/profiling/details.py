"""This file reads the texts that profilers attach to a kernel: its launch and its annotation."""

import functools
import re
from typing import NamedTuple

from algorithmic_efficiency.profiling.activities import NO_LAUNCH, Launch

# 'regs:16 shm:0 grid:1,1,1 block:1024,1,1' in 2020, and since
# 'regs:32 static_shared:0 dynamic_shared:8192 grid:… block:… occ_pct:66.7'.
_PAIR = re.compile(r'(\w+):\s*([-\d.,eE+]+)')
_SHARED = ('shm', 'static_shared', 'dynamic_shared')

# An operator as TensorFlow names it in an annotation: 'model/conv2d/Conv2D:Conv2D'. As in the
# writers of kernel_stats.pb a name with a hyphen is none, and keeps its type.
_TF_OP = re.compile(r'([A-Za-z0-9.][\w./\\>]*):([A-Z_]\w*)')


class Annotation(NamedTuple):
  """What an annotation tells: the operator, its type, and the HLO instruction and module."""

  op_name: str = ''
  op_type: str = ''
  hlo_op: str = ''
  hlo_module: str = ''
  program_id: str = ''


@functools.lru_cache(65536)
def launch(details: str, occupancy_pct: float | None = None) -> Launch:
  """How a kernel was launched, by its `kernel_details`."""
  pairs = {name: value.strip(',') for name, value in _PAIR.findall(details)}
  if not pairs and occupancy_pct is None:
    return NO_LAUNCH
  occupancy = float(pairs['occ_pct']) if 'occ_pct' in pairs else occupancy_pct
  return Launch(
    registers_per_thread=int(pairs.get('regs', 0)),
    shmem_bytes=sum(int(pairs.get(name, 0)) for name in _SHARED),
    block_dim=pairs.get('block', '1,1,1'),
    grid_dim=pairs.get('grid', '1,1,1'),
    occupancy_pct=occupancy,
  )


@functools.lru_cache(65536)
def annotation(text: str) -> Annotation:
  """The innermost operator of an annotation: levels between '::', their metadata between '#'.

  'Adam/add:AddV2'                                             TensorFlow
  'XlaModule:#hlo_module=jit_f,program_id=5#::Thunk:#hlo_op=fusion.1#'   XLA
  """
  known: dict[str, str] = {}
  name = ''
  for level in _levels(text):
    label, _, rest = level.partition('#')
    pairs = (pair.partition('=') for pair in _parts(rest.rstrip('#')))
    known.update((key.strip(), value.strip()) for key, equals, value in pairs if equals)
    if label:
      name = label
  hlo_op, module = known.get('hlo_op', ''), known.get('hlo_module', '')
  op_type = ''
  if hlo_op or name.startswith(('Thunk:', 'XlaModule:', 'TSL:')):
    name = known.get('tf_op') or known.get('name', '')
  elif match := _TF_OP.fullmatch(name):
    name, op_type = match.groups()
  return Annotation(name, op_type, hlo_op, module, known.get('program_id', ''))


def _parts(text: str) -> list[str]:
  """What commas part, but for those in brackets: 'name=transpose[permutation=(1, 0)],hlo_op=a'."""
  parts, depth, begin = [], 0, 0
  for at, letter in enumerate(text):
    depth += (letter in '([{') - (letter in ')]}')
    if letter == ',' and depth == 0:
      parts.append(text[begin:at])
      begin = at + 1
  return [*parts, text[begin:]]


def _levels(text: str) -> list[str]:
  """The levels of an annotation; '::' within a C++ name or a '#…#' separates none."""
  levels, within, begin, at = [], False, 0, 0
  while at < len(text):
    if text[at] == '#':
      within = not within
    elif not within and text.startswith('::', at):
      levels.append(text[begin:at])
      begin = at + 2
      at += 1
    at += 1
  return [*levels, text[begin:]]
