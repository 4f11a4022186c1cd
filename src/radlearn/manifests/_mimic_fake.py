"""The miniature release of `MimicCXR`: the published folders, headers and archive, invented patients.

Headers as published with MIMIC-CXR-JPG 2.0.0 (physionet.org/content/mimic-cxr-jpg/2.0.0).
"""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

JPG, REPORTS = "mimic-cxr-jpg_2-0-0", "mimic-cxr_2-0-0"
SPLIT = ("dicom_id", "study_id", "subject_id", "split")
METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows",
    "Columns", "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
LABELS = (
    "subject_id", "study_id", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema",
    "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion",
    "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
_CODES = ("1.0", "", "0.0", "", "-1.0")
_HEIGHT, _WIDTH = 48, 40


class _Study(NamedTuple):
    split: str
    subject: int
    study: int
    views: tuple[str, ...]
    report: str = "both"


# 50743547 is irregular: by the public rules its text stands under EXAMINATION.
IRREGULAR, UNLABELLED, PREFIXED, FILE_MISSING, TWICE = (
    50743547, 50000014, 50000002, 50000017, 50000009,
)  # fmt: skip
_STUDIES = (
    _Study("train", 10000001, 50000001, ("PA", "LATERAL")),
    _Study("train", 10000001, 50000002, ("AP",), "impression"),
    _Study("train", 10000002, 50000003, ("AP", "PA", "LL")),
    _Study("train", 10000003, 50000004, ("PA",), "findings"),
    _Study("train", 10000003, 50000005, ("LATERAL",)),
    _Study("train", 10000004, 50000006, ("AP",), "ndication"),
    _Study("train", 10000004, 50000007, ("PA",), "neither"),
    _Study("train", 10000005, 50000008, ("AP",), "short"),
    _Study("train", 10000005, 50000009, ("PA", "LATERAL"), "list"),
    _Study("train", 10000006, 50000010, ("AP",), "missing"),
    _Study("train", 10000006, 50000011, ("", "AP")),
    _Study("train", 11000007, 50000012, ("PA",), "latin1"),
    _Study("train", 11000007, 50000013, ("AP AXIAL", "AP"), "crlf"),
    _Study("train", 11000008, IRREGULAR, ("AP",), "irregular"),
    _Study("train", 11000008, 50000014, ("AP",)),
    _Study("train", 12000009, 50000015, ("AP", "AP")),
    _Study("train", 12000009, 50000016, ("PA",), "empty"),
    _Study("train", 12000010, 50000017, ("PA", "PA"), "list"),
    _Study("train", 12000010, 50000018, ("AP", "AP"), "impression"),
    _Study("validate", 13000011, 50000019, ("AP",), "list"),
    _Study("validate", 13000012, 50000020, ("PA", "LATERAL")),
    _Study("validate", 13000012, 50000021, ("AP",), "missing"),
    _Study("test", 15000013, 50000022, ("AP",)),
    _Study("test", 15000013, 50000023, ("PA", "LL"), "neither"),
    _Study("test", 19000014, 50000024, ("AP", "PA"), "list"),
    _Study("test", 19000015, 50000025, ("AP",), "impression"),
)

# As in the real files each line begins with a space, and so does an empty one.
_HEAD = (
    "                                FINAL REPORT", "EXAMINATION:  CHEST (PA AND LAT)", "",
    "INDICATION:  ___F with cough.  // pneumonia?", "", "COMPARISON:  ___.", "",
)  # fmt: skip
_FINDINGS = (
    "FINDINGS: ", "", "The lungs are clear. There is no pleural effusion", "or pneumothorax.", "",
)  # fmt: skip
_IMPRESSION = ("IMPRESSION: ", "", "No acute cardiopulmonary process.")
_LIST = ("IMPRESSION: ", "", "1.  Mild pulmonary edema.", "2.  Small left pleural effusion.")
_BODIES: dict[str, Sequence[str]] = {
    "both": (*_HEAD, *_FINDINGS, *_IMPRESSION),
    "list": (*_HEAD, *_FINDINGS, *_LIST),
    "crlf": (*_HEAD, *_FINDINGS, *_LIST),
    "impression": (*_HEAD, *_IMPRESSION),
    "findings": (*_HEAD, *_FINDINGS),
    "neither": (*_HEAD, "RECOMMENDATION(S):  Repeat in six weeks."),
    "short": (*_HEAD, "IMPRESSION: ", "", "Unchanged."),
    "ndication": (*_HEAD[:3], "NDICATION:  ___M with fever and cough.", "", *_FINDINGS),
    "latin1": (*_HEAD, "IMPRESSION: ", "", "Heart size normal; rotation of 5° to the left."),
    "irregular": ("FINAL REPORT", "EXAMINATION:  Portable chest: no acute process in the chest.", ""),
}


def write(root: Path) -> dict[str, Any]:
    """Write images, tables and the archive below `root`; returns the settings that read them."""
    jpg, reports = root / JPG, root / REPORTS
    for study in _STUDIES:
        _write_images(jpg, study)
    metadata, split = [*_metadata()], [*_split()]
    extra = [dicom_id(0, k) for k in range(3)]
    metadata += [
        metadata[-1].replace(dicom_id(50000025, 0), extra[0]),  # in no split
        metadata[-1].replace(dicom_id(50000025, 0), extra[1]).replace("50000025", ""),
        next(line for line in metadata if line.startswith(dicom_id(TWICE, 0))),
    ]
    split.append(f"{extra[2]},50000025,19000015,test")
    prefix = "mimic-cxr-2.0.0"
    _write_table(jpg / f"{prefix}-metadata.csv.gz", METADATA, metadata)
    _write_table(jpg / f"{prefix}-split.csv.gz", SPLIT, split)
    for shift, labeller in enumerate(("chexpert", "negbio")):
        _write_table(jpg / f"{prefix}-{labeller}.csv.gz", LABELS, [*_labels(shift)])
    _write_archive(reports / "mimic-cxr-reports.zip")
    return {"check_files": True}


def dicom_id(study: int, image: int) -> str:
    """The invented id of a study's n-th image, in the published form."""
    digest = hashlib.sha256(f"{study} {image}".encode()).hexdigest()
    return "-".join(digest[k : k + 8] for k in range(0, 40, 8))


def _metadata() -> Iterator[str]:
    for study in _STUDIES:
        for k, view in enumerate(study.views):
            cells = (
                dicom_id(study.study, k), study.subject, study.study, "CHEST (PA AND LAT)", view, _HEIGHT,
                _WIDTH, "21800506", "213014.531", "CHEST (PA AND LAT)", "postero-anterior", "Erect",
            )  # fmt: skip
            yield ",".join(map(str, cells))


def _split() -> Iterator[str]:
    for study in _STUDIES:
        for k in range(len(study.views)):
            yield f"{dicom_id(study.study, k)},{study.study},{study.subject},{study.split}"


def _labels(shift: int) -> Iterator[str]:
    for row, study in enumerate(_STUDIES):
        if study.study != UNLABELLED:
            codes = [_CODES[(row + 2 * k + shift) % len(_CODES)] for k in range(len(LABELS) - 2)]
            prefix = "s" if study.study == PREFIXED else ""
            yield f"{study.subject},{prefix}{study.study}," + ",".join(codes)


def _write_table(path: Path, header: Sequence[str], lines: Sequence[str]) -> None:
    path.write_bytes(gzip.compress("\n".join([",".join(header), *lines, ""]).encode(), mtime=0))


def _report(kind: str) -> bytes:
    if kind == "empty":
        return b""
    text = "\n".join(f" {line}" for line in _BODIES[kind]) + "\n"
    return text.replace("\n", "\r\n" if kind == "crlf" else "\n").encode(
        "latin-1" if kind == "latin1" else "utf-8"
    )


def _write_archive(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("files/"), b"")
        for study in _STUDIES:
            if study.report != "missing":
                name = f"files/p{str(study.subject)[:2]}/p{study.subject}/s{study.study}.txt"
                archive.writestr(zipfile.ZipInfo(name), _report(study.report))
        archive.writestr(zipfile.ZipInfo("__MACOSX/files/p10/p10000001/._s50000001.txt"), b"\0\5\x16\7")


def _write_images(jpg: Path, study: _Study) -> None:
    """A ramp with noise of its own for each image, but for the one whose file is missing."""
    import simplejpeg

    folder = jpg / "files" / f"p{str(study.subject)[:2]}" / f"p{study.subject}" / f"s{study.study}"
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(study.views)):
        if (study.study, k) == (FILE_MISSING, 1):
            continue
        generator = np.random.Generator(np.random.PCG64(10 * study.study + k))
        ramp = np.linspace(40, 200, _WIDTH)[None] + generator.normal(0, 8, (_HEIGHT, _WIDTH))
        pixels = np.clip(ramp, 0, 255).astype(np.uint8)
        name = f"{dicom_id(study.study, k)}.jpg"
        (folder / name).write_bytes(simplejpeg.encode_jpeg(pixels[..., None], 90, "GRAY"))
