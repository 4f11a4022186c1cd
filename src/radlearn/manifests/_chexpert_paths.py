"""Where CheXpert's images lie: `Path` cells begin with a folder that a copy may have renamed or split up."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from radlearn.manifests.checks import reject

# Where tables and images may lie below the root: itself, the full and the small release, the first batch of
# the release of 2021, and CheXlocalize, which brings the test set of 2022.
FOLDERS = (
    "",
    "CheXpert-v1.0/",
    "CheXpert-v1.0-small/",
    "CheXpert-v1.0 batch 1 (validate & csv)/",
    "CheXpert/",
)
# Training images of the release of 2021: patient folders, without a folder train.
_BATCHES = "CheXpert-v1.0 batch * (train *)"
_PATH = (
    r"^(?P<prefix>(?:.*/)?)(?P<top>train|valid|val|test)/"
    r"(?P<patient>patient\d+)/(?P<study>study\d+)/(?P<file>[^/]+)$"
)


def with_paths(rows: pl.DataFrame, root: Path, beside: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """From `_path` cells to ids and paths below the root.

    A few folders are looked for, no image is. The first that exists counts: the cell's own folders beside the
    table and below the root, the cell without its first folders there, the release's usual folders, and the
    batches of 2021. Where none does, paths are as the table says, without their first folders.

    Args:
        rows: with `_path`.
        root: folder of the release.
        beside: the folder that the table lies in.

    Returns:
        Rows with `image_id, patient_id, study_id, path, height, width`; rows whose cell is no CheXpert path.
    """
    parts = rows.with_columns(pl.col("_path").str.extract_groups(_PATH).alias("_parts")).unnest("_parts")
    foreign = parts.filter(pl.col("patient").is_null()).select(image_id="_path", path="_path")
    parts = parts.filter(pl.col("patient").is_not_null())
    inside = pl.concat_str("patient", "study", "file", separator="/")
    parts = parts.with_columns(
        _folder=_folders(parts, root, beside),
        image_id=pl.concat_str("top", pl.lit("/"), inside).str.replace(r"\.[^./]*$", ""),
        study_id=pl.concat_str("patient", "study", separator="-"),
        height=pl.lit(None, pl.Int32),
        width=pl.lit(None, pl.Int32),
    )
    placed = parts.with_columns(path=pl.concat_str("_folder", inside)).rename({"patient": "patient_id"})
    detail = "wanted [folder/]train/patient00001/study1/view1_frontal.jpg"
    return placed.drop("prefix", "top", "study", "file", "_folder"), reject(
        foreign, "no_chexpert_path", detail
    )


def _folders(parts: pl.DataFrame, root: Path, beside: Path) -> pl.Series:
    """(N,) the folder of each row's patient, relative to the root and with a slash at its end."""
    keys = parts.select("prefix", "top").unique()
    found = {(prefix, top): _folder(prefix, top, root, beside) for prefix, top in keys.iter_rows()}
    batches = _batches(root) if None in found.values() else {}
    return pl.Series(
        [
            found[prefix, top] or batches.get(patient) or f"{top}/"
            for prefix, top, patient in parts.select("prefix", "top", "patient").iter_rows()
        ],
        dtype=pl.String,
    )


def _folder(prefix: str, top: str, root: Path, beside: Path) -> str | None:
    """The folder `top` of some rows, or None if there is no such folder."""
    own = "" if prefix.startswith("/") or ".." in prefix.split("/") else prefix
    places = [beside / own, root / own, beside, *(root / folder for folder in FOLDERS)]
    place = next((place for place in places if (place / top).is_dir()), None)
    return None if place is None else f"{(place / top).relative_to(root).as_posix()}/"


def _batches(root: Path) -> dict[str, str]:
    """Patient -> the batch that holds its folder."""
    return {
        patient.name: f"{batch.name}/" for batch in sorted(root.glob(_BATCHES)) for patient in batch.iterdir()
    }
