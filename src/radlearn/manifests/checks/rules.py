"""The rules of a manifest table, one function a rule."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import polars as pl

from radlearn.data.labels import CODES
from radlearn.data.pixels import file_of
from radlearn.data.splits import check_patients
from radlearn.errors import DataError
from radlearn.manifests.base import SPLITS
from radlearn.manifests.checks.columns import (
    OPTIONAL_TYPES,
    REJECTED_TYPES,
    REQUIRED_TYPES,
    VIEWS,
    reject,
)
from radlearn.records import Card

_NEVER_NULL = ("image_id", "patient_id", "study_id", "split", "path")
_BOX_TOLERANCE = 1.0  # source pixels; releases round corners and sides on their own


def validate(
    rows: pl.DataFrame, card: Card, root: Path, *, label_values: Iterable[float] = CODES
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check a manifest table against the contract of `manifests/base.py`.

    Returns:
        The usable rows sorted by image id, and the rejected ones.

    Raises:
        DataError: if a column is missing, of another type, or null where it must not be; if a split, view or
            label value is undefined (names column, value and row); if a patient lies in two splits.
    """
    _check_columns(rows, card)
    _check_values(rows, "split", SPLITS)
    _check_values(rows, "view", VIEWS)
    for name in card.label_names:
        _check_values(rows, name, tuple(map(float, label_values)))
    if card.split_unit == "patient":
        check_patients(rows)  # before duplicates go: an image in two splits is a leak
    rows = rows.sort("image_id", "path", maintain_order=True)
    tests: tuple[Callable[[pl.DataFrame], tuple[str, pl.Series]], ...] = (
        _duplicate_ids,
        lambda table: _path_escapes(table, root),
        _boxes_outside,
        _dangling_sentences,
    )
    refused = [pl.DataFrame(schema=REJECTED_TYPES)]
    for test in tests:
        reason, wrong = test(rows)
        refused.append(reject(rows.filter(wrong), reason))
        rows = rows.filter(~wrong)
    return rows, pl.concat(refused)


def _check_columns(rows: pl.DataFrame, card: Card) -> None:
    labels: dict[str, pl.DataType] = {name: pl.Float32() for name in card.label_names}
    clash = sorted(labels.keys() & (REQUIRED_TYPES | OPTIONAL_TYPES).keys())
    if clash:
        raise DataError(
            f"{card.name}: a label cannot be named {', '.join(clash)}: the manifest has such a column"
        )
    for name in (*REQUIRED_TYPES, *labels):
        if name not in rows.columns:
            raise DataError(
                f"{card.name}: the manifest lacks column '{name}'; it has {', '.join(rows.columns)}"
            )
    for name, wanted in (REQUIRED_TYPES | OPTIONAL_TYPES | labels).items():
        if name in rows.columns and rows.schema[name] != wanted:
            raise DataError(f"{card.name}: column '{name}' is {rows.schema[name]}, wanted {wanted}")
    for name in _NEVER_NULL:
        if count := rows[name].null_count():
            raise DataError(f"{card.name}: {count} rows have no {name}: reject such rows by name")


def _check_values(rows: pl.DataFrame, column: str, allowed: tuple[object, ...]) -> None:
    cells = rows[column]
    wrong = cells.is_not_null() & ~cells.is_in(list(allowed))
    if wrong.any():
        row = wrong.to_list().index(True)
        names = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in allowed)
        raise DataError(
            f"column '{column}' holds {cells[row]!r} in row {row + 1} (image '{rows['image_id'][row]}'); "
            f"allowed are {names} and null"
        )


def _duplicate_ids(rows: pl.DataFrame) -> tuple[str, pl.Series]:
    return "duplicate_id", ~rows["image_id"].is_first_distinct()


def _path_escapes(rows: pl.DataFrame, root: Path) -> tuple[str, pl.Series]:
    """Absolute paths, `..`, NUL bytes, and links that lead out of the root.

    Each folder is listed once; whether a file exists does not matter.
    """
    base = os.path.realpath(root)

    def is_inside(target: str) -> bool:
        return target == base or target.startswith(base.rstrip("/") + "/")

    @cache
    def links(folder: str) -> frozenset[str]:
        """Names of the links in a folder."""
        try:
            with os.scandir(Path(base, folder)) as entries:
                return frozenset(entry.name for entry in entries if entry.is_symlink())
        except OSError:
            return frozenset()

    def link_is_inside(folder: str, name: str) -> bool:
        return name not in links(folder) or is_inside(os.path.realpath(Path(base, folder, name)))

    @cache
    def folder_is_inside(folder: str) -> bool:
        above, name = posixpath.split(folder)
        return not folder or (folder_is_inside(above) and link_is_inside(above, name))

    def escapes(path: str) -> bool:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path:
            return True
        folder, name = posixpath.split(path)
        return not (folder_is_inside(folder) and link_is_inside(folder, name))

    return "path_escape", pl.Series([escapes(file_of(path)) for path in rows["path"]], dtype=pl.Boolean)


def _boxes_outside(rows: pl.DataFrame) -> tuple[str, pl.Series]:
    reason = "box_outside"
    if "boxes" not in rows.columns:
        return reason, pl.Series([False] * len(rows), dtype=pl.Boolean)
    boxes = rows.select("height", "width", "boxes").with_row_index("row").explode("boxes").drop_nulls("boxes")
    boxes = boxes.unnest("boxes")
    right, bottom = pl.col("x") + pl.col("w"), pl.col("y") + pl.col("h")
    fits = (
        (pl.min_horizontal("x", "y") >= -_BOX_TOLERANCE)
        & (pl.min_horizontal("w", "h") > 0)
        & (right <= pl.col("width").fill_null(2**31 - 1) + _BOX_TOLERANCE)
        & (bottom <= pl.col("height").fill_null(2**31 - 1) + _BOX_TOLERANCE)
        & pl.all_horizontal(pl.col("x", "y", "w", "h").is_finite())
    )
    wrong = boxes.filter(~fits.fill_null(False))["row"]
    return reason, pl.int_range(len(rows), eager=True).cast(pl.UInt32).is_in(wrong.implode())


def _dangling_sentences(rows: pl.DataFrame) -> tuple[str, pl.Series]:
    reason = "sentence_without_box"
    if "sentences" not in rows.columns:
        return reason, pl.Series([False] * len(rows), dtype=pl.Boolean)
    boxes = pl.col("boxes").list.len().fill_null(0) if "boxes" in rows.columns else pl.lit(0)
    pointed = (
        rows.with_row_index("row")
        .select("row", boxes.alias("boxes"), "sentences")
        .explode("sentences")
        .select("row", "boxes", pointed=pl.col("sentences").struct.field("boxes"))
        .explode("pointed")
        .drop_nulls("pointed")
    )
    wrong = pointed.filter((pl.col("pointed") < 0) | (pl.col("pointed") >= pl.col("boxes")))["row"]
    return reason, pl.int_range(len(rows), eager=True).cast(pl.UInt32).is_in(wrong.implode())
