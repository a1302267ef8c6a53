"""This file gives units of a wide address space places in dense arrays, as a page table does.

Blocks of 512 units (2 MiB of pages of 4 KiB) get their 512 places when a unit of theirs is first
asked for; a search is made per block, not per unit. The sampled table gives places to a part of
the units only, which a hash of their number chooses.
"""

import numpy as np

from algorithmic_efficiency.memory_trace import unit_runs

_BITS = 9
_BLOCK = 1 << _BITS


class PageTable:
  """Places of units, from 0 on; a place once given stays.

  Attributes:
    size: how many places there are; of a block all, asked for or not.
  """

  def __init__(self) -> None:
    self.size = 0
    self._blocks = np.empty(0, np.int64)  # ascending
    self._firsts = np.empty(0, np.int64)  # the place of each block's first unit

  def places(self, runs: np.ndarray) -> np.ndarray:
    """The place of every unit of the runs, in their order; int64."""
    blocks, begins, counts = _by_block(runs)
    where = self._found(blocks)
    return unit_runs.expanded(self._firsts[where] + (begins & (_BLOCK - 1)), counts)

  def units(self) -> tuple[np.ndarray, np.ndarray]:
    """Every unit that has a place, ascending, and its place."""
    within = np.arange(_BLOCK)
    units = ((self._blocks << _BITS)[:, None] + within).ravel()
    return units, (self._firsts[:, None] + within).ravel()

  def _found(self, blocks: np.ndarray) -> np.ndarray:
    """Where the blocks are; those that are new are put in."""
    if not len(blocks):
      return blocks
    starts = np.concatenate([[True], blocks[1:] != blocks[:-1]])  # many runs lie in a block
    distinct, which = blocks[starts], np.cumsum(starts) - 1
    where = np.searchsorted(self._blocks, distinct)
    new = _missing(self._blocks, where, distinct)
    if not len(new):
      return where[which]
    firsts = self.size + np.arange(len(new)) * _BLOCK
    self.size += len(new) * _BLOCK
    at = np.searchsorted(self._blocks, new)
    self._blocks = np.insert(self._blocks, at, new)
    self._firsts = np.insert(self._firsts, at, firsts)
    return np.searchsorted(self._blocks, distinct)[which]


class SampledTable:
  """Places of units that a hash of their number chooses, a part `rate` of all.

  A unit is seen whenever it is touched, or never, since the choice is by the unit: SHARDS,
  Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST 2015, section 3.1. What was
  chosen is kept in the order of the units: a run costs two searches and what is chosen of it.
  """

  def __init__(self, rate: float) -> None:
    self.size = 0
    self._below = np.uint64(min(int(rate * 2.0**64), 2**64 - 1))
    self._blocks = np.empty(0, np.int64)
    self._units = np.empty(0, np.int64)  # ascending
    self._places = np.empty(0, np.int64)

  def places(self, runs: np.ndarray) -> np.ndarray:
    """The place of every unit of the runs that was chosen, in their order; int64."""
    blocks = _by_block(runs)[0]
    new = _missing(self._blocks, np.searchsorted(self._blocks, blocks), blocks)
    if len(new):
      self._choose(new)
    low = np.searchsorted(self._units, runs[:, 0])
    high = np.searchsorted(self._units, runs[:, 0] + runs[:, 1])
    return self._places[unit_runs.expanded(low, high - low)]

  def units(self) -> tuple[np.ndarray, np.ndarray]:
    """Every unit that has a place, ascending, and its place."""
    return self._units, self._places

  def _choose(self, blocks: np.ndarray) -> None:
    self._blocks = np.insert(self._blocks, np.searchsorted(self._blocks, blocks), blocks)
    units = ((blocks << _BITS)[:, None] + np.arange(_BLOCK)).ravel()
    chosen = units[hashed(units) < self._below]
    at = np.searchsorted(self._units, chosen)
    self._units = np.insert(self._units, at, chosen)
    self._places = np.insert(self._places, at, self.size + np.arange(len(chosen)))
    self.size += len(chosen)


def hashed(units: np.ndarray) -> np.ndarray:
  """A uniform uint64 of every unit: splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
  mixed = units.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
  mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return mixed ^ (mixed >> np.uint64(31))


def _by_block(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The runs cut where blocks end: the block of each piece, its first unit, and its length."""
  firsts, counts = runs[:, 0], runs[:, 1]
  ends = firsts + counts
  blocks = firsts >> _BITS
  pieces = ((ends - 1) >> _BITS) - blocks + 1
  if (pieces == 1).all():
    return blocks, firsts, counts
  run, block = np.repeat(np.arange(len(runs)), pieces), unit_runs.expanded(blocks, pieces)
  begins = np.maximum(firsts[run], block << _BITS)
  return block, begins, np.minimum(ends[run], (block + 1) << _BITS) - begins


def _missing(known: np.ndarray, where: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """Those wanted that are not known, each once, ascending; `where` they would be is given."""
  if not len(known):
    return np.unique(wanted)
  return np.unique(wanted[known[np.minimum(where, len(known) - 1)] != wanted])
