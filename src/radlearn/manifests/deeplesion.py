"""DeepLesion: 32,120 CT slices with 32,735 measured lesions, of 10,594 studies of 4,427 patients.

    DL_info.csv                         one row a lesion: the slice it was measured on, box, type, split
    Key_slices/000001_01_01_109.png     the measured slices alone, or
    Images_png/000001_01_01/109.png     each with its neighbours, 30 mm up and down

Pixels are 16 bits, the Hounsfield unit plus 32,768. Radiologists marked what they measured, not all there
was: other slices, and other places of a marked slice, may hold lesions that nobody marked.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data.splits import SplitRule, assign
from radlearn.data.windows import DEFAULT
from radlearn.errors import DataError
from radlearn.manifests import _deeplesion_fake
from radlearn.manifests._release import check_choice, need, read_columns
from radlearn.manifests._table_cells import numbers
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import OPTIONAL_TYPES, finish, reject
from radlearn.records import Card, Pixels, Release

# Coarse_lesion_type 1 to 8; -1, unknown, in all of the official training split.
LABELS = ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis")
OFFSET = -32768
_ANY_TYPE = "lesion"
_SPLITS = {"1": "train", "2": "validate", "3": "test"}
_COLUMNS = {
    "file": "File_name",
    "patient": "Patient_index",
    "study": "Study_index",
    "series": "Series_ID",
    "key": "Key_slice_index",
    "box": "Bounding_boxes",
    "type": "Coarse_lesion_type",
    "noisy": "Possibly_noisy",
    "spacing": "Spacing_mm_px_",
    "size": "Image_size",
    "window": "DICOM_windows",
    "split": "Train_Val_Test",
}
_NAME = r"^(\d+)_(\d+)_(\d+)_(\d+)\.png$"
_OF_SERIES = ("patient_id", "study_id", "series_id", "split", "view", "height", "width", "window", "spacing")


class DeepLesion(Manifest):
    """NIH DeepLesion.

    Args:
        split: one of `splits`.
        slices: `key`, the measured slices, or `all`, their neighbours too (needs Images_png).
        neighbours: what a neighbour without a mark counts as: `negative` (lesion_present 0, as LeCL takes
            it), or `unknown` (null), which is the truth.
        noisy: `leave_out` or `keep` lesions with Possibly_noisy = 1; a slice with no other goes with them.
        image_dir: folder of the images, where it is neither Key_slices nor Images_png.
    """

    card: ClassVar[Card] = Card(
        name="deeplesion",
        source="https://nihcc.app.box.com/v/DeepLesion",
        licence="free of charge, with the terms of the NIH Clinical Center beside the download",
        access="open",
        release="2018",
        label_names=LABELS,
        citation="Yan, Wang, Lu, Summers: DeepLesion. Journal of Medical Imaging 5(3):036501, 2018",
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "official": SplitRule(
            "Train_Val_Test of DL_info.csv, 70/15/15 % of the patients; no lesion of train has a type"
        ),
        "typed": SplitRule(
            "70, 10 and 20 % of the patients of the official validate and test, whose lesions have a type",
            seed=0,
        ),
    }

    def __init__(
        self,
        *,
        split: str = "official",
        slices: str = "key",
        neighbours: str = "negative",
        noisy: str = "leave_out",
        image_dir: str | None = None,
    ) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.slices = check_choice("slices", slices, ("key", "all"))
        self.neighbours = check_choice("neighbours", neighbours, ("negative", "unknown"))
        self.noisy = check_choice("noisy", noisy, ("leave_out", "keep"))
        self.image_dir = image_dir

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the table and the names of the files; images are opened by `prepare`, not here.

        Raises:
            DataError: if the table or the folder of images is missing, a header differs, or a split, a type
                or a mark of noise is undefined.
        """
        root = Path(root)
        table = need(root, "DL_info.csv", what="table of lesions")
        lesions = read_columns(table, _COLUMNS)
        _check_codes(lesions, table)
        parsed = _parsed(lesions)
        lesions, rejected = _usable(parsed)
        noisy = pl.col("noisy") == "1" if self.noisy == "leave_out" else pl.lit(False)
        marked = lesions.select("image_id").unique()
        rows = _by_image(lesions.filter(~noisy))
        left_out = {"possibly_noisy": len(marked) - len(rows)}
        folder, flat = self._folder(root)
        files = _files(root / folder, folder, flat, lesions["series_id"].unique().sort(), progress)
        if self.slices == "all":
            # A slice with a mark is no negative, whether its mark can be used or not.
            others = files.join(parsed.select("image_id"), on="image_id", how="anti")
            rows = pl.concat([rows, self._neighbours_of(lesions, others)], how="diagonal")
        rows = rows.join(files.select("image_id", "path"), on="image_id", how="left")
        rows, missing = _existing(rows, folder, flat)
        if self.split == "typed":
            every = len(rows)
            rows = assign(
                rows.filter(pl.col("split") != "train"), {"train": 0.7, "validate": 0.1, "test": 0.2}, seed=0
            )
            left_out["official_train"] = every - len(rows)
        rule = self.splits[self.split]
        card = dataclasses.replace(
            self.card, split=self.split, split_seed=rule.seed, split_rule=rule.about, split_unit=rule.unit
        )
        return finish(
            rows,
            [*rejected, missing],
            card,
            root,
            left_out=left_out,
            pixels=Pixels(kind="hounsfield", offset=OFFSET, window=DEFAULT),
            sources=[table, root / folder],
        )

    @classmethod
    def fake(cls, root: Path) -> DeepLesion:
        """Write a miniature release: Images_png with neighbours, and DL_info.csv.

        Its oddities:
        - several lesions of one slice stand in several rows, also of several types
        - boxes are padded by 5 pixels and leave the image
        - types are -1 in the training split, and here and there elsewhere
        - rows marked as possibly noisy, one of them the only lesion of its slice
        - cells are lists with a comma and a blank, in quotes; ages are fractions and NaN
        - slices are numbered within their series, from any number, with three digits
        - a series of 48 x 48 pixels among others of 64 x 64; windows of lung and of soft tissue
        - one slice is listed whose file is missing
        """
        _deeplesion_fake.write(root)
        return cls()

    def _folder(self, root: Path) -> tuple[str, bool]:
        """The folder of images below the root, and whether its files lie flat."""
        names: tuple[str, ...] = ("Images_png", "Images_png/Images_png")
        if self.image_dir:
            names = (self.image_dir,)
        elif self.slices == "key":
            names = ("Key_slices", "Key_slices/Key_slices", *names)
        for name in names:
            if kind := _kind_of_folder(root / name):
                if self.slices == "all" and kind == "flat":
                    raise DataError(f"{root / name} holds no neighbours: data.slices=all needs Images_png")
                return name, kind == "flat"
        raise DataError(
            f"no images in {root}: looked for 000001_01_01_109.png or 000001_01_01/109.png in "
            f"{', '.join(names)} (data.image_dir names another folder)"
        )

    def _neighbours_of(self, lesions: pl.DataFrame, files: pl.DataFrame) -> pl.DataFrame:
        """Rows of files without a mark: what their series tells of itself, and no label."""
        series = lesions.select(_OF_SERIES).unique("series_id", keep="first", maintain_order=True)
        negative = self.neighbours == "negative"
        return (
            files.drop("path")
            .join(series, on="series_id")
            .with_columns(
                pl.lit([] if negative else None, OPTIONAL_TYPES["boxes"]).alias("boxes"),
                pl.lit(0.0 if negative else None, pl.Float32).alias("lesion_present"),
            )
        )


