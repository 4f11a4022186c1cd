"""Columns of a manifest table and their types, as `manifests/base.py` states them; rejected rows."""

from __future__ import annotations

import polars as pl

BOX = pl.Struct({"x": pl.Float32, "y": pl.Float32, "w": pl.Float32, "h": pl.Float32, "class": pl.String})
REQUIRED_TYPES: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),
    "study_id": pl.String(),
    "split": pl.String(),
    "view": pl.String(),
    "path": pl.String(),
    "height": pl.Int32(),
    "width": pl.Int32(),
}
OPTIONAL_TYPES: dict[str, pl.DataType] = {
    "report": pl.String(),
    "findings": pl.String(),
    "impression": pl.String(),
    "sentences": pl.List(pl.Struct({"text": pl.String, "boxes": pl.List(pl.Int32)})),
    "boxes": pl.List(BOX),
    "mask": pl.List(pl.Struct({"class": pl.String, "rle": pl.String})),
    "lesion_present": pl.Float32(),
    "slice_index": pl.Int32(),
    "series_id": pl.String(),
    "window": pl.Struct({"low": pl.Float32, "high": pl.Float32}),
    "spacing": pl.Struct({"row": pl.Float32, "column": pl.Float32, "slice": pl.Float32}),
}
REJECTED_TYPES = {"image_id": pl.String, "path": pl.String, "reason": pl.String, "detail": pl.String}
VIEWS = ("PA", "AP", "LATERAL")


def reject(rows: pl.DataFrame, reason: str, detail: str | pl.Expr = "") -> pl.DataFrame:
    """Rows with `image_id` and `path` as rows of `Release.rejected`; `detail` is a text or an expression."""
    text = pl.lit(detail) if isinstance(detail, str) else detail
    return rows.select(
        pl.col("image_id").cast(pl.String),
        pl.col("path").cast(pl.String),
        pl.lit(reason).alias("reason"),
        text.cast(pl.String).fill_null("").alias("detail"),
    )
