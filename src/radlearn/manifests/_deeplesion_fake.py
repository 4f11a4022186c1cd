"""The miniature release of `DeepLesion`: the real names and header, invented patients and lesions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from radlearn.manifests._ct_fake import ct_slice

# The first line of the release's DL_info.csv.
HEADER = (
    "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Measurement_coordinates,Bounding_boxes,"
    "Lesion_diameters_Pixel_,Normalized_lesion_location,Coarse_lesion_type,Possibly_noisy,Slice_range,"
    "Spacing_mm_px_,Image_size,DICOM_windows,Patient_gender,Patient_age,Train_Val_Test"
)
_PATIENTS = 28
_FIRST_OF_VALIDATE, _FIRST_OF_TEST = 9, 19
_AROUND = 2  # neighbours on either side
_PAD = 5  # the release pads the boxes of the measured diameters by so many pixels


def write(root: Path) -> None:
    """Write Images_png and DL_info.csv below `root`."""
    rows: list[dict[str, Any]] = []
    for patient in range(1, _PATIENTS + 1):
        for study in range(1, 2 + patient % 2):
            rows += _series(root / "Images_png", patient, study)
    with (root / "DL_info.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEADER.split(","))
        writer.writeheader()
        writer.writerows(rows)
    gone = next(row["File_name"] for row in rows if row["Patient_index"] == 2)
    series, _, index = gone.rpartition("_")
    (root / "Images_png" / series / index).unlink()


def _series(folder: Path, patient: int, study: int) -> list[dict[str, Any]]:
    """One series of slices, and its rows of lesions."""
    size = 48 if patient == 3 else 64
    key = 5 + (37 * patient + 11 * study) % 140
    lesions = [(14 + patient % 7, 26, 9, 7), (34, 20 + study, 6, 8)][: 1 + patient % 2]
    series = f"{patient:06d}_{study:02d}_01"
    (folder / series).mkdir(parents=True)
    for index in range(key - _AROUND, key + _AROUND + 1):
        image = ct_slice(size, size, seed=1000 * patient + index, lesion=lesions[0] if index == key else None)
        stored = (image.astype(np.int32) + 32768).astype(np.uint16)
        cv2.imwrite(str(folder / series / f"{index:03d}.png"), stored)
    split = 1 + (patient >= _FIRST_OF_VALIDATE) + (patient >= _FIRST_OF_TEST)
    return [
        {
            "File_name": f"{series}_{key:03d}.png",
            "Patient_index": patient,
            "Study_index": study,
            "Series_ID": 1,
            "Key_slice_index": key,
            "Measurement_coordinates": _listed(x, y, x + w, y + h, x, y + h, x + w, y),
            # The first of patient 7 leaves the image on the left and above.
            "Bounding_boxes": _listed(-3.5, -1, 14.25, 12)
            if patient == 7 and number == 0
            else _listed(x - _PAD, y - _PAD, x + w + _PAD, y + h + _PAD),
            "Lesion_diameters_Pixel_": _listed(w, h),
            "Normalized_lesion_location": _listed(x / size, y / size, 0.5),
            "Coarse_lesion_type": -1 if split == 1 or patient == 20 else 1 + (patient + 3 * number) % 8,
            "Possibly_noisy": int(patient == 6 or (patient == 11 and number == 1)),
            "Slice_range": _listed(key - _AROUND, key + _AROUND),
            "Spacing_mm_px_": _listed(0.488281, 0.488281, 5 if patient % 3 else 1.25),
            "Image_size": _listed(size, size),
            "DICOM_windows": _listed(-1350, 150) if patient % 4 == 0 else _listed(-175, 275),
            "Patient_gender": "FM"[patient % 2],
            "Patient_age": "NaN" if patient == 5 else 40.5 if patient == 6 else 30 + patient,
            "Train_Val_Test": split,
        }
        for number, (x, y, w, h) in enumerate(lesions)
    ]


def _listed(*values: float) -> str:
    return ", ".join(f"{value:g}" for value in values)
