"""Outline of the body in an axial plane: skin, fat, muscles, the cavities' inner wall, breasts, the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radlearn.phantom.anatomy import stream
from radlearn.phantom.ct_patient import STREAM_CT_TEXTURE, CTPatient
from radlearn.phantom.ct_plane import Plane
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.frame import Field, fractal

# Knots along z (cm from the apices): outer surface of the muscles, inner surface of chest and abdomen.
_MUSCLE_Z = (-1, 1, 3, 6, 12, 18, 24, 30, 36, 42, 48, 54, 58)
_MUSCLE_WIDTH = (17.0, 17.2, 17.2, 16.6, 15.7, 15.1, 14.5, 13.7, 13.5, 14.6, 15.9, 16.3, 16.0)
_MUSCLE_FRONT = (3.8, 5.6, 7.4, 9.2, 10.3, 10.5, 10.0, 9.3, 8.9, 8.7, 8.6, 8.0, 7.2)
_MUSCLE_BACK = (8.4, 8.9, 9.4, 9.6, 9.7, 9.6, 9.4, 9.2, 9.1, 9.4, 10.2, 10.0, 9.4)
CAVITY_Z = (-1, 0, 1, 2.5, 4.5, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55)
CAVITY_WIDTH = (4, 5.6, 7.6, 9.6, 11.3, 12.4, 13.1, 13.4, 13.4, 13.1, 12.5, 12, 11.7, 11.2, 9.6, 7.4, 6.3, 5)
CAVITY_FRONT = (0, 1.6, 3.2, 5, 6.6, 7.9, 8.9, 9.2, 9.1, 8.8, 8.3, 7.9, 7.6, 7.4, 7.2, 7, 6, 4.6)
CAVITY_BACK = (4.6, 5.6, 6.4, 7.1, 7.7, 8.1, 8.4, 8.4, 8.2, 7.8, 7, 6.4, 6, 6.2, 7, 7.6, 7.2, 6.4)
_TEXTURE_PITCH = 2.0  # cm between independent textures
_SPINE_Z = (-1, 4, 10, 16, 22, 28, 34, 39, 43, 47, 51, 55)
_SPINE_Y = (3.2, 4.3, 5.2, 5.1, 4.2, 3.1, 2.4, 2.8, 4.6, 6.6, 7.6, 6.8)


def profile(z: float, heights: tuple[float, ...], values: tuple[float, ...]) -> float:
    """Value at z, linear between the knots."""
    return float(np.interp(z, heights, values))


def spine_y(patient: CTPatient, z: float) -> float:
    """Middle of the vertebral body, cm."""
    return profile(z, _SPINE_Z, _SPINE_Y) + patient.kyphosis * float(np.exp(-(((z - 10) / 8) ** 2)))


def back_of_table(patient: CTPatient) -> float:
    """Where the back touches the table, cm: the same on every slice."""
    return max(_MUSCLE_BACK) + 0.75 * patient.fat + 0.1


@dataclass(frozen=True, eq=False)
class Body:
    """Distances inside the outlines of one plane, cm, and textures shared by the tissues.

    Attributes:
        muscle: inside the surface of the muscles. cavity: inside the wall of chest and abdomen.
        mottle: fine structure, unit variance. streaks: slower structure, unit variance.
        width, front, back: half-axes of the cavity.
    """

    muscle: Field
    cavity: Field
    mottle: Field
    streaks: Field
    width: float
    front: float
    back: float


def superellipse(plane: Plane, width: float, front: float, back: float) -> Field:
    """Distance inside |x/w|^2.5 + |y/d|^2.5 = 1, cm, to first order."""
    across = np.abs(plane.x) * np.float32(1 / width)
    depth = np.where(plane.y < 0, plane.y * np.float32(-1 / front), plane.y * np.float32(1 / back))
    across_root, depth_root = across * np.sqrt(across), depth * np.sqrt(depth)
    level = 1 - across_root * across - depth_root * depth
    slope_y = np.where(plane.y < 0, depth_root * np.float32(1 / front), depth_root * np.float32(1 / back))
    slope = np.hypot(across_root * np.float32(1 / width), slope_y) * np.float32(2.5)
    return np.asarray(level / np.maximum(slope, 0.1), np.float32)


def texture(plane: Plane, patient: CTPatient, kind: int, exponent: float, coarsest: int) -> Field:
    """A random field of unit variance that changes smoothly from slice to slice."""
    at = plane.z / _TEXTURE_PITCH
    below = int(at)
    turn = np.float32((at - below) * np.pi / 2)
    near, far = (
        fractal(
            stream(patient.seed, patient.number, STREAM_CT_TEXTURE, 2 * (below + step) + kind),
            plane.size, exponent, coarsest,
        )
        for step in (0, 1)
    )  # fmt: skip
    return np.asarray(np.cos(turn) * near + np.sin(turn) * far, np.float32)


def paint_body(plane: Plane, patient: CTPatient) -> Body:
    """Skin, fat under it, muscles with their planes of fat, and fat in the cavity."""
    z = plane.z
    hips = profile(z, (0, 20, 30, 44, 55), (0.55, 0.75, 1.0, 1.25, 1.4))
    fat = patient.fat * hips
    width = profile(z, _MUSCLE_Z, _MUSCLE_WIDTH)
    front = profile(z, _MUSCLE_Z, _MUSCLE_FRONT) * patient.depth + 1.4 * patient.visceral * profile(
        z, (20, 28, 38, 46), (0, 1, 1, 0)
    )
    back = profile(z, _MUSCLE_Z, _MUSCLE_BACK)
    paunch = profile(z, (18, 26, 38, 46), (0.75, 1.0, 1.25, 1.0))
    skin = superellipse(plane, width + fat, front + fat * paunch, back + 0.75 * fat)
    furrow = 1.3 * np.exp(-((plane.x / 1.5) ** 2)) * (plane.y > 4)
    skin -= furrow.astype(np.float32)
    if patient.breast and 5 < z < 19:
        skin = np.maximum(skin, _breasts(plane, patient, front + fat * paunch))
    mottle = texture(plane, patient, 0, 1.0, 16)
    streaks = texture(plane, patient, 1, 1.6, 5)
    plane.paint(plane.cover(skin), Tissue.SKIN)
    plane.paint(plane.cover(skin - 0.18), Tissue.FAT, 5 * mottle + 3 * streaks)
    if patient.breast and 5 < z < 19:
        _glands(plane, patient, front + fat * paunch, skin, streaks)

    muscle = superellipse(plane, width, front, back) - 0.8 * furrow.astype(np.float32)
    muscle = np.minimum(muscle, skin - 0.3)
    marbling = -8 * patient.visceral * (streaks > 1)
    plane.paint(plane.cover(muscle), Tissue.MUSCLE, np.asarray(6 * mottle + marbling, np.float32))
    half = (
        profile(z, CAVITY_Z, CAVITY_WIDTH) * patient.chest,
        profile(z, CAVITY_Z, CAVITY_FRONT) * patient.depth
        + 1.2 * patient.visceral * profile(z, (20, 28, 38, 46), (0, 1, 1, 0)),
        profile(z, CAVITY_Z, CAVITY_BACK),
    )
    cavity = superellipse(plane, *half)
    _fat_planes(plane, patient, muscle, cavity, streaks)
    plane.paint(plane.cover(cavity), Tissue.FAT, 5 * mottle)
    return Body(muscle, cavity, mottle, streaks, *half)


def _breasts(plane: Plane, patient: CTPatient, front: float) -> Field:
    height = float(np.exp(-(((plane.z - 12) / 4.6) ** 4)))
    rise = 3.4 * patient.breast * height
    return np.maximum(
        *(plane.ellipse(side * 8.2, -front + 3.2, 6.0, 3.0 + rise, 0.25 * side) for side in (-1, 1))
    )


def _glands(plane: Plane, patient: CTPatient, front: float, skin: Field, streaks: Field) -> None:
    density = 0.9 - 1.2 * patient.contents["breast"] + 0.02 * (patient.age - 60)
    for side in (-1, 1):
        inside = plane.ellipse(side * 8.6, -front + 0.6, 3.4, 1.6 * patient.breast + 0.4, 0.25 * side)
        strands = np.clip((streaks - density) * 2, 0, 1)
        plane.paint(plane.cover(np.minimum(inside, skin - 0.6), 0.5) * strands, Tissue.GLAND)


def _fat_planes(plane: Plane, patient: CTPatient, muscle: Field, cavity: Field, streaks: Field) -> None:
    """Thin layers of fat between the muscles of the wall; wider in the obese."""
    z, x, y = plane.z, plane.x, plane.y
    wide = 0.05 + 0.09 * patient.visceral
    spine = spine_y(patient, z)
    inside = plane.cover(muscle - np.float32(0.15))
    flank = profile(z, (24, 28, 40, 43), (0, 1, 1, 0))
    if flank:  # external oblique, internal oblique, transversus
        share = muscle / np.maximum(muscle - cavity, 0.3)
        lateral = np.clip((np.abs(x) - 6.5) / 2, 0, 1) * np.clip((4.5 - y) / 2, 0, 1) * flank
        for level in (0.36, 0.68):
            line = (share - level + 0.04 * streaks) * np.maximum(muscle - cavity, 0.3)
            plane.paint(np.asarray(plane.band(line, 1.2 * wide) * lateral, np.float32), Tissue.FAT)
    if z < 22:  # between the muscles of the shoulder girdle and the ribs
        shown = min(1.0, (22 - z) / 4)
        plane.paint(plane.band(-cavity - 1.55 + 0.25 * streaks, wide + 0.1) * shown * inside, Tissue.FAT)
        outer = plane.band(muscle - 0.9 + 0.3 * streaks, wide)
        plane.paint(outer * np.clip((-cavity - 1.9) / 0.3, 0, 1), Tissue.FAT)
    for side in (-1, 1):  # the erector muscles of the spine lie in a sheath
        sheath = plane.ellipse(side * 3.6, spine + 4.2, 3.3, 2.3, 0.15 * side)
        plane.paint(plane.band(sheath, wide) * inside, Tissue.FAT)
        if z < 7:  # armpit
            hollow = plane.ellipse(side * 14.0, 0.2, 2.4, 2.7 - 0.15 * z)
            plane.paint(plane.cover(hollow + 0.3 * streaks, 0.3), Tissue.FAT)
        if z > 42:  # between the gluteal muscles
            for cx, cy, rx, ry in ((10.5, 2.0, 5.6, 6.2), (7.5, 3.0, 6.4, 8.0)):
                line = plane.ellipse(side * cx, cy, rx, ry, -0.5 * side)
                behind = np.clip((np.abs(x) - 4) / 2, 0, 1) * np.clip((y + 3) / 2, 0, 1)
                cover = plane.band(line + 0.2 * streaks, wide + 0.06) * behind * inside
                plane.paint(np.asarray(cover, np.float32), Tissue.FAT)


def paint_table(plane: Plane, patient: CTPatient) -> None:
    """The couch: a curved shell of carbon fibre around foam, fixed in the image."""
    scan = patient.scan
    axis = ((np.arange(plane.size, dtype=np.float32) + 0.5) / plane.size - 0.5) * scan.field_of_view
    x, y = axis[None, :] - scan.shift[0], axis[:, None] - scan.shift[1]
    x, y = x / patient.scale, y / patient.scale
    top = back_of_table(patient) + 0.1 - 0.0045 * x**2
    outside = plane.tissue == Tissue.AIR
    wide = np.clip((20.5 - np.abs(x)) / plane.pixel, 0, 1)
    shell = 2.0 + 0.008 * x**2
    foam = plane.cover(np.asarray(np.minimum(y - top, shell - (y - top)), np.float32)) * wide * outside
    plane.paint(foam, Tissue.FOAM)
    for edge, half in ((top, 0.12), (top + shell, 0.16)):
        plane.paint(plane.band(np.asarray(y - edge, np.float32), half) * wide * outside, Tissue.TABLE)
