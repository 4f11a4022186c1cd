"""A lesion of the CT phantom as a shape: which tissues it may replace, its surface, and how it is painted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.ct_anatomy import Anatomy
from radlearn.phantom.ct_plane import Patch
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.frame import Field, Mask

_LUNG = (Tissue.LUNG, Tissue.LUNG_VESSEL, Tissue.AIRWAY, Tissue.AIRWAY_WALL)
_BOWEL = (Tissue.BOWEL_WALL, Tissue.BOWEL_FLUID, Tissue.BOWEL_CONTRAST, Tissue.STOOL, Tissue.GAS)
_KIDNEY = (Tissue.RENAL_CORTEX, Tissue.RENAL_MEDULLA, Tissue.RENAL_PELVIS)


_KNOTS = 12  # a side of the grid of a lesion's texture


@dataclass(frozen=True)
class Kind:
    """Where lesions of a coarse type grow.

    Attributes:
        radius: smallest and largest, cm.
        home: tissues that may hold the centre. room: further tissues that the lesion may replace.
        inside: whether home and room lie within chest, abdomen or pelvis, or outside, or either (None).
        span: reference cm from the apices within which they are found.
    """

    radius: tuple[float, float]
    home: tuple[Tissue, ...]
    room: tuple[Tissue, ...] = ()
    inside: bool | None = None
    span: tuple[float, float] = (-10.0, 70.0)


KINDS: dict[str, Kind] = {
    "bone": Kind((0.6, 1.4), (Tissue.MARROW,), (Tissue.CORTICAL_BONE,)),
    "abdomen": Kind(
        (0.8, 2.4), (Tissue.FAT, Tissue.PANCREAS), (Tissue.ADRENAL, Tissue.VEIN, *_BOWEL), True, (23.0, 42.0)
    ),
    "mediastinum": Kind(
        (0.6, 1.7), (Tissue.FAT,), (Tissue.OESOPHAGUS, Tissue.ADRENAL, *_LUNG), True, (1.0, 16.5)
    ),
    "liver": Kind((0.7, 2.6), (Tissue.LIVER,), (Tissue.LIVER_VESSEL,)),
    "lung": Kind((0.5, 1.9), (Tissue.LUNG,), _LUNG),
    "kidney": Kind((0.8, 2.3), _KIDNEY[:2], (*_KIDNEY, Tissue.FAT), True),
    "soft tissue": Kind((0.7, 2.0), (Tissue.FAT, Tissue.MUSCLE), (), False),
    "pelvis": Kind(
        (0.9, 2.6), (Tissue.FAT, Tissue.PELVIC_ORGAN),
        (Tissue.VEIN, Tissue.MUSCLE, Tissue.BLADDER_WALL, *_BOWEL), True, (42.5, 70.0),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion; lengths in reference cm.

    Attributes:
        centre: x, y, z. radii: two half-axes in the plane, one along z. angle: of the first half-axis, rad.
        waves: (5, 3) amplitude, phase and its change along z of the surface's irregularity.
        look: `solid`, `cyst`, `rim`, `necrotic`, `ground glass`, `cavity` or `sclerotic`.
        hu: attenuation. spikes: angles of the spicules. seed: of the texture.
        slices: indices of the series on which it is marked.
    """

    kind: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    angle: float
    waves: NDArray[np.float64]
    look: str
    hu: float
    spikes: tuple[float, ...]
    seed: int
    slices: tuple[int, ...]


def home(anatomy: Anatomy, kind: str) -> Mask:
    """(H, W): pixels that may hold the centre of a lesion of a kind."""
    mask: Mask = np.isin(anatomy.plane.tissue, KINDS[kind].home)
    return mask & _side(anatomy.body.cavity, kind)


def room(patch: Patch, anatomy: Anatomy, kind: str) -> Mask:
    """(h, w): pixels of a patch that a lesion of a kind may replace."""
    rule = KINDS[kind]
    mask: Mask = np.isin(patch.tissue, (*rule.home, *rule.room))
    return mask & _side(patch.part_of(anatomy.body.cavity), kind)


def _side(cavity: Field, kind: str) -> Mask:
    inside = KINDS[kind].inside
    if inside is None:
        return np.ones_like(cavity, bool)
    return cavity > 0 if inside else cavity < -0.3


def around(anatomy: Anatomy, lesion: Lesion) -> Patch:
    """The pixels that a lesion and its spicules may reach."""
    reach = 2.4 * max(lesion.radii[:2])
    return anatomy.plane.patch(lesion.centre[0], lesion.centre[1], reach, reach)


