"""Lungs, diaphragm, heart, airways and the great vessels of an axial plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radlearn.phantom.ct_body import Body, profile, spine_y
from radlearn.phantom.ct_patient import CTPatient
from radlearn.phantom.ct_plane import Patch, Plane
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.ct_trees import bronchi, lung_vessels
from radlearn.phantom.ct_vessels import great_vessels
from radlearn.phantom.frame import Field

_HEART_Z = (9.8, 10.6, 12, 14, 16, 18, 19.4, 20.3)
_HEART_X = (0.5, 0.7, 1.0, 1.9, 2.6, 3.2, 3.7, 4.0)
_HEART_Y = (-1.9, -2.0, -2.2, -2.6, -3.2, -4.0, -4.6, -5.0)
_HEART_LONG = (2.2, 3.6, 5.0, 6.1, 6.4, 5.8, 4.4, 0.3)
_HEART_SHORT = (1.8, 2.9, 3.8, 4.5, 4.6, 4.1, 3.0, 0.3)
_HEART_ANGLE = -0.62  # from the right back to the left front
_SLAB = 0.4  # cm of diaphragm seen at once: its top is a partial volume


@dataclass(frozen=True, eq=False)
class Chest:
    """What later layers need of the chest.

    Attributes:
        lung: (H, W) share of lung, 0 to 1.
        below: (H, W) cm below the diaphragm along z, negative above it, right and left half each by its dome.
    """

    lung: Field
    below: Field


def diaphragm(plane: Plane, patient: CTPatient) -> Field:
    """Height below the diaphragm along z, cm; negative in the chest."""
    right = plane.x < 0
    top = np.where(right, np.float32(17.2 + patient.dome[0]), np.float32(18.4 + patient.dome[1]))
    lateral = np.abs(plane.x) - np.float32(6.4)
    lateral *= np.where(lateral > 0, np.float32(1 / 6.9), np.float32(1 / 9.5))
    depth = (plane.y + 0.3) * np.float32(1 / 8.7)
    square = lateral**2 + depth**2
    height = top + 8.2 * square * np.sqrt(np.sqrt(np.sqrt(square + 1e-6))) + 2.3 * depth
    return np.asarray(plane.z - height, np.float32)


def paint_chest(plane: Plane, patient: CTPatient, body: Body) -> Chest:
    """Lungs down to the diaphragm, then heart and vessels between them."""
    z = plane.z
    below = diaphragm(plane, patient)
    lung = np.zeros_like(plane.x)
    if z < 29:
        lung = _lungs(plane, patient, body, below)
        grain = 20 * body.mottle + 14 * body.streaks + 5.0 * (plane.y - 1)
        plane.paint(lung, Tissue.LUNG, np.asarray(grain, np.float32))
        if z > 17:
            stripe = plane.band(below * np.float32(0.4) - np.float32(0.14), 0.13)
            plane.paint(stripe * plane.cover(body.cavity) * (below > 0), Tissue.MUSCLE)
        trees = plane.draw(lung_vessels(patient.seed, patient.number))
        plane.paint_canvas(plane.draw(bronchi(patient.seed, patient.number), trees), lung)
        plane.paint_canvas(plane.draw(great_vessels(patient.seed, patient.number)[0]))
    if 9.5 < z < 20.6:
        _paint_heart(plane, patient)
    return Chest(lung, below)


def _lungs(plane: Plane, patient: CTPatient, body: Body, below: Field) -> Field:
    z, x, y = plane.z, plane.x, plane.y
    spine = spine_y(patient, z)
    fat = 0.5 * patient.visceral
    stripe = profile(z, (0, 3, 7, 12, 20), (2.6, 2.2, 1.3, 0.8, 1.0)) + fat
    middle = profile(z, (0, 3, 7, 10, 14, 20, 26), (3.6, 3.3, 2.9, 2.8, 2.0, 2.2, 2.6)) + 0.6 * fat
    half = np.interp(
        y, (-9.0, -5.0, -2.0, 1.0, spine - 1.5, spine, 9.0), (stripe, stripe, middle, middle, 1.7, 2.3, 2.9)
    )
    between = np.asarray(half - np.abs(x - 0.15), np.float32)
    if 9.5 < z < 20.8:
        cx, cy, long, short, angle = heart_axes(patient, z)
        pad = 0.45 + 0.5 * patient.visceral
        between = np.maximum(between, plane.ellipse(cx, cy, long + pad, short + pad, angle))
    inside = np.minimum(body.cavity - 0.12, -between + 0.15 * body.streaks)
    slope = 2.6 * np.hypot((np.abs(x) - 6.4) / 6.9, (y + 0.3) / 8.7) + 0.05
    above = np.clip(0.5 - below / np.maximum(_SLAB, plane.pixel * slope), 0, 1)
    return np.asarray(plane.cover(inside) * above, np.float32)


def heart_axes(patient: CTPatient, z: float) -> tuple[float, float, float, float, float]:
    """Centre, half-axes (long, short) and angle of the heart's section."""
    organ = patient.organs["heart"]
    at = z - 0.5 * organ.dz
    return (
        profile(at, _HEART_Z, _HEART_X) + 0.6 * organ.dx,
        profile(at, _HEART_Z, _HEART_Y) + 0.4 * organ.dy,
        profile(at, _HEART_Z, _HEART_LONG) * organ.size,
        profile(at, _HEART_Z, _HEART_SHORT) * organ.size,
        _HEART_ANGLE + 0.25 * organ.dx,
    )


