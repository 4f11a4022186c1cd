"""A table of lesions beside folders of CT slices.

    image,lesion_present,patient_id         also bbox or x_min,y_min,x_max,y_max; study_id, series_id,
                                            slice_index, split

Rows that share an image are several lesions. DeepLesion's own File_name and Bounding_boxes are understood.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import polars as pl

from radlearn.data.labels import parse_labels
from radlearn.errors import DataError
from radlearn.manifests._ct_table import (
    match_images,
    match_slices,
    plain_names,
    read_cells,
    with_told,
    without_unknown,
)
from radlearn.manifests._table_cells import first_wrong, numbers, parse_splits
from radlearn.manifests.checks import OPTIONAL_TYPES, reject

CORNERS = ("x_min", "y_min", "x_max", "y_max")
_TOLD = ("patient_id", "study_id", "series_id", "slice_index", "split")
_HEADERS = {
    "image": ("image", "File_name"),
    "bbox": ("bbox", "Bounding_boxes"),
    **{name: (name,) for name in ("lesion_present", *_TOLD, *CORNERS)},
}
# Boxes that a program padded leave the image by a little; more means another image size.
_OVERHANG = 0.02


def merge(
    rows: pl.DataFrame, path: Path, root: Path, *, unlisted: str
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Add `lesion_present` and `boxes`, and replace ids, order and split where the table tells them.

    Args:
        rows: columns of `_ct_series.SLICES`.
        path: the table.
        root: folder of the images, which paths in the table may begin with.
        unlisted: what a slice in no row counts as: `negative` or `unknown`.

    Returns:
        The rows, with `told_slice_index` where the table counts slices, and as rejected the table's rows
        that mean no slice and the slices whose rows disagree.

    Raises:
        DataError: if a column is missing, a cell is undefined, or the table mostly means no slices.
    """
    table = _typed(read_cells(path, _HEADERS, "image"), path)
    names = plain_names(table["image"], root)
    ids = match_images(names, rows)
    if "slice_index" in table.columns:
        ids = ids.zip_with(ids.is_not_null(), match_slices(names, table["slice_index"], rows))
    lesions, unknown = without_unknown(table.with_columns(image_id=ids), ids.is_not_null(), path)
    told = [name for name in _TOLD if name in lesions.columns]
    rows = rows.join(_by_image(lesions, told), on="image_id", how="left", maintain_order="left")
    disagree = pl.col("_disagree").fill_null(False)
    conflicting = reject(rows.filter(disagree), "conflicting_rows")
    rows = with_told(rows.filter(~disagree), [name for name in told if name != "slice_index"])
    if "lesion_present" in lesions.columns:
        rows = _with_lesions(rows, unlisted)
    return rows.drop("_disagree", "_boxes", strict=False), [unknown, conflicting]