def _check_codes(lesions: pl.DataFrame, table: Path) -> None:
    types = ["-1", *(str(code) for code in range(1, len(LABELS) + 1))]
    for name, known in (("split", list(_SPLITS)), ("type", types), ("noisy", ["0", "1"])):
        wrong = ~lesions[name].is_in(known).fill_null(False)
        if wrong.any():
            row = wrong.to_list().index(True)
            raise DataError(
                f"{table}: column '{_COLUMNS[name]}' holds {lesions[name][row]!r} in row {row + 1}; wanted "
                f"{', '.join(known)}"
            )


def _parsed(lesions: pl.DataFrame) -> pl.DataFrame:
    """Columns of the contract from those of the release, still one row a lesion."""
    name = pl.col("file").str.extract_groups(_NAME).struct.field
    parts = [name(str(position)) for position in range(1, 5)]
    listed = {key: numbers(pl.col(key)) for key in ("box", "spacing", "size", "window")}

    def item(key: str, position: int, dtype: type[pl.DataType] = pl.Float32) -> pl.Expr:
        return listed[key].list.get(position, null_on_oob=True).cast(dtype)

    code = pl.col("type").cast(pl.Int8)
    height, width = item("size", 0, pl.Int32), item("size", 1, pl.Int32)
    left, right = (side(item("box", 0), item("box", 2)).clip(0, width) for side in _SIDES)
    top, bottom = (side(item("box", 1), item("box", 3)).clip(0, height) for side in _SIDES)
    return lesions.select(
        image_id=pl.col("file").str.strip_suffix(".png"),
        path=pl.col("file"),
        patient_id=parts[0],
        study_id=pl.concat_str(parts[:2], separator="_"),
        series_id=pl.concat_str(parts[:3], separator="_"),
        slice_index=parts[3].cast(pl.Int32),
        split=pl.col("split").replace_strict(_SPLITS, return_dtype=pl.String),
        view=pl.lit(None, pl.String),
        height=height,
        width=width,
        window=pl.struct(low=item("window", 0), high=item("window", 1)),
        spacing=pl.struct(row=item("spacing", 1), column=item("spacing", 0), slice=item("spacing", 2)),
        type=pl.when(code > 0).then(code),
        box=pl.struct(x=left, y=top, w=right - left, h=bottom - top),
        noisy="noisy",
        agrees=pl.all_horizontal(
            part.cast(pl.Int64) == pl.col(key).cast(pl.Int64, strict=False)
            for part, key in zip(parts, ("patient", "study", "series", "key"), strict=True)
        ),
    )


