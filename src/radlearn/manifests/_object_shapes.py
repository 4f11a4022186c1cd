"""The annotation grammar of object-CXR: shapes joined by `;`, numbers by blanks, the first one the kind.

    0 x1 y1 x2 y2                rectangle, upper left and lower right corner
    1 x1 y1 x2 y2                ellipse, the corners of the box around it
    2 x1 y1 x2 y2 ... xn yn      polygon

x goes right, y down, the origin is the upper left corner of the image.
Source: https://github.com/hlk-1135/object-CXR, section Annotation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from radlearn.data import masks
from radlearn.errors import DataError

KINDS = ("rectangle", "ellipse", "polygon")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One object: `kind` of `KINDS`, `points` (x, y) in source pixels; two corners, or those of a polygon."""

    kind: str
    points: tuple[tuple[float, float], ...]

    @property
    def sides(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the box around it."""
        xs, ys = [x for x, _ in self.points], [y for _, y in self.points]
        return min(xs), min(ys), max(xs), max(ys)


def parse(annotation: str | None) -> tuple[Shape, ...]:
    """The shapes of one cell; none where it is blank.

    Raises:
        DataError: for another kind, a number that is none, or a wrong count of numbers.
    """
    return tuple(_shape(part) for part in (annotation or "").split(";") if part.strip())


def _shape(text: str) -> Shape:
    wanted = "an object is '0 x1 y1 x2 y2', '1 x1 y1 x2 y2' or '2 x1 y1 ... xn yn'"
    try:
        kind, *numbers = (float(word) for word in text.split())
    except ValueError as error:
        raise DataError(f"{wanted}: got '{text[:40]}'") from error
    pairs, odd = divmod(len(numbers), 2)
    # A polygon of two points has no area, but is sound.
    is_sound = pairs == 2 if kind in (0, 1) else kind == 2 and pairs >= 2
    if odd or not is_sound or not all(map(math.isfinite, numbers)):
        raise DataError(f"{wanted}: got '{text[:40]}'")
    return Shape(KINDS[int(kind)], tuple(zip(numbers[::2], numbers[1::2], strict=True)))


def write(shapes: Iterable[Shape]) -> str:
    """The cell that `parse` reads."""
    cells = [
        (KINDS.index(shape.kind), *(side for point in shape.points for side in point)) for shape in shapes
    ]
    return ";".join(" ".join(f"{number:g}" for number in cell) for cell in cells)


def box(shape: Shape, height: int | None = None, width: int | None = None) -> Box:
    """x, y, w, h of the box around a shape, cut to the image where its size is given."""
    left, top, right, bottom = shape.sides
    if height is not None and width is not None:
        left, right = (min(max(x, 0.0), width) for x in (left, right))
        top, bottom = (min(max(y, 0.0), height) for y in (top, bottom))
    return left, top, right - left, bottom - top


def published_box(shape: Shape) -> Box:
    """The box as LoVT stored it: (x1, y1, y2 - y1, x2 - x1), width and height exchanged."""
    left, top, right, bottom = shape.sides
    return left, top, bottom - top, right - left


def mask(shapes: Sequence[Shape], height: int, width: int, *, published: bool = False) -> str:
    """Run lengths of the union of the shapes in an image (height, width).

    Args:
        shapes: of one image.
        height, width: of the image in pixels.
        published: as LoVT filled them: ellipses as the rectangle around them, polygons with x and y swapped.
    """
    if published:
        shapes = [_as_published(shape) for shape in shapes]
    windows = [_window(shape, height, width) for shape in shapes]
    seen = [(shape, window) for shape, window in zip(shapes, windows, strict=True) if window is not None]
    if not seen:
        return ""
    left, top = (min(window[i] for _, window in seen) for i in (0, 1))
    right, bottom = (max(window[i] for _, window in seen) for i in (2, 3))
    part = np.zeros((bottom - top, right - left), bool)
    for shape, (x1, y1, x2, y2) in seen:
        part[y1 - top : y2 - top, x1 - left : x2 - left] |= _fill(shape, x1, y1, y2 - y1, x2 - x1)
    return masks.rle_of_part(part, top, left, width)


def _window(shape: Shape, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the pixels that a shape may touch; None where it lies outside."""
    x1, y1, x2, y2 = shape.sides
    left, top = max(math.floor(x1) - 1, 0), max(math.floor(y1) - 1, 0)
    right, bottom = min(math.ceil(x2) + 1, width), min(math.ceil(y2) + 1, height)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _as_published(shape: Shape) -> Shape:
    if shape.kind == "polygon":
        return Shape("polygon", tuple((y, x) for x, y in shape.points))
    return Shape("rectangle", shape.points)


def _fill(shape: Shape, left: int, top: int, height: int, width: int) -> np.ndarray:
    """The shape in the part (height, width) of an image that begins at (left, top)."""
    points = [(x - left, y - top) for x, y in shape.points]
    if shape.kind == "polygon":
        return masks.from_polygon(points, height, width)
    x1, y1, x2, y2 = Shape(shape.kind, tuple(points)).sides
    if shape.kind == "ellipse":
        return masks.from_ellipse(x1, y1, x2, y2, height, width)
    return masks.from_boxes([(x1, y1, x2 - x1, y2 - y1)], height, width)
