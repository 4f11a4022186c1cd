"""CT intensity windows, applied when an image is loaded: the store keeps Hounsfield units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

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
# Shown where nothing names a window: level 40, width 400, the first of the two that CLEAR's pictures have.
DEFAULT = WINDOWS["soft_tissue"]


def parse(window: Any) -> tuple[float, float]:
    """A name of `WINDOWS`, or a pair, as (low, high). `row`, the window that each row names, is not for here.

    Raises:
        ConfigurationError: for an unknown name, or a pair that does not go from low to high.
    """
    if isinstance(window, str):
        if window not in WINDOWS:
            there = [*WINDOWS, ROW]
            raise ConfigurationError(
                f"no window '{window}': there is {', '.join(there)}, or [low, high]{nearest(window, there)}"
            )
        return WINDOWS[window]
    try:
        low, high = (float(value) for value in window)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a window is [low, high] in Hounsfield units: got {window}") from error
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise ConfigurationError(f"a window goes from a low to a high Hounsfield unit: got {window}")
    return low, high


def of_rows(windows: pl.Series, otherwise: tuple[float, float] = DEFAULT) -> tuple[np.ndarray, np.ndarray]:
    """The windows that the rows of a manifest name, as low and high (N,) float64.

    Args:
        windows: the column `window`, a struct of low and high.
        otherwise: for rows that name none, or one that does not go from low to high.
    """
    low, high = (windows.struct.field(name).cast(pl.Float64).to_numpy() for name in ("low", "high"))
    # Comparisons with NaN, which null becomes, are false.
    usable = (low < high) & np.isfinite(high - low)
    return np.where(usable, low, otherwise[0]), np.where(usable, high, otherwise[1])


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
