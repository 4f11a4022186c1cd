"""Splits by lists of ids that a user brings: LoVT's csv files, or plain lists such as ChestX-ray14's.

    ID,boxes,classes                 a table with a column ID (or id, image_id, image ...): LoVT's two forms
    00001.png                        a text file, one id a line

An id may be written with or without its folders and its suffix: `images_001/00000001_000.png`, `00000001_000`
and `00000001_000.png` are one id as long as no other image of the release ends alike.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from radlearn.errors import DataError

logger = logging.getLogger("radlearn")

_ID_HEADERS = (
    "ID",
    "image_id",
    "image",
    "Image Index",
    "patientId",
    "ImageId",
    "dicom_id",
    "image_name",
    "image_path",
    "path",
    "filename",
)
_SUFFIX = r"(?i)\.(png|jpe?g|dcm|gif|tiff?|bmp)$"
# An id list that mostly names other images is another release's, not this one's with files missing.
_MOST = 0.5
LOVT_HEADER = ("ID", "boxes", "classes")

Box = tuple[float, float, float, float]


def locate(name: str, root: Path, what: str = "split file") -> Path:
    """A file of the user by absolute path, below the root, or below the working directory.

    Raises:
        DataError: says where it looked.
    """
    path = Path(name).expanduser()
    for candidate in (root / path, path):
        if candidate.is_file():
            return candidate
    looked = path if path.is_absolute() else f"{(root / path).absolute()} and {path.absolute()}"
    raise DataError(f"no {what} '{name}': looked for {looked}")


def read_ids(path: Path) -> list[str]:
    """The ids of one list, in its order, each once.

    Raises:
        DataError: if it is empty, not text, or a table without a column of ids.
    """
    text = _text(path)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty: a list of ids was wanted")
    column, delimiter = _column_of_ids(path, lines[0])
    if column is None:
        ids = [line.strip() for line in lines]
    else:
        cells = (row[column].strip() for row in _cells(text, delimiter) if column < len(row))
        ids = [cell for cell in cells if cell][1:]
    if not ids:
        raise DataError(f"{path} has a header and no ids")
    once = list(dict.fromkeys(ids))
    if len(once) < len(ids):
        logger.warning("%s names %d ids more than once", path, len(ids) - len(once))
    return once


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _cells(text: str, delimiter: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def _column_of_ids(path: Path, first_line: str) -> tuple[int | None, str]:
    """Where the ids stand, None for a plain list; and what separates the columns."""
    delimiter = "\t" if "\t" in first_line else ","
    header = [name.strip().casefold() for name in next(csv.reader([first_line], delimiter=delimiter))]
    for name in _ID_HEADERS:
        if name.casefold() in header:
            return header.index(name.casefold()), delimiter
    if len(header) > 1:
        raise DataError(f"{path}: no column of ids among {header}: one of {', '.join(_ID_HEADERS)} is wanted")
    return None, delimiter


# --- ids of a list and ids of a release


def match(names: Sequence[str], image_ids: pl.Series) -> pl.Series:
    """The position of each name among the image ids; null where there is none.

    A name and an id are the same when one is the other with folders before it, suffixes of files aside.

    Raises:
        DataError: if a name fits several images.
    """
    exact = dict(zip(image_ids.to_list(), range(len(image_ids)), strict=True))
    if all(name.strip() in exact for name in names):
        # A release may have names that differ in their suffix alone, such as COVIDx.
        return pl.Series([exact[name.strip()] for name in names], dtype=pl.UInt32)
    listed, there = _bare(pl.Series(names, dtype=pl.String)), _bare(image_ids)
    table = pl.DataFrame({"id": there}).with_row_index("position")
    found = pl.DataFrame({"name": listed, "key": listed}, schema={"name": pl.String, "key": pl.String})
    found = _look_up(found.with_columns(position=pl.lit(None, pl.UInt32)), table)
    while found["key"].str.contains("/").any():  # names with more folders than the ids
        found = _look_up(found.with_columns(key=_without_first_folder("key")), table)
    found = found.with_columns(key="name")
    while table["id"].str.contains("/").any():  # ids with more folders than the names
        table = table.filter(pl.col("id").str.contains("/")).with_columns(id=_without_first_folder("id"))
        found = _look_up(found, table)
    return found["position"]


def _bare(names: pl.Series) -> pl.Series:
    """Ids with slashes, without the suffix of a file."""
    slashed = names.str.strip_chars().str.replace_all("\\", "/", literal=True)
    return slashed.str.replace(r"^(\./|/)+", "").str.replace(_SUFFIX, "")


def _without_first_folder(column: str) -> pl.Expr:
    return pl.col(column).str.replace(r"^[^/]*/", "")


def _look_up(found: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Fill in the positions of names whose `key` is an `id` of the table."""
    places = table.group_by("id").agg(
        pl.col("position").min().alias("place"), pl.col("position").len().alias("count")
    )
    joined = found.join(places, left_on="key", right_on="id", how="left", maintain_order="left")
    several = joined.filter(pl.col("position").is_null() & (pl.col("count") > 1))
    if len(several):
        name, count = several.select("name", "count").row(0)
        raise DataError(
            f"'{name}' names {count} images of this release ({len(several)} such ids in the list): write "
            "their folders too"
        )
    return joined.with_columns(pl.coalesce("position", "place").alias("position")).select(found.columns)


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
    found = [_places(rows["image_id"], path, split) for split, path in files.items()]
    places = pl.concat(found) if found else pl.DataFrame(schema={"position": pl.UInt32, "split": pl.String})
    places = places.unique(maintain_order=True)  # two spellings of one id
    twice = places.filter(pl.col("position").is_duplicated()).sort("position", maintain_order=True)
    if len(twice):
        position, where = twice["position"][0], twice["split"].head(2)
        raise DataError(
            f"{twice['position'].n_unique()} images stand in the lists of {where[0]} and of {where[1]}: "
            f"{rows['image_id'][position]}"
        )
    bare = rows.drop("split", strict=False).with_row_index("position")
    listed = bare.join(places, on="position", how="inner", maintain_order="left").drop("position")
    return listed, len(rows) - len(listed)


