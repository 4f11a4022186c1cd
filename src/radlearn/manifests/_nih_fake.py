"""Miniature releases of NIH ChestX-ray14 and of its boxes: real names, invented patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from radlearn.manifests import _nih

# Header of Data_Entry_2017_v2020.csv: "OriginalImage[Width,Height]" is two of its cells.
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
# Header of Google's labels of 2019, joined with the table of entries.
_GOOGLE_HEADER = f"{_HEADER},Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"
_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_FINDINGS = (
    _nih.NO_FINDING,
    *_nih.LABELS,
    "Cardiomegaly|Emphysema",
    "Infiltration|Effusion|Atelectasis",
    _nih.NO_FINDING,
    "Pneumothorax|Hernia",
)
_SMALL = 32


@dataclass(frozen=True)
class _Image:
    patient: int
    follow_up: int
    findings: str

    @property
    def name(self) -> str:
        return f"{self.patient:08d}_{self.follow_up:03d}.png"

    def row(self, number: int) -> str:
        """Its line in the table of entries."""
        age = 414 if number == 3 else 40 + number % 45
        return (
            f"{self.name},{self.findings},{self.follow_up},{self.patient},{age},{'MF'[self.patient % 2]},"
            f"{('PA', 'AP')[number % 3 == 2]},{2048 + number},2991,0.143,0.143"
        )


def write_chestxray14(root: Path) -> None:
    """Write tables, lists and images of 44 patients below `root`."""
    images: list[_Image] = []
    for patient in range(1, 45):
        for visit in range(1 + patient % 3):
            findings = _FINDINGS[len(images) % len(_FINDINGS)]
            images.append(_Image(patient, 2 * visit + patient % 2, findings))
    _write_entries(root, images)
    _write_lists(root, images, first_of_test=33)
    _write_google(root, images)
    folders = ("images_001/images", "images_002/images", "images_012/images")
    for number, image in enumerate(images):
        path = root / folders[number * len(folders) // len(images)] / image.name
        _write_png(path, number, _SMALL, rgba=number == 5)


def write_nih_boxes(root: Path) -> None:
    """Write tables, a list and images: of patients 1 to 12 with boxes, of 13 to 24 without finding."""
    # The 20 images with boxes: eight findings in turn, patients 1 to 8 twice.
    boxed = []
    for number in range(20):
        finding = _nih.LABELS[number % 8]
        more = "|Edema" if number % 5 == 0 else "|Mass" if finding == "Nodule" else ""
        boxed.append(_Image(number % 12 + 1, number // 12, finding + more))
    clear = [_Image(patient, 0, _nih.NO_FINDING) for patient in range(13, 25)]
    _write_entries(root, [*boxed, *clear])
    _write_lists(root, [*boxed, *clear], first_of_test=9)
    lines = [_BOX_HEADER]
    for number, image in enumerate(boxed):
        lines += [_box(image, word, number + k) for k, word in enumerate(_boxed_findings(image))]
    (root / "BBox_List_2017.csv").write_text("\n".join(lines) + "\n")
    for number, image in enumerate([*boxed, *clear]):
        _write_png(root / "images" / "images_01" / "images" / image.name, number, _nih.SIDE)


def _boxed_findings(image: _Image) -> Sequence[str]:
    """Findings of an image that have a box; other than the eight have none."""
    words = [word for word in image.findings.split("|") if word in _nih.LABELS[:8]]
    return ["Infiltrate" if word == "Infiltration" else word for word in words]


def _box(image: _Image, finding: str, number: int) -> str:
    x, y, w, h = 100 + 1024 / 27 * (number % 9), 80 + number * 31.3, 86.7796610169491, 79.1864406779661
    return f"{image.name},{finding},{x!r},{y!r},{w + 7 * number},{h}"


def _write_entries(root: Path, images: Sequence[_Image]) -> None:
    rows = [image.row(number) for number, image in enumerate(images)]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([_HEADER, *rows]) + "\n")


def _write_google(root: Path, images: Sequence[_Image]) -> None:
    """Labels of every fourth patient's images; those that the test list names are its test set."""
    lines = [_GOOGLE_HEADER]
    for number, image in enumerate(images):
        if image.patient % 4 == 0:
            words = ",".join(("NO", "YES")[(number + k) % 2] for k in range(4))
            lines.append(f"{image.row(number)},{words},{'test' if image.patient > 32 else 'val'}")
    (root / "google2019_nih-chest-xray-labels.csv").write_text("\n".join(lines) + "\n")


def _write_lists(root: Path, images: Sequence[_Image], *, first_of_test: int) -> None:
    lists: Mapping[str, list[str]] = {
        "train_val_list.txt": [image.name for image in images if image.patient < first_of_test],
        "test_list.txt": [image.name for image in images if image.patient >= first_of_test],
    }
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines))


def _write_png(path: Path, seed: int, side: int, *, rgba: bool = False) -> None:
    """A grey square of 8 x 8 fields; one of 1024 pixels takes a few kilobytes."""
    generator = np.random.Generator(np.random.PCG64(seed))
    fields = np.clip(generator.normal(120, 40, (8, 8)), 0, 255).astype(np.uint8)
    pixels = np.kron(fields, np.ones((side // 8, side // 8), np.uint8))
    if rgba:
        pixels = np.dstack([pixels, pixels, pixels, np.full_like(pixels, 255)])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
