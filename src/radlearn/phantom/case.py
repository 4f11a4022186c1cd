"""A rendered case: image, labels, masks, boxes and the report that describes them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import STREAM_NOISE, draw_patient, stream
from radlearn.phantom.bones import skeleton
from radlearn.phantom.chest import (
    MU_SOFT,
    airway_and_vessels,
    body_line_integral,
    displace_lungs,
    draw_lungs,
    heart_thickness,
)
from radlearn.phantom.detector import annotate, expose, monitoring_leads, process
from radlearn.phantom.findings import APPLY, FINDINGS, ORDER
from radlearn.phantom.frame import Field, Frame, Mask
from radlearn.phantom.report import Sentence, write_report
from radlearn.phantom.scene import Scene
from radlearn.phantom.study import Study, draw_study
from radlearn.phantom.vessels import vessel_thickness

VERSION = "1"  # raise it whenever pixels or text change
SMALLEST, LARGEST = 16, 1024  # pixels a side of render_case
_COARSEST_GRID = 128  # smaller images are averaged from this one, or thin structures would alias


@dataclass(frozen=True)
class Box:
    """A region of a finding in pixels: left, top, width, height."""

    x: float
    y: float
    w: float
    h: float
    finding: str


@dataclass(frozen=True, eq=False)
class Case:
    """One synthetic study.

    Attributes:
        image: (size, size) uint8, bright is dense.
        labels: 1 or 0 for each of FINDINGS.
        masks: (size, size) bool, present findings only.
        boxes: one a region; `sentences` point into it.
        report: the whole text; `findings_text` and `impression` are its sections without headers.
        details: side, severity and location of each present finding.
    """

    image: NDArray[np.uint8]
    labels: dict[str, int]
    masks: dict[str, Mask]
    boxes: tuple[Box, ...]
    findings_text: str
    impression: str
    report: str
    sentences: tuple[Sentence, ...]
    view: str
    patient: int
    study: int
    details: dict[str, dict[str, str]]


def compose(seed: int, patient: int, study: Study, size: int) -> tuple[Scene, Field, list[tuple[str, Mask]]]:
    """Anatomy and findings on the grid: the scene, its line integral and (finding, mask) a region."""
    anatomy = draw_patient(seed, patient)
    acquisition = study.acquisition
    frame = Frame(size, acquisition.pose)
    values = {finding.kind: finding for finding in study.findings}
    ratio = (
        values["cardiomegaly"].values["ratio"] if "cardiomegaly" in values else anatomy.cardiothoracic_ratio
    )
    domes = [height - acquisition.lift for height in anatomy.dome]
    if "atelectasis" in values:
        domes[0 if values["atelectasis"].side == "right" else 1] -= values["atelectasis"].values["rise"]
    lungs = draw_lungs(frame, anatomy, (domes[0], domes[1]))
    heart, left, right = heart_thickness(
        frame, anatomy, ratio * acquisition.magnification, acquisition.rotation
    )
    displace_lungs(lungs, heart)
    scene = Scene(frame, anatomy, study.view, lungs, heart, (right, left))
    regions: list[tuple[str, Mask]] = []
    by_kind: dict[str, list[Mask]] = {}
    for kind in ORDER:
        if kind in values:
            by_kind[kind] = APPLY[kind](scene, values[kind])
    for kind in FINDINGS:
        regions.extend((kind, mask) for mask in by_kind.get(kind, []))

    integral = body_line_integral(frame, anatomy, study.view)
    vessels = vessel_thickness(frame, anatomy, 1.35 if "edema" in values else 1.0)
    for lung in lungs:
        integral = integral + lung.depth * (lung.density - MU_SOFT)
        room = np.clip(lung.depth / 3, 0, 1) * lung.vessels
        integral += vessels * np.clip(MU_SOFT - lung.density, 0, None) * room
    integral += airway_and_vessels(frame, anatomy)
    integral += skeleton(frame, anatomy, study.view, -0.4 * acquisition.lift, acquisition.rotation)
    integral += scene.extra
    if acquisition.leads:
        integral += monitoring_leads(frame, acquisition)
    return scene, np.maximum(integral, 0).astype(np.float32), regions


def _shrink(mask: Mask, size: int) -> Mask:
    if mask.shape[0] == size:
        return mask
    share = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    # A region thinner than a pixel keeps the pixels it touches most.
    threshold = min(0.5, 0.6 * float(share.max()))
    result: Mask = share >= max(threshold, 1e-6)
    return result


def _box(mask: Mask, kind: str) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(
        float(columns[0]),
        float(rows[0]),
        float(columns[-1] - columns[0] + 1),
        float(rows[-1] - rows[0] + 1),
        kind,
    )


def render_case(seed: int, patient: int, study: int, size: int) -> Case:
    """Render a study at (size, size); the same picture at every size, and a pure function of its arguments.

    Raises:
        ValueError: if the size is not within 16 to 1024 pixels; `render_full_size` makes larger ones.
        IndexError: if the patient has no such study.
    """
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(
            f"size is {SMALLEST} to {LARGEST} pixels (render_full_size makes larger images): got {size}"
        )
    drawn = draw_study(seed, patient, study)
    grid = max(size, _COARSEST_GRID)
    scene, integral, regions = compose(seed, patient, drawn, grid)
    noise = stream(seed, patient, STREAM_NOISE, study)
    signal = expose(scene.frame, integral, drawn.acquisition, noise)
    values = annotate(process(scene.frame, signal, drawn.acquisition), drawn.acquisition)
    if grid != size:
        values = cv2.resize(values, (size, size), interpolation=cv2.INTER_AREA)
    image: NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)

    visible = [(kind, _shrink(mask, size)) for kind, mask in regions if mask.any()]
    masks: dict[str, Mask] = {}
    for kind, mask in visible:
        masks[kind] = masks[kind] | mask if kind in masks else mask
    boxes = tuple(_box(mask, kind) for kind, mask in visible)
    text = write_report(seed, patient, study, drawn, tuple(box.finding for box in boxes))
    present = {finding.kind: finding for finding in drawn.findings}
    return Case(
        image=image,
        labels={kind: int(kind in present) for kind in FINDINGS},
        masks=masks,
        boxes=boxes,
        findings_text=text.findings,
        impression=text.impression,
        report=text.report,
        sentences=text.sentences,
        view=drawn.view,
        patient=patient,
        study=study,
        details={
            kind: {"side": finding.side, "severity": finding.severity, "location": finding.location}
            for kind, finding in present.items()
        },
    )
