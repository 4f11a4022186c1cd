"""Spine, ribs, sternum, shoulder girdle and pelvis of an axial plane: cortex around marrow."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from radlearn.phantom.anatomy import stream
from radlearn.phantom.ct_body import (
    CAVITY_BACK,
    CAVITY_FRONT,
    CAVITY_WIDTH,
    CAVITY_Z,
    Body,
    profile,
    spine_y,
)
from radlearn.phantom.ct_patient import STREAM_CT_TREES, CTPatient, draw_ct_patient
from radlearn.phantom.ct_plane import Patch, Plane, Spheres
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.frame import Field

_LUMBAR, _SACRUM = 25.0, 42.6  # where the lumbar spine and the sacrum begin
_THORACIC_PITCH, _LUMBAR_PITCH = 2.2, 3.52
_CARTILAGE_FROM = 0.80  # of the length of a rib


def paint_bones(plane: Plane, patient: CTPatient, body: Body) -> None:
    """All bones; the spine last."""
    _paint_girdle(plane, body)
    plane.paint_canvas(plane.draw(ribs(patient.seed, patient.number)))
    if plane.z > 36.5:
        _paint_pelvis(plane, patient, body)
    _paint_spine(plane, patient, body)


def _bone(patch: Patch, inside: Field, cortex: float, grain: Field | float = 0.0) -> None:
    """A shell of cortical bone, `cortex` cm thick, around marrow."""
    patch.paint(patch.cover(inside), Tissue.CORTICAL_BONE)
    patch.paint(patch.cover(inside - np.float32(cortex), 0.05), Tissue.MARROW, grain)


def vertebra_axes(z: float) -> tuple[float, float]:
    """Half-width and half-depth of the vertebral body, cm."""
    return (
        profile(z, (-1, 8, 20, 26, 34, 42), (1.35, 1.45, 1.75, 2.05, 2.4, 2.6)),
        profile(z, (-1, 8, 20, 26, 34, 42), (0.95, 1.25, 1.5, 1.55, 1.7, 1.75)),
    )


def level(z: float) -> tuple[float, float]:
    """Distance from the middle of the nearest disc, cm, and the pitch of the vertebrae there."""
    start, pitch = (
        (_LUMBAR, _LUMBAR_PITCH) if z >= _LUMBAR else (_LUMBAR - 12 * _THORACIC_PITCH, _THORACIC_PITCH)
    )
    at = (z - start) / pitch
    return abs(at - round(at)) * pitch, pitch


def _paint_spine(plane: Plane, patient: CTPatient, body: Body) -> None:
    z = plane.z
    if z > _SACRUM:
        return
    cy = spine_y(patient, z)
    half, depth = vertebra_axes(z)
    from_disc, pitch = level(z)
    middle = from_disc / (pitch / 2)  # 0 at the disc, 1 in the middle of the vertebra
    patch = plane.patch(0.0, cy + 2.0, 5.5, 5.0)
    grain = np.asarray(28 * patch.part_of(body.mottle), np.float32)
    shape = _vertebral_body(patch, cy, half, depth)
    back = cy + depth
    posterior = back + 0.85
    # Arch, processes and joints first, then the canal through them, then the body.
    arch = 0.85 + 0.25 * (z > _LUMBAR)
    ring = patch.ellipse(0, posterior + 0.05, arch + 0.62, 0.85 + 0.62)
    lower = np.clip((0.75 - middle) * 4, 0, 1)
    if middle > 0.35:
        _bone(patch, ring, 0.22, grain)
        reach = profile(z, (0, 10, 22, 30, 42), (3.0, 3.0, 2.4, 3.6, 3.4))
        for side in (-1, 1):
            root = (side * (arch + 0.3), posterior - 0.1)
            tip = (side * reach, posterior + (0.9 if z < _LUMBAR else 0.1))
            if middle > 0.5:
                _bone(patch, patch.capsule(root, tip, 0.36), 0.18, grain)
            pedicle = (side * (half - 0.55), back - 0.2)
            _bone(patch, patch.capsule(root, pedicle, 0.42), 0.18, grain)
    else:
        for side in (-1, 1):
            joint = patch.ellipse(side * (arch + 0.55), posterior + 0.55, 0.8, 0.62, -0.7 * side)
            _bone(patch, joint, 0.3, grain)
            gap = 0.07 - np.abs(
                patch.x - np.float32(side * (arch + 0.55)) - 0.6 * side * (patch.y - posterior - 0.55)
            )
            patch.paint(patch.cover(np.minimum(gap, joint)) * 0.7, Tissue.CARTILAGE)
        lamina = np.minimum(ring, patch.y - np.float32(posterior + 0.5))
        _bone(patch, lamina, 0.25, grain)
    length = profile(z, (-1, 8, 20, 30, 42), (2.6, 2.2, 2.0, 2.7, 2.0))
    spinous = patch.capsule((0, posterior + 1.1), (0, posterior + 0.9 + length * (0.55 + 0.45 * lower)), 0.32)
    _bone(patch, spinous, 0.17, grain)
    patch.paint(patch.cover(patch.ellipse(0, posterior, arch, 0.85)), Tissue.FAT)
    sac = 0.72 if z < 28 else 0.78
    patch.paint(patch.cover(patch.ellipse(0, posterior - 0.06, sac, 0.66)), Tissue.SPINAL_CANAL)
    if z < 27:  # the cord in its fluid
        cord = patch.ellipse(0, posterior - 0.06, 0.48, 0.36)
        patch.paint(patch.cover(cord), Tissue.SPINAL_CANAL, 12.0)
    if from_disc < 0.28:
        patch.paint(patch.cover(shape), Tissue.DISC)
        return
    endplate = np.clip((0.5 - from_disc) / 0.2, 0, 1)
    _bone(patch, shape, 0.14 + 0.05 * endplate, grain + np.float32(230 * endplate))
    if middle > 0.7:  # veins at the back of the body
        patch.paint(patch.cover(patch.capsule((0, back - 0.9), (0, back), 0.12)) * 0.7, Tissue.VEIN)


def _vertebral_body(patch: Patch, cy: float, half: float, depth: float) -> Field:
    oval = patch.ellipse(0, cy, half, depth * 1.06)
    flat = np.float32(cy + depth * 0.86) - patch.y - 0.25 * np.exp(-((patch.x / 0.9) ** 2))
    return np.asarray(np.minimum(oval, flat), np.float32)


@lru_cache(maxsize=8)
def ribs(seed: int, patient: int) -> Spheres:
    """Twelve pairs of ribs with their cartilages; on a plane each is an oblique oval."""
    person = draw_ct_patient(seed, patient)
    generator = stream(seed, patient, STREAM_CT_TREES, 5)
    cortex, marrow, cartilage = [], [], []
    for side in (-1, 1):
        for number in range(12):
            head = -0.4 + _THORACIC_PITCH * number + generator.normal(0, 0.1)
            drop = min(3.4 + 0.75 * number, 8.6) + generator.normal(0, 0.25)
            last = 1.0 if number < 7 else (0.93, 0.90, 0.86, 0.6, 0.42)[number - 7]
            share = np.linspace(0.0, last, int(70 * last))
            angle = np.deg2rad(18 + 146 * share)  # 0 is the back, 180 the breastbone
            z = (
                head
                + drop * (share**1.3)
                - (np.clip(share - _CARTILAGE_FROM, 0, 1) / 0.2) ** 1.5 * (0.9 * number)
            )
            half = np.interp(z, CAVITY_Z, CAVITY_WIDTH) * person.chest + 0.5
            front = np.interp(z, CAVITY_Z, CAVITY_FRONT) * person.depth + 0.45
            back = np.interp(z, CAVITY_Z, CAVITY_BACK) + 0.5
            sine, cosine = np.sin(angle), np.cos(angle)
            x = side * half * sine**0.8
            y = np.where(cosine > 0, back, front) * np.sign(cosine) * np.abs(cosine) ** 0.8
            points = np.stack([x, y, z], axis=1)
            bone = share < _CARTILAGE_FROM
            size = 0.48 + 0.06 * np.sin(3 * angle) * (number > 0)
            cortex.append(
                Spheres(points[bone], size[bone], np.full(bone.sum(), Tissue.CORTICAL_BONE, np.uint8))
            )
            marrow.append(
                Spheres(points[bone], size[bone] - 0.15, np.full(bone.sum(), Tissue.MARROW, np.uint8))
            )
            if not bone.all():
                soft = ~bone
                cartilage.append(
                    Spheres(points[soft], size[soft], np.full(soft.sum(), Tissue.CARTILAGE, np.uint8))
                )
    return Spheres.join([*cartilage, *cortex, *marrow])


def _paint_girdle(plane: Plane, body: Body) -> None:
    """Breastbone, collar bones and shoulder blades."""
    z = plane.z
    front = -body.front - 0.75
    if 3.0 < z < 18.5:
        half = profile(z, (3.0, 4.5, 6.5, 7.5, 15, 18.5), (2.0, 2.7, 1.7, 1.5, 1.7, 0.4))
        patch = plane.patch(0, front, half + 0.5, 1.2)
        _bone(patch, patch.ellipse(0, front, half, 0.58), 0.17)
    for side in (-1, 1):
        if 1.2 < z < 4.6:
            inner, outer = profile(z, (1.2, 4.6), (7.5, 2.6)), profile(z, (1.2, 4.6), (12.5, 4.6))
            patch = plane.patch(side * (inner + outer) / 2, front - 0.4, 4.2, 2.2)
            bar = patch.capsule((side * inner, front - 0.1), (side * outer, front + 0.4 - 0.2 * z), 0.62)
            _bone(patch, bar, 0.2)
        if z < 14.5:
            reach = profile(z, (0, 4, 10, 14.5), (7.0, 6.4, 5.0, 1.2))
            x, y = side * 13.2, profile(z, (0, 6, 14), (5.4, 6.0, 5.6))
            tip = (x - side * reach * 0.62, y + reach * 0.40)
            patch = plane.patch(x - side * 2.5, y + 1.2, 5.0, 3.6)
            _bone(patch, patch.capsule((x, y), tip, 0.26), 0.14)
            _bone(patch, patch.ellipse(x, y, 0.85, 0.55, -0.6 * side), 0.2)
            if z < 5.5:  # its spine
                _bone(patch, patch.capsule((x - side * 1.6, y + 1.0), (x + side * 0.4, y + 2.7), 0.25), 0.14)


def _paint_pelvis(plane: Plane, patient: CTPatient, body: Body) -> None:
    z = plane.z
    grain = np.asarray(26 * body.mottle, np.float32)
    for side in (-1, 1):
        if z < 48.5:
            _bone(plane, _iliac_wing(plane, side), 0.2, grain)
        if z > 46.0:
            _hip(plane, side, grain)
        if z > 50.5:
            _bone(plane, plane.ellipse(side * 6.6, profile(z, (50, 55), (3.2, 4.6)), 1.5, 1.7), 0.25, grain)
        if z > 51.8:  # pubic bone
            swell = min(1.0, (z - 51.8) / 0.8)
            ramus = plane.capsule((side * 0.7, -4.9), (side * 5.6, -3.6), 0.95 * swell)
            _bone(plane, ramus, 0.22, grain)
    if z > _SACRUM:
        half = profile(z, (42.6, 45, 48, 51, 53), (5.2, 5.0, 3.8, 2.4, 0.8))
        depth = profile(z, (42.6, 45, 48, 51, 53), (1.9, 2.0, 1.6, 0.9, 0.5))
        cy = spine_y(patient, z)
        patch = plane.patch(0, cy, half + 0.6, depth + 1.6)
        part = np.asarray(26 * patch.part_of(body.mottle), np.float32)
        oval = patch.ellipse(0, cy, half, depth)
        hollow = np.asarray(
            oval - 0.7 * np.exp(-((patch.x / (0.5 * half)) ** 2)) * (patch.y < cy), np.float32
        )
        _bone(patch, np.maximum(hollow, patch.capsule((0, cy), (0, cy + depth + 0.7), 0.4)), 0.18, part)
        if z < 49:
            patch.paint(patch.cover(patch.ellipse(0, cy + 0.5 * depth, 0.8, 0.42)), Tissue.SPINAL_CANAL)
            for side in (-1, 1):  # foramina with the nerves
                hole = patch.ellipse(side * 0.48 * half, cy - 0.1, 0.42, 0.36)
                patch.paint(patch.cover(hole), Tissue.FAT)
                patch.paint(patch.cover(hole - 0.16), Tissue.SPINAL_CANAL)


def _iliac_wing(plane: Plane, side: int) -> Field:
    """A curved plate from the joint with the sacrum to the front."""
    z = plane.z
    grown = profile(z, (36.5, 39, 42, 46, 48.5), (0.0, 0.5, 0.95, 1.0, 0.75))
    back = (
        side * profile(z, (37, 42, 46, 48), (8.0, 5.6, 5.2, 6.0)),
        profile(z, (37, 42, 46, 48), (5.2, 6.0, 6.4, 4.8)),
    )
    bend = (side * profile(z, (37, 42, 48), (11.4, 9.9, 8.6)), profile(z, (37, 42, 48), (1.8, 2.2, 1.6)))
    tip = (side * profile(z, (37, 42, 48), (12.4, 12.4, 9.3)), profile(z, (37, 42, 48), (-1.4, -3.2, -2.0)))
    start = tuple(b + (1 - grown) * (m - b) for b, m in zip(back, bend, strict=True))
    end = tuple(t + (1 - grown) * (m - t) for t, m in zip(tip, bend, strict=True))
    thick = 0.35 + 0.35 * grown
    first = plane.capsule((start[0], start[1]), bend, thick * (1.25 if z > 41 else 1.0))
    return np.asarray(np.maximum(first, plane.capsule(bend, (end[0], end[1]), thick)), np.float32)


def _hip(plane: Plane, side: int, grain: Field) -> None:
    """Roof of the hip joint, head and neck of the femur."""
    z = plane.z
    cx, cy, top = side * 8.9, -0.4, 50.6
    cup = np.sqrt(max(0.0, 3.15**2 - (z - top + 0.7) ** 2))
    if cup > 0.4:
        patch = plane.patch(cx, cy, 4.5, 4.5)
        part = patch.part_of(grain)
        opening = side * (patch.x - np.float32(cx)) - (0.9 if z > 48.6 else 3.0)
        _bone(
            patch, np.minimum(patch.ellipse(cx, cy, cup, cup), -np.asarray(opening, np.float32)), 0.24, part
        )
        head = np.sqrt(max(0.0, 2.45**2 - (z - top) ** 2))
        if head > 0.3:
            patch.paint(patch.cover(patch.ellipse(cx, cy, head + 0.22, head + 0.22)), Tissue.CARTILAGE)
            _bone(patch, patch.ellipse(cx, cy, head, head), 0.16, part)
    if z > 50.4:
        patch = plane.patch(side * 11.0, 0.8, 4.0, 3.6)
        part = patch.part_of(grain)
        neck = 1.25 * min(1.0, (z - 50.4) / 1.2)
        trochanter = patch.capsule((side * 9.6, 0.0), (side * 12.6, profile(z, (50, 54), (1.9, 1.2))), neck)
        _bone(patch, trochanter, 0.25, part)
