"""The image plane of the phantom: pixel grid in patient coordinates, strokes and random fields.

Patient coordinates are centimetres: x towards the patient's left (image right), y downwards, origin in the
middle of the chest. Nothing here depends on the number of pixels except how finely it is sampled: a field is
the same picture at any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FIELD_OF_VIEW = 34.0  # cm, side of the square image
_STROKE_SHIFT = 4  # fractional bits of OpenCV coordinates

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pose:
    """How the patient lies in the image: scale, shift (cm), tilt (rad), elastic displacement (cm).

    `elastic` is (2, G, G): a coarse grid over the field of view, interpolated smoothly.
    """

    scale: float
    shift: tuple[float, float]
    tilt: float
    elastic: Field


def resize(values: NDArray[np.float32], size: int) -> Field:
    """Resample a square field to (size, size): area mean when shrinking, cubic when growing."""
    side = values.shape[0]
    if side == size:
        return values
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    result: Field = cv2.resize(values, (size, size), interpolation=method)
    return result


def blur(values: NDArray[np.float32], sigma: float) -> Field:
    """Gaussian blur, sigma in pixels; a wide one is computed on a smaller grid."""
    side = values.shape[0]
    factor = 1
    while sigma / factor > 6 and side // (factor * 2) >= 16:
        factor *= 2
    small = (
        cv2.resize(values, (side // factor, side // factor), interpolation=cv2.INTER_AREA)
        if factor > 1
        else values
    )
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
    result: Field = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR) if factor > 1 else small
    return result


def sigmoid(values: NDArray[np.floating[Any]]) -> Field:
    """Logistic function, safe for large arguments."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -30.0, 30.0))), np.float32)


def fractal(generator: np.random.Generator, size: int, exponent: float, coarsest: int = 4) -> Field:
    """A random field with amplitude ~ 1/f^exponent, unit variance, the same at every size.

    Octaves are drawn from coarse to fine, each on its own grid, so a larger image only adds finer ones.
    """
    total = np.zeros((size, size), np.float32)
    variance, grid, octave = 0.0, coarsest, 0
    state = generator.integers(0, 2**63, size=9)
    while grid <= size // 2 and octave < len(state):
        private = np.random.Generator(np.random.PCG64(int(state[octave])))
        # Amplitude 1/f^e in two dimensions gives an octave a standard deviation of f^(1-e).
        weight = (grid / coarsest) ** (1.0 - exponent)
        total += weight * resize(private.standard_normal((grid, grid), dtype=np.float32), size)
        variance += weight**2 * 0.55  # cubic interpolation leaves 0.55 of the variance of white knots
        grid, octave = grid * 2, octave + 1
    total /= np.float32(np.sqrt(max(variance, 1e-6)))
    return total


@lru_cache(maxsize=4)
def _pixel_centres(size: int) -> tuple[Field, Field]:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * FIELD_OF_VIEW
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    return x, y


class Frame:
    """The pixel grid in patient coordinates, `x` and `y` (size, size) in cm, and strokes placed in them."""

    def __init__(self, size: int, pose: Pose) -> None:
        self.size = size
        self.pose = pose
        self.pixel = FIELD_OF_VIEW / size
        # Thin structures are drawn finer than the image and averaged, so they do not alias.
        self.canvas_side = 512 if size <= 192 else 1024
        self._canvas_scale = self.canvas_side / FIELD_OF_VIEW
        self._elastic = np.stack([resize(component, 64) for component in pose.elastic], axis=-1)
        px, py = _pixel_centres(size)
        dx, dy = px - pose.shift[0], py - pose.shift[1]
        cosine, sine = np.float32(np.cos(pose.tilt)), np.float32(np.sin(pose.tilt))
        inverse = np.float32(1.0 / pose.scale)
        self.x: Field = (cosine * dx + sine * dy) * inverse + resize(pose.elastic[0], size)
        self.y: Field = (cosine * dy - sine * dx) * inverse + resize(pose.elastic[1], size)

    def canvas(self) -> NDArray[np.uint8]:
        """An empty canvas for strokes."""
        return np.zeros((self.canvas_side, self.canvas_side), np.uint8)

    def place(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        """Patient coordinates (N, 2) to fixed-point canvas coordinates (N, 2)."""
        pose = self.pose
        cosine, sine = np.cos(pose.tilt), np.sin(pose.tilt)
        rotation = pose.scale * np.array([[cosine, sine], [-sine, cosine]])
        displaced = np.asarray(points, np.float64)
        position = displaced
        for _ in range(3):  # fixed point: the displacement is given per pixel, not per patient coordinate
            position = displaced @ rotation + pose.shift
            index = np.clip((position / FIELD_OF_VIEW + 0.5) * 64 - 0.5, 0, 63).astype(np.float32)
            offset = cv2.remap(self._elastic, index[:, None, :], None, cv2.INTER_LINEAR)
            displaced = points - offset[:, 0]
        pixels = (position + FIELD_OF_VIEW / 2) * self._canvas_scale - 0.5
        fixed: NDArray[np.int32] = np.rint(pixels * (1 << _STROKE_SHIFT)).astype(np.int32)
        return fixed

    def strokes(
        self, canvas: NDArray[np.uint8], curves: Sequence[NDArray[np.int32]], width: float, value: float
    ) -> None:
        """Draw polylines of placed points, `width` in cm; what lies below is overwritten.

        A line of a width that the canvas cannot draw keeps its cross-section: its value changes instead.
        """
        wanted = width * self.pose.scale * self._canvas_scale
        # OpenCV draws thickness 1 as one pixel and an even thickness t as t + 1 pixels.
        thickness = 1 if wanted < 1.5 else max(2, 2 * round((wanted - 1) / 2))
        drawn = 1 if thickness == 1 else thickness + 1
        level = min(255.0, value * min(1.2, wanted / drawn))
        cv2.polylines(canvas, curves, False, level, thickness, cv2.LINE_8, _STROKE_SHIFT)

    def polygon(self, canvas: NDArray[np.uint8], points: NDArray[np.int32], value: float) -> None:
        """Fill a polygon of placed points."""
        cv2.fillPoly(canvas, [points], value, cv2.LINE_AA, _STROKE_SHIFT)

    def sample(self, canvas: NDArray[np.uint8], full_scale: float, smooth: float = 0.03) -> Field:
        """The canvas smoothed by `smooth` cm, on the pixel grid; 255 becomes `full_scale`."""
        sigma = smooth * self._canvas_scale
        # What is narrower than a third of a pixel is lost in the average anyway.
        if sigma > 0.35 and smooth > 0.3 * self.pixel:
            canvas = cv2.GaussianBlur(canvas, (0, 0), sigma)
        return resize(canvas.astype(np.float32), self.size) * np.float32(full_scale / 255.0)
