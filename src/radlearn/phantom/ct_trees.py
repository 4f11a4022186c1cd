"""Branching and winding tubes, drawn once a patient: vessels of lungs and liver, bronchi, small bowel."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import stream
from radlearn.phantom.ct_patient import STREAM_CT_TREES
from radlearn.phantom.ct_plane import Spheres
from radlearn.phantom.ct_tissue import Tissue

# Directions (lateral, towards the back, towards the feet) of the segmental branches from the hilum.
_SEGMENTS = np.array(
    [
        (0.35, 0.0, -1.0), (0.55, 0.5, -0.8), (0.5, -0.8, -0.4), (1.0, -0.1, -0.1), (0.6, -0.7, 0.5),
        (0.9, 0.2, 0.4), (0.5, 0.9, 0.0), (0.6, -0.3, 1.0), (0.75, 0.2, 1.0), (0.4, 0.6, 1.1),
        (0.15, 0.3, 1.2),
    ]
)  # fmt: skip
_KNOTS = 36  # balls of one loop of bowel
HILUM = ((-4.0, 0.6, 10.2), (4.2, 1.0, 9.6))


def branching(
    generator: np.random.Generator,
    starts: NDArray[np.float64],
    directions: NDArray[np.float64],
    radii: NDArray[np.float64],
    *,
    length: float,
    levels: int,
    thinnest: float,
    tissue: Tissue,
) -> Spheres:
    """A tree of tapering, slightly bent tubes; each branch ends in a wide and a narrow one.

    Args:
        generator: of the shape.
        starts, directions: (N, 3) of the roots.
        radii: (N,) of the roots, cm.
        length: of the roots, cm; each level is a fifth shorter.
        levels: how often branches fork at most.
        thinnest: radius below which a branch is left out, cm.
        tissue: of all of it.
    """
    points, sizes = [], []
    for level in range(levels):
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        reach = length * 0.8**level * generator.uniform(0.7, 1.3, len(starts))
        step = max(0.11, 0.6 * float(np.median(radii)))
        share = np.linspace(0, 1, max(2, int(np.ceil(float(reach.max()) / step))))[None, :, None]
        bend = generator.normal(0, 0.16, starts.shape) * reach[:, None]
        straight = starts[:, None] + directions[:, None] * reach[:, None, None] * share
        curve = straight + 4 * bend[:, None] * share * (1 - share) * 0.5
        points.append(curve.reshape(-1, 3))
        taper = radii[:, None] * np.linspace(1, 0.86, share.shape[1])
        sizes.append(taper.ravel())
        turn = generator.normal(0, 1, directions.shape)
        turn -= (turn * directions).sum(axis=1, keepdims=True) * directions
        turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        ends = starts + directions * reach[:, None]
        middle = starts + directions * reach[:, None] * generator.uniform(0.45, 0.8, (len(starts), 1))
        middle += 4 * bend * 0.125
        starts = np.concatenate([ends, middle])
        directions = np.concatenate([directions + 0.28 * turn, directions - 0.95 * turn])
        radii = np.concatenate([0.82 * radii, 0.62 * radii])
        keep = radii > thinnest
        starts, directions, radii = starts[keep], directions[keep], radii[keep]
        if not len(starts):
            break
    radius = np.concatenate(sizes)
    return Spheres(np.concatenate(points), radius, np.full(len(radius), tissue, np.uint8))


@lru_cache(maxsize=8)
def lung_vessels(seed: int, patient: int) -> Spheres:
    """Arteries and veins of both lungs."""
    generator = stream(seed, patient, STREAM_CT_TREES, 0)
    parts = []
    for side, hilum in zip((-1, 1), HILUM, strict=True):
        for _ in range(3):
            directions = _SEGMENTS * [side, 1, 1] + generator.normal(0, 0.16, _SEGMENTS.shape)
            starts = np.asarray(hilum) + 0.7 * directions + generator.normal(0, 0.3, _SEGMENTS.shape)
            radii = generator.uniform(0.20, 0.36, len(starts))
            parts.append(
                branching(
                    generator, starts, directions, radii,
                    length=3.0, levels=7, thinnest=0.03, tissue=Tissue.LUNG_VESSEL,
                )
            )  # fmt: skip
    return Spheres.join(parts)


@lru_cache(maxsize=8)
def bronchi(seed: int, patient: int) -> Spheres:
    """Segmental airways: all walls first, then all lumina."""
    generator = stream(seed, patient, STREAM_CT_TREES, 1)
    parts = []
    for side, hilum in zip((-1, 1), HILUM, strict=True):
        directions = _SEGMENTS * [side, 1, 1] + generator.normal(0, 0.12, _SEGMENTS.shape)
        starts = np.asarray(hilum) + [0, 0.7, 0.3] + 0.3 * directions
        radii = generator.uniform(0.20, 0.28, len(starts))
        parts.append(
            branching(
                generator, starts, directions, radii,
                length=2.0, levels=3, thinnest=0.1, tissue=Tissue.AIRWAY,
            )
        )  # fmt: skip
    lumen = Spheres.join(parts)
    wall = Spheres(
        lumen.points, lumen.radii * 1.15 + 0.07, np.full(len(lumen.radii), Tissue.AIRWAY_WALL, np.uint8)
    )
    return Spheres.join([wall, lumen])


@lru_cache(maxsize=8)
def liver_vessels(seed: int, patient: int) -> Spheres:
    """Hepatic veins towards the vena cava and the portal vein's branches."""
    generator = stream(seed, patient, STREAM_CT_TREES, 2)
    veins = np.array([(-1.0, -0.1, 0.35), (-0.55, -0.85, 0.35), (0.35, -1.0, 0.25)])
    portal = np.array([(-1.0, 0.2, -0.35), (-0.8, 0.5, 0.35), (-0.8, -0.6, 0.1), (0.5, -0.9, -0.3)])
    parts = [
        branching(
            generator, np.tile(start, (len(roots), 1)), roots + generator.normal(0, 0.1, roots.shape),
            np.full(len(roots), radius), length=4.2, levels=5, thinnest=0.1, tissue=Tissue.LIVER_VESSEL,
        )
        for start, roots, radius in (((-2.2, 0.0, 19.0), veins, 0.5), ((-3.4, -0.6, 24.6), portal, 0.52))
    ]  # fmt: skip
    return Spheres.join(parts)


