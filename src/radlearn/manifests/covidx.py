"""COVIDx CXR: normal, pneumonia and COVID-19 on radiographs gathered from seven sources.

    train_COVIDx9A.txt, test_COVIDx9A.txt     patient, file, class, source; no header, separated by blanks
    train/, test/                             the files: PNG and JPEG, in any size and colour

The later lists train_COVIDx_CXR-3A.txt have the same form. Lists B tell COVID-19 from everything else and do
not hold three classes.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data import published_splits
from radlearn.data.splits import SplitRule, assign
from radlearn.errors import DataError
from radlearn.manifests import _dicom_fake
from radlearn.manifests._release import check_choice, need
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import finish, reject
from radlearn.records import Card, Release

logger = logging.getLogger("radlearn")

LABELS = ("normal", "pneumonia", "covid")
_RELEASES = ("COVIDx9A", "COVIDx_CXR-3A")
_CLASSES = {"normal": "normal", "pneumonia": "pneumonia", "covid-19": "covid"}
# From both ends: file names may hold blanks, the other fields do not.
_LINE = r"^\s*(?<patient>\S+)\s+(?<file>\S.*?)\s+(?<kind>\S+)\s+(?<source>\S+)\s*$"
_MISSING = ("reject", "leave_out")


class COVIDx(Manifest):
    """Labels `normal`, `pneumonia` (another than of COVID-19) and `covid`: one of them is 1.

    The training list is split by patient; the row split of MGCA and Adaptor, which is not, is not offered.

    Args:
        split: `patients` or `mgca`.
        missing_files: rows whose file is not in its folder are rejected (`reject`, so that `prepare` stops
            where they are many) or left out (`leave_out`): downloads lack some of the listed files.
    """

    card: ClassVar[Card] = Card(
        name="covidx",
        source=(
            "https://www.kaggle.com/datasets/andyczhao/covidx-cxr2; lists: "
            "https://github.com/lindawangg/COVID-Net"
        ),
        licence="each source's own: RSNA, RICORD, BIMCV, Cohen and others; research use",
        access="credentialed",
        release="",
        label_names=LABELS,
        overlaps=("rsna_pneumonia", "chestxray14", "nih_boxes", "siim_pneumothorax"),
        citation="Wang, Lin, Wong 2020 (COVID-Net), doi:10.1038/s41598-020-76550-z",
    )  # fmt: skip
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "patients": SplitRule("the test list; the training list 90/10 by patient, by hash", seed=0),
        "mgca": SplitRule(
            "the test list; the training list 80/20 by scikit-learn as in MGCA, but on patients", seed=0
        ),
    }

    def __init__(self, *, split: str = "patients", missing_files: str = "reject") -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.missing_files = check_choice("missing_files", missing_files, _MISSING)

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the lists, and the names of the files that are there.

        Raises:
            DataError: if a list is missing or no text.
        """
        root = Path(root)
        lists = {
            part: need(root, *(f"{part}_{name}.txt" for name in _RELEASES), what=f"list of {part} images")
            for part in ("train", "test")
        }
        tables = [_read_list(path, part) for part, path in lists.items()]
        rejected = [faulty for _, aside in tables for faulty in aside]
        rows = _with_patients(pl.concat([rows for rows, _ in tables]))
        rows, gone = _present(rows, root)
        if self.missing_files == "reject":
            rejected.append(reject(gone, "missing"))
        in_both = pl.col("patient_id").is_in(rows.filter(pl.col("split") == "test")["patient_id"].to_list())
        crossing = (pl.col("split") == "train") & in_both
        rule = self.splits[self.split]
        card = dataclasses.replace(
            self.card,
            release=lists["train"].name.removeprefix("train_").partition(".")[0],
            split=self.split,
            split_seed=rule.seed,
            split_unit=rule.unit,
            split_rule=rule.about,
        )
        return finish(
            self._split(rows.filter(~crossing)),
            rejected,
            card,
            root,
            left_out={
                "patient_in_test": len(rows.filter(crossing)),
                "missing_file": len(gone) if self.missing_files == "leave_out" else 0,
            },
            sources=[*lists.values(), *(root / part for part in lists)],
        )

    @classmethod
    def fake(cls, root: Path) -> COVIDx:
        """Write a miniature of the release.

        Its oddities:
        - the lists have no header, and blanks between the fields
        - a file name with a blank, and names that differ in their suffix alone: 000004.jpg, 000004.png
        - patient ids are numbers with letters, and two sources number their patients alike
        - one patient has several images; another one stands in both lists
        - a listed file that the download lacks
        - a class of the lists B, and a line that is cut off
        - files in grey and in colour, PNG, JPEG and JPG
        """
        _write_fake(root)
        return cls()

    def _split(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Take validation from the training list, by patient."""
        testing, training = rows.filter(pl.col("split") == "test"), rows.filter(pl.col("split") == "train")
        seed = self.splits[self.split].seed or 0
        if self.split == "patients":
            return pl.concat([assign(training, {"train": 0.9, "validate": 0.1}, seed), testing])
        parts = published_splits.hold_out(training["patient_id"].unique().sort().to_list(), 0.2, seed)
        return pl.concat(
            [training.with_columns(published_splits.column(training["patient_id"], parts)), testing]
        )


def _read_list(path: Path, part: str) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The rows of one list with ids, path and labels, and its faulty lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    lines = pl.Series("line", [line for line in text.splitlines() if line.strip()], dtype=pl.String)
    table = lines.to_frame().select(pl.col("line").str.extract_groups(_LINE)).unnest("line")
    kind = pl.col("kind").str.to_lowercase().replace_strict(_CLASSES, default=None, return_dtype=pl.String)
    rows = table.with_columns(
        image_id=pl.col("file"), path=f"{part}/" + pl.col("file"), split=pl.lit(part), _label=kind
    )
    cut = pl.col("file").is_null()
    unknown = ~cut & pl.col("_label").is_null()
    aside = [
        reject(rows.filter(cut), "bad_line", f"{path.name}: patient, file, class, source are wanted"),
        reject(rows.filter(unknown), "unknown_class", pl.col("kind")),
    ]
    labels = [(pl.col("_label") == name).cast(pl.Float32).alias(name) for name in LABELS]
    return rows.filter(~cut & ~unknown).with_columns(*labels).drop("_label", "kind", "file"), aside


def _with_patients(rows: pl.DataFrame) -> pl.DataFrame:
    """Patients by the list's ids, with the source in front where two sources use the same id."""
    shared = pl.col("source").n_unique().over("patient") > 1
    return rows.select(
        "image_id",
        "path",
        "split",
        *LABELS,
        pl.when(shared)
        .then(pl.format("{}-{}", "source", "patient"))
        .otherwise("patient")
        .alias("patient_id"),
        study_id=pl.col("image_id"),
        view=pl.lit(None, pl.String),
        height=pl.lit(None, pl.Int32),
        width=pl.lit(None, pl.Int32),
    )


def _present(rows: pl.DataFrame, root: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose file is in its folder, and the others; a folder that is missing is left to `prepare`."""
    names = set()
    for part in ("train", "test"):
        if (root / part).is_dir():
            names |= {f"{part}/{name}" for name in _names(root / part)}
        else:
            logger.warning("no folder %s in %s: the rows are read, the files are missing", part, root)
            names |= {*rows.filter(pl.col("split") == part)["path"]}
    there = pl.col("path").is_in(sorted(names))
    return rows.filter(there), rows.filter(~there)


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:  # names alone: thirty thousand paths would take longer
        return [entry.name for entry in entries]


def _write_fake(root: Path) -> None:
    import cv2
    import numpy as np

    kinds = ("normal", "pneumonia", "COVID-19")
    train = [f"{n // 2} {n:06d}.png {kinds[n // 2 % 3]} rsna" for n in range(24)]
    train += [
        "311a 000004.jpg pneumonia cohen",
        "311b chest film 2.jpeg COVID-19 cohen",
        "3 SARS-g04mr34g0-Fig8a-day0.jpeg pneumonia cohen",  # rsna has a patient 3 too
        "MIDRC-RICORD-1C-419639-000025 gone.png COVID-19 ricord",
        "99 99.png positive bimcv",
        "100 100.png",
    ]
    test = [f"t{n} test-{n:03d}.jpg {kinds[n % 3]} rsna" for n in range(9)]
    train.append("t1 old-001.png pneumonia rsna")
    for part, lines in (("train", train), ("test", test)):
        (root / f"{part}_COVIDx9A.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (root / part).mkdir(parents=True)
        for number, line in enumerate(lines):
            name = " ".join(line.split()[1:-2])
            if name and name != "gone.png":
                picture = _dicom_fake.radiograph(number, 48)
                coloured = np.repeat(picture[..., None], 3, axis=2) if number % 4 == 0 else picture
                cv2.imwrite(str(root / part / name), coloured)