def _paint_heart(plane: Plane, patient: CTPatient) -> None:
    z = plane.z
    cx, cy, long, short, angle = heart_axes(patient, z)
    patch = plane.patch(cx, cy, long + 1.5, long + 1.5)
    pad = 0.35 + 0.4 * patient.visceral
    patch.paint(patch.cover(patch.ellipse(cx, cy, long + pad, short + pad, angle)), Tissue.FAT)
    patch.paint(patch.cover(patch.ellipse(cx, cy, long, short, angle)), Tissue.HEART_MUSCLE)
    cosine, sine = np.cos(angle), np.sin(angle)

    def chamber(
        u: float, v: float, ru: float, rv: float, tissue: Tissue, first: float, last: float, turn: float = 0.0
    ) -> None:
        """A chamber between two heights, in units of the heart's axes: u to the apex, v to the left back."""
        share = (z - first) / (last - first)
        if not 0 < share < 1:
            return
        swell = float(np.sqrt(1 - abs(2 * share - 1) ** 2.5))
        x = cx + u * long * cosine - v * short * sine
        y = cy + u * long * sine + v * short * cosine
        _blood(patch, x, y, ru * long * swell, rv * short * swell, angle + turn, tissue)

    chamber(-0.50, -0.42, 0.36, 0.46, Tissue.RIGHT_HEART_BLOOD, 10.8, 19.4, 0.3)
    chamber(-0.52, 0.46, 0.36, 0.42, Tissue.HEART_BLOOD, 9.9, 15.6)
    chamber(0.20, -0.52, 0.52, 0.34, Tissue.RIGHT_HEART_BLOOD, 10.4, 19.9, 0.25)
    chamber(0.26, 0.20, 0.50, 0.34, Tissue.HEART_BLOOD, 11.6, 19.6, -0.1)
    if z < 14.5:  # aortic root
        chamber(-0.10, -0.02, 0.27, 0.36, Tissue.HEART_BLOOD, 8.0, 14.6)


def _blood(patch: Patch, x: float, y: float, rx: float, ry: float, angle: float, tissue: Tissue) -> None:
    if min(rx, ry) > 0.25:
        patch.paint(patch.cover(patch.ellipse(x, y, rx, ry, angle), 0.15), tissue)
