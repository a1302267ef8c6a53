"""This file finds which operator of the program an HLO instruction came from."""

from typing import Any

from algorithmic_efficiency.profiling import schema


class OpNames:
  """Operator names by module and instruction; a module is decoded when it is asked for."""

  def __init__(self) -> None:
    self._undecoded: dict[str, list[bytes]] = {}
    self._names: dict[str, dict[str, str]] = {}

  def add(self, module: str, hlo: bytes) -> None:
    """A compiled module as XLA wrote it, named 'jit_f(5)': its name and its program."""
    self._undecoded.setdefault(module, []).append(hlo)
    bare = module.rpartition('(')[0]
    if bare:
      self._undecoded.setdefault(bare, []).append(hlo)

  def of(self, module: str, program_id: str, hlo_op: str) -> str:
    """'jit(f)/transpose(jvp(Net))/Conv_0/conv_general_dilated', or '' where nothing is known."""
    for key in (f'{module}({program_id})', module):
      found = self._module(key).get(hlo_op)
      if found:
        return found
    return ''

  def _module(self, key: str) -> dict[str, str]:
    names = self._names.get(key)
    if names is None:
      names = self._names[key] = {}
      for content in self._undecoded.get(key, ()):
        names.update(_instructions(schema.parse('Hlo', content)))
    return names


def _instructions(hlo: Any) -> dict[str, str]:
  return {
    instruction.name.decode(errors='replace'): instruction.metadata.op_name.decode(errors='replace')
    for computation in hlo.hlo_module.computations
    for instruction in computation.instructions
    if instruction.metadata.op_name
  }
