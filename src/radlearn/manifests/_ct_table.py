"""What tables beside folders of CT slices share: cells, and which slices a cell means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from radlearn.errors import DataError, nearest
from radlearn.manifests._ct_files import stem
from radlearn.manifests._paths import PathJoiner
from radlearn.manifests._table_file import TableFile
from radlearn.manifests.checks import reject

# A table that mostly names other images belongs to other folders.
_MOST = 0.5
_FEATURES = ".h5"


def read_cells(path: Path, headers: Mapping[str, Sequence[str]] | None, required: str) -> pl.DataFrame:
    """Columns of a table as trimmed strings, null where blank, without blank lines.

    Args:
        path: csv, tsv, parquet or jsonl, also packed.
        headers: our name -> headers that it may have, the best first; None takes all columns by their own.
        required: our name that must be there.

    Raises:
        DataError: if the required one is missing; names the nearest header.
    """
    file = TableFile(path)
    wanted = headers or {name: (name,) for name in file.columns}
    found = {ours: next((h for h in theirs if h in file.columns), "") for ours, theirs in wanted.items()}
    if not found.get(required):
        raise DataError(
            f"{path}: no column '{required}'{nearest(required, file.columns)}; there is "
            f"{', '.join(map(repr, file.columns))}"
        )
    there = {ours: header for ours, header in found.items() if header}
    table = file.read(list(there.values()))
    cells = [pl.col(header).cast(pl.String).str.strip_chars().alias(ours) for ours, header in there.items()]
    rows = table.select(cells).with_columns(pl.all().replace("", None))
    return rows.filter(pl.any_horizontal(pl.all().is_not_null()))


def plain_names(cells: pl.Series, root: Path) -> pl.Series:
    """Cells that name images or groups of them: relative to the root, without the suffix of an image."""
    join = PathJoiner(root)
    names = [cell and stem(join(cell.replace("\\", "/"))).removesuffix(_FEATURES) for cell in cells]
    return pl.Series("name", names, dtype=pl.String)


def match_images(names: pl.Series, rows: pl.DataFrame) -> pl.Series:
    """The image id that each name means, null where it means none or several.

    A name is a path, `<folder>_<file>`, or a file's name that occurs once.
    """
    ids = rows["image_id"]
    parts = ids.str.split("/")
    file, folder = parts.list.last(), parts.list.get(-2, null_on_oob=True)
    found = pl.Series("image_id", [None] * len(names), dtype=pl.String)
    for form in (ids, rows["path"], folder + "_" + file, file):
        found = found.zip_with(found.is_not_null(), _only_one(names, form, ids))
    return found


def match_slices(names: pl.Series, indices: pl.Series, rows: pl.DataFrame) -> pl.Series:
    """The image id of slice `indices` of the series, study or patient that each name means."""
    found = pl.Series("image_id", [None] * len(names), dtype=pl.String)
    places = names + "\0" + indices.cast(pl.String)
    for group in group_names(rows):
        form = group + "\0" + rows["slice_index"].cast(pl.String)
        found = found.zip_with(found.is_not_null(), _only_one(places, form, rows["image_id"]))
    return found


def group_names(rows: pl.DataFrame) -> list[pl.Series]:
    """What groups of slices are called, the smallest group first: a value for each row."""
    folder = rows["path"].str.extract(r"^(.*)/")
    series, study = rows["series_id"], rows["study_id"]
    own = [series, folder, folder.str.split("/").list.last(), series.str.split("/").list.last()]
    return [*own, study, study.str.split("/").list.last(), rows["patient_id"]]


def _only_one(names: pl.Series, form: pl.Series, ids: pl.Series) -> pl.Series:
    """The id whose form each name is, if it is that of one id only."""
    pairs = pl.DataFrame({"name": form, "image_id": ids}).drop_nulls()
    single = pairs.group_by("name").agg(pl.col("image_id").first(), pl.len()).filter(pl.col("len") == 1)
    joined = names.rename("name").to_frame().join(single, on="name", how="left", maintain_order="left")
    return joined["image_id"]


def without_unknown(table: pl.DataFrame, known: pl.Series, path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of a table that mean a slice, and the others as rejected.

    Args:
        table: with the column `image`.
        known: which rows do.
        path: the table's file.

    Raises:
        DataError: if most rows mean none.
    """
    unknown = table.filter(~known).select(image_id="image", path="image")
    if len(unknown) > _MOST * len(table):
        raise DataError(
            f"{path}: {len(unknown)} of {len(table)} rows name no slice below data.root, for example "
            f"'{unknown['path'][0]}': is it the table of these folders?"
        )
    return table.filter(known), reject(unknown, "unknown_image")


def with_told(rows: pl.DataFrame, told: Sequence[str]) -> pl.DataFrame:
    """Ids, order and split as a table tells them: `told_<name>` wins where it is not null.

    The patient that a table gives to some slices of a folder is that of the whole folder. Where a folder
    holds several patients, nothing tells whose its other slices are: their patient becomes null.
    """
    if "patient_id" in told:
        rows = _with_patients(rows)
    for name in told:
        own = [name] if name in rows.columns else []
        rows = rows.with_columns(pl.coalesce(f"told_{name}", *own).alias(name))
    return rows.drop([f"told_{name}" for name in told])


def _with_patients(rows: pl.DataFrame) -> pl.DataFrame:
    told, top = pl.col("told_patient_id"), pl.col("path").str.extract(r"^([^/]+)/")
    rows = rows.with_columns(_top=top, _folder=pl.col("path").str.extract(r"^(.*)/"))

    def count(folder: str) -> pl.Expr:
        return told.drop_nulls().n_unique().over(folder)

    def the_one(folder: str) -> pl.Expr:
        return pl.when(count(folder) == 1).then(told.drop_nulls().first().over(folder))

    # The name of a folder of several patients is no patient; an id from elsewhere (a DICOM header) is.
    no_patient = (count("_top") > 1) & (pl.col("patient_id") == pl.col("_top")).fill_null(True)
    return rows.with_columns(
        told_patient_id=pl.coalesce(told, the_one("_top"), the_one("_folder")),
        patient_id=pl.when(~no_patient).then("patient_id"),
    ).drop("_top", "_folder")
