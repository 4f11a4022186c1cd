"""A data set ready for use: prepared if it was, generated if it can be, otherwise read from plain files."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlearn import registry
from radlearn.data import split_files, statistics_file, windows
from radlearn.data.pixels import GREY
from radlearn.data.store import FolderSource, ImageSource
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._open import open_manifest
from radlearn.manifests.base import Manifest
from radlearn.prepare import FORMAT, load_prepared, prepare, prepared_folder, source_states, table_of
from radlearn.records import Card, Pixels

logger = logging.getLogger("radlearn")


@dataclass(frozen=True)
class Dataset:
    """Rows and their images.

    Attributes:
        rows: the manifest table.
        source: the images.
        source_rows: (N,) source row of each manifest row.
        card: the data card with its fingerprint.
        manifest: the plug-in that read it.
        short_side: `data.size`: the short side that larger images are shrunk to.
        pixels: how the files of the release were read.
    """

    rows: pl.DataFrame
    source: ImageSource
    source_rows: np.ndarray
    card: Card
    manifest: Manifest
    short_side: int
    pixels: Pixels = GREY

    def split(self, name: str) -> np.ndarray:
        """Positions of a split's rows."""
        return np.flatnonzero((self.rows["split"] == name).to_numpy())

    def labels(self, names: tuple[str, ...] | None = None) -> np.ndarray:
        """(N, L) float32 labels in {1, 0, -1, NaN} of the card's label columns, or of those named."""
        columns = [
            self.rows[n].cast(pl.Float32).fill_null(float("nan")) for n in names or self.card.label_names
        ]
        return (
            np.stack([c.to_numpy() for c in columns], axis=1)
            if columns
            else np.zeros((len(self.rows), 0), np.float32)
        )


def open_dataset(
    data: Mapping[str, Any], paths: Mapping[str, str], *, num_workers: int = 0, smoke: bool = False
) -> Dataset:
    """Open the data set of `data` settings.

    Args:
        data: `name`, `root`, `size` and the manifest's own settings.
        paths: `cache` and `data` roots.
        num_workers: processes that generate or prepare, where that is to be done.
        smoke: open the data set's miniature fake release instead, written to the cache.
    Raises:
        DataError, ConfigurationError: if it cannot be had; says where it looked.
    """
    size = int(data.get("size") or 512)
    if smoke:
        root = Path(paths["cache"]) / "smoke" / str(data["name"])
        root.mkdir(parents=True, exist_ok=True)
        return _windowed(_read(registry.find("manifests", data["name"]).fake(root), root, size), data)
    manifest = open_manifest(data)
    folder = prepared_folder(data, paths)
    root = release_root(manifest, data, paths, folder)
    if manifest.generated:
        prepare(manifest, root, folder, size=size, num_workers=num_workers)
    prepared = (folder / "card.json").exists()
    dataset = _prepared(manifest, root, folder, size) if prepared else _read(manifest, root, size)
    return _with_statistics(_windowed(dataset, data), data, root)


def _prepared(manifest: Manifest, root: Path, folder: Path, size: int) -> Dataset:
    """A prepared data set: images from the store, the table as the release has it now.

    Texts, labels and splits are read anew, so that an edited table is never silently the old one, unless the
    files that the table comes from are those of `prepare`, untouched. Where the release is not at hand, on
    another machine for instance, the table is the one that was prepared.

    Raises:
        DataError: if the table names images that were never prepared.
    """
    rows, store, card = load_prepared(folder, {"format": FORMAT})
    table = table_of(folder)
    pixels = Pixels(**table["pixels"])
    if manifest.generated:
        return Dataset(rows, store, np.arange(len(rows)), card, manifest, size, pixels)
    if not root.exists() or _is_untouched(table["sources"]):
        if not root.exists():
            logger.info("no release at %s: using the table that was prepared in %s", root, folder)
        card = dataclasses.replace(card, fingerprint=table["fingerprint"])
        return Dataset(rows, store, np.arange(len(rows)), card, manifest, size, pixels)
    release = manifest.read(root)
    rejected = pl.read_parquet(folder / "rejected.parquet")["image_id"].to_list()
    stored = pl.col("image_id").is_in(store.ids)
    # An id can be both: the first row of a duplicate is stored, the second rejected.
    unknown = release.rows.filter(~stored & ~pl.col("image_id").is_in(rejected))
    wanted = release.rows.filter(stored)
    if len(unknown):
        raise DataError(
            f"{len(unknown)} images of the table are not in {folder}: the table has changed since "
            "`radlearn prepare`; remove that folder and prepare again"
        )
    sizes = rows.select("image_id", "height", "width")
    sized = wanted.drop("height", "width").join(sizes, on="image_id", how="left", maintain_order="left")
    source_rows = np.array([store.index_of(image_id) for image_id in sized["image_id"]], dtype=np.int64)
    # Pixel statistics are those of the training images, as long as these are the same.
    train = [set(t.filter(pl.col("split") == "train")["image_id"]) for t in (rows, sized)]
    same = train[0] == train[1]
    card = dataclasses.replace(release.card, mean=card.mean if same else None, std=card.std if same else None)
    return Dataset(sized.select(wanted.columns), store, source_rows, card, manifest, size, pixels)


