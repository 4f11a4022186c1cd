"""Soft tissue of the chest as thickness maps: body, lungs, heart and mediastinum, airway.

The line integral of attenuation is the sum of thickness times attenuation (1/cm). All shapes are functions of
patient coordinates, so the same chest is had at any resolution.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from radlearn.phantom.anatomy import Patient
from radlearn.phantom.frame import Field, Frame, fractal, sigmoid

# Attenuation in 1/cm at a chest radiograph's effective energy (about 60 keV).
MU_SOFT = 0.195
MU_FAT = 0.172
MU_LUNG = 0.052
MU_BONE = 0.46 * 0.78  # ribs and vertebrae are not solid cortex

CHEST_HALF_WIDTH = 13.0  # inner, at the widest rib


@dataclass(eq=False)
class Lung:
    """One lung on the pixel grid; findings change `density` and `vessels` in place.

    Attributes:
        side: -1 right, +1 left (sign of x).
        lateral: distance from the midline, cm.
        v: 0 at the medial edge, 1 at the lateral one.
        width: from the medial to the lateral edge at this height, cm.
        apex, dome: upper (cm) and lower (cm, per pixel) end.
        full_depth: thickness along the beam before the heart takes its room, cm.
        depth: thickness of lung along the beam, cm.
        density: attenuation of what fills it, 1/cm.
        vessels: how visible its vessels are, 1 normal, 0 none.
    """

    side: int
    lateral: Field
    v: Field
    width: Field
    apex: float
    dome: Field
    full_depth: Field
    depth: Field
    density: Field
    vessels: Field

    @property
    def name(self) -> str:
        """The patient's side."""
        return "right" if self.side < 0 else "left"


def body_line_integral(frame: Frame, patient: Patient, view: str) -> Field:
    """Body without lungs, bones or air inside: soft tissue under a layer of fat, breasts or muscle."""
    x, y = frame.x, frame.y
    obesity = patient.obesity
    half_width = (
        (14.3 + 1.8 * obesity) * patient.chest_width
        + 1.0 * sigmoid((y - 2) / 3)
        + 6.0 * sigmoid((-y - 7.2) / 1.5)
    )
    half_depth = 10.0 + 2.2 * obesity + 1.2 * sigmoid((y - 3) / 4) - 4.6 * sigmoid((-y - 10.3) / 1.8)
    section = np.clip(1 - np.abs(x / half_width) ** 2.8, 0, None) ** (1 / 2.1)
    thickness = 2 * half_depth * section
    rise = 0.28 if view == "PA" else 0.22
    trapezius = (
        -14.6 + rise * (np.abs(x) - 5.0) - 2.6 * np.exp(-(((np.abs(x) - 3.8) / 1.6) ** 2)) * (np.abs(x) < 3.8)
    )
    trapezius -= 9.0 * sigmoid((4.6 - np.abs(x)) / 0.5)
    thickness = thickness * sigmoid((y - trapezius) / 0.45)
    fat = np.minimum(thickness, 1.2 + 3.5 * obesity)
    integral: Field = (MU_SOFT * (thickness - fat) + MU_FAT * fat).astype(np.float32)
    size, offset_x, offset_y = patient.breast
    if size > 0:
        for side in (-1, 1):
            across = (side * x - 7.2 - 0.5 * offset_x) / (5.4 * np.sqrt(size))
            down = (y - 4.6 - offset_y - 0.4 * side) / (4.9 * np.sqrt(size))
            # The lower fold is sharp, the upper slope is long.
            down = np.where(down < 0, down * 0.55, down)
            bump = np.clip(1 - np.abs(across) ** 2.0 - np.abs(down) ** 2.0, 0, None) ** 0.8
            integral += MU_FAT * 3.2 * size * bump.astype(np.float32) * (1.0 if view == "PA" else 0.8)
    else:
        for side in (-1, 1):  # pectoral muscle: a soft lower edge
            edge = y - (-1.2 + 0.35 * (side * x - 8.0))
            fold = (
                sigmoid((side * x - 5.0) / 1.5)
                * sigmoid((13.5 - side * x) / 1.2)
                * sigmoid(-edge / 0.8)
                * sigmoid((y + 9) / 1.5)
            )
            integral += MU_SOFT * 1.1 * fold
    return integral


