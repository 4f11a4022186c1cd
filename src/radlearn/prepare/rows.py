"""The table of a release before any image is read: checked, without repeated ids, hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import polars as pl

from radlearn.data.splits import check_patients
from radlearn.errors import DataError
from radlearn.manifests.base import REQUIRED, SPLITS
from radlearn.prepare.outcome import reasons, rejected_table
from radlearn.records import Release

# Rows turned into text at a time: reports of two kilobytes make these four megabytes.
_ROWS_AT_A_TIME = 2_000


def without_duplicates(release: Release) -> Release:
    """The first row of an image id is kept, later ones are rejected."""
    repeated = ~release.rows["image_id"].is_first_distinct()
    if not repeated.any():
        return release
    later = release.rows.filter(repeated).select(
        "image_id", "path", reason=pl.lit("duplicate_id"), detail=pl.lit("an earlier row has this image id")
    )
    rejected = pl.concat([rejected_table(release.rejected), later])
    return dataclasses.replace(release, rows=release.rows.filter(~repeated), rejected=rejected)


def check_table(release: Release) -> None:
    """Check what every later step relies on.

    Raises:
        DataError: for missing columns, no rows, unknown splits, or a patient in two of them.
    """
    rows, name = release.rows, release.card.name
    missing = [column for column in REQUIRED if column not in rows.columns]
    if missing:
        raise DataError(f"manifest '{name}' lacks the columns {', '.join(missing)}")
    if rows.is_empty():
        raise DataError(
            f"manifest '{name}' found no usable row below {release.root}" + reasons(release.rejected)
        )
    strange = sorted({*rows["split"].unique().to_list()} - {*SPLITS}, key=str)
    if strange:
        raise DataError(f"manifest '{name}' names the splits {strange}: there is {', '.join(SPLITS)}")
    if release.card.split_unit == "patient":
        check_patients(rows)


def rows_hash(rows: pl.DataFrame) -> str:
    """SHA-256 of a table's columns, types and cells, in their order."""
    digest = hashlib.sha256(json.dumps({name: str(dtype) for name, dtype in rows.schema.items()}).encode())
    for part in rows.iter_slices(_ROWS_AT_A_TIME):
        digest.update(part.write_ndjson().encode())
    return digest.hexdigest()