def _is_untouched(sources: list[list[Any]]) -> bool:
    return bool(sources) and source_states([path for path, *_ in sources]) == sources


def _read(manifest: Manifest, root: Path, size: int) -> Dataset:
    """A release from its plain files: slower than a store, and nothing to prepare."""
    release = manifest.read(root)
    rows = release.rows
    source = FolderSource(
        release.root,
        rows["path"].to_list(),
        rows["image_id"].to_list(),
        short_side=size,
        pixels=release.pixels,
    )
    return Dataset(rows, source, np.arange(len(rows)), release.card, manifest, size, release.pixels)


def _windowed(dataset: Dataset, data: Mapping[str, Any]) -> Dataset:
    """The data set with the window of `data.window`, or its own, applied to Hounsfield units.

    Raises:
        ConfigurationError: if a window is set for images that hold no Hounsfield units, or `row` without
            such a column.
    """
    wanted = data.get("window")
    if dataset.pixels.kind != "hounsfield":
        if wanted is not None:
            raise ConfigurationError(f"data.window={wanted}: {dataset.card.name} holds no Hounsfield units")
        return dataset
    default = dataset.pixels.window or windows.DEFAULT
    if wanted == windows.ROW:
        if "window" not in dataset.rows.columns:
            raise ConfigurationError(f"data.window=row: {dataset.card.name} names no window for its rows")
        lows, highs = windows.of_rows(dataset.rows["window"], default)
    else:
        one = default if wanted is None else windows.parse(wanted)
        lows, highs = (np.full(len(dataset.rows), bound) for bound in one)
    low, high = np.full((2, len(dataset.source)), np.nan)
    low[dataset.source_rows], high[dataset.source_rows] = lows, highs
    source = windows.WindowedSource(dataset.source, low, high)
    card = dataset.card
    if wanted is not None and (lows != default[0]).any() | (highs != default[1]).any():
        card = dataclasses.replace(card, mean=None, std=None)  # they were measured in the default window
    return dataclasses.replace(dataset, source=source, card=card)


def _with_statistics(dataset: Dataset, data: Mapping[str, Any], root: Path) -> Dataset:
    """The data set with the training mean and deviation of the file `data.statistics`, where one is named.

    Raises:
        DataError: if there is no such file, or it says nothing of the training split.
    """
    if not data.get("statistics"):
        return dataset
    path = split_files.locate(str(data["statistics"]), root, "statistics file")
    train = statistics_file.read(path).get("train")
    if train is None:
        raise DataError(f"{path} says nothing of the training split, whose mean and deviation are wanted")
    card = dataclasses.replace(dataset.card, mean=train.pixel_mean, std=train.pixel_std)
    return dataclasses.replace(dataset, card=card)


def release_root(manifest: Manifest, data: Mapping[str, Any], paths: Mapping[str, str], folder: Path) -> Path:
    """Folder of the release: `data.root`, the manifest's own, or a folder of the cache for generated data."""
    if data.get("root"):
        return Path(str(data["root"])).expanduser()
    if manifest.generated:
        return folder.with_name(folder.name + "-release")
    own = manifest.default_root()
    if own is not None:
        return own
    raise ConfigurationError(f"data={data['name']} needs data.root=/path/to/the/release")
