"""One axial plane while it is painted: coordinates, attenuation and tissue of each pixel.

Coordinates are those of the reference body in centimetres: x towards the patient's left (image right), y
towards the back (image bottom), z towards the feet, 0 at the apices of the lungs. Later layers cover earlier
ones; a cover between 0 and 1 is a partial volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.frame import FIELD_OF_VIEW, Field, Frame, Pose, resize

_FIXED_POINT = 4  # fractional bits, as in `Frame.place`
_SLAB = 0.15  # cm, half the thickness that thin tubes are seen through


@dataclass(frozen=True, eq=False)
class Spheres:
    """A tube or a bag of tubes as overlapping balls, painted in order.

    Attributes:
        points: (N, 3) centres x, y, z.
        radii: (N,) cm.
        tissues: (N,) uint8 numbers of `Tissue`.
    """

    points: NDArray[np.float64]
    radii: NDArray[np.float64]
    tissues: NDArray[np.uint8]

    @staticmethod
    def join(parts: Sequence[Spheres]) -> Spheres:
        """All parts, in order."""
        return Spheres(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.radii for part in parts]),
            np.concatenate([part.tissues for part in parts]),
        )


def tube(path: Sequence[tuple[float, float, float, float]], tissue: Tissue, *, grow: float = 0.0) -> Spheres:
    """Balls along a line through (x, y, z, radius); `grow` widens or narrows it by so many cm."""
    knots = np.asarray(path, np.float64)
    lengths = np.linalg.norm(np.diff(knots[:, :3], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    step = max(0.12, 0.3 * float(knots[:, 3].mean()))
    at = np.linspace(0, along[-1], max(2, int(np.ceil(along[-1] / step)) + 1))
    columns = [np.interp(at, along, knots[:, k]) for k in range(4)]
    radii = np.maximum(columns[3] + grow, 0.02)
    return Spheres(np.stack(columns[:3], axis=1), radii, np.full(len(at), tissue, np.uint8))


class Patch:
    """Some pixels of a plane; painting changes them in place.

    Attributes:
        x, y: (h, w) coordinates, cm.
        hu: (h, w) attenuation, HU.
        tissue: (h, w) uint8 numbers of `Tissue`: what covers most of the pixel.
        pixel: side of a pixel, cm.
        table: (256,) attenuation by tissue.
        corner: row and column of the first pixel in the whole plane.
    """

    def __init__(
        self,
        x: Field,
        y: Field,
        hu: Field,
        tissue: NDArray[np.uint8],
        pixel: float,
        table: Field,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        self.x, self.y, self.hu, self.tissue = x, y, hu, tissue
        self.pixel, self.table, self.corner = pixel, table, corner

    def part_of(self, values: Field) -> Field:
        """What a field over the whole plane holds at these pixels."""
        row, column = self.corner
        return values[row : row + self.x.shape[0], column : column + self.x.shape[1]]

    def cover(self, inside: Field, soft: float = 0.0) -> Field:
        """From the distance inside an edge (cm) to the covered share; `soft` (cm) widens the edge."""
        share = inside * np.float32(1 / (self.pixel + soft)) + np.float32(0.5)
        return np.asarray(np.clip(share, 0, 1), np.float32)

    def band(self, distance: Field, half: float) -> Field:
        """The share covered by a layer of `half` cm to each side of distance 0, also where it is thin."""
        share = np.clip((half - np.abs(distance)) * np.float32(1 / self.pixel) + np.float32(0.5), 0, 1)
        return np.minimum(share, np.float32(2 * half / self.pixel))

    def paint(self, cover: Field, tissue: Tissue, change: Field | float = 0.0) -> None:
        """Cover pixels with a tissue; `change` (HU) is added to its attenuation."""
        self.hu += cover * (self.table[tissue] + change - self.hu)
        self.tissue[cover >= 0.5] = tissue

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Field:
        """Distance inside an ellipse, cm; `angle` (rad) turns it from +x towards +y."""
        dx, dy = self.x - np.float32(cx), self.y - np.float32(cy)
        if angle:
            cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
        rho = np.sqrt((dx * np.float32(1 / max(rx, 1e-3))) ** 2 + (dy * np.float32(1 / max(ry, 1e-3))) ** 2)
        return (np.float32(1) - rho) * np.float32(min(rx, ry))

    def capsule(self, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
        """Distance inside a thick line, cm."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        px, py = self.x - np.float32(start[0]), self.y - np.float32(start[1])
        share = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(dx * dx + dy * dy), 0, 1)
        return np.float32(radius) - np.hypot(px - share * np.float32(dx), py - share * np.float32(dy))


