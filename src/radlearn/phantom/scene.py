"""What a study looks like before the detector: the fields that anatomy fills and findings change."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import Patient
from radlearn.phantom.chest import Lung
from radlearn.phantom.frame import Field, Frame, Mask


@dataclass(eq=False)
class Scene:
    """One study on the pixel grid.

    Attributes:
        lungs: right and left; findings change their density and vessels.
        edges: distance (cm) of the heart's right and left border from the midline.
        heart: thickness of heart and mediastinum, cm.
        extra: line integral of what is added on top (pleural lines, nodules, devices).
    """

    frame: Frame
    patient: Patient
    view: str
    lungs: tuple[Lung, Lung]
    heart: Field
    edges: tuple[Field, Field]
    extra: Field = field(init=False)

    def __post_init__(self) -> None:
        self.extra = np.zeros_like(self.heart)

    def lung(self, side: str) -> Lung:
        """The lung of the patient's `side`, "right" or "left"."""
        return self.lungs[0] if side == "right" else self.lungs[1]

    def lines(self, curves: list[NDArray[np.float64]], width: float, smooth: float = 0.02) -> Field:
        """Curves (N, 2) in patient coordinates as a field that is 1 on the line."""
        canvas = self.frame.canvas()
        self.frame.strokes(canvas, [self.frame.place(curve) for curve in curves], width, 255.0)
        return self.frame.sample(canvas, 1.0, smooth)


@dataclass(frozen=True)
class Finding:
    """One drawn finding; everything needed to draw and to report it.

    Attributes:
        kind: one of FINDINGS.
        side: "right", "left", "bilateral" or "midline".
        severity: the word a report would use, see SEVERITIES of each kind.
        rank: 0 mild, 1 moderate, 2 severe.
        location: lobe, zone or name of the device.
        values: what else fixes its shape (cm or fractions).
        seed: private stream of its texture.
    """

    kind: str
    side: str
    severity: str
    rank: int
    location: str
    values: dict[str, float]
    seed: int

    def generator(self) -> np.random.Generator:
        """The private stream of this finding."""
        return np.random.Generator(np.random.PCG64(self.seed))


def present(field: NDArray[np.float32], threshold: float) -> Mask:
    """Where a field exceeds a threshold."""
    result: Mask = field > threshold
    return result
