"""The whole anatomy of one axial plane, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from radlearn.phantom.ct_abdomen import paint_abdomen
from radlearn.phantom.ct_body import Body, paint_body, paint_table
from radlearn.phantom.ct_bones import paint_bones
from radlearn.phantom.ct_bowel import paint_bowel
from radlearn.phantom.ct_chest import paint_chest
from radlearn.phantom.ct_patient import CTPatient
from radlearn.phantom.ct_plane import Plane
from radlearn.phantom.ct_vessels import paint_vessels


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A painted plane and the outlines it was painted in."""

    plane: Plane
    body: Body


def paint_anatomy(patient: CTPatient, z: float, size: int) -> Anatomy:
    """Paint the plane at z (reference cm from the apices) on (size, size) pixels: no lesion, no noise."""
    pixel = patient.scan.field_of_view / patient.scale / size
    plane = Plane(size, patient.pose(z), z, pixel, patient.table)
    body = paint_body(plane, patient)
    chest = paint_chest(plane, patient, body)
    paint_abdomen(plane, patient, body, chest)
    paint_vessels(plane, patient)
    paint_bowel(plane, patient, body)
    paint_bones(plane, patient, body)
    paint_table(plane, patient)
    return Anatomy(plane, body)
