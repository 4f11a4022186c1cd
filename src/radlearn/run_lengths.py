"""Masks as text: run lengths "start length start length ..." over the flattened image, row by row, from 0.

This is the form of the manifest's column `mask`. What releases write is in `data/masks.py`.
"""

from __future__ import annotations

import numpy as np

from radlearn.errors import DataError


def encode(mask: np.ndarray) -> str:
    """The run lengths of a mask (H, W); an empty text where nothing is set."""
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return " ".join(f"{start} {stop - start}" for start, stop in zip(edges[::2], edges[1::2], strict=True))


def decode(rle: str, height: int, width: int) -> np.ndarray:
    """A mask (height, width) bool; the inverse of `encode`.

    Raises:
        DataError: if the runs are no pairs of whole numbers or leave the image.
    """
    size = height * width
    numbers = parse(rle)
    starts, lengths = numbers[::2], numbers[1::2]
    # Each number is compared alone too: the sum of two huge ones would wrap around.
    if len(numbers) % 2 or (numbers < 0).any() or (numbers > size).any() or (starts + lengths > size).any():
        raise DataError(f"a mask of {height} x {width} pixels has runs outside it or a start without length")
    # Runs may overlap: count how many begin and end at each pixel.
    steps = np.zeros(size + 1, np.int32)
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + lengths, -1)
    return (np.cumsum(steps[:size]) > 0).reshape(height, width)


def parse(rle: str) -> np.ndarray:
    """The whole numbers of a run length text, int64.

    Raises:
        DataError: if it holds anything else.
    """
    try:
        return np.array(rle.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"a mask is run lengths 'start length ...' of whole numbers, got '{rle[:40]}'"
        ) from error