def _places(image_ids: pl.Series, path: Path, split: str) -> pl.DataFrame:
    """Columns `position, split` of the rows that one list names."""
    names = read_ids(path)
    try:
        places = match(names, image_ids)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    absent = [name for name, missing in zip(names, places.is_null(), strict=True) if missing]
    if len(absent) > _MOST * len(names):
        raise DataError(
            f"{path}: {len(absent)} of {len(names)} ids are not in this release, for example "
            f"'{min(absent)}': is it the list of another data set?"
        )
    if absent:
        logger.warning("%s names %d images that are not in this release", path, len(absent))
    return pl.DataFrame({"position": places.drop_nulls()}).with_columns(split=pl.lit(split))


# --- LoVT's csv files


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
        # Nine digits bring a 32-bit float back exactly.
        boxes = "|".join(";".join(f"{box[side]:.9g}" for side in "xywh") for box in cells)
        classes = "|".join(box["class"] or "" for box in cells)
        writer.writerow([row["image_id"], boxes, classes][: 3 if boxed else 1])
    path.write_text(buffer.getvalue(), encoding="utf-8")


def has_boxes(path: Path) -> bool:
    """Whether a list is LoVT's csv for detection."""
    first = next((line for line in _text(path).splitlines() if line.strip()), "")
    return tuple(name.strip() for name in first.split(",")) == LOVT_HEADER


def read_lovt_boxes(path: Path) -> dict[str, list[dict[str, float | str]]]:
    """The boxes of LoVT's csv by id: x, y, w, h in pixels of the processed image, and class.

    Negatives have no box. The class is an empty text where the column is blank.

    Raises:
        DataError: if the header is another, a box is not four numbers, there are not as many classes as
            boxes, or an id stands twice with different boxes.
    """
    if not has_boxes(path):
        raise DataError(f"{path}: wanted the header {','.join(LOVT_HEADER)}")
    found: dict[str, list[dict[str, float | str]]] = {}
    for cells in [row for row in _cells(_text(path), ",") if any(cell.strip() for cell in row)][1:]:
        name, boxes, classes = (cell.strip() for cell in (*cells, "", "")[:3])
        own = _boxes(path, name, boxes, classes)
        if found.setdefault(name, own) != own:
            raise DataError(f"{path}: '{name}' stands twice, with different boxes")
    return found


def _boxes(path: Path, name: str, boxes: str, classes: str) -> list[dict[str, float | str]]:
    texts = boxes.split("|") if boxes else []
    labels = classes.split("|") if classes else [""] * len(texts)
    if len(texts) != len(labels):
        raise DataError(f"{path}: '{name}' has {len(texts)} boxes and {len(labels)} classes")
    found: list[dict[str, float | str]] = []
    for text, label in zip(texts, labels, strict=True):
        try:
            x, y, w, h = map(float, text.split(";"))
        except ValueError as error:
            raise DataError(f"{path}: a box is x;y;w;h, got '{text}' for '{name}'") from error
        if not (math.isfinite(x + y) and 0 < w < math.inf and 0 < h < math.inf):
            raise DataError(f"{path}: a box has a width and a height, got '{text}' for '{name}'")
        found.append({"x": x, "y": y, "w": w, "h": h, "class": label})
    return found


def listed_boxes(image_ids: pl.Series, boxes: Mapping[str, Sequence[Mapping[str, float | str]]]) -> pl.Series:
    """The boxes of a list for each image id, null where it does not name the image."""
    cells: list[Sequence[Mapping[str, float | str]] | None] = [None] * len(image_ids)
    for place, own in zip(match(list(boxes), image_ids), boxes.values(), strict=True):
        if place is not None:
            cells[place] = own
    struct = pl.Struct({**dict.fromkeys("xywh", pl.Float32), "class": pl.String})
    return pl.Series("boxes", cells, dtype=pl.List(struct))


def differing_boxes(own: pl.Series, listed: pl.Series, *, tolerance: float = 1.0) -> list[int]:
    """Rows whose boxes are not the listed ones, within `tolerance` pixels, whatever their order and class.

    Args:
        own, listed: two columns `boxes`; rows without a list (null) do not differ.
    """
    return [
        row
        for row, (first, second) in enumerate(zip(own.to_list(), listed.to_list(), strict=True))
        if second is not None and not _same(_corners(first), _corners(second), tolerance)
    ]


def swapped_boxes(boxes: pl.Series) -> pl.Series:
    """The boxes with width and height exchanged."""
    names = ["x", "y", "w", "h", "class"]
    swapped = [pl.element().struct.field(name) for name in ("x", "y", "h", "w", "class")]
    return boxes.to_frame().select(
        pl.col(boxes.name).list.eval(pl.struct(e.alias(n) for e, n in zip(swapped, names, strict=True)))
    )[boxes.name]


def _corners(boxes: Sequence[Mapping[str, float]] | None) -> list[Box]:
    return [(box["x"], box["y"], box["w"], box["h"]) for box in boxes or ()]


def _same(first: list[Box], second: list[Box], tolerance: float) -> bool:
    """Whether each box of the one has its own partner in the other."""
    left = list(second)
    for box in first:
        near = [o for o in left if all(abs(a - b) <= tolerance for a, b in zip(box, o, strict=True))]
        if not near:
            return False
        left.remove(near[0])
    return not left
