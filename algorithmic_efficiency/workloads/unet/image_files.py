"""Reads an image or a mask from a file (TIFF and PNG by Pillow, NPY by numpy), and resizes it."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from algorithmic_efficiency.errors import UsageError

SUFFIXES = ('.npy', '.png', '.tif', '.tiff')
_MODES = ('1', 'L', 'P', 'RGB', 'RGBA')  # of Pillow: at most eight bits a channel


def read_image(path: Path) -> np.ndarray:
  """An image, float32 [height, width, 3]; grey is repeated. Raises UsageError."""
  array = _read(path, 'RGB')
  if array.ndim == 2:
    array = array[..., None]
  if array.shape[-1] == 1:
    array = np.repeat(array, 3, axis=-1)
  if array.ndim != 3 or array.shape[-1] != 3:
    raise _broken(path, f'it has the shape {array.shape} and must be [height, width, 3]')
  return array.astype(np.float32)


def read_mask(path: Path) -> np.ndarray:
  """A mask, bool [height, width]: True where the file has more than zero. Raises UsageError."""
  array = _read(path, 'L')
  if array.ndim == 3 and array.shape[-1] == 1:
    array = array[..., 0]
  if array.ndim != 2:
    raise _broken(path, f'it has the shape {array.shape} and must be [height, width]')
  return array > 0


def resize(image: np.ndarray, size: int) -> np.ndarray:
  """A square image, [size, size, …], each pixel the mean of those it covers, weighted by a tent."""
  height, width = image.shape[:2]
  rows = np.tensordot(_tents(height, size), image, 1)
  return np.tensordot(rows, _tents(width, size), (1, 1)).swapaxes(1, -1)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
  """A square mask, [size, size], each pixel that of the mask which is nearest."""
  rows, columns = (
    ((np.arange(size) + 0.5) * old / size).astype(int) for old in (mask.shape[0], mask.shape[1])
  )
  return mask[np.ix_(rows, columns)]


@functools.lru_cache(maxsize=16)
def _tents(old: int, new: int) -> np.ndarray:
  """Weights, float32 [new, old], rows of sum 1: linear interpolation, wider where it shrinks."""
  reach = max(old / new, 1.0)
  centres = (np.arange(new) + 0.5) * old / new - 0.5
  weights = np.maximum(0, 1 - np.abs(np.arange(old) - centres[:, None]) / reach)
  return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _read(path: Path, mode: str) -> np.ndarray:
  array = _read_npy(path) if path.suffix.lower() == '.npy' else _read_by_pillow(path, mode)
  if not array.size:
    raise _broken(path, f'it has the shape {array.shape}, in which there are no pixels')
  return array


def _read_npy(path: Path) -> np.ndarray:
  try:
    array: Any = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise _broken(path, ' '.join(str(error).split()).rstrip('.')) from error
  if not isinstance(array, np.ndarray) or array.dtype.kind not in 'biuf':
    raise _broken(path, 'it must hold one array of numbers')
  if array.ndim not in (2, 3):
    raise _broken(path, f'it has the shape {array.shape} and must be an image')
  if not np.isfinite(array).all():
    raise _broken(path, 'it holds numbers that are not finite')
  return array


def _read_by_pillow(path: Path, mode: str) -> np.ndarray:
  try:
    from PIL import Image  # an extra, which only these files need
  except ImportError as error:
    raise UsageError(
      f'Reading {str(path)!r} needs Pillow, which is not installed; '
      'pip install "algorithmic-efficiency[images]", or give the images as .npy files.'
    ) from error
  try:
    with Image.open(path) as image:
      pages = getattr(image, 'n_frames', 1)
      if pages != 1:
        raise _broken(path, f'it has {pages} pages and must have one')
      if image.mode not in _MODES:
        raise _broken(path, f'its mode is {image.mode!r} and must be one of {", ".join(_MODES)}')
      return np.asarray(image.convert(mode))
  except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
    raise _broken(path, ' '.join(str(error).split()).rstrip('.')) from error


def _broken(path: Path, reason: str) -> UsageError:
  return UsageError(f'{str(path)!r} cannot be used: {reason}; mend the file or remove its pair.')
