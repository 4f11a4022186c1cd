"""Rows of a user's table: columns taken as they are, ids that paths tell, patients and studies."""

from __future__ import annotations

import posixpath
import warnings
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from radlearn.errors import DataError
from radlearn.manifests._paths import PathJoiner, patient_of
from radlearn.manifests._table_file import TableFile
from radlearn.manifests.checks import OPTIONAL_TYPES, REQUIRED_TYPES

_VIEW_WORDS = {
    **{view: view for view in ("PA", "AP", "LATERAL")},
    **dict.fromkeys(("LL", "LAT", "XTABLE LATERAL", "CROSS-TABLE LATERAL"), "LATERAL"),
}


def taken_along(file: TableFile, labels: Sequence[str]) -> list[str]:
    """Columns of the contract that a table brings under their own names; a lone `height` is a patient's."""
    sizes = ["height", "width"] if {"height", "width"} <= {*file.columns} else []
    return [*sizes, *(n for n in ("sentences", "boxes", "mask") if n in file.columns and n not in labels)]


def as_type(column: pl.Series, path: Path) -> pl.Series:
    """A column of the contract in its type; nested ones may be JSON in a string."""
    wanted = (REQUIRED_TYPES | OPTIONAL_TYPES)[column.name]
    try:
        if column.dtype == pl.String and wanted.is_nested():
            return column.str.json_decode(wanted)
        return column.cast(wanted)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: column '{column.name}' cannot be read as {wanted}: {error}") from error


def with_ids(rows: pl.DataFrame, join: PathJoiner) -> pl.DataFrame:
    """Add every working and id column that no table told: paths, ids from paths, views."""
    paths = [cell and join(cell) for cell in rows["_cell"]]
    told = [patient_of(path) if path else (None, None) for path in paths]
    derived: dict[str, list[str | None]] = {
        "path": paths,
        "image_id": [path and posixpath.splitext(path)[0].removeprefix("files/") for path in paths],
        "patient_id": [patient for patient, _ in told],
        "study_id": [study for _, study in told],
        "_view": [None] * len(rows),
        "impression": [None] * len(rows),
    }
    missing: dict[str, pl.Series] = {
        name: pl.Series(values, dtype=pl.String)
        for name, values in derived.items()
        if name not in rows.columns
    }
    sizes = {name: pl.lit(None, pl.Int32) for name in ("height", "width") if name not in rows.columns}
    view = (
        pl.col("_view").str.to_uppercase().replace_strict(_VIEW_WORDS, default=None, return_dtype=pl.String)
    )
    return rows.with_columns(**missing, **sizes).with_columns(view=view)


def with_patients(rows: pl.DataFrame) -> pl.DataFrame:
    """Fill unknown patients and studies with the image's id, and make study ids unique over patients."""
    escaping = pl.col("path").str.contains(r"^(/|\.\.)")  # rejected later, and not worth a warning
    if unknown := len(rows.filter(pl.col("patient_id").is_null() & ~escaping)):
        warnings.warn(
            f"{unknown} of {len(rows)} images tell no patient: each counts as its own patient, so that "
            "splits and intervals are by image; set data.patient_col",
            stacklevel=2,
        )
    rows = rows.with_columns(pl.col("patient_id", "study_id").fill_null(pl.col("image_id")))
    shared = pl.col("patient_id").n_unique().over("study_id") > 1
    prefixed = pl.concat_str("patient_id", "study_id", separator="-")
    return rows.with_columns(study_id=pl.when(shared.any()).then(prefixed).otherwise("study_id"))
