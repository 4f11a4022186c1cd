"""SIIM-ACR Pneumothorax Segmentation: masks of pneumothorax on 12,047 radiographs of ChestX-ray14.

    train-rle.csv, or stage_2_train.csv              ImageId, EncodedPixels: one row a mask
    dicom-images-train/<study>/<series>/<ImageId>.dcm    1024 x 1024; stage 2 adds dicom-images-test

The first table's second header begins with a blank, as " EncodedPixels". An image has one row a mask, "-1"
where there is no pneumothorax. The run lengths are relative and go down the columns (data/masks.py).
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from radlearn.data import masks, published_splits, splits
from radlearn.data.images import ImageError
from radlearn.data.splits import SplitRule
from radlearn.errors import DataError
from radlearn.manifests import _siim_fake
from radlearn.manifests._each_file import each_file
from radlearn.manifests._faults import set_aside
from radlearn.manifests._mask_column import mask_column
from radlearn.manifests._release import check_choice, need, read_columns
from radlearn.manifests._table_file import TableFile
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import finish, reject
from radlearn.records import Card, Pixels, Release

if TYPE_CHECKING:
    from radlearn.data.dicom import DicomHeader

logger = logging.getLogger("radlearn")

SIDE = 1024  # pixels, of every image of the release and of the canvas of its masks
LABEL = "pneumothorax"
_TABLES = ("train-rle.csv", "stage_2_train.csv")
_HEADERS = (" EncodedPixels", "EncodedPixels")
_FOLDERS = ("dicom-images-train", "dicom-images-test")
_SHARES = {"train": 0.6, "validate": 0.2, "test": 0.2}


class SIIMPneumothorax(Manifest):
    """Label and masks of class `pneumothorax`.

    MGCA and Adaptor split the table's rows, so one image's masks lay in training and test alike; that leak is
    not reproduced: `mgca` is their rule on images.

    Args:
        split: `patients`, `lovt` or `mgca`.
        balanced_train: keep all positive training images and as many random negative ones, as MGCA did.
        balance_seed: of the negatives drawn.
        equalize: equalise each image's histogram, as LoVT prepared this data set.
        headers: read patient and view from the header of every DICOM file. Without, or without files, each
            image counts as a patient of its own.
    """

    card: ClassVar[Card] = Card(
        name="siim_pneumothorax",
        source="https://www.kaggle.com/competitions/siim-acr-pneumothorax-segmentation, training images",
        licence="SIIM's and Kaggle's competition terms: research and education, no redistribution",
        access="credentialed",
        release="2019",
        label_names=(LABEL,),
        overlaps=("chestxray14", "nih_boxes", "rsna_pneumonia", "covidx"),
        citation="SIIM-ACR Pneumothorax Segmentation challenge 2019; images: Wang et al. 2017 (ChestX-ray8)",
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "patients": SplitRule("60, 20 and 20 % of the patients, by hash", seed=0),
        "lovt": SplitRule(
            "LoVT's rule: 60/20/20 at random by image; its own draw is in its lists", 0, "image"
        ),
        "mgca": SplitRule(
            "MGCA's 70/15/15 of scikit-learn, on sorted images: the published rows leak", 0, "image"
        ),
    }

    def __init__(
        self,
        *,
        split: str = "patients",
        balanced_train: bool = False,
        balance_seed: int = 0,
        equalize: bool = False,
        headers: bool = True,
    ) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.balanced_train, self.balance_seed = balanced_train, balance_seed
        self.equalize, self.headers = equalize, headers

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the table, the folders and the headers of their files.

        Where there is no folder of images at all, the rows are read nevertheless; `prepare` finds the files
        missing.

        Args:
            root: folder of the release.
            progress: optional callable (done, total, what), called while headers are read.

        Raises:
            DataError: if there is no table, or it has another header.
        """
        root = Path(root)
        table = need(root, *_TABLES, what="table of run lengths")
        rows, rejected = _images(_read_table(table))
        rows, missing, unnamed = _with_paths(rows, root)
        rejected += missing
        if self.headers and unnamed is not None:
            rows, unreadable = _with_headers(rows, root, progress)
            rejected.append(unreadable)
        if (alone := int(rows["patient_id"].null_count())) > 0:
            logger.warning(
                "%s: %d images without a patient in a header count as patients of their own", table, alone
            )
        rows = rows.with_columns(
            pl.col("patient_id", "study_id").fill_null(pl.col("image_id")),
            height=pl.lit(SIDE, pl.Int32),
            width=pl.lit(SIDE, pl.Int32),
        )
        rows, unbalanced = self._split(rows)
        rule = self.splits[self.split]
        card = dataclasses.replace(
            self.card,
            split=self.split,
            split_seed=rule.seed,
            split_unit=rule.unit,
            split_rule=rule.about + ("; training balanced" if self.balanced_train else ""),
        )
        return finish(
            rows,
            rejected,
            card,
            root,
            left_out={"not_in_table": unnamed or 0, "unbalanced_negative": unbalanced},
            pixels=Pixels(equalize=self.equalize),
            sources=[table, *(root / name for name in _FOLDERS)],
        )

    @classmethod
    def fake(cls, root: Path) -> SIIMPneumothorax:
        """Write a miniature of the release, at its full image size.

        Its oddities:
        - the second header is " EncodedPixels", with a blank in front
        - an image without pneumothorax has the mask "-1", or " -1" with a blank
        - several rows of one image are one mask
        - runs cross from one column of pixels to the next
        - files lie two folders deep, under names that no table tells
        - files that the table does not name, and a row whose file is missing
        - several images of one patient, which the DICOM headers alone tell; one header has no patient
        """
        _siim_fake.write(root)
        return cls()

    def _split(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """Rows with their split, and how many training negatives balancing leaves out."""
        seed, ids = self.splits[self.split].seed or 0, rows["image_id"].to_list()
        if self.split == "patients":
            rows = splits.assign(rows, _SHARES, seed)
        else:
            lovt = self.split == "lovt"
            parts = published_splits.lovt(ids, seed) if lovt else published_splits.mgca(ids, 0.3, seed)
            rows = rows.with_columns(published_splits.column(rows["image_id"], parts))
        if not self.balanced_train:
            return rows, 0
        training = rows.filter(pl.col("split") == "train").partition_by(LABEL, as_dict=True)
        negative, positive = (training.get((value,), rows.clear())["image_id"] for value in (0.0, 1.0))
        order = np.random.Generator(np.random.PCG64(self.balance_seed)).permutation(len(negative))
        surplus = negative[order.tolist()][len(positive) :]
        return rows.filter(~pl.col("image_id").is_in(surplus.to_list())), len(surplus)


def _read_table(path: Path) -> pl.DataFrame:
    """Columns `image_id, rle`, one row a mask."""
    there = TableFile(path).columns
    header = next((name for name in _HEADERS if name in there), _HEADERS[0])
    return read_columns(path, {"image_id": "ImageId", "rle": header})


def _images(table: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """One row an image, sorted by id, with `mask` and label; rows without id or with faulty runs apart."""
    table = table.with_columns(path=pl.lit(None, pl.String))
    nameless = reject(table.filter(pl.col("image_id").is_null()), "no_image_id")
    rows = table.drop_nulls("image_id").group_by("image_id", "path").agg("rle").sort("image_id")
    found = [_mask(texts) for texts in rows["rle"].to_list()]
    faults = pl.Series("detail", [fault for _, fault in found], dtype=pl.String)
    rows = rows.select(
        "image_id",
        "path",
        mask_column([rle for rle, _ in found], LABEL),
        pl.lit(None, pl.String).alias("patient_id"),
        pl.lit(None, pl.String).alias("study_id"),
        pl.lit(None, pl.String).alias("view"),
        faults,
        pl.when(faults.is_not_null()).then(pl.lit("bad_mask")).alias("reason"),
    ).with_columns((pl.col("mask").list.len() > 0).cast(pl.Float32).alias(LABEL))
    sound, faulty = set_aside(rows)
    return sound, [nameless, faulty]


def _mask(texts: Sequence[str | None]) -> tuple[str, str | None]:
    """Run lengths of one image's rows; and what is wrong with them."""
    try:
        return masks.rle_of_relative_runs([text or "" for text in texts], SIDE, SIDE), None
    except DataError as error:
        return "", str(error)


def _with_paths(rows: pl.DataFrame, root: Path) -> tuple[pl.DataFrame, list[pl.DataFrame], int | None]:
    """Find the file of each row.

    Returns:
        Rows with `path`; rows whose file is missing, as rejected; and how many files the table does not name,
        or None where there is no folder of images.
    """
    folders = [root / name for name in _FOLDERS if (root / name).is_dir()]
    if not folders:
        logger.warning("no folder %s in %s: the rows are read, the files are missing", _FOLDERS[0], root)
        return rows.with_columns(path=f"{_FOLDERS[0]}/" + pl.col("image_id") + ".dcm"), [], None
    files = {
        name.removesuffix(".dcm"): str(Path(base, name).relative_to(root))
        for folder in folders
        for base, _, names in os.walk(folder)
        for name in names
        if name.endswith(".dcm")
    }
    paths = pl.Series("path", [files.get(name) for name in rows["image_id"]], dtype=pl.String)
    rows = rows.with_columns(paths)
    there = rows.filter(pl.col("path").is_not_null())
    aside = reject(rows.filter(pl.col("path").is_null()), "missing", f"no such file below {_FOLDERS[0]}")
    return there, [aside], len(files) - len(there)


def _with_headers(rows: pl.DataFrame, root: Path, progress: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take patient, study and view from the DICOM headers; files that masks do not fit are rejected."""
    from radlearn.data import dicom
    from radlearn.data._dicom_file import import_pydicom

    # Around all threads: each switches pydicom's messages off and on, and so does it to the others.
    with import_pydicom().config.disable_value_validation():
        headers = each_file(dicom.read_header, [root / p for p in rows["path"]], progress, "DICOM headers")
    told = [_told(header) for header in headers]
    names = ("patient_id", "study_id", "view", "reason", "detail")
    columns = pl.DataFrame(told, schema=dict.fromkeys(names, pl.String), orient="row")
    rows, aside = set_aside(rows.drop("patient_id", "study_id", "view").hstack(columns))
    return rows.with_columns(view=pl.when(pl.col("view").is_in(["PA", "AP"])).then("view")), aside


def _told(header: DicomHeader | ImageError) -> tuple[str | None, ...]:
    """Patient, study, view; or reason and detail of a file that cannot be used."""
    if isinstance(header, ImageError):
        return None, None, None, header.reason, header.detail
    if (header.rows, header.columns) != (SIDE, SIDE):
        size = f"{header.rows} x {header.columns} pixels, masks are of {SIDE} x {SIDE}"
        return None, None, None, "mask_size", size
    return header.patient_id or None, header.study_uid or None, header.view_position, None, None
