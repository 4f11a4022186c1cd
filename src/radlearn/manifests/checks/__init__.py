"""What every `read` ends with: `finish` checks the rows, sets unusable ones aside and fingerprints the rest.

A fault of one row (a duplicate id, a path that leaves the root, a box outside its image) rejects it. A fault
of the release or its reader (a missing column, an undefined label, a patient in two splits) is an error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from radlearn.data.labels import CODES
from radlearn.data.pixels import GREY, file_of
from radlearn.data.splits import crossing_patients, split_hash
from radlearn.errors import DataError
from radlearn.manifests.base import SPLITS
from radlearn.manifests.checks.columns import (
    OPTIONAL_TYPES,
    REJECTED_TYPES,
    REQUIRED_TYPES,
    VIEWS,
    reject,
)
from radlearn.manifests.checks.rules import validate
from radlearn.records import Card, Pixels, Release

logger = logging.getLogger("radlearn")

_HASHED_ROWS = 20_000

__all__ = [
    "OPTIONAL_TYPES",
    "REJECTED_TYPES",
    "REQUIRED_TYPES",
    "VIEWS",
    "fingerprint",
    "finish",
    "reject",
    "validate",
]


def finish(
    rows: pl.DataFrame,
    rejected: Iterable[pl.DataFrame],
    card: Card,
    root: Path,
    *,
    left_out: Mapping[str, int] | None = None,
    label_values: Iterable[float] = CODES,
    check_files: bool = False,
    pixels: Pixels = GREY,
    sources: Iterable[str | Path] = (),
) -> Release:
    """Check a manifest table and make the release of it: sorted by image id, with fingerprint and counts.

    Args:
        rows: the manifest table, columns as in `manifests/base.py`, in any order.
        rejected: faulty rows that the reader set aside, made by `reject`; `prepare` has a limit for them.
        left_out: reason -> how many sound rows the settings leave out, such as lateral views.
        card: the data set's card; its `label_names` are columns of the table.
        root: the folder that `path` is relative to.
        label_values: values that labels may have besides null.
        check_files: reject rows whose file is missing or empty; `prepare` finds those anyway.
        pixels: how the image files are read.
        sources: the files that the rows come from, as long as they are few; a prepared data set is not read
            again while they stay as they are.

    Raises:
        DataError: as `validate`, and if no row is left.
    """
    kept, refused = validate(rows, card, root, label_values=label_values)
    if check_files:
        kept, missing = _without_files(kept, root)
        refused = pl.concat([refused, missing])
    empty = pl.DataFrame(schema=REJECTED_TYPES)
    aside = pl.concat([empty, *rejected, refused]).sort(
        "reason", "image_id", "path", "detail", nulls_last=True
    )
    reasons = {f"rejected.{key}": n for key, n in aside.group_by("reason").len().sort("reason").iter_rows()}
    reasons |= {f"left_out.{key}": n for key, n in (left_out or {}).items() if n}
    if kept.is_empty():
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "there are no rows"
        raise DataError(f"{card.name}: no usable row below {root}: {why}")
    counts = {split: int((kept["split"] == split).sum()) for split in SPLITS} | reasons
    if card.split_unit == "image" and (crossing := len(crossing_patients(kept))):
        counts["leak.patients_in_several_splits"] = crossing
        logger.warning(
            "%s is split by image: %d patients lie in several splits, so its test scores are too good",
            card.name,
            crossing,
        )
    filled = dataclasses.replace(
        card, fingerprint=fingerprint(kept, card), split_hash=split_hash(kept), counts=counts
    )
    return Release(
        rows=kept,
        rejected=aside,
        card=filled,
        root=str(root),
        pixels=pixels,
        sources=tuple(str(Path(path).absolute()) for path in sources),
    )


def fingerprint(rows: pl.DataFrame, card: Card) -> str:
    """SHA-256 of the table and of what the card says it is.

    Neither the order of rows and columns nor the layout of folders matters: paths do not count, image ids do.
    """
    head = json.dumps([card.name, card.release, list(card.label_names)])
    digest = hashlib.sha256(head.encode() + b"\n")
    table = rows.select(sorted({*rows.columns} - {"path"})).sort("image_id")
    for part in table.iter_slices(_HASHED_ROWS):  # reports make a table's text large
        digest.update(part.write_ndjson().encode())
    return digest.hexdigest()


def _without_files(rows: pl.DataFrame, root: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    def fault(path: str) -> str | None:
        try:
            return None if (root / file_of(path)).stat().st_size else "empty_file"
        except OSError:
            return "missing"

    faults = rows.with_columns(fault=pl.Series([fault(path) for path in rows["path"]], dtype=pl.String))
    refused = faults.filter(pl.col("fault").is_not_null())
    aside = reject(refused, "").with_columns(reason=refused["fault"])
    return faults.filter(pl.col("fault").is_null()).drop("fault"), aside
