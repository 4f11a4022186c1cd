"""Which lesions a patient has: kinds, places, sizes and looks, drawn from (seed, patient).

The centre of a lesion lies in its organ: the anatomy of one slice of the series is painted coarsely and a
place is drawn from it, so a lesion is where its organ is in this patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np

from radlearn.phantom.anatomy import stream
from radlearn.phantom.ct_anatomy import Anatomy, paint_anatomy
from radlearn.phantom.ct_lesion_shape import KINDS, Lesion, around, home, room, surface
from radlearn.phantom.ct_patient import COARSE_TYPES, STREAM_CT_LESIONS, CTPatient, draw_ct_patient
from radlearn.phantom.ct_tissue import Tissue

_COARSE = 112  # pixels a side of the anatomy that places are drawn from
_SEEN = 0.9  # of the half-axis along z: nearer to its end a lesion is a partial volume and not marked
_ENHANCEMENT = {"none": 0.0, "arterial": 25.0, "portal": 42.0, "delayed": 34.0}  # HU of solid lesions
_SMALLEST_AREA = 0.3  # cm2 on a slice; less is not marked


@lru_cache(maxsize=256)
def draw_lesions(seed: int, patient: int, num_slices: int = 16) -> tuple[Lesion, ...]:
    """The lesions of a patient, each marked on one slice of the series or more; a pure function.

    The first is of the planned type where the scan shows its organ. Three in ten of those with lesions have
    them of several types.
    """
    person = draw_ct_patient(seed, patient, num_slices)
    if not person.sick:
        return ()
    generator = stream(seed, patient, STREAM_CT_LESIONS)
    count = int(generator.choice([1, 2, 3, 4], p=[0.48, 0.24, 0.17, 0.11]))
    kind, lesions = person.planned, list[Lesion]()
    for number in range(count):
        if number and generator.random() < 0.4:
            kind = COARSE_TYPES[int(generator.integers(len(COARSE_TYPES)))]
        found = _grow(person, kind, lesions, generator)
        if found is None and not lesions:  # the organ is not on any slice: something that always is
            found = _grow(person, "soft tissue", lesions, generator)
        if found is not None:
            lesions.append(found)
    return tuple(lesions)


@lru_cache(maxsize=32)
def _coarse(seed: int, patient: int, num_slices: int, index: int) -> Anatomy:
    person = draw_ct_patient(seed, patient, num_slices)
    return paint_anatomy(person, person.z(index), _COARSE)


def _grow(
    person: CTPatient, kind: str, others: Sequence[Lesion], generator: np.random.Generator
) -> Lesion | None:
    """A lesion of a kind somewhere in the series; None if its organ is on no slice, too thin or full."""
    scan = person.scan
    spacing = scan.spacing / person.scale
    low, high = KINDS[kind].span
    indices = [i for i in range(scan.num_slices) if low <= person.z(i) <= high]
    wanted = float(np.exp(generator.uniform(*np.log(KINDS[kind].radius))))
    for index in generator.permutation(indices)[:8].tolist():
        anatomy = _coarse(person.seed, person.number, person.usual_slices, index)
        place = _place(anatomy, kind, wanted, others, generator)
        if place is None:
            continue
        x, y, radius, tissue = place
        along = max(radius * float(generator.uniform(0.8, 1.3)), 0.6 * spacing)
        z = person.z(index) + float(generator.uniform(-0.4, 0.4)) * min(spacing, along)
        ratio = float(generator.uniform(0.72, 1.0))
        drawn = _shape(person, kind, (x, y, z), (radius, radius * ratio, along), tissue, generator)
        seen = tuple(i for i in range(scan.num_slices) if i == index or _is_seen(person, drawn, i))
        return replace(drawn, slices=seen)
    return None


def _place(
    anatomy: Anatomy, kind: str, radius: float, others: Sequence[Lesion], generator: np.random.Generator
) -> tuple[float, float, float, Tissue] | None:
    """A centre with room around it, the radius that fits there, cm, and the tissue that it grows in."""
    plane = anatomy.plane
    free = home(anatomy, kind)
    for other in others:
        if abs(plane.z - other.centre[2]) < 2 * other.radii[2]:
            free &= np.hypot(plane.x - other.centre[0], plane.y - other.centre[1]) > 1.1 * other.radii[0]
    depth = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 3) * plane.pixel
    deepest = float(depth.max())
    # What grows in thin structures is as thick as they are; a nodule has its whole width in its organ.
    least = 0.55 * KINDS[kind].radius[0]
    if deepest < least:
        return None
    rows, columns = np.nonzero(depth >= max(least, min(0.8 * radius, 0.75 * deepest)))
    chosen = int(generator.integers(len(rows)))
    row, column = int(rows[chosen]), int(columns[chosen])
    fits = max(KINDS[kind].radius[0], min(radius, 1.5 * float(depth[row, column])))
    return float(plane.x[row, column]), float(plane.y[row, column]), fits, Tissue(plane.tissue[row, column])


def _is_seen(person: CTPatient, lesion: Lesion, index: int) -> bool:
    if abs(person.z(index) - lesion.centre[2]) > _SEEN * lesion.radii[2]:
        return False
    anatomy = _coarse(person.seed, person.number, person.usual_slices, index)
    patch = around(anatomy, lesion)
    rho = surface(patch, lesion, anatomy.plane.z)[0]
    area = float((room(patch, anatomy, lesion.kind) & (rho < 1)).sum()) * patch.pixel**2
    return area >= _SMALLEST_AREA


def _shape(
    person: CTPatient,
    kind: str,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    tissue: Tissue,
    generator: np.random.Generator,
) -> Lesion:
    look, hu = _look(person, kind, tissue, radii[0], generator)
    rough = {"lung": 0.10, "bone": 0.14}.get(kind, 0.06)
    waves = np.stack(
        [
            generator.normal(0, rough, 5) / np.sqrt(np.arange(1, 6)),
            generator.uniform(0, 2 * np.pi, 5),
            generator.normal(0, 0.8, 5),
        ],
        axis=1,
    )
    count = int(generator.integers(5, 11)) if look == "solid" and kind == "lung" else 0
    spikes = tuple(
        float(a) for a in generator.uniform(0, 2 * np.pi, count if generator.random() < 0.75 else 0)
    )
    angle, texture = float(generator.uniform(0, np.pi)), int(generator.integers(2**62))
    return Lesion(kind, centre, radii, angle, waves, look, hu, spikes, texture, ())


def _look(
    person: CTPatient, kind: str, tissue: Tissue, radius: float, generator: np.random.Generator
) -> tuple[str, float]:
    """How a lesion looks and its attenuation, HU; never that of the tissue around it."""
    chance = float(generator.random())
    solid = 40.0 + _ENHANCEMENT[person.scan.phase] * float(generator.uniform(0.4, 1.1))
    solid += float(generator.normal(0, 5))
    around = float(person.table[tissue])
    if kind == "lung":
        if chance > 0.88 and radius > 0.9:
            return "cavity", solid
        return ("ground glass", float(generator.uniform(-620, -420))) if chance > 0.78 else ("solid", solid)
    if kind == "bone":
        return ("sclerotic", float(generator.uniform(620, 950))) if chance < 0.4 else ("solid", solid)
    if kind == "liver":
        if chance < 0.15:
            return "cyst", 7.0
        if chance > 0.6 and person.scan.phase == "arterial":
            return "solid", around + float(generator.uniform(30, 55))
        return "rim" if chance < 0.45 else "solid", around - float(generator.uniform(24, 50))
    if kind in ("kidney", "pelvis") and chance < 0.4:
        return "cyst", float(generator.uniform(2, 16))
    look = "necrotic" if chance < 0.6 and radius > 1.0 else "solid"
    if tissue == Tissue.MUSCLE:
        return "rim", float(generator.uniform(2, 22))
    if tissue == Tissue.FAT:
        return look, solid
    # Within an organ: a tumour takes up less contrast, and stands out as denser where there is none.
    change = float(generator.uniform(22, 45))
    return look, around + change if person.scan.phase == "none" else around - change
