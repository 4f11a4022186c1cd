"""The great vessels from the neck to the groin, the gullet and the large airways, as tubes of one patient."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from radlearn.phantom.anatomy import stream
from radlearn.phantom.ct_body import spine_y
from radlearn.phantom.ct_patient import STREAM_CT_TREES, CTPatient, draw_ct_patient
from radlearn.phantom.ct_plane import Plane, Spheres, tube
from radlearn.phantom.ct_tissue import Tissue

Path = list[tuple[float, float, float, float]]
"""Points (x, y, z, radius) in cm."""
_ART, _VEIN, _LUNG = Tissue.ARTERY, Tissue.VEIN, Tissue.PULMONARY_ARTERY
_SLEEVE = 0.32  # cm of fat that keeps the lung off a vessel


def paint_vessels(plane: Plane, patient: CTPatient) -> None:
    """Great vessels, gullet and large airways, over the organs they pass."""
    plane.paint_canvas(plane.draw(great_vessels(patient.seed, patient.number)[1]))


@lru_cache(maxsize=8)
def great_vessels(seed: int, patient: int) -> tuple[Spheres, Spheres]:
    """Sleeves of fat around the vessels of the chest; all vessels with gullet, trachea and main bronchi."""
    person = draw_ct_patient(seed, patient)
    organ = person.organs["aorta"]
    wide = organ.size * (1 + 0.004 * (person.age - 60))
    spine = [spine_y(person, z) for z in range(60)]
    sleeves, vessels = [], []
    for path, tissue in [*_of_the_chest(spine, wide), *_of_the_abdomen(spine), *_of_the_pelvis(spine)]:
        knots = [(x + 0.4 * organ.dx, y + 0.3 * organ.dy, z, radius) for x, y, z, radius in path]
        if knots[0][2] < 15:
            sleeves.append(tube(knots, Tissue.FAT, grow=_SLEEVE))
        vessels.append(tube(knots, tissue))
    gullet = [(0.1, 2.1, -1.0, 0.65), (0.4, 2.7, 6.0, 0.65), (0.2, 3.0, 12.0, 0.7), (0.9, 2.2, 18.0, 0.75),
              (2.2, 0.8, 20.5, 0.85), (4.0, 0.0, 21.5, 0.9)]  # fmt: skip
    airway = [(0.0, 0.3, -1.0, 0.85), (-0.1, 0.7, 4.0, 0.85), (0.0, 1.1, 7.9, 0.95)]
    right = [(-0.3, 1.1, 7.8, 0.7), (-2.2, 1.2, 9.3, 0.62), (-3.9, 1.4, 10.6, 0.5), (-4.6, 2.0, 13.0, 0.36)]
    left = [(0.3, 1.1, 7.8, 0.65), (2.6, 1.6, 9.8, 0.56), (4.2, 2.0, 10.6, 0.46), (4.9, 2.6, 13.0, 0.34)]
    everything = Spheres.join(
        [
            *vessels,
            tube(gullet, Tissue.OESOPHAGUS),
            *(tube(path, Tissue.AIRWAY_WALL, grow=0.13) for path in (airway, right, left)),
            *(tube(path, Tissue.AIRWAY) for path in (airway, right, left)),
            _wall_calcium(person, vessels),
        ]
    )
    return Spheres.join(sleeves), everything


def _of_the_chest(spine: list[float], wide: float) -> list[tuple[Path, Tissue]]:
    """Veins of arm and head, azygos, pulmonary vessels, the whole aorta (`wide` times its usual width)."""
    return [
        ([(-5.5, -3.0, 1.2, 0.6), (-2.6, -2.2, 4.0, 0.65), (-2.2, -1.4, 5.2, 0.8),
          (-2.4, -1.2, 11.4, 0.95)], _VEIN),
        ([(6.5, -3.6, 1.6, 0.55), (1.0, -3.8, 4.0, 0.65), (-1.8, -2.0, 5.0, 0.7)], _VEIN),
        ([(-0.7, spine[7] - 2.0, 7, 0.32), (-0.8, spine[16] - 1.9, 16, 0.34),
          (-0.6, spine[24] - 1.8, 24, 0.28)], _VEIN),
        ([(-2.3, -0.4, 7.4, 0.36), (-2.2, 1.6, 7.2, 0.36), (-0.7, spine[7] - 2.0, 7.6, 0.36)], _VEIN),
        ([(0.4, -2.9, 12.0, 1.4), (1.3, -2.9, 10.2, 1.4), (1.9, -1.4, 9.2, 1.3)], _LUNG),
        ([(1.7, -1.4, 9.4, 1.1), (-0.8, -0.3, 9.6, 1.0), (-3.9, 0.4, 10.0, 0.85)], _LUNG),
        ([(1.9, -1.2, 9.0, 1.1), (3.2, 0.4, 8.7, 0.95), (4.3, 1.4, 9.6, 0.8)], _LUNG),
        ([(-4.6, 0.6, 11.9, 0.5), (-1.6, 0.7, 12.3, 0.7)], _LUNG),
        ([(4.8, 1.0, 11.6, 0.5), (1.9, 0.9, 12.2, 0.7)], _LUNG),
        ([(-0.6, -2.0, 12.4, 1.45 * wide), (-1.3, -2.6, 9.0, 1.5 * wide),
          (-0.9, -2.1, 6.8, 1.4 * wide), (0.4, -0.5, 5.7, 1.3 * wide), (1.8, 1.6, 6.2, 1.25 * wide),
          (2.1, spine[8] - 1.2, 8.0, 1.2 * wide), (2.0, spine[14] - 1.3, 14.0, 1.15 * wide),
          (1.4, spine[20] - 1.8, 20.0, 1.1 * wide), (0.7, spine[25] - 2.6, 25.0, 1.05 * wide),
          (0.5, spine[30] - 2.7, 30.0, 0.95 * wide), (0.3, spine[36] - 2.7, 36.6, 0.85 * wide)], _ART),
        ([(-0.6, -1.5, 5.6, 0.62), (-2.0, -0.7, 2.6, 0.6), (-3.0, -0.2, 0.0, 0.5)], _ART),
        ([(0.4, -0.7, 5.4, 0.42), (1.7, -0.4, 1.5, 0.38), (2.2, -0.2, -1.0, 0.36)], _ART),
        ([(1.3, 0.9, 5.5, 0.5), (2.6, 1.4, 2.4, 0.48), (5.4, 0.6, 0.6, 0.45)], _ART),
    ]  # fmt: skip


def _of_the_abdomen(spine: list[float]) -> list[tuple[Path, Tissue]]:
    """Lower vena cava, coeliac trunk, vessels of mesentery, kidneys and spleen, portal vein."""
    return [
        ([(-2.3, -0.9, 16.4, 1.2), (-2.2, 0.0, 20.0, 1.2), (-1.9, spine[25] - 2.6, 25.0, 1.15),
          (-1.6, spine[30] - 2.3, 30.0, 1.1), (-1.3, spine[36] - 2.3, 36.8, 1.05)], _VEIN),
        ([(0.6, spine[27] - 3.4, 27.0, 0.4), (0.5, spine[27] - 4.8, 26.4, 0.38),
          (3.6, 0.2, 26.2, 0.3)], _ART),
        ([(0.5, spine[28] - 3.3, 28.2, 0.38), (0.5, spine[29] - 4.6, 30.0, 0.36),
          (-0.1, spine[34] - 5.4, 37.0, 0.26)], _ART),
        ([(0.4, spine[29] - 2.6, 29.2, 0.34), (4.8, 2.2, 30.0, 0.28)], _ART),
        ([(0.4, spine[29] - 2.6, 29.4, 0.34), (-1.8, spine[29] - 1.6, 29.8, 0.3),
          (-5.2, 2.2, 31.0, 0.28)], _ART),
        ([(-1.4, spine[29] - 2.6, 29.0, 0.5), (0.6, spine[29] - 4.0, 29.0, 0.4),
          (4.8, 1.8, 29.6, 0.45)], _VEIN),
        ([(-1.8, spine[30] - 2.3, 30.2, 0.5), (-5.2, 2.0, 31.4, 0.45)], _VEIN),
        ([(8.0, 2.4, 24.6, 0.4), (4.2, -0.1, 26.3, 0.48), (-0.7, spine[27] - 5.0, 27.6, 0.55)], _VEIN),
        ([(-1.0, spine[35] - 5.6, 38.0, 0.4), (-0.8, spine[28] - 5.0, 27.6, 0.58),
          (-3.4, -0.8, 24.8, 0.68)], _VEIN),
    ]  # fmt: skip


def _of_the_pelvis(spine: list[float]) -> list[tuple[Path, Tissue]]:
    """Iliac arteries and veins of both sides."""
    paths: list[tuple[Path, Tissue]] = []
    for side in (-1, 1):
        paths += [
            ([(0.3, spine[36] - 2.7, 36.4, 0.6), (side * 2.3, 0.7, 39.0, 0.55),
              (side * 4.3, 1.9, 43.0, 0.5), (side * 6.0, -0.6, 47.0, 0.48),
              (side * 7.3, -4.6, 51.5, 0.48), (side * 7.6, -5.8, 55.0, 0.45)], _ART),
            ([(side * 4.3, 1.9, 43.0, 0.35), (side * 4.9, 4.6, 46.0, 0.32),
              (side * 4.4, 5.4, 50.0, 0.25)], _ART),
            ([(-1.2, spine[36] - 2.2, 36.6, 0.75), (side * 2.0, 1.6, 39.5, 0.65),
              (side * 4.4, 2.9, 43.4, 0.6), (side * 5.7, 0.5, 47.2, 0.58),
              (side * 6.5, -4.0, 51.8, 0.58), (side * 6.9, -5.2, 55.0, 0.55)], _VEIN),
        ]  # fmt: skip
    return paths


def _wall_calcium(person: CTPatient, vessels: list[Spheres]) -> Spheres:
    """Specks in the walls of the arteries, more with age."""
    generator = stream(person.seed, person.number, STREAM_CT_TREES, 4)
    arteries = Spheres.join([v for v in vessels if v.tissues[0] == Tissue.ARTERY and v.radii.max() > 0.45])
    count = max(0, int((person.age - 52) * 1.5 * person.contents["calcium"]))
    chosen = generator.integers(len(arteries.radii), size=count)
    angle = generator.uniform(0, 2 * np.pi, count)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(count)], axis=1)
    points = arteries.points[chosen] + ring * arteries.radii[chosen, None]
    return Spheres(
        points, generator.uniform(0.08, 0.22, count), np.full(count, Tissue.CALCIFICATION, np.uint8)
    )
