"""The patient of a CT series: body, organs and scan, drawn from (seed, patient)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import stream
from radlearn.phantom.ct_tissue import PHASES, Tissue, attenuation
from radlearn.phantom.frame import FIELD_OF_VIEW, Field, Pose

# Purposes of `anatomy.stream`: far from those of the radiographs, so the two phantoms share no draw.
STREAM_CT_PATIENT, STREAM_CT_SCAN, STREAM_CT_PLAN = 32, 33, 34
STREAM_CT_TREES, STREAM_CT_LESIONS, STREAM_CT_SLICE, STREAM_CT_TEXTURE = range(35, 39)

COARSE_TYPES = ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis")
"""DeepLesion's coarse lesion types in its order, 1 to 8 (Yan et al., J Med Imaging 2018)."""

BODY_TOP, BODY_BOTTOM = 1.0, 54.0  # reference cm from the apices: where slices may lie
# Where a lesion of each type can be: reference cm from the apices, used to choose what is scanned.
_REACH: dict[str, tuple[float, float]] = {
    "bone": (4.0, 52.0),
    "abdomen": (24.0, 40.0),
    "mediastinum": (3.0, 15.0),
    "liver": (18.5, 29.0),
    "lung": (3.0, 19.0),
    "kidney": (26.0, 34.0),
    "soft tissue": (5.0, 52.0),
    "pelvis": (43.0, 53.0),
}
_ORGANS = (
    "heart", "liver", "spleen", "stomach", "gallbladder", "right kidney", "left kidney", "pancreas",
    "bladder", "uterus", "aorta",
)  # fmt: skip
_CONTENTS = (
    "stomach", "oral contrast", "food", "stomach gas", "bladder", "gallbladder", "breast", "calcium",
)  # fmt: skip
_LEAST, _MOST = (-0.9, -0.9, -0.9, 0.85), (0.9, 0.9, 0.9, 1.18)  # of an organ: shift in cm, size
_ELASTIC_PITCH, _ELASTIC_GRID = 4.5, 7  # cm between the planes of the displacement field, knots a side

# Of 16 patients of a cohort, so many have no lesion; the others show each type first once, one type twice.
BLOCK, _WITHOUT = 16, 7
COHORTS = 3
"""Patients are planned in blocks of one residue modulo 3, which is a split of the manifest."""


@dataclass(frozen=True)
class Organ:
    """How one organ differs from the reference: shift in cm and a factor on its size."""

    dx: float
    dy: float
    dz: float
    size: float


@dataclass(frozen=True)
class Scan:
    """How the series was acquired.

    Attributes:
        start: reference cm from the apices to the first slice; spacing: cm between slices.
        field_of_view: cm, side of the image. shift: cm, of the body within it.
        phase: of contrast, one of `PHASES`. kernel: `soft` or `sharp`. noise: HU at 512 pixels, water, soft.
    """

    start: float
    spacing: float
    num_slices: int
    field_of_view: float
    shift: tuple[float, float]
    tilt: float
    phase: str
    kernel: str
    noise: float


@dataclass(frozen=True, eq=False)
class CTPatient:
    """Anatomy of one patient; lengths in reference cm, which `scale` turns into the patient's own.

    Attributes:
        fat: thickness of the fat under the skin at the flank, cm.
        chest, depth: factors on the width of the chest and on how far the front lies from the spine.
        breast: size of the breasts, 0 where there are none. dome: shift of the right and left diaphragm.
        kyphosis: how far the thoracic spine bends backwards, cm.
        contents: from 0 to 1, by name: how full hollow organs are and with what, density of the breasts,
            calcium in the arteries.
        visceral: 0 lean to 1: how much fat lies between the organs.
        organs: differences of single organs. elastic: (K, 2, G, G) displacement, a plane every 4.5 cm.
        planned: the type of the first lesion, or of the region scanned where there is none; sick: which.
        table: (256,) attenuation by tissue. usual_slices: the `num_slices` that the scan was drawn with.
    """

    seed: int
    number: int
    sex: str
    age: int
    scale: float
    fat: float
    visceral: float
    chest: float
    depth: float
    breast: float
    dome: tuple[float, float]
    kyphosis: float
    contents: dict[str, float]
    organs: dict[str, Organ]
    elastic: NDArray[np.float32]
    planned: str
    sick: bool
    table: Field
    scan: Scan
    usual_slices: int

    def z(self, index: int) -> float:
        """Reference cm from the apices to a slice."""
        return self.scan.start + index * self.scan.spacing / self.scale

    def pose(self, z: float) -> Pose:
        """Where the body lies in the image; the displacement varies smoothly along z."""
        at = float(np.clip((z - BODY_TOP) / _ELASTIC_PITCH + 0.5, 0, len(self.elastic) - 1.001))
        below = int(at)
        share = at - below
        share = share * share * (3 - 2 * share)
        elastic = (1 - share) * self.elastic[below] + share * self.elastic[below + 1]
        zoom = FIELD_OF_VIEW / self.scan.field_of_view
        shift = (self.scan.shift[0] * zoom, self.scan.shift[1] * zoom)
        return Pose(self.scale * zoom, shift, self.scan.tilt, elastic.astype(np.float32))


