"""Pulmonary vessels: two hilar trees of tapering curved branches, drawn in patient coordinates."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import Patient
from radlearn.phantom.frame import Field, Frame

_FULL_SCALE = 2.0  # cm of blood at the brightest canvas value
_LEVELS = 6
_THINNEST = 0.045  # cm

# Trunks of the pulmonary arteries: side, points (lateral, y) from the hilum, radii.
_TRUNKS: tuple[tuple[int, tuple[tuple[float, float], ...], float], ...] = (
    (-1, ((2.4, -3.0), (3.8, -2.3), (4.6, -0.8), (5.0, 1.0), (5.2, 2.8)), 0.68),
    (-1, ((2.8, -2.9), (4.1, -3.7), (5.0, -4.9)), 0.46),
    (1, ((2.6, -3.7), (3.9, -3.6), (4.8, -2.4), (5.1, -0.6), (5.3, 1.4)), 0.66),
    (1, ((2.8, -3.7), (4.1, -4.5), (5.0, -5.6)), 0.44),
)
# Roots of the branches: (lateral, y, angle in degrees below horizontal), shared by both sides up to jitter.
_ROOTS = (
    (4.2, -4.6, -80.0), (4.8, -4.8, -50.0), (4.5, -3.2, -20.0), (4.7, -1.6, 6.0),
    (4.9, -0.2, 28.0), (5.1, 1.6, 50.0), (5.1, 2.4, 74.0), (4.0, 0.6, 88.0),
)  # fmt: skip


@lru_cache(maxsize=64)
def _branches(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All branches of a patient: curves (N, 4, 2) in patient coordinates and radii (N,), thin first."""
    generator = np.random.Generator(np.random.PCG64(seed))
    curves, radii = [], []
    for side in (-1, 1):
        roots = np.array(_ROOTS)
        start = roots[:, :2] + generator.normal(0, 0.25, (len(roots), 2))
        start[:, 1] -= 0.7 if side > 0 else 0.0  # the left hilum is higher
        angle = np.deg2rad(roots[:, 2] + generator.normal(0, 7, len(roots)))
        radius = generator.uniform(0.28, 0.40, len(roots))
        for level in range(_LEVELS):
            length = 2.9 * 0.80**level * generator.uniform(0.7, 1.25, len(start))
            direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
            normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
            end = start + direction * length[:, None]
            bend = generator.normal(0, 0.09, (len(start), 2)) * length[:, None]
            first = start + direction * length[:, None] / 3 + normal * bend[:, :1]
            second = start + direction * length[:, None] * 2 / 3 + normal * bend[:, 1:]
            curve = np.stack([start, first, second, end], axis=1)
            curves.append(curve * [side, 1])
            radii.append(radius)
            turn = np.deg2rad(generator.normal(14, 6, len(start))) * generator.choice([-1, 1], len(start))
            major = angle + turn
            minor = angle - np.sign(turn) * np.deg2rad(generator.normal(44, 10, len(start)))
            start = np.concatenate([end, second])
            angle = np.concatenate([major, minor])
            radius = np.concatenate([0.80 * radius, 0.62 * radius])
            keep = radius > _THINNEST
            start, angle, radius = start[keep], angle[keep], radius[keep]
            if len(start) == 0:
                break
    curve, width = np.concatenate(curves), np.concatenate(radii)
    order = np.argsort(width)
    return curve[order], width[order]


def vessel_thickness(frame: Frame, patient: Patient, factor: float) -> Field:
    """Thickness of blood along the beam, cm; `factor` scales the radii (congestion)."""
    curves, radii = _branches(patient.vessel_seed)
    radii = radii * factor * patient.vascularity
    placed = frame.place(curves.reshape(-1, 2)).reshape(-1, 4, 2)
    canvas = frame.canvas()
    to_level = 255 / _FULL_SCALE
    # Branches of nearly one radius are drawn together, thin ones first.
    classes = np.rint(np.log(radii) * 7).astype(int)
    for number in np.unique(classes):
        curves_of_class = list(placed[classes == number])
        radius = float(np.exp(number / 7))
        frame.strokes(canvas, curves_of_class, 2 * radius, min(255.0, 2.0 * radius * to_level))
        if radius > 0.1:
            frame.strokes(canvas, curves_of_class, 1.1 * radius, min(255.0, 2.7 * radius * to_level))
    for side, trunk, radius in _TRUNKS:
        points = frame.place(np.array(trunk) * [side, 1])
        radius = radius * patient.vascularity * (1 + 0.6 * (factor - 1))
        for width, chord in ((2.0, 1.2), (1.6, 1.7), (1.0, 2.1)):
            frame.strokes(canvas, [points], width * radius, min(255.0, chord * radius * to_level))
    return frame.sample(canvas, _FULL_SCALE, smooth=0.05)