class Plane(Patch):
    """The whole slice."""

    def __init__(self, size: int, pose: Pose, z: float, pixel: float, table: Field) -> None:
        self.frame, self.size, self.z = Frame(size, pose), size, z
        hu = np.full((size, size), table[Tissue.AIR], np.float32)
        super().__init__(self.frame.x, self.frame.y, hu, np.zeros((size, size), np.uint8), pixel, table)

    def patch(self, cx: float, cy: float, rx: float, ry: float) -> Patch:
        """The pixels around (cx, cy), at least rx and ry to each side, or fewer where the image ends."""
        corners = np.array([[cx + sx * rx, cy + sy * ry] for sx in (-1, 0, 1) for sy in (-1, 0, 1)])
        to_pixel = self.size / (self.frame.canvas_side << _FIXED_POINT)
        placed = self.frame.place(corners) * to_pixel
        margin = 3
        low = np.clip(np.floor(placed.min(axis=0)).astype(int) - margin, 0, self.size - 1)
        high = np.clip(np.ceil(placed.max(axis=0)).astype(int) + margin, low + 1, self.size)
        part = np.s_[low[1] : high[1], low[0] : high[0]]
        corner = (int(low[1]), int(low[0]))
        return Patch(
            self.x[part], self.y[part], self.hu[part], self.tissue[part], self.pixel, self.table, corner
        )

    def draw(self, spheres: Spheres, canvas: NDArray[np.uint8] | None = None) -> NDArray[np.uint8] | None:
        """Draw the sections of balls onto a canvas of tissue numbers; None if the plane meets no ball."""
        distance = np.maximum(np.abs(spheres.points[:, 2] - self.z) - _SLAB, 0)
        met = np.flatnonzero(distance < spheres.radii)
        if not len(met):
            return canvas
        if canvas is None:
            canvas = self.frame.canvas()
        radii = np.sqrt(spheres.radii[met] ** 2 - distance[met] ** 2)
        unit = self.frame.pose.scale * self.frame.canvas_side / FIELD_OF_VIEW * (1 << _FIXED_POINT)
        centres = self.frame.place(spheres.points[met, :2])
        sizes = np.rint(radii * unit).astype(np.int32)
        for centre, radius, tissue in zip(
            centres.tolist(), sizes.tolist(), spheres.tissues[met].tolist(), strict=True
        ):
            cv2.circle(canvas, centre, radius, tissue, -1, cv2.LINE_8, _FIXED_POINT)
        return canvas

    def paint_canvas(self, canvas: NDArray[np.uint8] | None, within: Field | None = None) -> None:
        """Cover pixels with what was drawn, where `within` (0 to 1) allows it."""
        if canvas is None:
            return
        present = resize((canvas > 0).astype(np.float32), self.size)
        known = self.table.copy()
        known[0] = 0
        values = resize(cv2.LUT(canvas, known), self.size)
        if within is not None:
            present, values = present * within, values * within
        self.hu *= 1 - present
        self.hu += values
        step = self.frame.canvas_side / self.size
        middle = (np.arange(self.size) * step + step / 2).astype(np.int64)
        codes = canvas[np.ix_(middle, middle)]
        seen = (codes > 0) & (present >= 0.5)
        self.tissue[seen] = codes[seen]
