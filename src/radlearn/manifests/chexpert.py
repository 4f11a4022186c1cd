"""CheXpert v1.0: 224,316 chest radiographs of 65,240 patients with 14 labels, uncertain ones kept apart.

    train.csv, valid.csv, test.csv                          Path, ..., Frontal/Lateral, AP/PA, 14 labels
    train/patient00001/study1/view1_frontal.jpg             also in CheXpert-v1.0/ or CheXpert-v1.0-small/
    CheXpert-v1.0 batch 2 (train 1)/patient00001/...        as the 439 GB release of 2021 unpacks

The test set of 2022 is a release of its own (test_labels.csv, val_labels.csv): put it beside the others.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data.balanced import BalancedSet, balanced_set, draw_patients
from radlearn.data.labels import CODES, SOFT, UNCERTAIN, apply_policy, check_policy, parse_labels
from radlearn.data.splits import SplitRule
from radlearn.errors import ConfigurationError
from radlearn.manifests import _chexpert_fake
from radlearn.manifests._chexpert_paths import FOLDERS, with_paths
from radlearn.manifests._release import check_choice, find, need, read_columns
from radlearn.manifests.base import SPLITS, Manifest
from radlearn.manifests.checks import finish
from radlearn.records import Card, Release

logger = logging.getLogger("radlearn")

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
_TABLES = {
    "train": ("train.csv",),
    "validate": ("valid.csv", "val_labels.csv"),
    "test": ("test.csv", "test_labels.csv"),
}
_OPTIONAL = {"_frontal": "Frontal/Lateral", "_projection": "AP/PA"}
_VIEWS = ("frontal", "lateral", "all")
_LABEL_SETS = {"all14": LABELS, "competition5": COMPETITION}
_MGCA = "mgca"
# MGCA's mapping of uncertain labels; it has none for the other nine.
_MGCA_UNCERTAIN = {
    "Atelectasis": "ones",
    "Cardiomegaly": "zeros",
    "Consolidation": "zeros",
    "Edema": "ones",
    "Pleural Effusion": "ones",
}
_5X200 = "5x200"
_SEED = 0


class CheXpert(Manifest):
    """CheXpert.

    Args:
        split: one of `splits`.
        views: `frontal`, `lateral` or `all`; other images are left out.
        label_set: `all14`, or `competition5` in the order of the competition.
        uncertain: what -1 becomes: keep, zeros, ones, ignore, soft (0.5, training losses only), or mgca, the
            published mapping of the five labels (1 for atelectasis, edema and effusion, else 0).
        blank: what a blank label becomes: ignore (it stays unknown) or zeros.
        subset: `5x200`, a test set drawn from train.csv with frontal images of which one label alone is
            positive, for each of the five labels; None reads the splits.
        per_label: images of each label in that set.
        num_validate: frontal images that the split `mgca` draws for validation.
    """

    card: ClassVar[Card] = Card(
        name="chexpert",
        source="https://stanfordmlgroup.github.io/competitions/chexpert/",
        licence="Stanford University Dataset Research Use Agreement",
        access="credentialed",
        release="1.0",
        label_names=LABELS,
        patient_namespace="chexpert",
        citation="Irvin et al. 2019, CheXpert, AAAI, arXiv:1901.07031",
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "official": SplitRule("the release's: train.csv, valid.csv to validate, test.csv"),
        _MGCA: SplitRule(
            "MGCA's: of train.csv the patients of the 5x200 set are left out, data.num_validate (5,000) "
            "frontal images of whole patients validate, the rest is train; valid.csv is test",
            seed=_SEED,
        ),
    }

    def __init__(
        self,
        *,
        split: str = "official",
        views: str = "frontal",
        label_set: str = "all14",
        uncertain: str = "keep",
        blank: str = "ignore",
        subset: str | None = None,
        per_label: int = 200,
        num_validate: int = 5000,
    ) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.views = check_choice("views", views, _VIEWS)
        self.label_set = check_choice("label_set", label_set, tuple(_LABEL_SETS))
        self.uncertain = check_choice("uncertain", uncertain, (*UNCERTAIN, _MGCA))
        check_policy("keep", blank)
        if uncertain == _MGCA and label_set != "competition5":
            raise ConfigurationError(
                "data.uncertain=mgca maps the five competition labels alone: set data.label_set=competition5"
            )
        self.blank = blank
        self.subset = subset if subset is None else check_choice("subset", subset, (_5X200,))
        if subset and views == "lateral":
            raise ConfigurationError(f"data.subset={_5X200} has frontal images: leave data.views=frontal")
        self.per_label, self.num_validate = per_label, num_validate
        if num_validate < 0:
            raise ConfigurationError(f"data.num_validate is 0 or more images: got {num_validate}")

    def macro_labels(self) -> Mapping[str, Sequence[str]]:
        """The mean over the competition's five labels, where all 14 are read."""
        return {"macro_competition5": COMPETITION} if self.label_set == "all14" else {}

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the tables; images are opened by `prepare`, not here.

        Raises:
            DataError: if no table is there, one that the split needs is missing, a label is none of 1, 0, -1
                and blank, or the 5x200 set cannot be filled.
        """
        root = Path(root)
        tables = self._tables(root)
        parts = {split: _read_table(path) for split, path in tables.items()}
        located = {split: with_paths(rows, root, tables[split].parent) for split, rows in parts.items()}
        rejected = [refused for _, refused in located.values()]
        rows = {split: kept for split, (kept, _) in located.items()}
        if self.subset:
            chosen, rule, left_out = self._subset(rows["train"])
        elif self.split == _MGCA:
            chosen, rule, left_out = self._mgca(rows)
        else:
            chosen, rule, left_out = self._official(rows)
        wanted = self._has_wanted_view()
        kept = chosen.filter(wanted)
        names = _LABEL_SETS[self.label_set]
        card = dataclasses.replace(
            self.card,
            label_names=names,
            split=self.subset or self.split,
            split_seed=None if self.split == "official" and not self.subset else _SEED,
            split_rule=rule,
        )
        columns = ("image_id", "patient_id", "study_id", "split", "view", "path", "height", "width")
        return finish(
            kept.select(*columns, *(self._labels(kept[name]) for name in names)),
            rejected,
            card,
            root,
            left_out={"other_view": len(chosen) - len(kept), **left_out},
            label_values=(*CODES, SOFT) if self.uncertain == "soft" else CODES,
            # Also those that are not there: a table that arrives later changes the rows.
            sources=[*tables.values(), *(root / name for split in SPLITS for name in _TABLES[split])],
        )

    @classmethod
    def fake(cls, root: Path) -> CheXpert:
        """Write a miniature of CheXpert-v1.0-small with the test set of 2022.

        Its oddities:
        - `Path` begins with CheXpert-v1.0-small/, a folder that is not below the root
        - labels are 1.0, 0.0, -1.0 and blank; No Finding is 1.0 or blank in train.csv
        - test.csv has `Path` and the labels alone, in another order, and paths without the first folder
        - valid.csv and test.csv were read by radiologists: no blank, no -1
        - lateral images have no projection; frontal ones say AP or PA, and a few LL or RL
        - patients with several studies, studies with several images; study numbers start anew with a patient
        - a patient of unknown sex, an age of 0
        """
        _chexpert_fake.write(root)
        return cls(per_label=2, num_validate=6)

    def _tables(self, root: Path) -> dict[str, Path]:
        """Split -> its table, as far as it is there and wanted.

        Raises:
            DataError: if one that the settings need is missing, or all are.
        """
        if self.subset:
            needed: tuple[str, ...] = ("train",)
        else:
            needed = ("train", "validate") if self.split == _MGCA else ()
        found = {split: find(root, *_places(split)) for split in needed or SPLITS}
        if not any(found.values()) or (needed and not all(found.values())):
            missing = next(split for split, path in found.items() if path is None)
            need(root, *_places(missing), what=f"CheXpert table of the {missing} images")
        for split in (split for split, path in found.items() if path is None):
            logger.warning(
                "no %s below %s: CheXpert has no %s images here", " or ".join(_TABLES[split]), root, split
            )
        return {split: path for split, path in found.items() if path is not None}

    def _official(self, rows: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, str, dict[str, int]]:
        absent = [split for split in SPLITS if split not in rows]
        rule = self.splits["official"].about
        if absent:
            rule += f"; this copy has no table of {' and '.join(absent)}"
        return pl.concat(_in(split, part) for split, part in rows.items()), rule, {}

    def _mgca(self, rows: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, str, dict[str, int]]:
        """The published protocol without its leak: there, the validation images stayed in training."""
        train = rows["train"]
        held_out = self._balanced(train).rows["patient_id"].unique()
        rest = train.filter(~pl.col("patient_id").is_in(held_out.implode()))
        validate = draw_patients(rest.filter("_frontal"), self.num_validate, _SEED)
        drawn = pl.col("patient_id").is_in(validate)
        split = pl.when(drawn).then(pl.lit("validate")).otherwise(pl.lit("train"))
        chosen = pl.concat([rest.with_columns(split=split), _in("test", rows["validate"])])
        return chosen, self.splits[_MGCA].about, {"of_5x200_patients": len(train) - len(rest)}

    def _subset(self, train: pl.DataFrame) -> tuple[pl.DataFrame, str, dict[str, int]]:
        drawn = self._balanced(train)
        rule = (
            f"{len(COMPETITION)} x {self.per_label} frontal images of train.csv, drawn by hash, with one "
            f"label of 14 positive and none uncertain besides; all test; SHA-256 of the draw {drawn.hash}"
        )
        return _in("test", drawn.rows), rule, {"not_in_5x200": len(train) - len(drawn.rows)}

    def _balanced(self, train: pl.DataFrame) -> BalancedSet:
        return balanced_set(train.filter("_frontal"), COMPETITION, self.per_label, _SEED, among=LABELS)

    def _has_wanted_view(self) -> pl.Expr:
        if self.views == "all":
            return pl.lit(True)
        return pl.col("_frontal") == (self.views == "frontal")

    def _labels(self, column: pl.Series) -> pl.Series:
        policy = _MGCA_UNCERTAIN[column.name] if self.uncertain == _MGCA else self.uncertain
        return apply_policy(column, uncertain=policy, blank=self.blank)


def _places(split: str) -> list[str]:
    return [f"{folder}{name}" for folder in FOLDERS for name in _TABLES[split]]


def _in(split: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(split=pl.lit(split))


def _read_table(path: Path) -> pl.DataFrame:
    """`_path`, `_frontal` (bool), `view` and the labels of one table.

    Tables that tell no view, as the one of 2022, name their files view1_frontal.jpg or view2_lateral.jpg.
    """
    headers = {"_path": "Path", **_OPTIONAL, **{name: name for name in LABELS}}
    cells = read_columns(path, headers, optional=tuple(_OPTIONAL))
    absent = [pl.lit(None, pl.String).alias(name) for name in _OPTIONAL if name not in cells.columns]
    cells = cells.with_columns(*absent, *(parse_labels(cells[name], str(path)) for name in LABELS))
    named = pl.col("_path").str.contains("frontal", literal=True).fill_null(False)
    # A projection of LL or RL contradicts the frontal column: the view is then not known.
    projection = pl.when(pl.col("_projection").is_in(["AP", "PA"])).then("_projection")
    frontal = pl.col("_frontal").replace_strict({"Frontal": True, "Lateral": False}, default=None)
    rows = cells.with_columns(_frontal=pl.coalesce(frontal, named))
    view = pl.when("_frontal").then(projection).otherwise(pl.lit("LATERAL"))
    return rows.select("_path", "_frontal", *LABELS, view=view)