def _typed(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Cells in their types: `bbox` as a list of four numbers, and `lesion_present` where there are boxes."""
    columns = []
    corners = [name for name in CORNERS if name in table.columns]
    if corners:
        if len(corners) < len(CORNERS):
            raise DataError(f"{path}: a box is {', '.join(CORNERS)}; there is only {', '.join(corners)}")
        joined = pl.concat_str(CORNERS, separator=", ", ignore_nulls=True).replace("", None)
        table = table.with_columns(joined.alias("bbox"))
    if "bbox" in table.columns:
        columns.append(_parsed_boxes(table["bbox"], path))
        if "lesion_present" not in table.columns:
            columns.append(pl.Series("lesion_present", [1.0] * len(table), dtype=pl.Float32))
    if "lesion_present" in table.columns:
        columns.append(parse_labels(table["lesion_present"], str(path)))
        wanted = "it is 1, 0 or blank"
        first_wrong(table["lesion_present"], columns[-1] >= 0, path, "lesion_present", wanted)
        if "bbox" not in table.columns:
            columns.append(pl.Series("bbox", [None] * len(table), dtype=pl.List(pl.Float64)))
    if "slice_index" in table.columns:
        index = table["slice_index"].cast(pl.Float64, strict=False)
        whole = (index >= 0) & (index % 1 == 0)
        first_wrong(table["slice_index"], whole, path, "slice_index", "it is a whole number from 0")
        columns.append(index.cast(pl.Int32))
    if "split" in table.columns:
        columns.append(parse_splits(table["split"], path, "split"))
    return table.drop(corners).with_columns(columns)


def _parsed_boxes(cells: pl.Series, path: Path) -> pl.Series:
    boxes = cells.to_frame().select(numbers(pl.col("bbox")).alias("bbox")).to_series()
    left, top, right, bottom = (boxes.list.get(i, null_on_oob=True) for i in range(4))
    sound = (boxes.list.len() == 4) & (right > left) & (bottom > top)
    first_wrong(cells, sound, path, "bbox", "a box is x_min, y_min, x_max, y_max in pixels")
    return boxes.set(cells.is_null(), None)


def _by_image(lesions: pl.DataFrame, told: list[str]) -> pl.DataFrame:
    """One row an image: what is told as `told_<name>`, its boxes, and whether its rows disagree."""
    disagree = [pl.col(name).drop_nulls().n_unique() > 1 for name in told]
    columns = [pl.col(name).drop_nulls().first().alias(f"told_{name}") for name in told]
    if "lesion_present" in lesions.columns:
        present, boxes = pl.col("lesion_present"), pl.col("bbox").drop_nulls()
        disagree += [present.drop_nulls().n_unique() > 1, (present.max() == 0) & (boxes.len() > 0)]
        columns += [present.max(), boxes.unique(maintain_order=True).alias("_boxes")]
    return lesions.group_by("image_id", maintain_order=True).agg(
        *columns, pl.any_horizontal(pl.lit(False), *disagree).alias("_disagree")
    )


def _with_lesions(rows: pl.DataFrame, unlisted: str) -> pl.DataFrame:
    """`lesion_present` and `boxes` of the contract."""
    listed = pl.col("_disagree").is_not_null()
    negative = pl.lit(0.0 if unlisted == "negative" else None, pl.Float32)
    rows = rows.with_columns(
        pl.when(listed).then("lesion_present").otherwise(negative).alias("lesion_present")
    )
    rows = rows.with_columns(_boxes(rows))
    count = int((rows["lesion_present"] == 1).sum())
    if count in (0, len(rows)):
        warnings.warn(
            f"{'every' if count else 'no'} slice holds a lesion: sampling by lesions and the lesion term of "
            "a loss have nothing to tell apart",
            stacklevel=2,
        )
    return rows


def _boxes(rows: pl.DataFrame) -> pl.Series:
    """The column `boxes`: none where there is no lesion, null where no box is told of one.

    What leaves the image by up to 2 % of its side is cut off.
    """
    flat = rows.select("height", "width", "_boxes").with_row_index("row").drop_nulls("_boxes")
    flat = flat.explode("_boxes", empty_as_null=True).drop_nulls("_boxes")

    def side(low: int, high: int, length: str) -> tuple[pl.Expr, pl.Expr]:
        begin, end = (pl.col("_boxes").list.get(i) for i in (low, high))
        slack = _OVERHANG * pl.col(length)
        inner_begin = pl.when(begin >= -slack).then(begin.clip(lower_bound=0)).otherwise(begin)
        inner_end = pl.when(end <= pl.col(length) + slack).then(pl.min_horizontal(end, length)).otherwise(end)
        return inner_begin, inner_end - inner_begin

    (x, w), (y, h) = side(0, 2, "width"), side(1, 3, "height")
    sides = {"x": x, "y": y, "w": w, "h": h, "class": pl.lit("lesion")}
    box = pl.struct(side.alias(name) for name, side in sides.items())
    lists = flat.select("row", box.alias("boxes")).group_by("row").agg("boxes")
    places = pl.DataFrame({"row": pl.int_range(len(rows), eager=True)}).cast({"row": pl.UInt32})
    joined = places.join(lists, on="row", how="left", maintain_order="left")["boxes"]
    boxes = joined.cast(OPTIONAL_TYPES["boxes"])
    nothing = (rows["lesion_present"] == 0).fill_null(False)
    return boxes.zip_with(~nothing, pl.Series([[]] * len(rows), dtype=boxes.dtype)).alias("boxes")
