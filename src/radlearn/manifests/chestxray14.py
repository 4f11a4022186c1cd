"""NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients, 14 labels mined from reports.

    Data_Entry_2017_v2020.csv        one row an image (also the older Data_Entry_2017.csv)
    train_val_list.txt, test_list.txt
    images_001/images/*.png          to images_012; or images/, or images/images_01/images/

A finding is named or not: there is no uncertain and no blank label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data import split_files
from radlearn.data.splits import SplitRule, assign
from radlearn.errors import DataError
from radlearn.manifests import _nih, _nih_fake
from radlearn.manifests._release import check_choice, need, read_columns
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import finish
from radlearn.records import Card, Release

GOOGLE_LABELS = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
_GOOGLE_FILE = "google2019_nih-chest-xray-labels.csv"
_GOOGLE_SPLITS = {"val": "validate", "test": "test"}
_GOOGLE_RULE = SplitRule("Set Id of Google's table: val to validate, test")
_GOOGLE = "google2019"
_LABELS = ("nih", _GOOGLE)
_WITHOUT_LISTS = "Without it set data.split=patients, to which data.split_files may add lists of your own"


class ChestXray14(Manifest):
    """NIH ChestX-ray14.

    Args:
        split: one of `splits`.
        labels: `nih`, the 14 labels of the release, or `google2019`, the four that radiologists gave to 4,376
            of its images (Majkowska et al. 2020): other images are left out then, and validate and test are
            Google's own, whatever `split` is.
        no_finding: add `No Finding` as a label of its own, 1 where the 14 are 0.
    """

    card: ClassVar[Card] = Card(
        name="chestxray14",
        source=_nih.SOURCE,
        licence=_nih.LICENCE,
        access="open",
        release="2017, table of 2020",
        label_names=_nih.LABELS,
        patient_namespace=_nih.NAMESPACE,
        overlaps=("nih_boxes", "rsna_pneumonia", "siim_pneumothorax"),
        citation=_nih.CITATION,
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "official": SplitRule(
            "test is the release's test_list.txt; validate is an eighth of the patients of "
            "train_val_list.txt, drawn by hash",
            seed=0,
        ),
        "official_no_validation": SplitRule("the release's train_val_list.txt and test_list.txt"),
        "patients": SplitRule("70, 10 and 20 % of all patients; needs no list", seed=0),
    }

    def __init__(self, *, split: str = "official", labels: str = "nih", no_finding: bool = False) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.labels = check_choice("labels", labels, _LABELS)
        self.no_finding = no_finding

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the table, the lists and the folders; images are opened by `prepare`, not here.

        Raises:
            DataError: if the table or a list of the split is missing, or the table names an unknown finding.
        """
        root = Path(root)
        table = _nih.entries_file(root)
        rows, incomplete = _nih.read_entries(table)
        if self.labels == _GOOGLE:
            lists = [need(root, _GOOGLE_FILE, what="table of Google's labels of 2019")]
            rows, outside = _relabelled(rows, lists[0])
        else:
            rows, outside, lists = self._split_rows(rows, root)
        rows, missing = _nih.with_paths(rows, root)
        size = pl.lit(_nih.side(rows, root) if len(rows) else None, pl.Int32)
        card = self._filled_card()
        columns = ("image_id", "patient_id", "study_id", "split", "view", "path")
        return finish(
            rows.select(*columns, *card.label_names, height=size, width=size),
            [incomplete, missing],
            card,
            root,
            left_out={"not_relabelled" if self.labels == _GOOGLE else "in_no_list": outside},
            sources=[table, *lists],
        )

    @classmethod
    def fake(cls, root: Path) -> ChestXray14:
        """Write a miniature release of 44 patients.

        Its oddities:
        - the header is `OriginalImage[Width,Height]`, two cells, and so is the pixel spacing
        - those sizes are of the detector's image; the files are smaller and all of one size
        - images lie in images_001/images, images_002/images and images_012/images
        - patient ids are numbers in the table and eight digits in the names; follow-ups have gaps
        - ages such as 414 years
        - findings joined by `|`, in no order; `No Finding` is a word among them
        - lists without a header, the last line without its end
        - one image is RGBA
        """
        _nih_fake.write_chestxray14(root)
        return cls()

    def _filled_card(self) -> Card:
        own: tuple[str, ...] = GOOGLE_LABELS if self.labels == _GOOGLE else _nih.LABELS
        names = (*own, _nih.NO_FINDING) if self.no_finding else own
        split = _GOOGLE if self.labels == _GOOGLE else self.split
        rule = _GOOGLE_RULE if self.labels == _GOOGLE else self.splits[self.split]
        return dataclasses.replace(
            self.card, label_names=names, split=split, split_seed=rule.seed, split_rule=rule.about
        )

    def _split_rows(self, rows: pl.DataFrame, root: Path) -> tuple[pl.DataFrame, int, list[Path]]:
        """Rows with their split, how many no list names, and the lists."""
        seed = self.splits[self.split].seed or 0
        if self.split == "patients":
            return assign(rows, {"train": 0.7, "validate": 0.1, "test": 0.2}, seed), 0, []
        lists = {
            split: _nih.official_list(root, split, instead=_WITHOUT_LISTS) for split in ("train", "test")
        }
        rows, unlisted = split_files.apply(rows, lists)
        if self.split == "official":
            in_test = pl.col("split") == "test"
            drawn = assign(rows.filter(~in_test), {"train": 7 / 8, "validate": 1 / 8}, seed)
            rows = pl.concat([drawn, rows.filter(in_test)])
        return rows, unlisted, list(lists.values())


def _relabelled(rows: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, int]:
    """The rows that Google's table names, with its labels and split; how many it does not name.

    Its `Pneumothorax` takes the place of the release's.
    """
    shared = [name for name in GOOGLE_LABELS if name in rows.columns]
    kept = rows.drop(shared).join(_read_google(path), on="_file", how="inner", maintain_order="left")
    return kept, len(rows) - len(kept)


def _read_google(path: Path) -> pl.DataFrame:
    """Google's labels as 1 and 0, and its split, by `_file`.

    Raises:
        DataError: for a cell that is not YES or NO, or a set that is not val or test.
    """
    headers = {"_file": "Image Index", "split": "Set Id", **{name: name for name in GOOGLE_LABELS}}
    cells = read_columns(path, headers)
    allowed = dict.fromkeys(GOOGLE_LABELS, ("YES", "NO")) | {"split": tuple(_GOOGLE_SPLITS)}
    for column, words in allowed.items():
        wrong = cells.filter(~pl.col(column).is_in(words).fill_null(False))
        if len(wrong):
            raise DataError(
                f"{path}: column '{headers[column]}' holds '{wrong[column][0]}' for image "
                f"'{wrong['_file'][0]}'; allowed are {', '.join(words)}"
            )
    labels = [(pl.col(name) == "YES").cast(pl.Float32) for name in GOOGLE_LABELS]
    return cells.select("_file", pl.col("split").replace_strict(_GOOGLE_SPLITS), *labels)
