"""MIMIC-CXR-JPG with the reports of MIMIC-CXR: radiographs, reports and 14 labels, by patient and study.

    radlearn prepare data=mimic_cxr data.root=/data
    radlearn prepare data=mimic_cxr data.root=/data data.unit=study data.require_text=all data.subset=first_30

Below the root lie the release (`files/` and the tables mimic-cxr-2.0.0-{split,metadata,chexpert}.csv.gz) and
the reports, in the folders of PhysioNet's downloads or in LoVT's. Each report is read once a study. Layouts,
options and differences from LoVT, MGCA and Adaptor: docs/data/mimic_cxr.md.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data.labels import CODES, SOFT, apply_policy, check_policy, parse_labels
from radlearn.data.mimic_reports import IRREGULAR_STUDIES, Irregular
from radlearn.data.reports import Fallback
from radlearn.data.splits import SplitRule, check_patients, fraction
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _mimic_fake, _mimic_reports
from radlearn.manifests._release import check_choice, find, need, read_columns
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import OPTIONAL_TYPES, REQUIRED_TYPES, finish, reject
from radlearn.manifests.chexpert import COMPETITION
from radlearn.records import Card, Release

logger = logging.getLogger("radlearn")

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
    "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia",
    "Pneumothorax", "Support Devices",
)  # fmt: skip
_VERSIONS = ("2.1.0", "2.0.0")  # of folders; the tables of 2.1.0 are still called mimic-cxr-2.0.0
_JPG_PLACES = (
    "",
    "mimic-cxr-jpg_2-0-0",
    *(f"{folder}mimic-cxr-jpg/{v}" for folder in ("", "files/", "physionet.org/files/") for v in _VERSIONS),
    *(f"mimic-cxr-jpg-chest-radiographs-with-structured-labels-{v}" for v in _VERSIONS),
    "mimic-cxr-jpg",
    *_VERSIONS,
)
_REPORT_PLACES = (
    "",
    "mimic-cxr_2-0-0",
    "mimic-cxr-reports",
    *(f"{folder}mimic-cxr/{v}" for folder in ("", "files/", "physionet.org/files/") for v in _VERSIONS),
    *(f"mimic-cxr-database-{v}" for v in _VERSIONS),
    "mimic-cxr",
)
_VIEW_WORDS = {
    **{view: view for view in ("PA", "AP", "LATERAL")},
    **dict.fromkeys(("LL", "XTABLE LATERAL"), "LATERAL"),
}
_IDS = {"image_id": "dicom_id", "patient": "subject_id", "study": "study_id"}
_NO_REPORTS = "none"
_SHARE = 0.3  # of `first_30` and `seeded_30`


class MimicCXR(Manifest):
    """MIMIC-CXR-JPG 2.0.0 or 2.1.0 and MIMIC-CXR's reports.

    Args:
        split: `official`, or `mgca`: validate and test merged into validate, as MGCA and Adaptor.
        views: views that are kept: PA, AP, LATERAL, or any word of ViewPosition; empty keeps all.
        unit: `image`, or `study`: one row a study, its image of the first of `views` with the lowest id.
        subset: of the training rows: `all`; `first_30`, the first 30 % in order of subject and study, as
            published by LoVT for images; `first_30_studies`, whole studies, as published for methods that
            read reports; or `seeded_30`, 30 % of the patients.
        subset_seed: which patients `seeded_30` draws.
        labels: the labeller: `chexpert` or `negbio`.
        uncertain: what -1 becomes: zeros, ones, ignore, soft (0.5, training losses only) or keep.
        blank: what a blank label becomes: zeros or ignore.
        reports: zip file, folder or sectioned csv, relative to the root or absolute; None looks for them
            below the root; `none` does without text.
        sections: `corrected`, or `public`: the rules that published texts were cut by, unchanged.
        impression_fallback: what stands in for a missing impression: none, findings or last_paragraph.
        irregular: the 54 studies that the public rules do not fit: `drop` them, `override` by the public
            hand-made choice, or `keep` them as any.
        sentences: the column `sentences`: `split`, findings and then impression as LoVT, or `caption`, MGCA's
            and Adaptor's lower-case tokens, impression first.
        require_text: where studies without report, findings and impression, or of fewer than three tokens
            are left out: `train`, `all`, as LoVT, MGCA and Adaptor do, or `none`.
        check_files: reject rows whose image file is missing or empty (`prepare` finds those anyway).
        num_workers: processes that read reports; 0 takes one a core. The result does not depend on it.
    """

    card: ClassVar[Card] = Card(
        name="mimic_cxr",
        source="https://physionet.org/content/mimic-cxr-jpg/ and https://physionet.org/content/mimic-cxr/",
        licence="PhysioNet Credentialed Health Data License 1.5.0",
        access="credentialed",
        release="2.0.0",
        label_names=LABELS,
        patient_namespace="mimic",
        citation="Johnson et al. 2019, MIMIC-CXR, Scientific Data 6:317, doi:10.1038/s41597-019-0322-0; "
        "Johnson et al. 2019, MIMIC-CXR-JPG, arXiv:1901.07042",
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "official": SplitRule("the release's own: mimic-cxr-2.0.0-split.csv, by patient"),
        "mgca": SplitRule("the release's own, validate and test merged into validate (Wang et al. 2022)"),
    }

    def __init__(
        self,
        *,
        split: str = "official",
        views: Sequence[str] = ("PA", "AP"),
        unit: str = "image",
        subset: str = "all",
        subset_seed: int = 0,
        labels: str = "chexpert",
        uncertain: str = "keep",
        blank: str = "ignore",
        reports: str | None = None,
        sections: str = "corrected",
        impression_fallback: Fallback = "none",
        irregular: Irregular = "drop",
        sentences: str = "split",
        require_text: str = "train",
        check_files: bool = False,
        num_workers: int = 0,
    ) -> None:
        check_policy(uncertain, blank)
        if num_workers < 0:
            raise ConfigurationError(f"data.num_workers is not negative: got {num_workers}")
        self.split = check_choice("split", split, tuple(self.splits))
        self.views = tuple(view.strip().upper() for view in views or ())
        self.unit = check_choice("unit", unit, ("image", "study"))
        self.subset = check_choice("subset", subset, ("all", "first_30", "first_30_studies", "seeded_30"))
        self.subset_seed = subset_seed
        self.labels = check_choice("labels", labels, ("chexpert", "negbio"))
        self.uncertain, self.blank = uncertain, blank
        self.reports = reports
        check_choice("impression_fallback", impression_fallback, ("none", "findings", "last_paragraph"))
        check_choice("irregular", irregular, ("drop", "override", "keep"))
        self.rules = _mimic_reports.Rules(
            sections=check_choice("sections", sections, ("corrected", "public")),
            fallback=impression_fallback,
            irregular=irregular,
            sentences=check_choice("sentences", sentences, ("split", "caption")),
        )
        self.require_text = check_choice("require_text", require_text, ("train", "all", "none"))
        self.check_files, self.num_workers = check_files, num_workers

    def macro_labels(self) -> Mapping[str, Sequence[str]]:
        """The mean over the five labels of the CheXpert competition, as NOVA and LoVT score."""
        return {"macro_competition5": COMPETITION}

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read tables and reports. Images are opened by `prepare`, not here.

        Args:
            root: folder of the release, or one that holds release and reports.
            progress: optional callable (done, total, what), called while reports are read.

        Raises:
            DataError: if a table, a column or the reports are missing, or a patient lies in two splits.
        """
        root = Path(root)
        jpg, tables = _tables(root, self.labels)
        rows, rejected = _joined(tables["metadata"], tables["split"])
        source = self._reports(root, jpg, rows)
        sources = [*tables.values(), *(source.sources if source else ())]
        if self.split == "mgca":
            rows = rows.with_columns(pl.col("split").replace("test", "validate"))
        left_out: dict[str, int] = {}
        rows = _keep(rows, self._has_wanted_view(), "other_view", left_out)
        if source is not None:
            rows, unreadable = self._with_texts(rows, source, left_out, progress)
            rejected.append(unreadable)
        rows = self._with_labels(rows, tables[self.labels])
        rows = _subset(self._units(rows, left_out), self.subset, self.subset_seed, left_out)
        columns = [n for n in (*REQUIRED_TYPES, *OPTIONAL_TYPES, *LABELS) if n in rows.columns]
        rule = self.splits[self.split]
        card = dataclasses.replace(
            self.card,
            release=_version(jpg),
            split=self.split,
            split_seed=rule.seed,
            split_unit=rule.unit,
            split_rule=rule.about + self._subset_rule(),
        )
        return finish(
            rows.select(columns),
            rejected,
            card,
            jpg,
            left_out=left_out,
            label_values=(*CODES, SOFT) if self.uncertain == "soft" else CODES,
            check_files=self.check_files,
            sources=sources,
        )

    @classmethod
    def fake(cls, root: Path) -> MimicCXR:
        """Write a miniature of both releases in LoVT's two folders: small JPEGs, the tables, the archive.

        The headers are the published ones. Its oddities:
        - ids are bare numbers in the tables, with p and s in paths, and one study has its s in a table
        - the split table orders its columns otherwise than the metadata table
        - views LATERAL, LL, AP AXIAL and blank; studies with several frontal views, and with none
        - an image in the metadata alone, one in the split alone, one without a study, one listed twice
        - a study that the label table lacks; labels 1.0, 0.0, -1.0 and blank
        - a study without report, an empty report, one that is not UTF-8, one with CRLF
        - reports without findings, without impression, without both, of two words, with "NDICATION"
        - an irregular study, whose report the public rules do not fit
        - an image whose file is missing
        - the archive holds folders, and copies that another system left in __MACOSX

        No Finding is 0.0 in places, which the real tables never say: they have 1.0 or blank.
        """
        return cls(**_mimic_fake.write(root))

    def _reports(self, root: Path, jpg: Path, rows: pl.DataFrame) -> _mimic_reports.Source | None:
        if self.reports == _NO_REPORTS:
            return None
        studies = _studies(rows)
        if self.reports is not None:
            source: _mimic_reports.Source | None = _mimic_reports.locate(self.reports, root, studies)
        else:
            source = _mimic_reports.search([jpg, *(root / place for place in _REPORT_PLACES)], studies)
        if source is None:
            raise DataError(
                f"{_mimic_reports.WANTED} below {root}: looked in {jpg} and in "
                f"{', '.join(_REPORT_PLACES[1:])}. Reports are a download of their own: set "
                f"data.reports=PATH, or data.reports={_NO_REPORTS} to do without text"
            )
        if self.rules.irregular == "override" and isinstance(source, _mimic_reports.Sectioned):
            raise ConfigurationError(
                f"data.irregular=override needs whole reports: {source.path} holds sections, and not of those"
            )
        return source

    def _has_wanted_view(self) -> pl.Expr:
        if not self.views:
            return pl.lit(True)
        return pl.any_horizontal(pl.col("view", "_view").is_in(self.views).fill_null(False))

    def _with_texts(
        self, rows: pl.DataFrame, source: _mimic_reports.Source, left_out: dict[str, int], progress: Any
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Add the columns of text; returns also the rows whose report is damaged."""
        if self.rules.irregular == "drop":
            irregular = pl.col("study").is_in(sorted(IRREGULAR_STUDIES))
            rows = _keep(rows, ~irregular, "irregular_report", left_out)
        studies = _studies(rows)
        texts = _mimic_reports.read(
            source, studies, self.rules, num_workers=self.num_workers, progress=progress
        )
        if isinstance(source, _mimic_reports.Sectioned):
            texts = texts.drop("report")
        rows = rows.join(texts, on="study", how="left", maintain_order="left")
        damaged = pl.col("state") == "unreadable"
        unreadable = reject(rows.filter(damaged), "unreadable_report")
        rows = rows.filter(~damaged)
        for reason, lacking in _lacking():
            needed = {"train": pl.col("split") == "train", "all": pl.lit(True), "none": pl.lit(False)}
            rows = _keep(rows, ~(needed[self.require_text] & lacking), reason, left_out)
        return rows, unreadable

    def _with_labels(self, rows: pl.DataFrame, path: Path) -> pl.DataFrame:
        table = read_columns(path, {"study": "study_id", **{name: name for name in LABELS}})
        labels = pl.DataFrame(
            [_number("study", "s", table), *(parse_labels(table[n], str(path)) for n in LABELS)]
        )
        labels = labels.drop_nulls("study").unique("study", keep="first", maintain_order=True)
        if unlabelled := len(rows.select("study").unique().join(labels, on="study", how="anti")):
            logger.info("%d studies are not in %s: all their labels are blank", unlabelled, path.name)
        rows = rows.join(labels, on="study", how="left", maintain_order="left")
        policy = partial(apply_policy, uncertain=self.uncertain, blank=self.blank)
        return rows.with_columns([policy(rows[name]) for name in LABELS])

    def _units(self, rows: pl.DataFrame, left_out: dict[str, int]) -> pl.DataFrame:
        """The rows in order of subject and study; one a study where the unit is the study."""
        rows = rows.sort("patient", "study", "_order")
        if self.unit == "image":
            return rows
        order = [*self.views, *_VIEW_WORDS]
        ranks = {view: rank for rank, view in reversed([*enumerate(order)])}
        by_word = pl.col("_view").replace_strict(ranks, default=len(order), return_dtype=pl.Int32)
        by_view = pl.col("view").replace_strict(ranks, default=len(order), return_dtype=pl.Int32)
        best = rows.sort("patient", "study", pl.min_horizontal(by_word, by_view), "image_id")
        return _keep(best, pl.col("study").is_first_distinct(), "other_image_of_study", left_out)

    def _subset_rule(self) -> str:
        return {
            "all": "",
            "first_30": f"; train: the first 30 % of its {self.unit} rows by subject and study (LoVT)",
            "first_30_studies": "; train: the first 30 % of its studies by subject and study (LoVT)",
            "seeded_30": f"; train: 30 % of its patients, drawn with seed {self.subset_seed}",
        }[self.subset]


def _tables(root: Path, labels: str) -> tuple[Path, dict[str, Path]]:
    """The folder of MIMIC-CXR-JPG, and its tables `split`, `metadata` and that of the labels."""

    def names(kind: str) -> list[str]:
        return [f"mimic-cxr-{version}-{kind}.csv" for version in reversed(_VERSIONS)]

    places = (root / place for place in _JPG_PLACES)
    jpg = next((place for place in places if find(place, *names("split"))), None)
    if jpg is None:
        raise DataError(
            f"no MIMIC-CXR-JPG in {root}: looked for {names('split')[0]} (also .gz) there and in "
            f"{', '.join(_JPG_PLACES[1:])}. data.root is the folder of the release, or the one that holds it"
        )
    kinds = ("split", "metadata", labels)
    return jpg, {kind: need(jpg, *names(kind), what=f"table '{kind}'") for kind in kinds}


def _version(jpg: Path) -> str:
    """The release's version, from the folder's name or from the table that 2.1.0 added."""
    if match := re.search(r"2[.-]\d[.-]\d", jpg.absolute().name):
        return match[0].replace("-", ".")
    return "2.1.0" if find(jpg, "mimic-cxr-2.1.0-test-set-labeled.csv") else "2.0.0"


def _joined(metadata: Path, split: Path) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The two tables joined on all three ids, and the rows that only one of them has.

    Returns:
        `image_id, patient, study` (numbers), `patient_id, study_id, split, _view, view, path, height, width,
        _order` of the metadata; and the rejected rows.
    """
    columns = {**_IDS, "_view": "ViewPosition", "height": "Rows", "width": "Columns"}
    images = _with_numbers(read_columns(metadata, columns)).with_row_index("_order")
    images = images.with_columns(
        pl.col("_view").str.to_uppercase(), pl.col("height", "width").cast(pl.Int32, strict=False)
    )
    listed = _with_numbers(read_columns(split, {**_IDS, "split": "split"}))
    unknown = pl.any_horizontal(pl.col("image_id", "patient", "study").is_null())
    rejected = [reject(_with_path(table.filter(unknown)), "no_id") for table in (images, listed)]
    rows = images.filter(~unknown).join(
        listed.filter(~unknown),
        on=["image_id", "patient", "study"],
        how="full",
        coalesce=True,
        maintain_order="left_right",
    )
    view = pl.col("_view").replace_strict(_VIEW_WORDS, default=None, return_dtype=pl.String)
    rows = _with_path(rows).with_columns(
        view=view,
        patient_id=pl.format("p{}", "patient"),
        study_id=pl.format("s{}", "study"),
    )
    faults = {
        "no_split": pl.col("split").is_null(),
        "no_metadata": pl.col("_order").is_null(),
        # The same line twice; one image in two splits is a leak, which the check below refuses.
        "duplicate_id": ~pl.struct("image_id", "split").is_first_distinct(),
    }
    for reason, faulty in faults.items():
        rejected.append(reject(rows.filter(faulty), reason))
        rows = rows.filter(~faulty)
    check_patients(rows)  # before any row is left out
    return rows, rejected


def _with_numbers(table: pl.DataFrame) -> pl.DataFrame:
    """Subject and study as numbers, null where they are none."""
    return table.with_columns(_number("patient", "p", table), _number("study", "s", table))


def _number(column: str, prefix: str, table: pl.DataFrame) -> pl.Series:
    """Ids with or without their prefix as numbers, so that tables join whichever they use."""
    return table[column].str.strip_prefix(prefix).cast(pl.Int64, strict=False)


def _with_path(rows: pl.DataFrame) -> pl.DataFrame:
    """The image's path: files/p10/p10000032/s50414267/<dicom>.jpg."""
    subject = pl.col("patient").cast(pl.String)
    path = pl.format("files/p{}/p{}/s{}/{}.jpg", subject.str.slice(0, 2), subject, "study", "image_id")
    return rows.with_columns(path=path)


def _studies(rows: pl.DataFrame) -> list[_mimic_reports.Study]:
    """Subject and study of each study, in the archive's order."""
    studies = rows.sort("patient", "study").unique("study", keep="first", maintain_order=True)
    return list(zip(studies["patient"], studies["study"], strict=True))


def _lacking() -> Iterator[tuple[str, pl.Expr]]:
    """Why a study has no usable text, the first reason that holds."""
    yield "no_report", pl.col("state") == "missing"
    yield "no_text", pl.all_horizontal(pl.col("findings", "impression").is_null())
    yield "short_text", pl.col("num_tokens") < _mimic_reports.MIN_TOKENS


def _keep(rows: pl.DataFrame, wanted: pl.Expr, reason: str, left_out: dict[str, int]) -> pl.DataFrame:
    """The wanted rows; how many are left out is noted."""
    kept = rows.filter(wanted)
    left_out[reason] = left_out.get(reason, 0) + len(rows) - len(kept)
    return kept


def _subset(rows: pl.DataFrame, subset: str, seed: int, left_out: dict[str, int]) -> pl.DataFrame:
    """The rows with a part of the training rows, which are in order of subject and study."""
    if subset == "all":
        return rows
    train = rows.filter(pl.col("split") == "train")
    if subset == "first_30":
        chosen = train.head(round(_SHARE * len(train)))
    elif subset == "first_30_studies":
        studies = train["study_id"].unique(maintain_order=True)
        first = studies.head(round(_SHARE * len(studies)))
        chosen = train.filter(pl.col("study_id").is_in(first.implode()))
    else:
        # By patient alone: strata would make the subset depend on the labeller and on its policies.
        chosen = fraction(train, 100 * _SHARE, seed)
    wanted = (pl.col("split") != "train") | pl.col("image_id").is_in(chosen["image_id"].implode())
    return _keep(rows, wanted, "not_in_subset", left_out)