@lru_cache(maxsize=256)
def draw_ct_patient(seed: int, patient: int, num_slices: int = 16) -> CTPatient:
    """Draw a patient and the scan: a pure function of its arguments; the body depends on the first two alone.

    Args:
        seed: of the data set.
        patient: counted from 0.
        num_slices: of a usual series; each has up to a quarter fewer or more.
    """
    generator = stream(seed, patient, STREAM_CT_PATIENT)
    uniform, normal = generator.uniform, generator.normal
    sex = "F" if generator.random() < 0.48 else "M"
    age = int(np.clip(normal(61, 14), 20, 92))
    obesity = float(np.clip(generator.beta(2.2, 2.6), 0.02, 0.98))
    scale = float(np.clip(normal(0.955 if sex == "F" else 1.01, 0.035), 0.86, 1.09))
    fat = (0.45 + 2.3 * obesity) * (1.15 if sex == "F" else 0.9)
    visceral = float(np.clip(obesity + normal(0, 0.15) + (0.12 if sex == "M" else -0.08), 0, 1))
    organs = {
        name: Organ(*np.clip(normal([0, 0, 0, 1], [0.35, 0.3, 0.5, 0.07]), _LEAST, _MOST).tolist())
        for name in _ORGANS
    }
    knots = int(np.ceil((BODY_BOTTOM - BODY_TOP) / _ELASTIC_PITCH)) + 3
    elastic = generator.standard_normal((knots, 2, _ELASTIC_GRID, _ELASTIC_GRID)) * 0.34
    planned, sick = _plan(seed, patient)
    dome = (float(normal(0, 0.6)), float(normal(0, 0.5)))
    kyphosis = float(normal(0, 0.5) + 0.012 * (age - 60))
    chest, breast = float(np.clip(normal(1, 0.03), 0.94, 1.06)), float(uniform(0.45, 1.15))
    depth = float(np.clip(normal(1.07, 0.06), 0.95, 1.22))
    contents = dict(zip(_CONTENTS, uniform(0, 1, len(_CONTENTS)).tolist(), strict=True))
    scan = _draw_scan(seed, patient, num_slices, planned, 17.0 + fat, scale)
    offsets = {
        Tissue.LIVER: float(np.clip(normal(0, 5) - 7 * (obesity > 0.7), -8, 9)),
        Tissue.MARROW: float(normal(0, 25) - 2.2 * max(0, age - 55)),
        Tissue.LUNG: float(np.clip(normal(0, 16), -32, 40)),
        Tissue.MUSCLE: float(np.clip(normal(0, 3) - 0.06 * max(0, age - 60), -4, 6)),
        Tissue.SPLEEN: float(normal(0, 4)),
    }
    for tissue in (Tissue.ARTERY, Tissue.HEART_BLOOD, Tissue.PULMONARY_ARTERY, Tissue.RIGHT_HEART_BLOOD):
        offsets[tissue] = 0.0 if scan.phase == "none" else float(normal(0, 12))
    return CTPatient(
        seed=seed,
        number=patient,
        sex=sex,
        age=age,
        scale=scale,
        fat=fat,
        visceral=visceral,
        chest=chest,
        depth=depth,
        breast=breast if sex == "F" else 0.0,
        dome=dome,
        kyphosis=kyphosis,
        contents=contents,
        organs=organs,
        elastic=elastic.astype(np.float32),
        planned=planned,
        sick=sick,
        table=attenuation(scan.phase, offsets),
        scan=scan,
        usual_slices=num_slices,
    )


def _plan(seed: int, patient: int) -> tuple[str, bool]:
    """The type that the scan is about and whether the patient has lesions, balanced within each block.

    A small test split then has each type; what is scanned does not tell who is sick.
    """
    cohort, place = patient % COHORTS, patient // COHORTS
    generator = stream(seed, place // BLOCK, STREAM_CT_PLAN, cohort)
    types = [*COARSE_TYPES, *COARSE_TYPES]
    sick = np.arange(BLOCK) < len(COARSE_TYPES)
    # One of the second round is sick too.
    sick[len(COARSE_TYPES) + generator.choice(len(COARSE_TYPES), BLOCK - _WITHOUT - len(COARSE_TYPES))] = True
    drawn = int(generator.permutation(BLOCK)[place % BLOCK])
    return types[drawn], bool(sick[drawn])


def _draw_scan(
    seed: int, patient: int, num_slices: int, planned: str, half_width: float, scale: float
) -> Scan:
    generator = stream(seed, patient, STREAM_CT_SCAN)
    uniform = generator.uniform
    count = max(1, round(num_slices * uniform(0.75, 1.25)))
    spacing = float(generator.choice([0.5, 0.75, 1.0, 1.25], p=[0.25, 0.3, 0.3, 0.15]))
    # Many slices are thinner, so that all lie in the body.
    spacing = min(spacing, (BODY_BOTTOM - BODY_TOP) * scale / max(1, count - 1))
    length = (count - 1) * spacing / scale
    low, high = _REACH[planned]
    wanted = uniform(low, high)  # lies anywhere in the series, not in its middle
    start = float(np.clip(wanted - length * uniform(0.1, 0.9), BODY_TOP, max(BODY_TOP, BODY_BOTTOM - length)))
    kernel = "sharp" if generator.random() < 0.3 else "soft"
    field = 2 * half_width * scale * uniform(1.03, 1.2)
    return Scan(
        start=start,
        spacing=spacing,
        num_slices=count,
        field_of_view=float(np.clip(field, 31.0, 50.0)),
        shift=(float(generator.normal(0, 0.6)), float(generator.normal(0.9, 0.5))),
        tilt=float(generator.normal(0, 0.025)),
        phase=str(generator.choice(PHASES, p=[0.28, 0.2, 0.42, 0.1])),
        kernel=kernel,
        noise=float(uniform(9, 20)),
    )
