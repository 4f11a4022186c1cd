"""Masks as releases write them: relative run lengths, boxes, ellipses, polygons -> (H, W) bool.

A pixel belongs to a shape where its centre lies inside: pixel (row, column) has its centre at
(row + 0.5, column + 0.5) in the coordinates of boxes and polygons, whose origin is the image's upper left
corner. So a box of whole numbers (x, y, w, h) fills exactly w * h pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from radlearn import run_lengths
from radlearn.errors import DataError

_EMPTY_WORDS = ("-1", "")


def from_relative_runs(rle: str, height: int, width: int) -> np.ndarray:
    """Decode SIIM-ACR's run lengths: pairs (gap, length), each gap counted from the end of the last run.

    The runs go down the columns: the flat vector is the transposed image.

    Args:
        rle: "gap length gap length ..."; "-1", also with blanks around it, and a blank text are empty masks.
        height, width: of the image in pixels.

    Raises:
        DataError: if the runs are no pairs of whole numbers or leave the image.
    Source: SIIM-ACR Pneumothorax Segmentation challenge, `mask_functions.py` (relative form).
    """
    flat = np.zeros(height * width, bool)
    flat[_pixels_of_relative_runs(rle, height * width)] = True
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _pixels_of_relative_runs(rle: str, size: int) -> np.ndarray:
    """Places of the set pixels in the flat image, int64."""
    if rle.strip() in _EMPTY_WORDS:
        return np.zeros(0, np.int64)
    numbers = run_lengths.parse(rle)
    if len(numbers) % 2 or (numbers < 0).any() or (numbers > size).any():
        raise DataError(f"relative run lengths are pairs 'gap length' of whole numbers, got '{rle[:40]}'")
    ends = np.cumsum(numbers)  # after each gap a run begins, after each length it ends
    if len(ends) and ends[-1] > size:
        raise DataError(f"relative run lengths leave the image of {size} pixels: they end at {ends[-1]}")
    lengths = numbers[1::2]
    # Counting on from pixel to pixel, and at each run a step by all the gaps before it.
    return np.asarray(np.arange(lengths.sum()) + np.repeat(np.cumsum(numbers[::2]), lengths))


def from_boxes(boxes: Iterable[Sequence[float]], height: int, width: int) -> np.ndarray:
    """The union of filled boxes (x, y, w, h), corners rounded to whole pixels."""
    mask = np.zeros((height, width), bool)
    for x, y, w, h in boxes:
        left, top, right, bottom = (round(value) for value in (x, y, x + w, y + h))
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def from_ellipse(x1: float, y1: float, x2: float, y2: float, height: int, width: int) -> np.ndarray:
    """The filled ellipse that touches the sides of the box from (x1, y1) to (x2, y2)."""
    left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    if right == left or bottom == top:
        return np.zeros((height, width), bool)
    columns = (np.arange(width) + 0.5 - (left + right) / 2) / ((right - left) / 2)
    rows = (np.arange(height) + 0.5 - (top + bottom) / 2) / ((bottom - top) / 2)
    return rows[:, None] ** 2 + columns[None, :] ** 2 <= 1


def from_polygon(points: Sequence[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """The filled polygon through the points (x, y), in order; even-odd where it crosses itself."""
    crossings = np.zeros((height, width + 1), bool)
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], *points[:1]], strict=True):
        if y1 == y2:
            continue
        (low, x_low), (high, x_high) = sorted([(y1, x1), (y2, x2)])
        # Rows whose centre line the side crosses: its lower end counts, its upper does not.
        rows = np.arange(max(math.ceil(low - 0.5), 0), min(math.ceil(high - 0.5), height))
        at = x_low + (rows + 0.5 - low) * (x_high - x_low) / (high - low)
        crossings[rows, np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)] ^= True
    return np.logical_xor.accumulate(crossings, axis=1)[:, :width]


def row(masks: dict[str, np.ndarray]) -> list[dict[str, str]]:
    """The manifest's cell `mask` of these masks by class; empty masks are left out."""
    return [{"class": name, "rle": run_lengths.encode(mask)} for name, mask in masks.items() if mask.any()]


# --- straight to run lengths: only the part of the image that holds the shape is painted, which is what makes
# twelve thousand masks of a million pixels a matter of seconds


def rle_of_part(part: np.ndarray, top: int, left: int, width: int) -> str:
    """The run lengths of an image of this width that holds `part` (h, w) at row `top`, column `left`.

    The text is the one that `run_lengths.encode` gives for the whole image.
    """
    gap = int(part.shape[1] < width)  # a column between rows ends their runs, unless rows touch in the image
    rows = np.pad(np.asarray(part, bool), ((0, 0), (0, gap))).ravel()
    flat = np.concatenate([[False], rows, [False]])
    row, column = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), part.shape[1] + gap)
    places = (row + top) * width + column + left
    return " ".join(f"{start} {stop - start}" for start, stop in places.reshape(-1, 2).tolist())


def rle_of_relative_runs(rles: Iterable[str], height: int, width: int) -> str:
    """The run lengths of the union of `from_relative_runs` of several texts: one image of SIIM-ACR.

    Raises:
        DataError: as `from_relative_runs`.
    """
    pixels = np.concatenate([_pixels_of_relative_runs(rle, height * width) for rle in rles])
    if not len(pixels):
        return ""
    column, row = np.divmod(pixels, height)
    top, left = int(row.min()), int(column.min())
    part = np.zeros((int(row.max()) + 1 - top, int(column.max()) + 1 - left), bool)
    part[row - top, column - left] = True
    return rle_of_part(part, top, left, width)


def rle_of_boxes(boxes: Sequence[Sequence[float]], height: int, width: int) -> str:
    """The run lengths of `from_boxes`."""
    if not boxes:
        return ""
    sides = np.asarray(boxes, np.float64)
    corners = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)
    # Cut before rounding: a side may be too large for an integer.
    corners = np.rint(np.clip(corners, 0, [width, height, width, height])).astype(np.int64)
    corners = corners[(corners[:, 2:] > corners[:, :2]).all(axis=1)]
    if not len(corners):
        return ""
    left, top = (int(v) for v in corners[:, :2].min(axis=0))
    right, bottom = (int(v) for v in corners[:, 2:].max(axis=0))
    moved = corners - [left, top, left, top]
    sides = np.concatenate([moved[:, :2], moved[:, 2:] - moved[:, :2]], axis=1)
    return rle_of_part(from_boxes(sides.tolist(), bottom - top, right - left), top, left, width)
