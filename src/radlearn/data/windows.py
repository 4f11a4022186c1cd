"""CT intensity windows, applied when an image is loaded: the store keeps Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from radlearn.data.images import to_uint8
from radlearn.data.store import ImageSource
from radlearn.errors import ConfigurationError, nearest

# Name -> lowest and highest Hounsfield unit shown: level -+ width / 2, the usual reading presets.
WINDOWS = {
    "soft_tissue": (-160.0, 240.0),
    "abdomen": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "mediastinum": (-125.0, 225.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
}
ROW = "row"


def parse(window: Any) -> tuple[float, float] | str:
    """A window setting -> (low, high), or `row` for the window that each row of the table names.

    Raises:
        ConfigurationError: for an unknown name, or a pair that does not go from low to high.
    """
    if isinstance(window, str):
        if window != ROW and window not in WINDOWS:
            there = [*WINDOWS, ROW]
            raise ConfigurationError(
                f"no window '{window}': there is {', '.join(there)}, or [low, high]{nearest(window, there)}"
            )
        return window if window == ROW else WINDOWS[window]
    values = [float(value) for value in window]
    if len(values) != 2 or not values[0] < values[1]:
        raise ConfigurationError(f"a window is [low, high] in Hounsfield units: got {window}")
    return values[0], values[1]


class WindowedSource:
    """Images of another source with a window applied to those in Hounsfield units.

    Args:
        source: the images.
        low, high: (N,) the window of each image; NaN leaves it as it is.
    """

    def __init__(self, source: ImageSource, low: np.ndarray, high: np.ndarray) -> None:
        self.source, self.low, self.high = source, low, high

    def __len__(self) -> int:
        return len(self.source)

    @property
    def ids(self) -> Sequence[str]:
        """The image ids, by row."""
        return self.source.ids

    def _windowed(self, image: np.ndarray, index: int) -> np.ndarray:
        if image.dtype != np.int16 or np.isnan(self.low[index]):
            return image
        return to_uint8(image, (float(self.low[index]), float(self.high[index])))

    def image(self, index: int) -> np.ndarray:
        """(H, W) uint8, or as the source has it where there is no window."""
        return self._windowed(self.source.image(index), index)

    def gather(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Several images in one call, in the order of `indices`."""
        images = self.source.gather(indices)
        return [self._windowed(image, index) for image, index in zip(images, indices, strict=True)]

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of `image(index)`."""
        return self.source.size(index)

    def index_of(self, image_id: str) -> int:
        """The row of an image id."""
        return self.source.index_of(image_id)
