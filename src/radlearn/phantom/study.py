"""One study of a patient: what is found, how it was taken, and what changed since the study before."""

from dataclasses import dataclass
from functools import lru_cache

from radlearn.phantom.anatomy import (
    STREAM_ACQUISITION,
    STREAM_FINDINGS,
    draw_patient,
    num_studies,
    stream,
)
from radlearn.phantom.detector import Acquisition, draw_acquisition
from radlearn.phantom.findings import draw_findings
from radlearn.phantom.scene import Finding

BEDSIDE_PROBABILITY = 0.4
# A later study shows the findings of the one before in a quarter of cases; otherwise it draws its own.
PERSISTENCE = 0.25


@dataclass(frozen=True, eq=False)
class Study:
    """The drawn parameters of one study; independent of the resolution.

    Attributes:
        findings: what is present, in the order of FINDINGS.
        previous: what was present in the study before, None for the first.
    """

    view: str
    findings: tuple[Finding, ...]
    previous: tuple[Finding, ...] | None
    acquisition: Acquisition


@lru_cache(maxsize=1024)
def _draw_findings(seed: int, patient: int, study: int) -> tuple[str, tuple[Finding, ...]]:
    generator = stream(seed, patient, STREAM_FINDINGS, study)
    view = "AP" if generator.random() < BEDSIDE_PROBABILITY else "PA"
    persists = generator.random() < PERSISTENCE
    own = draw_findings(generator, view)
    if study == 0 or not persists:
        return view, own
    # Same view: the devices of a bed-side patient belong to a bed-side image.
    return _draw_findings(seed, patient, study - 1)


def draw_study(seed: int, patient: int, study: int) -> Study:
    """Draw a study; a pure function of its arguments.

    Raises:
        IndexError: if the patient has no such study.
    """
    available = num_studies(seed, patient)
    if not 0 <= study < available:
        raise IndexError(f"patient {patient} of seed {seed} has studies 0 to {available - 1}: got {study}")
    anatomy = draw_patient(seed, patient)
    view, findings = _draw_findings(seed, patient, study)
    previous = _draw_findings(seed, patient, study - 1)[1] if study else None
    acquisition = draw_acquisition(
        stream(seed, patient, STREAM_ACQUISITION, study), view, anatomy.scale, anatomy.elastic
    )
    return Study(view, findings, previous, acquisition)
