"""The report of a study: sentences with their regions, sections, and the habits of dictated text.

What is written is true of the image up to what reports leave out or hedge: a minor finding may be omitted, a
sentence may say "possible", some reports have no section headers and a few a typing error.
"""

from dataclasses import dataclass

import numpy as np

from radlearn.phantom import phrases
from radlearn.phantom.anatomy import STREAM_REPORT, Patient, draw_patient, stream
from radlearn.phantom.scene import Finding
from radlearn.phantom.study import Study

OMIT_MINOR = 0.06  # a mild finding is not mentioned at all
HEDGE = 0.13
MENTION_TREND = 0.45
SECTIONLESS = 0.05
TYPING_ERROR = 0.04
NUMBERED = 0.15


@dataclass(frozen=True)
class Sentence:
    """A sentence of the FINDINGS and the boxes it speaks of (indices into the boxes of the case)."""

    text: str
    boxes: tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """A written report: `findings` and `impression` without headers, `report` in full."""

    findings: str
    impression: str
    report: str
    sentences: tuple[Sentence, ...]


def _with_article(name: str) -> str:
    if name.endswith("s"):
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _fields(finding: Finding) -> dict[str, str]:
    severity, side = finding.severity, finding.side
    size = ""
    if finding.kind == "nodule":
        size = f"{2 * finding.values['radius']:.1f}"
    elif finding.kind == "pneumothorax":
        size = f"{finding.values['depth']:.1f}"
    elif finding.kind == "cardiomegaly":
        size = f"{finding.values['ratio']:.2f}"
    devices = " and ".join(_with_article(name) for name in finding.location.split(" and "))
    return {
        "severity": severity,
        "Severity": severity.capitalize(),
        "severely": {"mild": "mildly", "moderate": "moderately", "severe": "severely"}.get(
            severity, severity
        ),
        "side": side,
        "Side": side.capitalize(),
        "location": finding.location,
        "Location": finding.location.capitalize(),
        "size": size,
        "apical": "apical " if finding.location == "apical" else "",
        "Shape": "Wedge-shaped" if finding.values.get("wedge") else "Linear",
        "device": finding.location,
        "Device": devices[0].upper() + devices[1:],
    }


def _pick(generator: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(generator.integers(len(options)))]


def _key(finding: Finding) -> str:
    return (
        "effusion bilateral" if finding.kind == "effusion" and finding.side == "bilateral" else finding.kind
    )


def trend(finding: Finding, previous: tuple[Finding, ...]) -> str:
    """How a finding compares with the study before: new, unchanged, increased or decreased."""
    for before in previous:
        if before.kind == finding.kind and before.side == finding.side:
            if before.rank == finding.rank:
                return "unchanged"
            return "increased" if finding.rank > before.rank else "decreased"
    return "new"


def _found(
    generator: np.random.Generator, finding: Finding, hedged: bool, course: str | None, boxes: tuple[int, ...]
) -> list[Sentence]:
    options = phrases.UNCERTAIN if hedged else phrases.FOUND
    sentences = [Sentence(_pick(generator, options[_key(finding)]).format(**_fields(finding)), boxes)]
    if course:
        topic = phrases.TOPICS[finding.kind]
        sentences.append(Sentence(_pick(generator, phrases.TREND[course]).format(topic=topic), boxes))
    return sentences


def _concluded(generator: np.random.Generator, finding: Finding, hedged: bool, course: str | None) -> str:
    options = phrases.UNCERTAIN if hedged else phrases.CONCLUDED
    text = _pick(generator, options[_key(finding)]).format(**_fields(finding))
    if course and generator.random() < 0.5:
        text = f"{text[:-1]}, {phrases.TREND_WORDS[course]}."
    return text


def _absent(generator: np.random.Generator, present: set[str], lift: float) -> list[Sentence]:
    sentences = []
    skip: set[str] = set()
    if not present & {"effusion", "pneumothorax"} and generator.random() < 0.45:
        sentences.append(Sentence(_pick(generator, phrases.ABSENT_TOGETHER), ()))
        skip = {"effusion", "pneumothorax"}
    for kind, (options, probability) in phrases.ABSENT.items():
        if kind in present or kind in skip or generator.random() >= probability:
            continue
        text = _pick(generator, options)
        if "clear" in text and present & {"atelectasis", "edema", "nodule"}:
            text = options[0]
        if "volumes are preserved" in text and (lift > 1.0 or present & {"effusion", "pneumothorax"}):
            text = options[0]
        sentences.append(Sentence(text, ()))
    return sentences


