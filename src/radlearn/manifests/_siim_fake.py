"""The miniature release of `SIIMPneumothorax`: its table and folders, invented masks, smooth pictures."""

from __future__ import annotations

from pathlib import Path

from radlearn.manifests import _dicom_fake

_NUM_IMAGES = 24
_NUM_PATIENTS = 16
_SIDE = 1024
# Gap and length, relative: a lens of four columns, one run over the end of a column, one pixel.
_MASKS = ("387620 23 996 33 986 43 977 51", "524000 700", "1048575 1")
_UID = "1.2.276.0.7230010.3.1"


def write(root: Path) -> None:
    """Write the table and the images below `root`."""
    lines = ["ImageId, EncodedPixels"]
    for number in range(_NUM_IMAGES + 1):  # the last one's file is missing
        masks = [_MASKS[number // 3 % 3], _MASKS[0]][: 1 + number % 2] if number % 3 == 0 else []
        lines += [f"{_name(number)},{mask}" for mask in masks or [("-1", " -1")[number % 2]]]
    (root / "train-rle.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number in [*range(_NUM_IMAGES), 900, 901]:  # the last two are not in the table
        _dicom_fake.write(
            root / "dicom-images-train" / _uid(2, number) / _uid(3, number) / f"{_name(number)}.dcm",
            _dicom_fake.radiograph(number, _SIDE),
            sop_uid=_name(number),
            patient_id="" if number == 1 else f"patient-{number % _NUM_PATIENTS}",
            view=("PA", "AP")[number % 2],
        )


def _name(number: int) -> str:
    """An id as the release writes them: 1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819."""
    return _uid(4, number)


def _uid(kind: int, number: int) -> str:
    return f"{_UID}.{kind}.8323329.{1000 + 7 * number}.1517875201.{850800 + 3 * number - kind}"
