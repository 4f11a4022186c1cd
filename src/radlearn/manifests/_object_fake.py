"""The miniature release of `ObjectCXR`: its tables and folders, invented objects, smooth pictures."""

from __future__ import annotations

from pathlib import Path

import simplejpeg

from radlearn.manifests import _dicom_fake

_SIDE = 64
_CELLS = (
    "0 10 12 30 20",
    "",
    "1 5 5 25 17;0 40 30 50 44",
    "",
    "2 8 30 20 28 24 40 10 44;1 30 4 38 10;0 2 2 6 9",
    "",
    "0 50 10 80 20;",  # leaves every image but the widest; ends with a semicolon
    "",
)
_COUNTS = {"train": 24, "dev": 8}


def write(root: Path) -> None:
    """Write the tables and the images below `root`."""
    first = 1
    for part, count in _COUNTS.items():
        lines = ["image_name,annotation"]
        for number in range(first, first + count):
            lines.append(f"{number:05d}.jpg,{_CELLS[number % len(_CELLS)]}")
            _write_image(root / "input" / part / f"{number:05d}.jpg", number)
        if part == "train":
            lines += ["09001.jpg,3 1 2 3 4", "09002.jpg,0 1 2 3 4"]  # no shape, no file
            _write_image(root / "input" / part / "09001.jpg", 9001)
        (root / "input" / f"{part}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        first += count


def _write_image(path: Path, number: int) -> None:
    """A portrait or a landscape picture, by the number."""
    picture = _dicom_fake.radiograph(number, _SIDE)
    picture = picture[:, :56] if number % 2 else picture[:48]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(picture.copy()[..., None], 90, "GRAY"))
