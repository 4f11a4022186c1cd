"""Faulty rows, told by the columns `reason` and `detail` of a table."""

from __future__ import annotations

import polars as pl

from radlearn.manifests.checks import reject


def set_aside(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows without a `reason`, and the others as rejected rows with their own; both columns go."""
    faulty = rows.filter(pl.col("reason").is_not_null())
    aside = reject(faulty, "", pl.col("detail")).with_columns(reason=faulty["reason"].cast(pl.String))
    return rows.filter(pl.col("reason").is_null()).drop("reason", "detail"), aside
