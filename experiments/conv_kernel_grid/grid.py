"""The settings of the grid, by what may vary in a network of one convolution."""

import itertools
from typing import NamedTuple

IMAGE_SIZE = 28
LEARNING_RATE = 0.01


class Setting(NamedTuple):
  """A network of one convolution, and how many images it sees in a step."""

  batch_size: int
  stride: int
  kernel_size: int
  filters: int

  @property
  def name(self) -> str:
    """As folders are named, from which the export reads the parameters."""
    return f'b{self.batch_size}s{self.stride}k{self.kernel_size}f{self.filters}'

  @property
  def output_size(self) -> int:
    """Pixels of a side of the convolution's output."""
    return -(-IMAGE_SIZE // self.stride)

  @property
  def padding(self) -> tuple[int, int]:
    """Pixels before and behind a side, for 'same' padding as TensorFlow and JAX have it."""
    reach = (self.output_size - 1) * self.stride + self.kernel_size
    total = max(reach - IMAGE_SIZE, 0)
    return total // 2, total - total // 2


# Around powers of two, and around the batch of 320 that the first of these studies trained with.
_FULL_BATCHES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 319,
                 320, 321)  # fmt: skip
_AXES = {
  'full': (_FULL_BATCHES, (1, 2, 3), (1, 3), range(1, 11)),
  'small': ((1, 8, 32, 64, 128, 320), (1, 2, 3), (1, 3), (1, 2, 4, 8)),
  'smoke': ((1, 8), (1,), (3,), (1, 4)),
}
NAMES = tuple(_AXES)


def settings(name: str) -> list[Setting]:
  """All settings of a grid."""
  return [Setting(*point) for point in itertools.product(*_AXES[name])]
