"""RSNA Pneumonia Detection Challenge, stage 2: lung opacities in boxes on 26,684 radiographs of ChestX-ray14.

    stage_2_train_labels.csv                         patientId,x,y,width,height,Target: one row a box
    stage_2_train_images/<patientId>.dcm             1024 x 1024
    stage_2_detailed_class_info.csv                  optional: patientId,class, adds the label `normal`
    pneumonia-challenge-dataset-mappings_2018.json   optional, of RSNA's page: the patients of ChestX-ray14
    kaggle_stage_2_train_images_dicom_headers.csv    optional, of torchxrayvision: the views

`patientId` names an image, not a patient: each has one. The true patients are in RSNA's mapping alone, so put
it beside the table, or the split by patient is a split by image.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data import masks, published_splits, splits
from radlearn.data.splits import SplitRule
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _nih, _rsna_fake
from radlearn.manifests._faults import set_aside
from radlearn.manifests._mask_column import mask_column
from radlearn.manifests._release import check_choice, find, need, read_columns
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import finish, reject
from radlearn.manifests.checks.columns import BOX
from radlearn.records import Card, Release

logger = logging.getLogger("radlearn")

SIDE = 1024  # pixels, of every image of the release
BOX_CLASS = "opacity"
_COLUMNS = {name: name for name in ("patientId", "x", "y", "width", "height", "Target")}
_NUMBERS = ("x", "y", "width", "height")
_SHARES = {"train": 0.6, "validate": 0.2, "test": 0.2}
_TABLE = "stage_2_train_labels.csv"
_DETAILS = "stage_2_detailed_class_info.csv"
_HEADERS = "kaggle_stage_2_train_images_dicom_headers.csv"
_MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


class RSNAPneumonia(Manifest):
    """Label `pneumonia` (the table's Target), boxes and masks of class `opacity`.

    A mask is the union of an image's boxes, corners rounded to pixels. LoVT's few-shot sets are
    `split=lovt train_subset=0.01 validate_subset=0.1` and so on; its exact lists go into `data.split_files`,
    which are then cut themselves.

    Args:
        split: `patients`; `lovt`; `mgca_classification` or `mgca_detection`. MGCA's two share images across
            training and test, so an encoder tuned on one is not to be scored on the other.
        train_subset: fraction of the training images that is kept.
        validate_subset: fraction of the validation images that is kept; LoVT always kept 0.1.
        subset_rule: `first`, the first rows of the list as published, or `seeded`, by patient and balanced.
        subset_seed: of the rule `seeded`.
        check_files: reject rows whose image is missing or empty (`prepare` finds those anyway).
    """

    card: ClassVar[Card] = Card(
        name="rsna_pneumonia",
        source="https://www.kaggle.com/competitions/rsna-pneumonia-detection-challenge, stage 2 training set",
        licence="RSNA's and Kaggle's competition terms: research and education, no redistribution",
        access="credentialed",
        release="stage 2 (2018)",
        label_names=("pneumonia",),
        overlaps=("chestxray14", "nih_boxes", "siim_pneumothorax", "covidx"),
        citation="Shih et al. 2019, doi:10.1148/ryai.2019180041; images: Wang et al. 2017 (ChestX-ray8)",
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "patients": SplitRule("60, 20 and 20 % of the patients, by hash", seed=0),
        "lovt": SplitRule(
            "LoVT's rule: 60/20/20 at random by image; its own draw is in its lists", 0, "image"
        ),
        "mgca_classification": SplitRule(
            "MGCA's images: 70/15/15 by scikit-learn on sorted ids; another draw than mgca_detection",
            seed=0,
            unit="image",
        ),
        "mgca_detection": SplitRule(
            "MGCA's images: 60/20/20 by scikit-learn on sorted ids; another draw than mgca_classification",
            seed=0,
            unit="image",
        ),
    }  # fmt: skip

    def __init__(
        self,
        *,
        split: str = "patients",
        train_subset: float = 1.0,
        validate_subset: float = 1.0,
        subset_rule: str = "first",
        subset_seed: int = 0,
        check_files: bool = False,
    ) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.subset_rule = check_choice("subset_rule", subset_rule, ("first", "seeded"))
        self.subsets = {"train": train_subset, "validate": validate_subset}
        for name, fraction in self.subsets.items():
            if not 0 < fraction <= 1:
                raise ConfigurationError(f"data.{name}_subset is a fraction in (0, 1]: got {fraction}")
        self.subset_seed, self.check_files = subset_seed, check_files

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the tables; images are not opened, and looked for only with `check_files`.

        Raises:
            DataError: if there is no table of boxes, or it has another header.
        """
        root = Path(root)
        table = need(root, _TABLE, what="table of boxes")
        rows, rejected = _images(read_columns(table, _COLUMNS))
        card = self.card
        details, headers, mapping = find(root, _DETAILS), find(root, _HEADERS), root / _MAPPING
        if details:
            rows = _with_normal(rows, details)
            card = dataclasses.replace(card, label_names=(*card.label_names, "normal"))
        if headers:
            rows = _with_views(rows, headers)
        if mapping.is_file():
            rows = _with_patients(rows, mapping)
            card = dataclasses.replace(card, patient_namespace=_nih.NAMESPACE)
        else:
            logger.warning("%s is not in %s: each image counts as a patient of its own", _MAPPING, root)
        rows, outside = self._split(rows)
        return finish(
            rows,
            [rejected],
            self._completed(card),
            root,
            left_out={"outside_subset": outside},
            check_files=self.check_files,
            # Also what is not there yet: a mapping that comes later makes the rows anew.
            sources=[table, details or root / _DETAILS, headers or root / _HEADERS, mapping],
        )

    @classmethod
    def fake(cls, root: Path) -> RSNAPneumonia:
        """Write a miniature of the release, at its full image size.

        Its oddities:
        - one row a box: positive images have one to three rows, negatives one with four blank cells
        - whole numbers are written as 264.0
        - boxes overlap, and one ends at the image's edge
        - patientId is an image's id: RSNA's mapping tells that several images are one patient's
        - the mapping also names images that are not in the table
        - the class table repeats an image once a box, and is zipped
        - DICOM files are JPEG-compressed, 8 bits
        - a row whose image is missing, and a test folder without labels
        """
        _rsna_fake.write(root)
        return cls(check_files=True)

    def _split(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """Rows with their split, and how many images the subsets leave out."""
        parts = self._parts(rows)
        rows = rows.with_columns(published_splits.column(rows["image_id"], parts))
        kept = pl.lit(True)
        for split, fraction in self.subsets.items():
            if fraction < 1:
                names = self._subset(rows.filter(pl.col("split") == split), parts[split], fraction)
                kept &= (pl.col("split") != split) | pl.col("image_id").is_in(names)
        subset = rows.filter(kept)
        return subset, len(rows) - len(subset)

    def _parts(self, rows: pl.DataFrame) -> published_splits.Parts:
        ids, seed = rows["image_id"].to_list(), self.splits[self.split].seed or 0
        if self.split == "patients":
            drawn = splits.assign(rows, _SHARES, seed)
            return {s: drawn.filter(pl.col("split") == s)["image_id"].to_list() for s in _SHARES}
        if self.split == "lovt":
            return published_splits.lovt(ids, seed)
        # MGCA's 10,674 images outside training are 0.4 of 26,684, as scikit-learn rounds up.
        return published_splits.mgca(ids, 0.3 if self.split == "mgca_classification" else 0.4, seed)

    def _subset(self, rows: pl.DataFrame, order: list[str], fraction: float) -> list[str]:
        if self.subset_rule == "first":
            return published_splits.first(order, fraction)
        chosen = splits.fraction(rows, 100 * fraction, self.subset_seed, label_names=self.card.label_names)
        return chosen["image_id"].to_list()

    def _completed(self, card: Card) -> Card:
        rule = self.splits[self.split]
        cut = [f"{self.subset_rule} {f:g} of {s}" for s, f in self.subsets.items() if f < 1]
        return dataclasses.replace(
            card,
            split=self.split,
            split_seed=rule.seed,
            split_unit=rule.unit,
            split_rule="; ".join([rule.about, *cut]),
        )


def _images(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row an image, sorted by id, and the rejected ones."""
    target = pl.col("Target").cast(pl.Float32, strict=False)
    given = pl.sum_horizontal(pl.col(*_NUMBERS).is_not_null())
    read_as = [f"_{name}" for name in _NUMBERS]
    cells = pl.col(*_NUMBERS).cast(pl.Float32, strict=False)
    numbers = pl.when(cells.is_finite()).then(cells).name.prefix("_")
    read = pl.sum_horizontal(pl.col(*read_as).is_not_null())
    table = table.with_columns(numbers).with_columns(
        image_id=pl.col("patientId"),
        path="stage_2_train_images/" + pl.col("patientId") + ".dcm",
        _box=read == len(_NUMBERS),
        _target=target,
        reason=pl.when(target.is_in([0.0, 1.0]).not_().fill_null(True))
        .then(pl.lit("bad_target"))
        .when(~given.is_in([0, len(_NUMBERS)]) | (read != given))
        .then(pl.lit("bad_box"))
        .when((target == 1) != (given > 0))
        .then(pl.lit("box_against_target")),
    )
    nameless = reject(table.filter(pl.col("image_id").is_null()), "no_image_id")
    sides = [pl.col(theirs).alias(ours) for ours, theirs in zip("xywh", read_as, strict=True)]
    box = pl.struct(*sides, pl.lit(BOX_CLASS).alias("class"))
    images = (
        table.filter(pl.col("image_id").is_not_null())
        .group_by("image_id", "path")
        .agg(
            boxes=box.filter(pl.col("_box")).cast(BOX),
            pneumonia=pl.col("_target").max(),
            reason=pl.when(pl.col("_target").n_unique() > 1)
            .then(pl.lit("box_against_target"))
            .otherwise(pl.col("reason").drop_nulls().first()),
            detail=pl.lit(""),
        )
        .sort("image_id")
    )
    rows, faulty = set_aside(images)
    return rows.with_columns(
        mask_column([_mask(boxes) for boxes in rows["boxes"].to_list()], BOX_CLASS),
        patient_id=pl.col("image_id"),
        study_id=pl.col("image_id"),
        view=pl.lit(None, pl.String),
        height=pl.lit(SIDE, pl.Int32),
        width=pl.lit(SIDE, pl.Int32),
    ), pl.concat([nameless, faulty])


def _mask(boxes: list[dict[str, Any]]) -> str:
    sides = [(box["x"], box["y"], box["w"], box["h"]) for box in boxes]
    return masks.rle_of_boxes(sides, SIDE, SIDE)


def _with_normal(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Add the label `normal`: 0 also where there is no opacity but another finding."""
    classes = read_columns(path, {"image_id": "patientId", "_class": "class"}).unique("image_id")
    normal = (pl.col("_class") == "Normal").cast(pl.Float32).alias("normal")
    return rows.join(classes.select("image_id", normal), on="image_id", how="left", maintain_order="left")


def _with_views(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    columns = {"image_id": "PatientID", "view": "ViewPosition"}
    views = read_columns(path, columns).filter(pl.col("view").is_in(["PA", "AP"])).unique("image_id")
    return rows.drop("view").join(views, on="image_id", how="left", maintain_order="left")


def _with_patients(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Take patients from RSNA's mapping, a list of `subset_img_id` (ours) and `img_id` (00000013_005.png).

    Raises:
        DataError: if the file is no such list.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        patients = {entry["subset_img_id"]: entry["img_id"].partition("_")[0] for entry in entries}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is not RSNA's mapping, a list of objects with subset_img_id and img_id: {error!r}"
        ) from error
    known = pl.Series([patients.get(name) for name in rows["image_id"]], dtype=pl.String)
    return rows.with_columns(patient_id=pl.coalesce(known, pl.col("patient_id")))