def surface(patch: Patch, lesion: Lesion, z: float) -> tuple[Field, Field, Field, float]:
    """A lesion's section at z in its own coordinates.

    Returns:
        (h, w) distance from the axis over that of the surface, 1 on it; (h, w) coordinates along the two
        half-axes, 1 at their ends; the smaller half-width there, cm.
    """
    dz = z - lesion.centre[2]
    section = float(np.sqrt(max(1e-4, 1 - (dz / lesion.radii[2]) ** 2)))
    dx, dy = patch.x - np.float32(lesion.centre[0]), patch.y - np.float32(lesion.centre[1])
    cosine, sine = np.float32(np.cos(lesion.angle)), np.float32(np.sin(lesion.angle))
    u = (cosine * dx + sine * dy) * np.float32(1 / (lesion.radii[0] * section))
    v = (cosine * dy - sine * dx) * np.float32(1 / (lesion.radii[1] * section))
    angle = np.arctan2(v, u)
    swell = np.ones_like(angle)
    for order, (amplitude, phase, twist) in enumerate(lesion.waves, start=2):
        swell += np.float32(amplitude) * np.cos(order * angle + np.float32(phase + twist * dz))
    rho = np.hypot(u, v) / np.maximum(swell, np.float32(0.4))
    return np.asarray(rho, np.float32), u, v, section * min(lesion.radii[:2])


def paint_lesion(anatomy: Anatomy, lesion: Lesion) -> Mask:
    """Paint a lesion into a plane; returns (H, W) where it covers most of the pixel, at least one pixel."""
    plane = anatomy.plane
    patch = around(anatomy, lesion)
    rho, u, v, half = surface(patch, lesion, plane.z)
    free = room(patch, anatomy, lesion.kind)
    free[np.unravel_index(np.argmin(rho), rho.shape)] = True  # the centre is marked at any resolution
    cover = patch.cover((1 - rho) * np.float32(half)) * free
    if lesion.spikes:
        _paint_spikes(patch, lesion, half, free)
    patch.hu += cover * (_attenuation(lesion, rho, u, v) - patch.hu)
    mask = np.zeros(plane.tissue.shape, bool)
    row, column = patch.corner
    threshold = max(min(0.5, 0.6 * float(cover.max())), 1e-6)
    mask[row : row + cover.shape[0], column : column + cover.shape[1]] = cover >= threshold
    return mask


def _attenuation(lesion: Lesion, rho: Field, u: Field, v: Field) -> Field:
    """(h, w) HU inside the lesion: its texture, rim, wall or centre."""
    knots = np.random.Generator(np.random.PCG64(lesion.seed)).standard_normal((_KNOTS, _KNOTS), np.float32)
    scale = np.float32(_KNOTS / 3.2)
    texture = cv2.remap(
        knots, u * scale + _KNOTS / 2, v * scale + _KNOTS / 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    rough = {"cyst": 1.5, "ground glass": 60.0, "sclerotic": 90.0}.get(lesion.look, 9.0)
    hu = np.float32(lesion.hu) + np.float32(rough) * texture
    if lesion.look == "rim":
        hu = hu + np.float32(34) * np.clip((rho - 0.66) * 6, 0, 1)
    elif lesion.look == "necrotic":
        hu = hu + (np.float32(14) - hu) * np.clip((0.62 + 0.08 * texture - rho) * 6, 0, 1)
    elif lesion.look == "cavity":
        hu = hu + (np.float32(-940) - hu) * np.clip((0.55 + 0.06 * texture - rho) * 8, 0, 1)
    elif lesion.look == "cyst" and lesion.kind == "pelvis":
        hu = hu + np.float32(30) * np.clip((rho - 0.84) * 10, 0, 1)
    return np.asarray(hu, np.float32)


def _paint_spikes(patch: Patch, lesion: Lesion, half: float, free: Mask) -> None:
    """Spicules from the surface into the lung; they belong to no mask."""
    cx, cy = lesion.centre[:2]
    for number, angle in enumerate(lesion.spikes):
        length = half * (1.45 + 0.5 * ((number * 0.618) % 1))
        tip = (cx + length * float(np.cos(angle)), cy + length * float(np.sin(angle)))
        line = patch.capsule((cx, cy), tip, 0.0)
        patch.hu += patch.band(line, 0.05) * free * (np.float32(lesion.hu) - patch.hu)
