"""The patient: what stays the same over all studies, drawn from (seed, patient)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from radlearn.phantom.frame import Field

# Separate random streams, so that a new draw in one leaves the others as they were.
STREAM_PATIENT, STREAM_COUNT, STREAM_FINDINGS, STREAM_ACQUISITION = range(4)
STREAM_NOISE, STREAM_REPORT, STREAM_FULL_SIZE = range(4, 7)
_STREAM_KEY = 0x52414450  # keeps these streams apart from other users of the same seed


def stream(seed: int, patient: int, purpose: int, study: int = 0) -> np.random.Generator:
    """The private random generator of one purpose; equal arguments give equal draws.

    Raises:
        ValueError: if a number is negative.
    """
    if min(seed, patient, study) < 0:
        raise ValueError(f"seed, patient and study are counted from 0: got {seed}, {patient}, {study}")
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([_STREAM_KEY, seed, patient, purpose, study]))
    )


@dataclass(frozen=True, eq=False)
class Patient:
    """Anatomy of one patient; lengths in cm, sides as (right, left).

    Attributes:
        cardiothoracic_ratio: width of the normal heart over the width of the chest.
        dome: height of the diaphragm at full inspiration.
        rib_depths: how far each of the ten ribs descends from spine to front.
        osteopenia: factor on the attenuation of bone.
        elastic: (2, G, G) displacement that makes each chest a little different from the formula.
        texture_seed, vessel_seed: private streams of the lung texture and the vessel tree.
    """

    seed: int
    number: int
    sex: str
    age: int
    obesity: float
    scale: float
    cardiothoracic_ratio: float
    heart_shape: tuple[float, ...]
    aortic_knob: float
    dome: tuple[float, float]
    chest_width: float
    apex: tuple[float, float]
    rib_start: float
    rib_pitch: float
    rib_depths: tuple[float, ...]
    rib_radius: float
    rib_fill: float
    scoliosis: tuple[float, float]
    osteopenia: float
    breast: tuple[float, float, float]
    vascularity: float
    lung_density: float
    degenerative_spine: bool
    gastric_bubble: tuple[float, float, float]
    elastic: Field
    texture_seed: int
    vessel_seed: int


@lru_cache(maxsize=256)
def draw_patient(seed: int, patient: int) -> Patient:
    """Draw the anatomy of a patient; a pure function of its arguments."""
    generator = stream(seed, patient, STREAM_PATIENT)
    uniform, normal = generator.uniform, generator.normal
    sex = "F" if generator.random() < 0.48 else "M"
    age = int(np.clip(normal(58, 18), 18, 95))
    obesity = float(np.clip(normal(0.35, 0.35), 0, 1.2))
    right_dome = float(8.2 + normal(0, 0.5))
    return Patient(
        seed=seed,
        number=patient,
        sex=sex,
        age=age,
        obesity=obesity,
        scale=float(np.clip(normal(0.98 if sex == "F" else 1.02, 0.04), 0.88, 1.10)),
        cardiothoracic_ratio=float(uniform(0.40, 0.485)),
        heart_shape=tuple(float(v) for v in normal(0, 1, 8)),
        aortic_knob=float(np.clip(0.012 * (age - 45), -0.2, 0.6) + normal(0, 0.15)),
        dome=(right_dome, right_dome + float(uniform(0.4, 1.4))),
        chest_width=float(np.clip(normal(1.0, 0.03), 0.93, 1.06)),
        apex=(-12.4 + float(normal(0, 0.25)), -12.4 + float(normal(0, 0.25))),
        rib_start=-12.0 + float(normal(0, 0.25)),
        rib_pitch=1.92 + float(normal(0, 0.06)),
        rib_depths=tuple(float(v) for v in normal(0, 0.25, 20) + np.repeat(normal(0, 0.6), 20)),
        rib_radius=0.50 * float(np.clip(normal(1, 0.08), 0.8, 1.2)),
        rib_fill=float(uniform(0.35, 0.42)),
        scoliosis=(float(normal(0, 0.35)), float(uniform(0, 2 * np.pi))),
        osteopenia=1.0 - 0.006 * max(0, age - 55),
        breast=(
            float(uniform(0.6, 1.3)) if sex == "F" else 0.0,
            float(normal(0, 0.8)),
            float(normal(0, 0.5)),
        ),
        vascularity=float(np.clip(normal(1, 0.12), 0.7, 1.35)),
        lung_density=float(np.clip(normal(1, 0.10), 0.75, 1.3)),
        degenerative_spine=bool(age > 60 and generator.random() < 0.45),
        gastric_bubble=(float(uniform(-0.1, 1.0)), float(normal(0, 0.8)), float(normal(0, 0.4))),
        elastic=(generator.standard_normal((2, 8, 8)) * 0.36).astype(np.float32),
        texture_seed=int(generator.integers(2**62)),
        vessel_seed=int(generator.integers(2**62)),
    )


def num_studies(seed: int, patient: int) -> int:
    """How many studies a patient has: 1 to 3."""
    return int(stream(seed, patient, STREAM_COUNT).choice([1, 2, 3], p=[0.55, 0.30, 0.15]))
