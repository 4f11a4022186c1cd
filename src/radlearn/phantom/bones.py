"""The skeleton as thickness of bone along the beam: ribs, spine, clavicles, scapulae, humeri."""

import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import Patient
from radlearn.phantom.chest import CHEST_HALF_WIDTH, MU_BONE, MU_SOFT
from radlearn.phantom.frame import Field, Frame, sigmoid

_FULL_SCALE = 2.0  # cm of bone at the brightest canvas value
_CORTEX = 0.78  # inner over outer radius of a rib
_TURN = 14  # point of a rib's curve where it turns forward
_VERTEBRA = 2.15  # cm, height of a vertebra with its disc


def _tubes(
    frame: Frame,
    canvas: NDArray[np.uint8],
    curves: list[NDArray[np.int32]],
    radius: float,
    fill: float,
    gain: float,
) -> None:
    """Hollow tubes: nested strokes approximate the chord through cortex and trabecular core."""
    inner = _CORTEX * radius
    for offset in (0.95, 0.80, 0.60, 0.30):
        outer_chord = 2 * radius * np.sqrt(1 - offset**2)
        inner_chord = 2 * np.sqrt(max(inner**2 - (offset * radius) ** 2, 0.0))
        bone = (outer_chord - (1 - fill) * inner_chord) * gain
        frame.strokes(
            canvas, curves, 2 * radius * min(1.0, offset + 0.08), min(255.0, bone * 255 / _FULL_SCALE)
        )


def rib_curve(patient: Patient, side: int, index: int, lift: float) -> NDArray[np.float64]:
    """Centre line (N, 2) of a rib, from the spine around the side to its front end.

    A rib is a tilted hoop: from the front its rear half runs almost level and its front half steeply down.
    """
    angle = np.linspace(0.03, 2.45 if index > 0 else 2.2, 26)
    descent = (4.6 + 0.62 * min(index, 7)) + patient.rib_depths[index + (10 if side > 0 else 0)]
    top = patient.rib_start + patient.rib_pitch * index + lift
    middle = (top + 0.5 * descent + 12.4) / 20.6
    reach = (
        4.4 + (CHEST_HALF_WIDTH - 4.4) * np.sqrt(1 - (1 - np.clip(1.25 * middle, 0, 1)) ** 2.3)
    ) * patient.chest_width + 0.15
    if index >= 8:
        reach -= 0.35 * (index - 7)
    x = 1.2 + (reach - 1.2) * np.sin(angle) ** 0.86
    y = top + descent * (0.5 - 0.5 * np.cos(angle)) ** 1.12 - 0.35 * np.sin(2 * angle).clip(0)
    return np.stack([side * x, y], axis=1)


def ribs(frame: Frame, patient: Patient, lift: float) -> Field:
    """Thickness of rib bone, cm: ten pairs behind, seven also in front; `lift` (cm) follows inspiration."""
    behind, before = frame.canvas(), frame.canvas()
    curves = np.stack([rib_curve(patient, side, index, lift) for side in (-1, 1) for index in range(10)])
    placed = frame.place(curves.reshape(-1, 2)).reshape(curves.shape)
    rear = [curve[: _TURN + 3] for curve in placed]
    front = [curve[_TURN:-2] for number, curve in enumerate(placed) if number % 10 < 7]
    _tubes(frame, behind, rear, patient.rib_radius, patient.rib_fill, 1.35)
    _tubes(frame, before, front, patient.rib_radius * 1.08, patient.rib_fill, 1.0)
    thickness = frame.sample(behind, _FULL_SCALE) + frame.sample(before, _FULL_SCALE)
    # Where a rib turns forward the beam runs along its cortex.
    edge = np.clip(np.abs(frame.x) / (CHEST_HALF_WIDTH * patient.chest_width), 0, 1.1) ** 8
    return (thickness * (1 + 0.7 * edge)).astype(np.float32)


