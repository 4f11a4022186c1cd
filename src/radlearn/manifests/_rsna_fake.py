"""The miniature release of `RSNAPneumonia`: its tables and folders, invented boxes, smooth pictures."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from radlearn.manifests import _dicom_fake

_NUM_IMAGES = 24
_NUM_PATIENTS = 15
_SIDE = 1024
# x, y, width, height: alone, two overlapping, three with one at the edge.
_BOXES = (
    ("264.0,152.0,213.0,379.0",),
    ("562.0,152.0,256.0,453.0", "600.0,300.0,200.0,400.0"),
    ("323.0,577.0,160.0,104.0", "100.0,90.0,200.0,150.0", "824.0,882.0,200.0,142.0"),
)
_CLASSES = ("Lung Opacity", "Normal", "No Lung Opacity / Not Normal")


def write(root: Path) -> None:
    """Write tables and images below `root`."""
    images = [_name(number) for number in range(_NUM_IMAGES)]
    labels, classes = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for number, image in enumerate([*images, _name(900)]):  # the last one's file is missing
        boxes = _BOXES[number // 3 % 3] if number % 3 == 0 else ()
        labels += [f"{image},{box},1" for box in boxes] or [f"{image},,,,,0"]
        classes += [f"{image},{_CLASSES[number % 3]}"] * max(len(boxes), 1)
    (root / "stage_2_train_labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")
    _write_zip(root / "stage_2_detailed_class_info.csv.zip", "\n".join(classes) + "\n")
    mapping = [
        {
            "subset_img_id": image,
            "img_id": f"{number % _NUM_PATIENTS + 1:08d}_{number // _NUM_PATIENTS:03d}.png",
            "orig_labels": ["Infiltration"],
        }
        for number, image in enumerate([*images, _name(901)])
    ]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(
        json.dumps(mapping), encoding="utf-8"
    )
    for number, image in enumerate([*images, _name(902)]):
        folder = "stage_2_train_images" if image in images else "stage_2_test_images"
        _dicom_fake.write(
            root / folder / f"{image}.dcm",
            _dicom_fake.radiograph(number, _SIDE),
            sop_uid=f"{_dicom_fake.UID_ROOT}.{number + 1}",
            patient_id=image,
            view=("PA", "AP")[number % 2],
        )


def _name(number: int) -> str:
    """An id as the release writes them: 0004cfab-14fd-4e49-80ba-63a80b6bddd6."""
    digest = hashlib.sha256(f"rsna {number}".encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def _write_zip(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date, so that two fakes are the same bytes.
        archive.writestr(zipfile.ZipInfo(path.name.removesuffix(".zip"), (2018, 8, 1, 0, 0, 0)), text)
