"""Stands in for the slices of a scanner: noise with an ellipse in it, and its mask, as files."""

from pathlib import Path

import numpy as np


def draw(generator: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
  """(image, uint8 [size, size, 3], mask, bool [size, size]); one slice of four shows nothing."""
  y, x = np.indices((size, size)) / size - generator.uniform(0.3, 0.7, (2, 1, 1))
  height, width = generator.uniform(0.12, 0.28, 2)
  mask = (y / height) ** 2 + (x / width) ** 2 < 1
  mask &= generator.uniform() > 0.25
  image = generator.uniform(20, 90, (size, size, 3)) + 100 * mask[..., None]
  return image.astype(np.uint8), mask


def save(path: Path, array: np.ndarray) -> None:
  """Writes an array as the kind of file that its name says."""
  if path.suffix == '.npy':
    np.save(path, array)
    return
  from PIL import Image

  Image.fromarray(array).save(path)


def write(folder: Path, patients: int, slices: int, suffix: str = '.npy', size: int = 32) -> None:
  """Pairs in a folder for each patient, named and numbered as the public set's are."""
  for patient in range(patients):
    place = folder / f'PATIENT_{patient:02}'
    place.mkdir(parents=True)
    for number in range(1, slices + 1):
      image, mask = draw(np.random.default_rng([patient, number]), size)
      name = f'{place.name}_{number}'
      save(place / f'{name}{suffix}', image)
      save(place / f'{name}_mask{suffix}', (mask * 255).astype(np.uint8))
