"""Stomach's outlet, small bowel and colon: tubes with walls, fluid, contrast, stool and gas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from radlearn.phantom.anatomy import stream
from radlearn.phantom.ct_body import Body
from radlearn.phantom.ct_patient import STREAM_CT_TREES, CTPatient, draw_ct_patient
from radlearn.phantom.ct_plane import Plane, Spheres, tube
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.ct_trees import mesentery, small_bowel

_DUODENUM = [
    (-2.4, -4.2, 29.0, 1.2), (-4.4, -3.0, 29.4, 1.25), (-4.9, -1.2, 31.0, 1.2), (-4.6, -0.4, 33.4, 1.1),
    (-1.2, -1.2, 34.4, 1.0), (2.4, -1.8, 33.4, 1.1), (3.4, -3.0, 32.0, 1.1),
]  # fmt: skip
_COLON = [
    (-9.2, -1.0, 41.5, 2.0), (-9.4, -0.2, 39.0, 2.5), (-9.8, 1.2, 35.5, 2.1), (-9.7, 0.8, 32.6, 2.0),
    (-8.4, -2.4, 31.0, 1.8), (-5.0, -5.6, 32.0, 1.7), (0.0, -6.2, 33.6, 1.6), (4.6, -5.8, 31.6, 1.7),
    (8.4, -3.4, 28.6, 1.7), (9.9, 0.4, 26.6, 1.6), (10.2, 2.2, 29.0, 1.5), (10.0, 2.0, 35.0, 1.35),
    (9.4, 1.2, 40.0, 1.35), (7.0, -0.6, 44.0, 1.35), (3.4, -2.4, 45.8, 1.4), (-1.4, -1.0, 45.4, 1.4),
    (-1.8, 1.6, 46.4, 1.35), (0.2, 3.2, 47.6, 1.4), (0.0, 3.8, 49.6, 1.7), (0.0, 4.4, 51.8, 1.6),
    (0.0, 4.9, 54.5, 1.1),
]  # fmt: skip


def paint_bowel(plane: Plane, patient: CTPatient, body: Body) -> None:
    """All bowel that the plane meets, within the cavity."""
    if plane.z < 23:
        return
    canvas = plane.draw(mesentery(patient.seed, patient.number))
    canvas = plane.draw(small_bowel(patient.seed, patient.number), canvas)
    canvas = plane.draw(large_bowel(patient.seed, patient.number), canvas)
    plane.paint_canvas(canvas, plane.cover(body.cavity - np.float32(0.15)))


@lru_cache(maxsize=8)
def large_bowel(seed: int, patient: int) -> Spheres:
    """Duodenum and colon, the latter with haustra, stool and gas in front."""
    person = draw_ct_patient(seed, patient)
    generator = stream(seed, patient, STREAM_CT_TREES, 6)
    shifts = generator.normal(0, [0.4, 0.35, 0.6], (len(_COLON), 3))
    factors = generator.uniform(0.75, 1.15, len(_COLON))
    knots = [
        (x + dx, y + dy, z + dz, r * factor)
        for (x, y, z, r), (dx, dy, dz), factor in zip(_COLON, shifts, factors, strict=True)
    ]
    colon = tube(knots, Tissue.BOWEL_WALL)
    count = len(colon.radii)
    haustra = 1 + 0.13 * np.sin(np.arange(count) * 0.62 + generator.uniform(0, 6))
    outer = colon.radii * haustra
    inner = outer - 0.2
    # Long stretches of stool, gas or neither, each with its own filling.
    filling = np.interp(
        np.arange(count), np.linspace(0, count, 14), generator.uniform(0, 1, 14)
    ) + generator.normal(0, 0.04, count)
    gas = filling > 0.55
    front = colon.points[gas] + np.stack(
        [np.zeros(gas.sum()), -0.25 * inner[gas], np.zeros(gas.sum())], axis=1
    )
    lumps = np.flatnonzero(~gas)
    crumbs = generator.choice(lumps, size=min(len(lumps), count)) if len(lumps) else lumps
    places = colon.points[crumbs] + generator.normal(0, 0.4, (len(crumbs), 3)) * inner[crumbs, None] * 0.8
    duodenum = tube(
        [(x + 0.3 * person.organs["pancreas"].dx, y, z, r) for x, y, z, r in _DUODENUM], Tissue.BOWEL_WALL
    )
    return Spheres.join(
        [
            duodenum,
            Spheres(
                duodenum.points,
                duodenum.radii - 0.3,
                np.full(len(duodenum.radii), Tissue.BOWEL_FLUID, np.uint8),
            ),
            Spheres(colon.points, outer, colon.tissues),
            Spheres(colon.points, inner, np.full(count, Tissue.STOOL, np.uint8)),
            Spheres(places, np.full(len(crumbs), 0.14), np.full(len(crumbs), Tissue.GAS, np.uint8)),
            Spheres(front, inner[gas] * 0.72, np.full(int(gas.sum()), Tissue.GAS, np.uint8)),
        ]
    )