@lru_cache(maxsize=8)
def mesentery(seed: int, patient: int) -> Spheres:
    """Vessels in the fat before the spine and small lymph nodes beside the great vessels: nothing ill."""
    generator = stream(seed, patient, STREAM_CT_TREES, 7)
    roots = np.stack(
        [np.repeat([-1.0, 0.0, 1.0, 0.4], 3), np.full(12, -0.35), np.tile([-0.3, 0.2, 0.9], 4)], axis=1
    )
    starts = np.stack([np.zeros(12), np.full(12, -3.2), np.tile([29.0, 32.0, 35.0], 4)], axis=1)
    vessels = branching(
        generator, starts, roots + generator.normal(0, 0.15, roots.shape), generator.uniform(0.14, 0.24, 12),
        length=3.2, levels=5, thinnest=0.055, tissue=Tissue.VEIN,
    )  # fmt: skip
    count = 26
    z = np.concatenate([generator.uniform(3, 12, count // 2), generator.uniform(27, 42, count // 2)])
    middle = np.where(z < 20, 0.0, -1.0)
    places = np.stack([generator.normal(0, 1.9, count), middle + generator.normal(0, 1.2, count), z], axis=1)
    nodes = Spheres(places, generator.uniform(0.16, 0.34, count), np.full(count, Tissue.ADRENAL, np.uint8))
    return Spheres.join([vessels, nodes])


@lru_cache(maxsize=8)
def small_bowel(seed: int, patient: int) -> Spheres:
    """A winding tube in the lower abdomen, loop after loop: wall, then what the loop holds."""
    generator = stream(seed, patient, STREAM_CT_TREES, 3)
    contrast = generator.random() < 0.4
    parts = []
    loops = 34
    for _ in range(loops):
        centre = np.array(
            [generator.normal(0, 4.2), generator.uniform(-6.2, -2.2), generator.uniform(28.5, 48.0)]
        )
        if centre[2] > 43:
            centre[0] *= 0.5
        parts.append(_loop(generator, centre, contrast))
    return Spheres.join(parts)


def _loop(generator: np.random.Generator, centre: NDArray[np.float64], contrast: bool) -> Spheres:
    """Some 10 cm of bowel around a centre: an arc that lies mostly within a few slices."""
    radius = generator.uniform(0.85, 1.4)
    angle = generator.uniform(0, 2 * np.pi) + np.linspace(0, generator.uniform(2.2, 4.2), _KNOTS)
    swing = generator.uniform(1.6, 3.0)
    lift = generator.normal(0, 0.9)
    path = centre + np.stack(
        [
            1.35 * swing * np.cos(angle),
            0.75 * swing * np.sin(angle),
            lift * np.sin(0.5 * angle) + generator.normal(0, 0.6) * np.linspace(-1, 1, _KNOTS),
        ],
        axis=1,
    )
    sizes = radius * (1 + 0.10 * np.sin(np.linspace(0, 9, _KNOTS)))
    kind = generator.random()
    filling = Tissue.BOWEL_CONTRAST if contrast and kind < 0.6 else Tissue.BOWEL_FLUID
    # A collapsed loop is wall alone.
    lumen = sizes - 0.22 if kind > 0.25 else sizes * 0.25
    parts = [
        Spheres(path, sizes, np.full(_KNOTS, Tissue.BOWEL_WALL, np.uint8)),
        Spheres(path, lumen, np.full(_KNOTS, filling, np.uint8)),
    ]
    if generator.random() < 0.3:  # gas rises to the front
        middle = slice(_KNOTS // 4, 3 * _KNOTS // 4)
        part = path[middle] + [0, -0.32 * radius, 0]
        parts.append(Spheres(part, lumen[middle] * 0.6, np.full(len(part), Tissue.GAS, np.uint8)))
    return Spheres.join(parts)
