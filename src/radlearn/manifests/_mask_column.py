"""The column `mask` of a data set with one class of masks, made in one piece."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from radlearn.manifests.checks import OPTIONAL_TYPES


def mask_column(rles: Sequence[str | None], name: str) -> pl.Series:
    """One cell an image: the run lengths under the class `name`, or no mask where they are empty."""
    dtype = OPTIONAL_TYPES["mask"]
    one = pl.concat_list(pl.struct(pl.lit(name).alias("class"), pl.col("rle"))).cast(dtype)
    cells = pl.when(pl.col("rle").fill_null("") != "").then(one).otherwise(pl.lit([], dtype))
    return pl.DataFrame({"rle": rles}, schema={"rle": pl.String}).select(cells.alias("mask")).to_series()
