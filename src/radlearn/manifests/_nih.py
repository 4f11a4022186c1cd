"""What the manifests of NIH ChestX-ray14 share: its table of entries, official lists and image folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from radlearn.data.images import ImageError, image_size
from radlearn.errors import DataError, nearest
from radlearn.manifests._release import find, need, read_columns
from radlearn.manifests.checks import reject

logger = logging.getLogger("radlearn")

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NO_FINDING = "No Finding"
SOURCE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
LICENCE = "free to use; NIH Clinical Center asks for attribution and a link to the source"
CITATION = "Wang et al. 2017, ChestX-ray8, CVPR, arXiv:1705.02315"
NAMESPACE = "nih"
# Every image of the release is a PNG of 1024 x 1024; the table's OriginalImage is the size before shrinking.
SIDE = 1024

_ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_LISTS = {
    "train": ("train_val_list.txt", "train_val_list_NIH.txt"),
    "test": ("test_list.txt", "test_list_NIH.txt"),
}
_COLUMNS = {
    "_file": "Image Index",
    "_findings": "Finding Labels",
    "_patient": "Patient ID",
    "_view": "View Position",
}
# As the archives unpack, as Kaggle and LoVT lay them out, all in one folder, and a common shrunk copy.
_FOLDERS = (
    "images",
    "images_*/images",
    "images_*",
    "images/images_*/images",
    "images/images_*",
    "images-224/images-224",
)


def entries_file(root: Path) -> Path:
    """The table of all images.

    Raises:
        DataError: says what was looked for, and where.
    """
    return need(root, *_ENTRIES, what="table of the NIH images")


def read_entries(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of the table of entries.

    Returns:
        Rows with `image_id, patient_id, study_id, view, _file, _findings` (a list of words) and one column
        each of `LABELS` and `NO_FINDING`; rows without image, patient or findings, as rejected rows.

    Raises:
        DataError: for a header or a finding that the release does not have; names it.
    """
    cells = read_columns(path, _COLUMNS).with_columns(
        image_id=pl.col("_file").str.strip_suffix(".png"), path=pl.col("_file")
    )
    number = pl.col("_patient").cast(pl.Int64, strict=False)
    rows = cells.with_columns(
        # Image names carry the patient as eight digits, the table as a number.
        patient_id=number.cast(pl.String).str.zfill(8),
        study_id="image_id",
        view=pl.when(pl.col("_view").is_in(["PA", "AP"])).then("_view"),
        _findings=pl.col("_findings").str.split("|"),
    )
    incomplete = pl.any_horizontal(pl.col("image_id", "patient_id", "_findings").is_null())
    rejected = reject(rows.filter(incomplete), "incomplete_row", "no image, patient or finding")
    rows = rows.filter(~incomplete)
    _check_findings(rows, path)
    labels = [
        pl.col("_findings").list.contains(name).cast(pl.Float32).alias(name) for name in (*LABELS, NO_FINDING)
    ]
    kept = ("image_id", "patient_id", "study_id", "view", "_file", "_findings")
    return rows.select(*kept, *labels), rejected


def official_list(root: Path, split: str, *, instead: str) -> Path:
    """The release's list of its `train` (and validation) or `test` images.

    Raises:
        DataError: if it is missing; says where it is from, and what to do without: `instead`.
    """
    names = _LISTS[split]
    found = find(root, *names)
    if found is None or found.suffix != ".txt":
        raise DataError(
            f"no {names[0]} in {root} (looked for {' and '.join(names)}): the NIH hands it out beside the "
            f"images, {SOURCE}. {instead}"
        )
    return found


def with_paths(rows: pl.DataFrame, root: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Find the folder of each image: folders are listed once, files are not looked at one by one.

    Returns:
        Rows with `path`; rows without their image, rejected as `missing`. Where there is no image at all, the
        labels can still be read: all rows are kept, and a warning says so.
    """
    folders = _folders_of_images(root)
    if not folders:
        logger.warning(
            "no image below %s: only the tables are read. Unpack images_001.tar.gz to images_012.tar.gz "
            "there",
            root,
        )
        return rows.with_columns(path=pl.concat_str(pl.lit("images/"), "_file")), reject(
            rows.clear().with_columns(path=pl.col("_file")), "missing"
        )
    names = pl.DataFrame({"_file": list(folders), "path": list(folders.values())})
    placed = rows.join(names, on="_file", how="left", maintain_order="left")
    absent = placed.filter(pl.col("path").is_null()).with_columns(path=pl.col("_file"))
    where = f"in none of {', '.join(_FOLDERS)} and the root itself"
    return placed.filter(pl.col("path").is_not_null()), reject(absent, "missing", where)


def side(rows: pl.DataFrame, root: Path) -> int | None:
    """Height and width of the images, in pixels: `SIDE`, or None where this copy of the release was resized.

    All images of a copy have one size, so the header of the first one tells.

    Args:
        rows: with `path`, one or more.
        root: the folder that it is relative to.
    """
    try:
        size = image_size(root / str(rows["path"].min()))
    except ImageError:  # no image at hand, or a damaged one, which is named where it is read
        return SIDE
    return SIDE if size == (SIDE, SIDE) else None


def _folders_of_images(root: Path) -> dict[str, str]:
    """Name of each image -> its path below the root; of two images of one name the first counts."""
    paths: dict[str, str] = {}
    for folder in _folders(root):
        base = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".png"):
                    paths.setdefault(entry.name, base + entry.name)
    return paths


def _folders(root: Path) -> Iterator[Path]:
    for pattern in _FOLDERS:
        yield from (path for path in sorted(root.glob(pattern)) if path.is_dir())
    yield root


def _check_findings(rows: pl.DataFrame, path: Path) -> None:
    known = (*LABELS, NO_FINDING)
    words = rows.select("image_id", "_findings").explode("_findings")
    unknown = words.filter(~pl.col("_findings").is_in(known))
    if len(unknown):
        image_id, word = unknown.row(0)
        raise DataError(
            f"{path}: image '{image_id}' has the finding '{word}'{nearest(str(word), known)}; there is "
            f"{', '.join(known)}: is this the release's own table?"
        )
