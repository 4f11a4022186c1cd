"""The miniature release of `Table`: MIMIC-CXR-JPG's folders and columns, invented patients, small JPEGs."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("Atelectasis", "Cardiomegaly", "Edema", "Pleural Effusion")
_HEADER = ("image_path", "impression", "report", "ViewPosition", *LABELS)
_PATIENTS = {"train": range(1, 15), "validate": range(15, 19), "test": range(19, 25)}
_VIEWS = ("PA", "AP", "LATERAL", "pa", " AP ", "PA", "LL", "AP")
_CODES = ("1", "", "0", "-1", "1.0", "", "-1.0", "0.0")
_TEXTS = (
    "No acute cardiopulmonary process.",
    "Small left pleural effusion, unchanged.",
    'Moderate "cardiomegaly", mild edema.',
    "1. Bibasilar atelectasis.\n2. No pneumothorax.",
    "Épanchement pleural à gauche; 3 µm is no size.",
)
_Row = dict[str, str | None]


def write(root: Path) -> dict[str, Any]:
    """Write images and tables below `root`; returns the settings that read them."""
    rows = {
        split: [row for patient in ids for row in _patient(root, patient)] for split, ids in _PATIENTS.items()
    }
    train = rows["train"]
    train[0] |= {"impression": "", "report": "FINDINGS: Clear.\nIMPRESSION:\nNo edema."}
    train[1] |= {"impression": "  ", "report": "FINDINGS: Clear lungs."}
    train[3] |= {"ViewPosition": ""}
    train[4]["image_path"] = f"files/{train[4]['image_path']}"
    train[5]["image_path"] = str((root / "files" / str(train[5]["image_path"])).absolute())
    first = {**train[4], "image_path": str(train[4]["image_path"]).removeprefix("files/")}
    train += [
        {**first, "ViewPosition": "PA"},
        {**first, "image_path": "../../../etc/passwd", "ViewPosition": "PA"},
        {**first, "image_path": str(first["image_path"]).replace(".jpg", "-gone.jpg"), "ViewPosition": "PA"},
        {**first, "image_path": "", "ViewPosition": "PA"},
    ]
    lines = [",".join(_HEADER), "", *(",".join(map(_quoted, row.values())) for row in train), ""]
    (root / "train.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    lines = [",".join(_HEADER), *(",".join(map(_quoted, row.values())) for row in rows["validate"])]
    (root / "validate.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    (root / "test.jsonl").write_text("".join(map(_json_line, rows["test"])), encoding="utf-8")
    return {
        "train_manifest": "train.csv",
        "validate_manifest": "validate.csv.gz",
        "test_manifest": "test.jsonl",
        "report_col": "report",
        "label_cols": LABELS,
        "uncertain": "keep",
        "blank": "ignore",
        "check_files": True,
    }


def _patient(root: Path, patient: int) -> list[_Row]:
    """Three images of two studies; a study shares its report and labels."""
    folder = f"p10/p{10_000_000 + patient}"
    rows: list[_Row] = []
    for image in range(3):
        study = 50_000_000 + 2 * patient + image // 2
        text = _TEXTS[study % len(_TEXTS)]
        path = f"{folder}/s{study}/{_dicom_name(patient, image)}.jpg"
        _write_image(root / "files" / path, seed=3 * patient + image)
        labels = {name: _CODES[(study + k * 3) % len(_CODES)] for k, name in enumerate(LABELS)}
        report = f"                  FINAL REPORT\n INDICATION:  Cough.\n\n IMPRESSION:\n\n {text}\n"
        view = _VIEWS[(3 * patient + image) % len(_VIEWS)]
        rows.append(
            {"image_path": path, "impression": text, "report": report, "ViewPosition": view, **labels}
        )
    return rows


def _dicom_name(patient: int, image: int) -> str:
    digest = hashlib.sha256(f"{patient} {image}".encode()).hexdigest()
    return "-".join(digest[k : k + 8] for k in range(0, 40, 8))


def _write_image(path: Path, seed: int) -> None:
    import simplejpeg

    generator = np.random.Generator(np.random.PCG64(seed))
    height, width = 40 + seed % 3 * 8, 48
    ramp = np.linspace(40, 200, width)[None] * np.linspace(0.6, 1, height)[:, None]
    pixels = np.clip(ramp + generator.normal(0, 8, (height, width)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(pixels[..., None], 90, "GRAY"))


def _quoted(cell: str | None) -> str:
    text = cell or ""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


def _json_line(row: _Row) -> str:
    labels = {name: float(str(row[name])) if row[name] else None for name in LABELS}
    return json.dumps({**row, **labels}, ensure_ascii=False) + "\n"
