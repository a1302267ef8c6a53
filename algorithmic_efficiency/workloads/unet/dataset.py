"""Finds pairs of images and masks below a folder and loads them as arrays.

data_dir/unet, data_dir/unet/kaggle_3m,  a folder for each patient, <name>.tif and <name>_mask.tif
data_dir/kaggle_3m, data_dir, …          in it; or all in one folder, as <patient>_<number>.tif

So do .tiff, .png and .npy, which may be mixed; the two of a pair are of one kind.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads.unet import image_files

DEFAULT_DATA_DIR = Path('~/data')
_FOLDERS = (
  'unet',
  'unet/kaggle_3m',
  'unet/lgg-mri-segmentation/kaggle_3m',
  'kaggle_3m',
  'lgg-mri-segmentation/kaggle_3m',
  '.',
)
_MASK = '_mask'
_WEB_PAGE = 'https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation'
LEAST_PATIENTS = 3  # one for each split


@dataclasses.dataclass(frozen=True)
class Patient:
  """The slices of a patient, a volume.

  Attributes:
    name: of the patient.
    images: the files of its slices, in their order; the mask of each is `mask_of(image)`.
  """

  name: str
  images: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Splits:
  """Which patients are in which split; all in the order of their names."""

  train: tuple[Patient, ...]
  test: tuple[Patient, ...]
  validation: tuple[Patient, ...]

  @property
  def all(self) -> tuple[Patient, ...]:
    """The patients of the three, one after the other."""
    return (*self.train, *self.test, *self.validation)


def count(patients: Sequence[Patient]) -> int:
  """Their slices."""
  return sum(len(patient.images) for patient in patients)


def mask_of(image: Path) -> Path:
  """The file of an image's mask."""
  return image.with_name(f'{image.stem}{_MASK}{image.suffix}')


def find(data_dir: Path | None) -> Splits:
  """The patients below `data_dir`, ~/data where None; their files are named, and not yet read.

  The last tenth of the patients, and one at least, is the validation split, and as many before
  them are the test split: no patient is in two of them.

  Raises:
    UsageError: there are none or too few, or an image and its mask are not both there.
  """
  root = (DEFAULT_DATA_DIR if data_dir is None else data_dir).expanduser()
  for name in _FOLDERS:
    patients = _patients(root / name)
    if patients:
      return _split(root / name, patients)
  raise UsageError(
    f'No image with a mask is in {str(root / _FOLDERS[0])!r}; put <patient>/<name>.tif and '
    f'<name>{_MASK}.tif there (or .png, .npy; the public set is at {_WEB_PAGE}), or name the '
    'folder above with --data_dir, or choose --data=synthetic, which needs none.'
  )


def load(patient: Patient, size: int) -> tuple[np.ndarray, np.ndarray]:
  """(images, float32 [slices, size, size, 3], masks, float32 [slices, size, size, 1] of 0 and 1).

  Images are stretched to squares and normalised over the whole volume. Raises UsageError.
  """
  images = np.empty((len(patient.images), size, size, 3), np.float32)
  masks = np.empty((len(patient.images), size, size, 1), np.float32)
  for number, path in enumerate(patient.images):
    image, mask = image_files.read_image(path), image_files.read_mask(mask_of(path))
    if image.shape[:2] != mask.shape:
      raise UsageError(
        f'{str(path)!r} has {_pixels(image)} pixels and its mask {_pixels(mask)}; '
        'an image and its mask must be of one size.'
      )
    images[number] = image_files.resize(image, size)
    masks[number, ..., 0] = image_files.resize_mask(mask, size)
  return normalise(images), masks


def normalise(volume: np.ndarray) -> np.ndarray:
  """A volume, [slices, height, width, channels], as float32 of mean 0 and deviation 1 per channel.

  First what is beyond the 10th and the 99th percentile of all its numbers is cut off: slices are
  of no common unit, and a few bright pixels would decide the scale. What does not vary becomes 0.
  """
  low, high = np.percentile(volume, (10, 99))
  cut = np.clip(volume, low, high).astype(np.float64)
  cut -= cut.mean(axis=(0, 1, 2))
  deviation = cut.std(axis=(0, 1, 2))
  varies = deviation > 1e-6 * max(abs(low), abs(high))  # the rest of a mean is no variation
  return (np.where(varies, cut / np.where(varies, deviation, 1), 0)).astype(np.float32)


def _patients(folder: Path) -> list[Patient]:
  """The patients in a folder and in the folders in it, sorted; none where there is no mask."""
  places = [folder, *sorted(_folders_in(folder))]
  files = {place: _images_in(place) for place in places}
  if not any(_is_mask(path) for paths in files.values() for path in paths):
    return []
  found: dict[str, list[Path]] = {}
  for place, paths in files.items():
    for path in paths:
      _check_pair(path)
      if not _is_mask(path):
        name = re.sub(r'_\d+$', '', path.stem) if place == folder else place.name
        found.setdefault(name, []).append(path)
  return [Patient(name, tuple(sorted(found[name], key=_order))) for name in sorted(found)]


def _split(folder: Path, patients: list[Patient]) -> Splits:
  if len(patients) < LEAST_PATIENTS:
    raise UsageError(
      f'{str(folder)!r} has {len(patients)} patients and must have {LEAST_PATIENTS} at least, one '
      'for each split; give each a folder, or name the files <patient>_<number>.'
    )
  share = max(1, len(patients) // 10)
  train, test, validation = patients[: -2 * share], patients[-2 * share : -share], patients[-share:]
  return Splits(tuple(train), tuple(test), tuple(validation))


def _folders_in(folder: Path) -> list[Path]:
  try:
    return [path for path in folder.iterdir() if path.is_dir() and path.name[0] != '.']
  except OSError:  # it is not there, or not ours to read: the next place may have the images
    return []


def _images_in(folder: Path) -> list[Path]:
  try:
    files = [path for path in folder.iterdir() if path.suffix.lower() in image_files.SUFFIXES]
  except OSError:  # as above
    return []
  return sorted(path for path in files if path.name[0] != '.' and path.is_file())


def _is_mask(path: Path) -> bool:
  return path.stem.endswith(_MASK)


def _check_pair(path: Path) -> None:
  """Raises UsageError where an image has no mask, or a mask no image."""
  if not _is_mask(path):
    if not mask_of(path).is_file():
      raise UsageError(
        f'{str(path)!r} has no mask; put {mask_of(path).name} beside it, or remove the image.'
      )
    return
  image = path.with_name(f'{path.stem.removesuffix(_MASK)}{path.suffix}')
  if not image.is_file():
    raise UsageError(f'{str(path)!r} has no image; put {image.name} beside it, or remove the mask.')


def _order(path: Path) -> tuple[list[int], str]:
  """Numbers in a name are compared as numbers: slice 10 comes after slice 9."""
  return [int(number) for number in re.findall(r'\d+', path.stem)], path.name


def _pixels(array: np.ndarray) -> str:
  return f'{array.shape[0]} x {array.shape[1]}'