def _beside_the_point(
    generator: np.random.Generator, patient: Patient, lift: float, present: set[str]
) -> list[Sentence]:
    sentences = []
    if patient.degenerative_spine and generator.random() < 0.6:
        sentences.append(_pick(generator, phrases.DEGENERATIVE))
    if patient.aortic_knob > 0.45 and generator.random() < 0.5:
        sentences.append(_pick(generator, phrases.AORTA))
    if lift > 1.3 and "atelectasis" not in present and generator.random() < 0.5:
        sentences.append(_pick(generator, phrases.LOW_VOLUME))
    for _ in range(int(generator.integers(0, 3))):
        text = _pick(generator, phrases.NORMAL)
        if text not in sentences:
            sentences.append(text)
    return [Sentence(text, ()) for text in sentences]


def misspell(generator: np.random.Generator, text: str) -> str:
    """Swap two neighbouring letters inside one longer word."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) > 5 and word.isalpha()]
    if not long:
        return text
    index = long[int(generator.integers(len(long)))]
    word = words[index]
    at = int(generator.integers(1, len(word) - 2))
    words[index] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def _impression(generator: np.random.Generator, conclusions: list[str]) -> str:
    if not conclusions:
        return phrases.NO_ACUTE
    if len(conclusions) > 1 and generator.random() < NUMBERED:
        return " ".join(f"{number}. {text}" for number, text in enumerate(conclusions, start=1))
    return " ".join(conclusions)


def _assemble(generator: np.random.Generator, study: Study, findings: str, impression: str) -> str:
    if generator.random() < SECTIONLESS:
        return f"{findings} {impression}"
    comparison = "None." if study.previous is None else "Prior chest radiograph."
    parts = [f"EXAMINATION: CHEST ({'PORTABLE ' if study.view == 'AP' else ''}{study.view})"]
    if generator.random() < 0.8:
        parts.append(f"INDICATION: {_pick(generator, phrases.INDICATIONS)}")
    parts.append(f"COMPARISON: {comparison}")
    if generator.random() < 0.7:
        parts.append(f"TECHNIQUE: {_pick(generator, phrases.TECHNIQUE[study.view])}")
    parts += [f"FINDINGS: {findings}", f"IMPRESSION: {impression}"]
    return "\n\n".join(parts)


def write_report(seed: int, patient: int, number: int, study: Study, boxes: tuple[str, ...]) -> Text:
    """Write the report of a study.

    Args:
        seed: seed of the data set.
        patient: number of the patient.
        number: number of the study.
        study: what to report.
        boxes: the finding of each box of the case; sentences refer to them by index.
    """
    generator = stream(seed, patient, STREAM_REPORT, number)
    present = {finding.kind for finding in study.findings}
    positive: list[Sentence] = []
    conclusions = []
    for index in generator.permutation(len(study.findings)):
        finding = study.findings[int(index)]
        omitted = finding.rank == 0 and finding.kind != "devices" and generator.random() < OMIT_MINOR
        hedged = finding.kind in phrases.UNCERTAIN and generator.random() < HEDGE * (
            1.5 if finding.rank == 0 else 0.7
        )
        mentioned = (
            study.previous is not None and finding.kind != "devices" and generator.random() < MENTION_TREND
        )
        course = trend(finding, study.previous or ()) if mentioned else None
        if omitted:
            continue
        where = tuple(i for i, kind in enumerate(boxes) if kind == finding.kind)
        positive += _found(generator, finding, hedged, course, where)
        conclusions.append(_concluded(generator, finding, hedged, course))
    for before in study.previous or ():
        if before.kind not in present and before.kind != "devices" and generator.random() < MENTION_TREND:
            topic = phrases.TOPICS[before.kind]
            positive.append(Sentence(_pick(generator, phrases.TREND["resolved"]).format(topic=topic), ()))
    lift = study.acquisition.lift
    negative = _absent(generator, present, lift)
    beside = _beside_the_point(generator, draw_patient(seed, patient), lift, present)
    generator.shuffle(negative)
    sentences = positive + negative + beside if generator.random() < 0.7 else negative + positive + beside
    if not sentences:
        sentences = [Sentence("The lungs are clear.", ())]
    if generator.random() < TYPING_ERROR:
        at = int(generator.integers(len(sentences)))
        sentences[at] = Sentence(misspell(generator, sentences[at].text), sentences[at].boxes)
    findings = " ".join(sentence.text for sentence in sentences)
    impression = _impression(generator, conclusions)
    return Text(findings, impression, _assemble(generator, study, findings, impression), tuple(sentences))
