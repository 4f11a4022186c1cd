"""Splits by lists of ids that a user brings: LoVT's csv files, or plain lists such as ChestX-ray14's.

    ID,boxes,classes                 a table with a column ID (or id, image_id, image): LoVT's two forms
    00001.png                        a text file, one id a line

Ids are matched by the file's name without folder and suffix, so `images_001/00000001_000.png`, `00000001_000`
and `00000001_000.png` are one id.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from radlearn.errors import DataError

logger = logging.getLogger("radlearn")

_ID_HEADERS = (
    "ID",
    "id",
    "image_id",
    "image",
    "Image Index",
    "patientId",
    "ImageId",
    "dicom_id",
    "image_name",
)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".gif", ".tif", ".tiff")
# An id list that mostly names other images is another release's, not this one's with files missing.
_MOST = 0.5
LOVT_HEADER = ("ID", "boxes", "classes")


def key(name: str) -> str:
    """What two spellings of an image's id have in common."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


def locate(name: str, root: Path) -> Path:
    """A list by absolute path, below the root, or below the working directory.

    Raises:
        DataError: says where it looked.
    """
    path = Path(name).expanduser()
    for candidate in (root / path, path):
        if candidate.is_file():
            return candidate
    looked = path if path.is_absolute() else f"{(root / path).absolute()} and {path.absolute()}"
    raise DataError(f"no split file '{name}': looked for {looked}")


def read_ids(path: Path) -> list[str]:
    """The ids of one list, in its order.

    Raises:
        DataError: if it is empty, not text, or a table without a column of ids.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty: a list of ids was wanted")
    header = next(csv.reader([lines[0]]))
    column = next((header.index(name) for name in _ID_HEADERS if name in header), None)
    if column is None:
        if len(header) > 1:
            raise DataError(
                f"{path}: no column of ids among {header}: one of {', '.join(_ID_HEADERS)} is wanted"
            )
        return [line.strip() for line in lines]
    return [row[column] for row in csv.reader(io.StringIO(text)) if row][1:]


def apply(rows: pl.DataFrame, files: Mapping[str, Path]) -> tuple[pl.DataFrame, int]:
    """Give each row the split whose list names it.

    Args:
        rows: a manifest table.
        files: split -> list.

    Returns:
        The rows that a list names, and how many none does.

    Raises:
        DataError: if two lists name one image, or a list names mostly images that are not there.
    """
    splits: dict[str, str] = {}
    known = {key(name) for name in rows["image_id"]}
    for split, path in files.items():
        names = {key(name) for name in read_ids(path)}
        absent = names - known
        if len(absent) > _MOST * len(names):
            raise DataError(
                f"{path}: {len(absent)} of {len(names)} ids are not in this release, for example "
                f"'{min(absent)}': is it the list of another data set?"
            )
        if absent:
            logger.warning("%s names %d images that are not in this release", path, len(absent))
        twice = sorted(name for name in names if name in splits)
        if twice:
            raise DataError(
                f"{len(twice)} images stand in the lists of {splits[twice[0]]} and of {split}: {twice[0]}"
            )
        splits |= dict.fromkeys(names, split)
    found = pl.Series("split", [splits.get(key(name)) for name in rows["image_id"]], dtype=pl.String)
    listed = rows.with_columns(found).filter(pl.col("split").is_not_null())
    return listed, len(rows) - len(listed)


def write_lovt(path: Path, rows: pl.DataFrame, *, with_boxes: bool = True) -> None:
    """Write the rows of one split as LoVT's csv: `ID,boxes,classes`, or `ID` alone for segmentation.

    Boxes are `x;y;w;h` joined by `|`, classes are joined by `|`; both are empty for negatives.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    boxed = with_boxes and "boxes" in rows.columns
    writer.writerow(LOVT_HEADER if boxed else LOVT_HEADER[:1])
    for row in rows.select("image_id", *(["boxes"] if boxed else [])).iter_rows(named=True):
        cells = row.get("boxes") or []
        boxes = "|".join(";".join(f"{box[side]:g}" for side in "xywh") for box in cells)
        writer.writerow(
            [row["image_id"], boxes, "|".join(box["class"] for box in cells)][: 3 if boxed else 1]
        )
    path.write_text(buffer.getvalue(), encoding="utf-8")


def read_lovt_boxes(path: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    """The boxes of LoVT's csv by id: (x, y, w, h) in pixels of the processed image; negatives have none.

    Raises:
        DataError: if the header is another, or a box is not four numbers.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != LOVT_HEADER:
            raise DataError(f"{path}: wanted the header {','.join(LOVT_HEADER)}, got {reader.fieldnames}")
        return {row["ID"]: _boxes(row["boxes"], path) for row in reader}


def _boxes(cell: str, path: Path) -> list[tuple[float, float, float, float]]:
    boxes = []
    for text in filter(None, (cell or "").split("|")):
        try:
            x, y, w, h = map(float, text.split(";"))
        except ValueError as error:
            raise DataError(f"{path}: a box is x;y;w;h, got '{text}'") from error
        boxes.append((x, y, w, h))
    return boxes


def differing_boxes(
    rows: pl.DataFrame, boxes: Mapping[str, Iterable[Sequence[float]]], *, tolerance: float = 1.0
) -> list[str]:
    """Ids of rows whose boxes are not those of a list, within `tolerance` pixels, whatever their order."""
    there = {key(name): sorted(map(tuple, cells)) for name, cells in boxes.items()}
    differing = []
    for name, cells in rows.select("image_id", "boxes").iter_rows():
        if (wanted := there.get(key(name))) is None:
            continue
        own = sorted((box["x"], box["y"], box["w"], box["h"]) for box in cells or [])
        close = len(own) == len(wanted) and all(
            abs(a - b) <= tolerance
            for one, other in zip(own, wanted, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        if not close:
            differing.append(name)
    return differing
