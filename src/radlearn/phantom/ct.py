"""A rendered CT slice: Hounsfield units, lesions with mask and box, labels of the slice and the patient."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import stream
from radlearn.phantom.case import Box
from radlearn.phantom.ct_anatomy import paint_anatomy
from radlearn.phantom.ct_lesion_shape import paint_lesion
from radlearn.phantom.ct_lesions import draw_lesions
from radlearn.phantom.ct_patient import COARSE_TYPES, STREAM_CT_SLICE, draw_ct_patient
from radlearn.phantom.ct_scanner import acquire
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.frame import Mask

VERSION = "1"  # raise it whenever pixels or labels change
SMALLEST, LARGEST = 32, 1024  # pixels a side
STAGES = (1, 2, 3, 4)
LUNG_WINDOW, SOFT_TISSUE_WINDOW = (-1350.0, 150.0), (-160.0, 240.0)
"""Lowest and highest HU shown: width 1500 at -600, width 400 at 40."""


@dataclass(frozen=True, eq=False)
class CTSlice:
    """One slice.

    Attributes:
        hu: (size, size) int16 Hounsfield units.
        tissue: (size, size) uint8 numbers of `Tissue` before the lesions.
        masks: (size, size) bool, one a lesion that is marked on this slice; `boxes` in the same order, their
            `finding` is the coarse type.
        pixel_spacing, slice_spacing: mm.
        window: lowest and highest HU that a reader would show.
    """

    hu: NDArray[np.int16]
    tissue: NDArray[np.uint8]
    masks: tuple[Mask, ...]
    boxes: tuple[Box, ...]
    pixel_spacing: float
    slice_spacing: float
    window: tuple[float, float]

    @property
    def lesion_present(self) -> int:
        """1 if a lesion is marked on the slice."""
        return int(bool(self.masks))


def num_slices_of(seed: int, patient: int, num_slices: int = 16) -> int:
    """How many slices the patient's series has."""
    return draw_ct_patient(seed, patient, num_slices).scan.num_slices


def lesion_types(seed: int, patient: int, num_slices: int = 16) -> dict[str, int]:
    """Coarse type -> 1 if the patient has such a lesion anywhere in the series, else 0."""
    present = {lesion.kind for lesion in draw_lesions(seed, patient, num_slices)}
    return {kind: int(kind in present) for kind in COARSE_TYPES}


def stage_of(seed: int, patient: int, num_slices: int = 16) -> int | None:
    """Stage of the disease by size, number and spread of the lesions; None where there is none.

    1: one lesion under 2.5 cm; 2: one of 2.5 cm or more; 3: several, all of one coarse type; 4: of several
    types. A made-up rule in the manner of TNM (T by size, N by number, M by spread).
    """
    lesions = draw_lesions(seed, patient, num_slices)
    if not lesions:
        return None
    if len({lesion.kind for lesion in lesions}) > 1:
        return 4
    if len(lesions) > 1:
        return 3
    widest = 2 * max(lesions[0].radii[:2]) * draw_ct_patient(seed, patient, num_slices).scale
    return 2 if widest >= 2.5 else 1


def render_slice(seed: int, patient: int, index: int, size: int, num_slices: int = 16) -> CTSlice:
    """Render a slice at (size, size): a pure function of its arguments.

    Args:
        seed: of the data set.
        patient: counted from 0.
        index: of the slice, from head to feet, counted from 0.
        size: pixels a side.
        num_slices: of a usual series; each patient's has up to a quarter fewer or more.

    Raises:
        ValueError: if the size is not within 32 to 1024 pixels.
        IndexError: if the series has no such slice.
    """
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"size is {SMALLEST} to {LARGEST} pixels: got {size}")
    person = draw_ct_patient(seed, patient, num_slices)
    if not 0 <= index < person.scan.num_slices:
        raise IndexError(f"patient {patient} has slices 0 to {person.scan.num_slices - 1}: got {index}")
    anatomy = paint_anatomy(person, person.z(index), size)
    plane = anatomy.plane
    tissue = plane.tissue.copy()
    marked = [
        (lesion.kind, paint_lesion(anatomy, lesion))
        for lesion in draw_lesions(seed, patient, num_slices)
        if index in lesion.slices
    ]
    noise = stream(seed, patient, STREAM_CT_SLICE, index)
    hu = acquire(plane.hu, tissue, person, noise)
    lung = np.count_nonzero(tissue == Tissue.LUNG) > 0.12 * np.count_nonzero(tissue)
    return CTSlice(
        hu=hu,
        tissue=tissue,
        masks=tuple(mask for _, mask in marked),
        boxes=tuple(_box(mask, kind) for kind, mask in marked),
        pixel_spacing=10 * person.scan.field_of_view / size,
        slice_spacing=10 * person.scan.spacing,
        window=LUNG_WINDOW if lung else SOFT_TISSUE_WINDOW,
    )


def _box(mask: Mask, kind: str) -> Box:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return Box(float(x), float(y), float(w), float(h), kind)
