"""Solid organs and muscles of the abdomen and the organs of the pelvis in an axial plane."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from radlearn.phantom.ct_body import Body, profile, spine_y
from radlearn.phantom.ct_bones import vertebra_axes
from radlearn.phantom.ct_chest import Chest
from radlearn.phantom.ct_patient import CTPatient
from radlearn.phantom.ct_plane import Patch, Plane, Spheres, tube
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.ct_trees import liver_vessels
from radlearn.phantom.frame import Field

_LIVER_Z = (16, 17.5, 19, 21, 23, 25, 27, 29, 31, 33, 35)
_LIVER_FRONT = (0.5, 4.6, 7.6, 8.8, 7.6, 4.4, 0.2, -3.4, -6.6, -9.4, -12.5)
_LIVER_BACK = (-1.0, -1.0, -1.1, -1.4, -1.9, -2.8, -4.2, -5.6, -7.4, -9.8, -12.5)


def paint_abdomen(plane: Plane, patient: CTPatient, body: Body, chest: Chest) -> None:
    """Muscles along the spine, then the organs from back to front."""
    z = plane.z
    if 21 < z < 54:
        _paint_deep_muscles(plane, patient)
    if 16 < z < 36:
        room = np.minimum(body.cavity - 0.3, (chest.below - 0.35) * np.float32(0.4))
        _paint_liver(plane, patient, body, room)
        _paint_spleen(plane, patient, body, room)
        _paint_stomach(plane, patient, body, room)
    if 24 < z < 28:
        _paint_adrenals(plane, patient)
    if 23 < z < 38:
        for name, side in (("right kidney", -1), ("left kidney", 1)):
            _paint_kidney(plane, patient, body, name, side)
        plane.paint_canvas(
            plane.draw(pancreas(patient.organs["pancreas"].size, patient.organs["pancreas"].dz))
        )
    if z > 44:
        _paint_pelvic_organs(plane, patient, body)


def _paint_deep_muscles(plane: Plane, patient: CTPatient) -> None:
    z = plane.z
    cy = spine_y(patient, z)
    half = vertebra_axes(z)[0]
    for side in (-1, 1):
        if z < 30:  # crura of the diaphragm
            crus = plane.patch(side * 1.2, cy - 2.2, 2.6, 2.6)
            bar = crus.capsule(
                (side * 1.7, cy - 0.6),
                (side * (0.9 + 0.25 * side), cy - 3.4),
                profile(z, (21, 24, 30), (0.3, 0.45, 0.2)),
            )
            crus.paint(crus.cover(bar), Tissue.MUSCLE)
        if z > 26.5:  # psoas
            radius = profile(z, (26.5, 31, 35, 40, 44, 48, 52, 54), (0.4, 1.2, 1.8, 2.3, 2.4, 2.2, 2.0, 1.9))
            x = profile(z, (26.5, 40, 44, 48, 52, 54), (half + 0.3, half + 1.7, 6.0, 7.4, 9.0, 9.4))
            y = profile(z, (26.5, 40, 44, 48, 52, 54), (cy + 0.5, cy + 0.1, 0.9, -1.6, -3.6, -4.2))
            patch = plane.patch(side * x, y, radius + 0.5, radius * 1.2 + 0.5)
            oval = patch.ellipse(side * x, y, radius * 0.88, radius * 1.12, 0.3 * side)
            patch.paint(patch.cover(oval), Tissue.MUSCLE)
        if 27.5 < z < 38:  # quadratus lumborum
            patch = plane.patch(side * 6.0, cy + 2.7, 3.0, 2.0)
            patch.paint(
                patch.cover(patch.ellipse(side * 6.0, cy + 2.7, 2.3, 1.0, -0.25 * side)), Tissue.MUSCLE
            )


def _paint_liver(plane: Plane, patient: CTPatient, body: Body, room: Field) -> None:
    organ = patient.organs["liver"]
    z = plane.z - organ.dz
    if not 16 < z < 35:
        return
    front = (profile(z, _LIVER_Z, _LIVER_FRONT) * organ.size + 1.5 * organ.dx, -body.front)
    back = (profile(z, _LIVER_Z, _LIVER_BACK) * organ.size, 0.72 * body.back)
    dx, dy = back[0] - front[0], back[1] - front[1]
    length = float(np.hypot(dx, dy))
    px, py = plane.x - np.float32(front[0]), plane.y - np.float32(front[1])
    along = np.clip((px * np.float32(dx) + py * np.float32(dy)) * np.float32(1 / length**2), 0, 1)
    side = (px * np.float32(dy) - py * np.float32(dx)) * np.float32(-1 / length)
    hollow = profile(z, (17, 20, 24, 28, 32), (0.2, 0.6, 1.5, 1.4, 0.4))
    inside = side - hollow * np.sin(np.float32(np.pi) * along) + 0.22 * body.streaks
    if 19.5 < z < 25.5:  # caudate lobe
        swell = float(np.sqrt(max(0.0, 1 - ((z - 22.5) / 3) ** 2)))
        inside = np.maximum(inside, plane.ellipse(-1.0, 0.6, 2.0 * swell, 1.6 * swell))
    cover = plane.cover(np.asarray(np.minimum(inside, room), np.float32))
    plane.paint(cover, Tissue.LIVER, np.asarray(2.5 * body.mottle + 2.0 * body.streaks, np.float32))
    if 20.5 < z < 27:  # falciform ligament in its fissure
        patch = plane.patch(-0.3, -body.front / 2 - 1, 2.0, body.front / 2)
        slit = patch.capsule((0.6, -body.front + 1.2), (-1.0, -1.9), 0.10 + 0.10 * patient.visceral)
        patch.paint(patch.cover(slit) * 0.8 * patch.part_of(cover), Tissue.FAT)
    plane.paint_canvas(plane.draw(liver_vessels(patient.seed, patient.number)), cover)
    bladder = patient.organs["gallbladder"]
    deep = (plane.z - 28.0 - bladder.dz) / (3.0 * bladder.size)
    if abs(deep) < 1 and patient.contents["gallbladder"] > 0.15:
        swell = float(np.sqrt(1 - deep**2)) * bladder.size
        cx, cy = -4.6 + bladder.dx, -3.6 + bladder.dy
        patch = plane.patch(cx, cy, 3.2, 3.2)
        sac = patch.ellipse(cx, cy, 1.35 * swell, 2.1 * swell, 0.5)
        patch.paint(patch.cover(sac), Tissue.BOWEL_WALL)
        patch.paint(patch.cover(sac - 0.12), Tissue.GALLBLADDER)


def _paint_spleen(plane: Plane, patient: CTPatient, body: Body, room: Field) -> None:
    organ = patient.organs["spleen"]
    z = plane.z - organ.dz
    swell = (
        profile(z, (19.0, 19.8, 21, 23, 26, 28, 29.4, 30), (0, 2.0, 3.2, 4.0, 4.1, 3.2, 1.8, 0)) * organ.size
    )
    if swell < 0.4:
        return
    cx, cy = 0.78 * body.width, 0.42 * body.back + organ.dy
    outer = plane.ellipse(cx, cy, 0.85 * swell, 1.15 * swell, -0.5)
    hollow = plane.ellipse(cx - 4.6, cy - 1.8, 3.6, 3.8)
    inside = np.minimum(np.minimum(outer, room), -hollow) + 0.1 * body.streaks
    change = 2.0 * body.mottle
    if patient.scan.phase == "arterial":  # the red pulp fills unevenly
        change = change + 16 * np.sin(2.2 * body.streaks + 1.6 * plane.y)
    plane.paint(plane.cover(np.asarray(inside, np.float32)), Tissue.SPLEEN, np.asarray(change, np.float32))


def _paint_stomach(plane: Plane, patient: CTPatient, body: Body, room: Field) -> None:
    organ = patient.organs["stomach"]
    z = plane.z - organ.dz
    heights = (18.6, 19.2, 20.5, 22, 24, 26, 27.5, 29, 30)
    rx = profile(z, heights, (0, 2.0, 3.5, 3.8, 3.5, 3.7, 4.2, 3.0, 0)) * organ.size
    ry = profile(z, heights, (0, 2.0, 3.5, 3.7, 3.0, 2.5, 1.9, 1.6, 0)) * organ.size
    if min(rx, ry) < 0.5:
        return
    full = 0.82 + 0.42 * patient.contents["stomach"]
    rx, ry = rx * full, ry * full
    cx = profile(z, heights, (6, 6, 6.0, 6.0, 5.8, 4.6, 2.6, -0.6, -1.5)) + organ.dx
    cy = profile(z, heights, (0, 0, -0.4, -1.2, -2.8, -4.0, -4.6, -4.4, -4)) + organ.dy
    angle = profile(z, (20, 24, 28), (0.0, 0.5, -0.1))
    oval = plane.ellipse(cx, cy, rx, ry, angle) + 0.22 * body.streaks
    inside = np.asarray(np.minimum(oval, room - 0.1), np.float32)
    plane.paint(plane.cover(inside), Tissue.STOMACH_WALL)
    fill = Tissue.BOWEL_CONTRAST if patient.contents["oral contrast"] > 0.75 else Tissue.STOMACH_FLUID
    lumen = np.asarray(inside - 0.38 - 0.12 * body.mottle, np.float32)
    food = np.asarray(14 * body.streaks * (patient.contents["food"] > 0.5), np.float32)
    plane.paint(plane.cover(lumen), fill, food)
    level = cy + ry * (
        1.3 * patient.contents["stomach gas"] - 0.95
    )  # the patient lies on the back: gas is in front
    gas = np.minimum(lumen, np.float32(level) - plane.y)
    plane.paint(plane.cover(np.asarray(gas, np.float32)), Tissue.GAS)


def _paint_adrenals(plane: Plane, patient: CTPatient) -> None:
    cy = spine_y(patient, plane.z)
    for start, end in (
        ((-3.1, cy - 1.4), (-3.6, cy + 1.0)),
        ((3.2, cy - 1.8), (2.8, cy + 0.3)),
        ((3.2, cy - 1.8), (4.1, cy + 0.2)),
    ):
        patch = plane.patch((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, 1.2, 2.2)
        patch.paint(patch.cover(patch.capsule(start, end, 0.24)), Tissue.ADRENAL)


def _paint_kidney(plane: Plane, patient: CTPatient, body: Body, name: str, side: int) -> None:
    organ = patient.organs[name]
    middle = (31.0 if side < 0 else 29.8) + organ.dz
    deep = (plane.z - middle) / (5.2 * organ.size)
    around = (plane.z - middle) / (6.4 * organ.size)
    if abs(around) >= 1:
        return
    cx = side * (6.0 + 0.35 * (plane.z - middle) * 0.35) + organ.dx
    cy = spine_y(patient, plane.z) + 0.7 + organ.dy
    fat = float(np.sqrt(1 - around**2))
    pad = 0.35 + 1.3 * patient.visceral
    patch = plane.patch(cx, cy, 5.0, 5.0)
    bag = np.minimum(
        patch.ellipse(cx, cy, (2.6 + pad) * fat, (2.8 + pad) * fat),
        patch.part_of(body.cavity) - np.float32(0.1),
    )
    patch.paint(patch.cover(np.asarray(bag, np.float32)), Tissue.FAT)
    if abs(deep) >= 1:
        return
    swell = float(np.sqrt(1 - deep**2)) * organ.size
    turn = 0.5 * side
    mottle = patch.part_of(body.mottle)
    inside = patch.ellipse(cx, cy, 2.45 * swell, 2.85 * swell, turn) + 0.1 * patch.part_of(body.streaks)
    patch.paint(patch.cover(inside), Tissue.RENAL_CORTEX, 2.0 * mottle)
    angle = np.arctan2(patch.y - np.float32(cy), patch.x - np.float32(cx))
    pyramids = inside - 0.62 + 0.30 * np.sin(6 * angle + 3 * organ.dx)
    patch.paint(patch.cover(np.asarray(pyramids, np.float32), 0.1), Tissue.RENAL_MEDULLA, 2.0 * mottle)
    if abs(deep) < 0.62:  # sinus, open to the midline and the front
        open_ = (1 - (deep / 0.62) ** 2) ** 0.5
        sx, sy = cx - side * 0.75 * swell, cy - 0.35 * swell
        sinus = patch.ellipse(sx, sy, 1.25 * open_, 0.95 * open_, 0.4 * side)
        gate = patch.capsule((sx, sy), (cx - side * 2.9, cy - 1.5), 0.55 * open_)
        hole = np.maximum(sinus + 0.1 * patch.part_of(body.streaks), gate)
        patch.paint(patch.cover(np.asarray(hole, np.float32)), Tissue.FAT)
        pelvis = patch.capsule((sx + side * 0.2, sy), (cx - side * 2.3, cy - 1.1), 0.30 * open_)
        patch.paint(patch.cover(pelvis), Tissue.RENAL_PELVIS)


@lru_cache(maxsize=16)
def pancreas(size: float, shift: float) -> Spheres:
    """Head beside the duodenum, body over the vessels, tail towards the spleen."""
    path = [
        (-3.0, -1.6, 31.0, 1.0), (-2.6, -2.2, 29.4, 1.3), (-1.0, -3.4, 28.2, 0.95), (1.2, -3.6, 27.4, 0.85),
        (3.6, -2.2, 26.8, 0.95), (6.0, -0.4, 26.0, 0.95), (7.9, 1.4, 25.4, 0.8),
    ]  # fmt: skip
    balls = tube([(x, y, z + shift, r * size) for x, y, z, r in path], Tissue.PANCREAS)
    lobes = 1 + 0.14 * np.sin(np.arange(len(balls.radii)) * 2.1)
    return Spheres(balls.points, balls.radii * lobes, balls.tissues)


def _paint_pelvic_organs(plane: Plane, patient: CTPatient, body: Body) -> None:
    z = plane.z
    name = "uterus"
    organ = patient.organs[name]
    centre, radii = (
        ((0.3, 0.9, 48.3), (3.0, 2.1, 3.0)) if patient.sex == "F" else ((0.0, 0.6, 53.4), (2.3, 1.8, 1.9))
    )
    share = (z - centre[2] - organ.dz) / (radii[2] * organ.size)
    if abs(share) < 1:
        swell = float(np.sqrt(1 - share**2)) * organ.size
        cx, cy = centre[0] + organ.dx, centre[1] + organ.dy
        patch = plane.patch(cx, cy, radii[0] + 1, radii[1] + 1)
        oval = patch.ellipse(cx, cy, radii[0] * swell, radii[1] * swell) + 0.12 * patch.part_of(body.streaks)
        _inside(patch, body, oval, Tissue.PELVIC_ORGAN)
        if patient.sex == "F":
            _inside(patch, body, patch.ellipse(cx, cy, 1.1 * swell, 0.4 * swell), Tissue.BLADDER_WALL)
    organ = patient.organs["bladder"]
    full = (0.62 + 0.5 * patient.contents["bladder"]) * organ.size
    share = (z - 51.2 - 1.2 * (0.9 - full)) / (3.9 * full)
    if abs(share) < 1:
        swell = float(np.sqrt(1 - share**2)) * full
        cx, cy = organ.dx, -2.4 + organ.dy
        patch = plane.patch(cx, cy, 5.2, 4.4)
        oval = patch.ellipse(cx, cy, 4.3 * swell, 3.2 * swell)
        _inside(patch, body, oval, Tissue.BLADDER_WALL)
        # Excreted contrast is heavier than urine and layers at the back.
        layer = 45 * np.clip(patch.y - np.float32(cy), -1, 2) if patient.scan.phase == "delayed" else 0.0
        _inside(patch, body, oval - 0.3, Tissue.BLADDER, layer)


def _inside(patch: Patch, body: Body, shape: Field, tissue: Tissue, change: Field | float = 0.0) -> None:
    """Paint a shape as far as the cavity of the pelvis reaches."""
    room = patch.part_of(body.cavity) - np.float32(0.25)
    patch.paint(patch.cover(np.asarray(np.minimum(shape, room), np.float32)), tissue, change)