def shoulder_girdle(frame: Frame, patient: Patient, view: str, rotation: float) -> Field:
    """Thickness of clavicle, scapula and humerus, cm: in an AP view the scapula lies over the lung."""
    canvas, plate = frame.canvas(), frame.canvas()
    raised = -1.0 if view == "AP" else 0.0
    for side in (-1, 1):
        inner = 1.4 + 0.6 * side * rotation
        clavicle = np.array(
            [
                [inner, -8.9],
                [3.4, -9.6],
                [5.6, -9.9 + 0.4 * raised],
                [8.2, -10.6 + 0.8 * raised],
                [11.0, -11.8 + raised],
                [14.2, -12.4 + raised],
            ]
        )
        line = frame.place(smooth_curve(clavicle) * [side, 1])
        _tubes(frame, canvas, [line], 0.62, 0.45, 1.9)
        inward = 0.0 if view == "AP" else 2.9
        blade = np.array(
            [
                [9.2, -9.8],
                [8.6, -7.2],
                [8.9, -4.0],
                [9.9, -0.4],
                [10.6, 0.3],
                [11.4, -1.0],
                [12.6, -4.6],
                [13.6, -8.2],
                [12.4, -9.6],
            ]
        )
        aside = np.array([inward, 0.0])
        blade = blade + aside
        outline = frame.place(smooth_curve(np.vstack([blade, blade[:1]])) * [side, 1])
        frame.polygon(plate, outline, 0.55 * 255 / _FULL_SCALE)
        frame.strokes(plate, [outline], 0.45, 1.1 * 255 / _FULL_SCALE)
        spine = frame.place(
            smooth_curve(np.array([[9.3, -8.0], [11.0, -9.2], [13.0, -10.6], [14.5, -11.6]]) + aside)
            * [side, 1]
        )
        frame.strokes(plate, [spine], 0.9, 1.3 * 255 / _FULL_SCALE)
        humerus = frame.place(np.array([[16.2, -10.6], [17.0, -8.0], [18.0, -3.0]]) * [side, 1])
        _tubes(frame, canvas, [humerus], 1.3, 0.35, 0.7)
    total: Field = frame.sample(canvas, _FULL_SCALE, smooth=0.06) + frame.sample(
        plate, _FULL_SCALE, smooth=0.12
    )
    return total


def smooth_curve(points: NDArray[np.float64], steps: int = 5) -> NDArray[np.float64]:
    """Catmull-Rom curve through the points: `steps` points a span."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    spans = []
    for a, b, c, d in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
        spans.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    return np.vstack([*spans, points[-1:]])


def spine(frame: Frame, patient: Patient) -> Field:
    """Line integral of the spine above soft tissue: bodies, discs, end plates, pedicles, processes."""
    amplitude, phase = patient.scoliosis
    x = frame.x - amplitude * np.sin(frame.y / 6.5 + phase)
    y = frame.y
    height = np.mod(y + 20.0, _VERTEBRA) / _VERTEBRA - 0.5  # -0.5..0.5 inside one level
    half = 1.45 + 0.022 * (y + 12)
    slab = sigmoid((half - np.abs(x)) / 0.09)
    disc = sigmoid((np.abs(height) - 0.385) / 0.02)
    plate = np.exp(-(((np.abs(height) - 0.355) / 0.03) ** 2))
    border = np.exp(-(((half - np.abs(x) - 0.12) / 0.14) ** 2))
    body = 0.78 * slab * (1 - 0.85 * disc) + 0.30 * slab * plate + 0.30 * border * (1 - disc) * slab
    if patient.degenerative_spine:  # osteophytes: lips at the end plates
        body = body + 0.45 * np.exp(-(((np.abs(x) - half - 0.12) / 0.22) ** 2)) * np.exp(
            -(((np.abs(height) - 0.41) / 0.09) ** 2)
        )
    radial = np.sqrt(((np.abs(x) - 0.98) / 0.33) ** 2 + ((height + 0.12) * _VERTEBRA / 0.48) ** 2)
    pedicle = np.exp(-(((radial - 0.85) / 0.30) ** 2))
    process = np.exp(-((x / 0.24) ** 2)) * np.exp(-(((height - 0.18) * _VERTEBRA / 0.52) ** 4))
    bone = body + 0.42 * pedicle + 0.55 * process
    return np.asarray((MU_BONE - MU_SOFT) * patient.osteopenia * bone, np.float32)


def skeleton(frame: Frame, patient: Patient, view: str, lift: float, rotation: float) -> Field:
    """Line integral of all bones above the soft tissue they replace."""
    hollow = ribs(frame, patient, lift) + shoulder_girdle(frame, patient, view, rotation)
    return ((MU_BONE - MU_SOFT) * patient.osteopenia * hollow + spine(frame, patient)).astype(np.float32)