def _lung(frame: Frame, patient: Patient, side: int, dome_height: float) -> Lung:
    apex = patient.apex[0 if side < 0 else 1]
    lateral = side * frame.x
    y = frame.y
    descent = np.clip((y - apex) / (dome_height - apex), 0, 1)
    curve = np.sqrt(1 - (1 - np.minimum(1, 1.25 * descent)) ** 2.3)
    outer = (3.8 + (CHEST_HALF_WIDTH - 3.8) * curve) * patient.chest_width
    inner = 1.25
    v = (lateral - inner) / (outer - inner)
    arch = np.abs(v - 0.42) / 0.58
    dome = dome_height + 3.6 * arch**2.2 * np.where(v > 0.42, 1.0, 0.45)
    top = apex + 1.6 * np.clip((4.2 - lateral) / 2.9, 0, None) ** 2  # a rounded cupola
    inside = np.clip(v, 0, 1)
    depth = (
        14.2
        * (4 * inside * (1 - inside)) ** 0.36
        * np.clip((y - top) / 5, 0, 1) ** 0.6
        * np.clip((dome - y) / 1.6, 0, 1) ** 0.42
    ).astype(np.float32)
    # The recess behind the dome: a thin wedge of lung seen through the liver and the stomach.
    recess = 2.6 * np.clip(1 - (y - dome) / 3.6, 0, 1) * (y > dome) * (4 * inside * (1 - inside)) ** 0.6
    shallow = np.clip((dome - y) / 1.6, 0, 1) ** 0.42
    depth = (depth + recess * (1 - shallow)).astype(np.float32)
    ones = np.ones_like(depth)
    return Lung(
        side,
        lateral,
        v.astype(np.float32),
        (outer - inner).astype(np.float32),
        apex,
        dome.astype(np.float32),
        depth,
        depth,
        MU_LUNG * ones,
        ones.copy(),
    )


def draw_lungs(frame: Frame, patient: Patient, domes: tuple[float, float]) -> tuple[Lung, Lung]:
    """Right and left lung with textured parenchyma; `domes` are the heights of the diaphragm, cm."""
    generator = np.random.Generator(np.random.PCG64(patient.texture_seed))
    texture = fractal(generator, frame.size, 1.55, coarsest=6)
    lungs = _lung(frame, patient, -1, domes[0]), _lung(frame, patient, 1, domes[1])
    # Gravity: the bases are a little denser than the apices.
    density = MU_LUNG * patient.lung_density * (1 + 0.05 * texture + 0.010 * np.clip(frame.y, -10, 10))
    for lung in lungs:
        lung.density = density.astype(np.float32)
    return lungs


def silhouette_edges(patient: Patient, ratio: float) -> tuple[PchipInterpolator, PchipInterpolator]:
    """Left and right edge of heart and mediastinum (cm from the midline) as functions of y.

    `ratio` is the heart's width over the chest's; widening goes mostly to the left, as a left ventricle does.
    """
    width = 2 * CHEST_HALF_WIDTH * patient.chest_width * ratio
    # Left edge 8.3 k at its widest, right edge 4.2 (0.55 + 0.45 k): solved for their sum.
    k = (width - 4.2 * 0.55) / (8.3 + 4.2 * 0.45)
    right = 0.55 + 0.45 * k
    s = patient.heart_shape
    heights = np.array([-17, -12, -9.2, -7.0, -5.1, -3.4, -1.0, 2.0, 5.0, 7.6, 9.6, 12.0])
    left_edge = np.array(
        [
            2.2,
            2.1,
            2.25,
            2.9 + patient.aortic_knob,
            2.35 + 0.1 * s[0],
            3.0 + 0.18 * s[1],
            3.2 + 0.8 * k + 0.15 * s[2],
            (6.3 + 0.25 * s[3]) * k,
            8.1 * k,
            8.3 * k,
            6.6 * k,
            3.0 * k,
        ]
    )
    right_edge = np.array(
        [
            2.2,
            2.2,
            2.4 + 0.1 * s[4],
            2.5 + 0.15 * s[5],
            2.5,
            2.6,
            3.3 * (0.4 + 0.6 * right) + 0.1 * s[6],
            4.15 * right,
            4.2 * right,
            3.6 * right,
            2.8 * right,
            2.0 * right,
        ]
    )
    limit = CHEST_HALF_WIDTH * patient.chest_width - 0.3
    return PchipInterpolator(heights, np.minimum(left_edge, limit)), PchipInterpolator(heights, right_edge)


