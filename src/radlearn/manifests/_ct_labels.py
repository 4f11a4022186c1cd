"""A table of labels of whole studies beside folders of CT slices: `image,label1,label2,...,all`.

`image` is a slice, series, study or patient; each of its slices gets the labels. CLEAR's tables name files of
features so, with or without `.h5`; their column `all` joins the labels for stratifying and is no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from radlearn.data.labels import parse_labels
from radlearn.errors import ConfigurationError, DataError, nearest
from radlearn.manifests._ct_table import (
    group_names,
    match_images,
    plain_names,
    read_cells,
    with_told,
    without_unknown,
)
from radlearn.manifests._table_cells import parse_splits
from radlearn.manifests.checks import OPTIONAL_TYPES, REQUIRED_TYPES, reject

_TOLD = ("patient_id", "split")
_NO_LABELS = ("image", "all", "fold", "study_id", *_TOLD)


def merge(
    rows: pl.DataFrame, path: Path, root: Path, names: Sequence[str]
) -> tuple[pl.DataFrame, list[pl.DataFrame], tuple[str, ...]]:
    """Add the columns of labels, null for slices of which the table tells nothing.

    Args:
        rows: columns of `_ct_series.SLICES`.
        path: the table.
        root: folder of the images.
        names: the columns that are labels; empty takes all but those with a meaning of their own.

    Returns:
        The rows, the table's rows that mean no slice, and the names of the labels.

    Raises:
        DataError: if a column is missing, a cell is no label, or the table mostly means no slices.
    """
    table = read_cells(path, None, "image")
    labels = tuple(names) or tuple(name for name in table.columns if name not in _NO_LABELS)
    _check_names(labels, table, path)
    told = [name for name in _TOLD if name in table.columns]
    columns = [parse_labels(table[name], str(path)) for name in labels]
    if "split" in told:
        columns.append(parse_splits(table["split"], path, "split"))
    table = table.with_columns(columns).with_columns(name=plain_names(table["image"], root))
    again = table["name"].is_not_null() & ~table["name"].is_first_distinct()
    repeated = reject(table.filter(again).select(image_id="image", path="image"), "duplicate_id")
    table = table.filter(~again)
    members = _members(table["name"], rows)
    known = table["name"].is_in(members["name"].unique().implode()).fill_null(False)
    table, unknown = without_unknown(table, known, path)
    told_columns = [pl.col(name).alias(f"told_{name}") for name in told]
    of_images = members.join(table.select("name", *told_columns, *labels), on="name").drop("name")
    rows = rows.join(of_images, on="image_id", how="left", maintain_order="left")
    return with_told(rows, told), [unknown, repeated], labels


def _check_names(labels: Sequence[str], table: pl.DataFrame, path: Path) -> None:
    missing = [name for name in labels if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}: no column '{missing[0]}' (data.label_cols){nearest(missing[0], table.columns)}; there "
            f"is {', '.join(map(repr, table.columns))}"
        )
    taken = sorted({*labels} & {*REQUIRED_TYPES, *OPTIONAL_TYPES})
    if taken or not labels:
        raise ConfigurationError(
            f"{path}: data.label_cols names columns of labels other than {', '.join(_NO_LABELS)}: got {taken}"
        )


def _members(names: pl.Series, rows: pl.DataFrame) -> pl.DataFrame:
    """Columns `name, image_id`: the slices that each name means; a slice has its most specific name only.

    A name that groups of several patients share means nothing.
    """
    wanted = names.drop_nulls().unique().rename("name").to_frame()
    slices = match_images(wanted["name"], rows)
    found = [wanted.with_columns(image_id=slices).drop_nulls()]
    for group in group_names(rows):
        left = wanted.join(pl.concat(found), on="name", how="anti")
        pairs = pl.DataFrame({"name": group, "image_id": rows["image_id"], "patient": rows["patient_id"]})
        alone = pairs.join(left, on="name").filter(pl.col("patient").n_unique().over("name") == 1)
        found.append(alone.select("name", "image_id"))
    return pl.concat(found).unique("image_id", keep="first", maintain_order=True)