_SIDES = (pl.min_horizontal, pl.max_horizontal)


def _usable(lesions: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Lesions with a name that agrees with their columns and a box that meets the image, and the others."""
    box = pl.col("box").struct
    fits = (box.field("w") > 0) & (box.field("h") > 0)
    rejected = []
    for reason, sound in (
        ("bad_file_name", pl.col("slice_index").is_not_null()),
        ("name_differs_from_indices", pl.col("agrees")),
        ("box_outside", fits),
    ):
        wrong = ~sound.fill_null(False)
        rejected.append(reject(lesions.filter(wrong), reason))
        lesions = lesions.filter(~wrong)
    return lesions, rejected


def _by_image(lesions: pl.DataFrame) -> pl.DataFrame:
    """One row an image with all its boxes; a type that none has is 0 where the types of all are known."""
    kind = pl.col("type")
    classes = kind.replace_strict(dict(enumerate(LABELS, start=1)), default=_ANY_TYPE, return_dtype=pl.String)
    corners = [pl.col("box").struct.field(side) for side in "xywh"]
    labels = [
        pl.when((kind == code).any())
        .then(1.0)
        .when(kind.is_not_null().all())
        .then(0.0)
        .cast(pl.Float32)
        .alias(name)
        for code, name in enumerate(LABELS, start=1)
    ]
    return lesions.group_by("image_id", maintain_order=True).agg(
        pl.col(*_OF_SERIES, "slice_index").first(),
        pl.struct(*corners, classes.alias("class")).alias("boxes"),
        pl.lit(1.0, pl.Float32).alias("lesion_present"),
        *labels,
    )


def _kind_of_folder(folder: Path) -> str | None:
    """`flat` for 000001_01_01_109.png, `series` for 000001_01_01/109.png, None for neither."""
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".png") and entry.name.count("_") == 3:
                return "flat"
            if entry.name.count("_") == 2 and entry.is_dir():
                return "series"
    return None


def _files(folder: Path, name: str, flat: bool, series: Iterable[str], progress: Any) -> pl.DataFrame:
    """The slices on disk: image_id, path, series_id, slice_index."""
    found: list[str] = []
    if flat:
        found = [file.name for file in folder.iterdir() if file.suffix == ".png"]
    else:
        series = list(series)
        for done, one in enumerate(series, start=1):
            if (folder / one).is_dir():
                found += [f"{one}/{file.name}" for file in (folder / one).iterdir() if file.suffix == ".png"]
            if progress is not None and (done % 500 == 0 or done == len(series)):
                progress(done, len(series), "series")
    files = pl.DataFrame({"file": sorted(found)}, schema={"file": pl.String})
    stem = pl.col("file").str.strip_suffix(".png").str.replace("/", "_", literal=True)
    parts = stem.str.extract_groups(r"^(\d+_\d+_\d+)_(\d+)$").struct
    return files.select(
        stem.alias("image_id"),
        pl.concat_str(pl.lit(f"{name}/"), "file").alias("path"),
        parts.field("1").alias("series_id"),
        parts.field("2").cast(pl.Int32).alias("slice_index"),
    ).drop_nulls()


def _existing(rows: pl.DataFrame, folder: str, flat: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose file is there, and the others as rejected."""
    missing = rows.filter(pl.col("path").is_null())
    number = pl.col("slice_index").cast(pl.String).str.zfill(3)
    name = pl.col("image_id") if flat else pl.concat_str("series_id", number, separator="/")
    wanted = missing.with_columns(path=pl.concat_str(pl.lit(f"{folder}/"), name, pl.lit(".png")))
    return rows.filter(pl.col("path").is_not_null()), reject(wanted, "missing")