def heart_thickness(
    frame: Frame, patient: Patient, ratio: float, rotation: float
) -> tuple[Field, Field, Field]:
    """Thickness of heart and mediastinum, and how far its left and right edge are from the midline, cm.

    `rotation` (cm) moves the upper mediastinum sideways, as in a patient turned away from the beam.
    """
    left_curve, right_curve = silhouette_edges(patient, ratio)
    heights = np.linspace(-17.5, 17.5, 141)
    left = np.interp(frame.y, heights, left_curve(np.clip(heights, -17, 12))).astype(np.float32)
    right = np.interp(frame.y, heights, right_curve(np.clip(heights, -17, 12))).astype(np.float32)
    x = frame.x - rotation * np.clip(-frame.y / 12, 0, 1)
    middle, half = (left - right) / 2, (left + right) / 2
    across = np.abs(x - middle) / half
    depth = np.interp(frame.y, [-17, -10, -7, -4, 0, 4, 8, 11, 17], [6, 6, 7, 8.2, 9.6, 10, 8.5, 5, 4])
    thickness = depth * np.clip(1 - across**2.2, 0, None) ** (1 / 2.2)
    return thickness.astype(np.float32), left, right


def displace_lungs(lungs: tuple[Lung, Lung], heart: Field) -> None:
    """Give the heart and mediastinum their room: the lung around them is thinner by so much."""
    for lung in lungs:
        lung.depth = np.maximum(lung.full_depth - heart, 0)


def airway_and_vessels(frame: Frame, patient: Patient) -> Field:
    """Line integral of airway and gastric bubble (negative: air) and of the aorta, above soft tissue."""
    x, y = frame.x, frame.y
    integral = np.zeros_like(x)
    shift = 0.25 + 0.3 * np.clip(patient.aortic_knob, 0, 1)
    trachea_x = -shift * sigmoid((y + 9) / 1.0)
    inside = np.clip(1 - ((x - trachea_x) / 0.85) ** 2, 0, None) ** 0.5
    integral -= MU_SOFT * 1.7 * inside * sigmoid((-4.9 - y) / 0.25)
    for direction, slope, length in ((-1, 1.15, 2.6), (1, 0.62, 4.2)):
        along = direction * (x + shift)
        centre = -4.9 + slope * along
        tube = np.clip(1 - ((y - centre) / (0.62 * np.sqrt(1 + slope**2))) ** 2, 0, None) ** 0.5
        integral -= MU_SOFT * 1.15 * tube * sigmoid((along + 0.1) / 0.2) * sigmoid((length - along) / 0.5)
    # Descending aorta: a band left of the spine, brightest at its lateral edge.
    aorta_x = 1.35 + 0.5 * patient.aortic_knob + 0.3 * np.sin((y + 3) / 5)
    across = (x - aorta_x) / 1.35
    integral += (
        (MU_SOFT - MU_LUNG)
        * 1.5
        * np.clip(1 - across**2, 0, None) ** 0.5
        * sigmoid((y + 6.5) / 0.4)
        * sigmoid((9 - y) / 1.5)
    )
    size, offset_x, offset_y = patient.gastric_bubble
    if size > 0.25:
        bubble_x, bubble_y = 6.2 + offset_x, patient.dome[1] + 2.5 + offset_y
        across = np.abs((x - bubble_x) / (1.7 + 1.3 * size))
        down = (y - bubble_y) / (0.8 + 0.9 * size)
        down = np.where(down > 0, down * 1.5, down)  # flat fluid level below
        integral -= MU_SOFT * 4.2 * size * np.clip(1 - across**2.4 - np.abs(down) ** 2.4, 0, None) ** 0.6
    return integral.astype(np.float32)
