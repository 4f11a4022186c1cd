"""A miniature of CheXpert-v1.0-small: real folder and column names, invented patients, small JPEGs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

# Verbatim header of train.csv and valid.csv.
_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices"
)
_LABELS = tuple(_HEADER.split(",")[5:])
# The test set of 2022 has its labels in another order, and no column besides.
_TEST_LABELS = (*_LABELS[1:], _LABELS[0])
_PREFIX = "CheXpert-v1.0-small/"
# Patients from to; the numbers of the release go on from split to split.
_PATIENTS = {"train": (1, 40), "valid": (64541, 64548), "test": (64741, 64748)}
_CODES = ("", "1.0", "", "0.0", "-1.0", "")
_ALONE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


@dataclass(frozen=True)
class _Image:
    patient: int
    study: int
    view: int
    frontal: bool

    def path(self, top: str) -> str:
        word = "frontal" if self.frontal else "lateral"
        return f"{top}/patient{self.patient:05d}/study{self.study}/view{self.view}_{word}.jpg"


def write(root: Path) -> None:
    """Write three tables and their images below `root`."""
    for top, (first, last) in _PATIENTS.items():
        images = [image for patient in range(first, last + 1) for image in _images(patient)]
        for image in images:
            _write_jpeg(root / image.path(top), 7 * image.patient + image.view)
        lines = [_line(image, top) for image in images]
        header = ",".join(("Path", *_TEST_LABELS)) if top == "test" else _HEADER
        (root / f"{top}.csv").write_text("\n".join([header, *lines]) + "\n")


def _images(patient: int) -> list[_Image]:
    """One or two studies; the second has a lateral image or a second frontal one."""
    images = [_Image(patient, 1, 1, frontal=True)]
    if patient % 2:
        images.append(_Image(patient, 2, 1, frontal=True))
        images.append(_Image(patient, 2, 2, frontal=patient % 5 == 0))
    return images


def _line(image: _Image, top: str) -> str:
    if top == "test":
        labels = _read_by_radiologists(image)
        return ",".join([image.path(top), *(labels[name] for name in _TEST_LABELS)])
    labels = _read_by_radiologists(image) if top == "valid" else _mined(image)
    sex = "Unknown" if image.patient == 2 else ("Female", "Male")[image.patient % 2]
    age = 0 if image.patient == 3 else 20 + image.patient % 70
    words = f"{_PREFIX}{image.path(top)},{sex},{age},{'Frontal' if image.frontal else 'Lateral'}"
    return ",".join([words, _projection(image), *(labels[name] for name in _LABELS)])


def _projection(image: _Image) -> str:
    if not image.frontal:
        return ""
    return {7: "LL", 8: "RL"}.get(image.patient, "PA" if image.patient % 4 == 0 else "AP")


def _mined(image: _Image) -> dict[str, str]:
    """Labels as mined from reports; even patients have one positive label alone."""
    labels = dict.fromkeys(_LABELS, "")
    if image.patient % 2 == 0:
        labels[_ALONE[image.patient // 2 % len(_ALONE)]] = "1.0"
    elif image.patient % 9 == 0:
        labels |= {"No Finding": "1.0", "Pneumothorax": "0.0"}
    else:
        codes: Sequence[str] = [_CODES[(image.patient + image.study + k) % len(_CODES)] for k in range(13)]
        labels |= dict(zip(_LABELS[1:], codes, strict=True))
    return labels


def _read_by_radiologists(image: _Image) -> dict[str, str]:
    labels = {name: f"{float((image.patient + k) % 3 == 0)}" for k, name in enumerate(_LABELS)}
    return labels | {"No Finding": f"{float(image.patient % 8 == 0)}"}


def _write_jpeg(path: Path, seed: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    height, width = 32 + seed % 3 * 4, 40
    ramp = np.linspace(40, 200, width)[None] * np.linspace(0.6, 1, height)[:, None]
    pixels = np.clip(ramp + generator.normal(0, 8, (height, width)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(pixels[..., None], 90, "GRAY"))
