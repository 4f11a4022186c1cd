"""OpenI, the Indiana University chest X-ray collection: 3,955 reports with 7,470 images and MeSH headings.

    NLMCXR_reports.tgz         or unpacked: ecgen-radiology/1.xml, ...: one report each
    NLMCXR_png/                CXR10_IM-0002-1001.png, ...; or NLMCXR_dcm/10/10_IM-0002-1001.dcm, ...
    indiana_projections.csv    optional, which image is lateral: uid,filename,projection

A report belongs to one patient. Words that might identify one were replaced by XXXX, others with them.
The reports alone are enough for work on text: `OpenI().read_reports(root)`.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data import finding_labels, sentences
from radlearn.data import reports as report_text
from radlearn.data.splits import assign
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _openi_fake, _openi_mesh, _openi_reports
from radlearn.manifests._openi_reports import Report
from radlearn.manifests._release import check_choice, find, need, read_columns
from radlearn.manifests._table_file import TableFile
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import OPTIONAL_TYPES, REQUIRED_TYPES, finish, reject
from radlearn.records import Card, Release

logger = logging.getLogger("radlearn")

_REPORTS = ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology", "NLMCXR_reports.tgz")
_IMAGES = ("NLMCXR_png", "NLMCXR_dcm", "images/images_normalized")
_PROJECTIONS = "indiana_projections.csv"
# A file's name without its ending, and without the CXR that only the PNG files have.
_FILE = re.compile(r"(?:CXR)?(\d+(?:_\d+)?_IM-[\d-]+?)(?:\.dcm)?(?:\.(?:png|dcm|jpe?g))?$", re.IGNORECASE)
_REPEATED = re.compile(r"^(\d+)_\1_")
# Projections of indiana_projections.csv, and ViewPosition of the DICOM files.
_VIEWS = {
    **{name: name for name in ("PA", "AP", "LATERAL")},
    **dict.fromkeys(("LL", "RL", "LARGE LATERAL", "LAT"), "LATERAL"),
}
_FRACTIONS = {"train": 0.7, "validate": 0.1, "test": 0.2}
_SEED = 0


class OpenI(Manifest):
    """Reports, images and MeSH labels of OpenI.

    Args:
        reports: the folder of report files or their archive, relative to the root; None takes
            `ecgen-radiology` or `NLMCXR_reports.tgz`.
        images: folder of the images, relative to the root, searched with its subfolders; None takes
            `NLMCXR_png`, `NLMCXR_dcm` or the `images/images_normalized` of the Kaggle copy. Where there is
            none the reports can be read, and `prepare` cannot run.
        projections: table that tells views, relative to the root: `filename, projection` of the Kaggle copy
            (Frontal or Lateral; taken if it is there), or `imageid, View Position` of the DICOM headers,
            which call 1,090 of the two-image studies' both images PA. Without it a view is told only by the
            caption of a report's one image.
        frontal_only: leave lateral images out; needs `projections`.
        labels: `mesh`, what annotators coded: 1, else 0, null in a report that nobody coded; or `text`, the
            rules of `radlearn.data.finding_labels`: 1, 0, -1 uncertain, null not mentioned.
        impression_fallback, strip_enumeration, deid, drop_comparison: as of `table`.
    """

    card: ClassVar[Card] = Card(
        name="openi",
        source="https://openi.nlm.nih.gov/faq#collection: NLMCXR_reports.tgz and NLMCXR_png.tgz",
        licence="CC BY-NC-ND 4.0",
        access="open",
        release="Indiana University chest X-ray collection, 2013",
        label_names=finding_labels.LABELS,
        split="patients",
        split_seed=_SEED,
        split_rule="70, 10 and 20 % of the reports, each a patient of its own, by hash of the report's id",
        citation=(
            "Demner-Fushman et al. 2016, Preparing a collection of radiology examinations for distribution "
            "and retrieval, JAMIA 23(2):304-310, doi:10.1093/jamia/ocv080"
        ),
    )

    def __init__(
        self,
        *,
        reports: str | None = None,
        images: str | None = None,
        projections: str | None = None,
        frontal_only: bool = False,
        labels: str = "mesh",
        impression_fallback: str = "none",
        strip_enumeration: bool = False,
        deid: str = "keep",
        drop_comparison: bool = False,
    ) -> None:
        self.places = {"reports": reports, "images": images, "projections": projections}
        self.frontal_only = frontal_only
        self.labels = check_choice("labels", labels, ("mesh", "text"))
        check_choice("impression_fallback", impression_fallback, ("none", "findings", "last_paragraph"))
        check_choice("deid", deid, ("keep", "remove"))
        self.fallback: Any = impression_fallback
        self.text_options: dict[str, Any] = {
            "strip_enumeration": strip_enumeration, "deid": deid, "drop_comparison": drop_comparison,
        }  # fmt: skip

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read reports, views and the names of the image files; images are opened by `prepare`, not here.

        Raises:
            DataError: if there are no reports, or `images` or `projections` are set and not there.
            ConfigurationError: if `frontal_only` is set and no table tells the views.
        """
        root = Path(root)
        path = self._reports_path(root)
        told, bad = self._read_reports(path, progress)
        projections = self._projections(root)
        folder = self._images_folder(root)
        rows = told.explode("images").drop_nulls("images").unnest("images")
        rows = _with_views(rows, projections).with_columns(
            path=_paths(rows["image_id"], folder or root / _IMAGES[0], root),
            height=pl.lit(None, pl.Int32),
            width=pl.lit(None, pl.Int32),
            sentences=_as_structs(rows["sentences"]),
        )
        left_out = {"report_without_image": int(told["images"].list.len().eq(0).sum())}
        if self.frontal_only:
            known = rows.filter(pl.col("_projection").is_not_null())
            frontal = known.filter(pl.col("view").is_null() | (pl.col("view") != "LATERAL"))
            left_out |= {"view_unknown": len(rows) - len(known), "other_view": len(known) - len(frontal)}
            rows = frontal
        texts = ("report", "findings", "impression", "sentences")
        return finish(
            rows.select(*REQUIRED_TYPES, *texts, *self.card.label_names),
            [_unreadable(bad)],
            self.card,
            root,
            left_out=left_out,
            check_files=folder is not None,
            # The table of views also where it is not there yet.
            sources=[] if path.is_dir() else [path, projections or root / _PROJECTIONS],
        )

    def read_reports(self, root: Path, progress: Any = None) -> pl.DataFrame:
        """The reports alone, those without image included: one row a report, in the order of their ids.

        Returns:
            `report_id, patient_id, study_id, split, report, comparison, indication, findings, impression,
            sentences` (findings, then impression), `mesh, automatic` (headings), `images` (their ids), and
            the labels.
        Raises:
            DataError: if there are no reports.
        """
        table, _ = self._read_reports(self._reports_path(Path(root)), progress)
        ids = pl.col("images").list.eval(pl.element().struct.field("image_id"))
        return table.with_columns(ids).rename({"_view": "view"}).drop("view")

    @classmethod
    def fake(cls, root: Path) -> OpenI:
        """Write a miniature release with the structure of the real XML files.

        Its oddities:
        - a report without FINDINGS, one without IMPRESSION, one without either: the elements are there, empty
        - XXXX where words were removed, in captions too, and with them half of "x-ray"
        - a report without image; reports with one, two and three
        - the images of report 1 name it twice: CXR1_1_IM-0001-3001
        - ids of one, two or three numbers after IM
        - a report that nobody coded: its heading is `No Indexing`
        - headings with a blank at their end or two inside; qualifiers after slashes
        - findings that go on after END OF REPORT
        - an image whose file is missing, a report file that is cut off
        - a caption that names both views for each of two images
        """
        _openi_fake.write(root)
        return cls()

    def _reports_path(self, root: Path) -> Path:
        names = (self.places["reports"],) if self.places["reports"] else _REPORTS
        return need(root, *names, what="reports of OpenI (ecgen-radiology, or NLMCXR_reports.tgz)")

    def _images_folder(self, root: Path) -> Path | None:
        """The folder of the images, or None, with a warning, where only reports are at hand."""
        if self.places["images"]:
            return need(root, self.places["images"], what="folder of images (data.images)")
        folder = find(root, *_IMAGES)
        if folder is None or not folder.is_dir():
            logger.warning(
                "no image below %s: only the reports are read. Unpack NLMCXR_png.tgz to NLMCXR_png there, or "
                "set data.images",
                root,
            )
            return None
        return folder

    def _projections(self, root: Path) -> Path | None:
        """The table of views; where it is not set, the Kaggle copy's if it is there."""
        if self.places["projections"]:
            return need(root, self.places["projections"], what="table of views (data.projections)")
        found = find(root, _PROJECTIONS)
        if self.frontal_only and found is None:
            raise ConfigurationError(
                f"data.frontal_only needs a table that tells lateral images: there is no {_PROJECTIONS} in "
                f"{root}; set data.projections"
            )
        return found

    def _read_reports(self, path: Path, progress: Any) -> tuple[pl.DataFrame, list[tuple[str, str]]]:
        """One row a report, with the working column `_view`; and each file that is none, with why."""
        parsed, bad = _openi_reports.read_all(path, progress)
        if not parsed:
            raise DataError(f"{path}: none of its {len(bad)} files is a report of OpenI ({bad[0][1]})")
        table = pl.DataFrame([self._row(report) for report in parsed], schema=_REPORT_TYPES)
        table = assign(table, _FRACTIONS, _SEED)
        if self.labels == "text":
            labels = finding_labels.label_reports(table["sentences"])
        else:
            coded = [_openi_mesh.labels_of(report.mesh) for report in parsed]
            labels = pl.DataFrame(coded, schema=dict.fromkeys(finding_labels.LABELS, pl.Float32))
        return pl.concat([table, labels], how="horizontal").sort("report_id"), bad

    def _row(self, report: Report) -> dict[str, Any]:
        text = report.text
        findings = report_text.findings(text)
        impression = report_text.impression(text, fallback=self.fallback, **self.text_options)
        spoken = [*sentences.split(findings or ""), *sentences.split(impression or "")]
        return {
            "report_id": report.report_id,
            "patient_id": report.report_id,
            "study_id": report.report_id,
            "report": text or None,
            "comparison": report.sections.get("COMPARISON"),
            "indication": report.sections.get("INDICATION"),
            "findings": findings,
            "impression": impression,
            "sentences": spoken or None,
            "mesh": list(report.mesh),
            "automatic": list(report.automatic),
            "images": [{"image_id": image_id} for image_id in report.images],
            "_view": report.view(),
        }


_REPORT_TYPES: dict[str, Any] = {
    **dict.fromkeys(("report_id", "patient_id", "study_id", "report", "comparison", "indication"), pl.String),
    **dict.fromkeys(("findings", "impression"), pl.String),
    **dict.fromkeys(("sentences", "mesh", "automatic"), pl.List(pl.String)),
    "images": pl.List(pl.Struct({"image_id": pl.String})),
    "_view": pl.String,
}


def _unreadable(bad: list[tuple[str, str]]) -> pl.DataFrame:
    table = pl.DataFrame(bad, schema={"path": pl.String, "detail": pl.String}, orient="row")
    return reject(table.with_columns(image_id=pl.lit(None, pl.String)), "bad_report", pl.col("detail"))


def _with_views(rows: pl.DataFrame, projections: Path | None) -> pl.DataFrame:
    """Set `view`, and `_projection` to what the table says in its own words."""
    if projections is None:
        return rows.with_columns(view="_view", _projection=pl.lit(None, pl.String))
    file, projection = "imageid", "View Position"
    if projection not in TableFile(projections).columns:
        file, projection = "filename", "projection"
    told = read_columns(projections, {"_key": file, "_projection": projection})
    told = told.with_columns(_keys(told["_key"]), pl.col("_projection").str.to_uppercase())
    told = told.unique("_key", keep="first", maintain_order=True)
    rows = rows.with_columns(_keys(rows["image_id"])).join(told, on="_key", how="left", maintain_order="left")
    view = pl.col("_projection").replace_strict(_VIEWS, default=None, return_dtype=pl.String)
    return rows.with_columns(view=pl.coalesce(view, "_view"))


def _paths(image_ids: pl.Series, folder: Path, root: Path) -> pl.Series:
    """Where each image lies, relative to the root; where it should lie if it is not there."""
    files: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            files.setdefault(_key(name), os.path.relpath(Path(place, name), root))
    expected = os.path.relpath(folder, root)
    keys = _keys(image_ids)
    paths = [files.get(key, f"{expected}/{name}.png") for key, name in zip(keys, image_ids, strict=True)]
    return pl.Series("path", paths, dtype=pl.String)


def _keys(names: pl.Series) -> pl.Series:
    return pl.Series("_key", [name and _key(name) for name in names], dtype=pl.String)


def _key(name: str) -> str:
    """What the PNG, the DICOM and the table of views have in common of an image's name.

    `CXR1_1_IM-0001-3001`, `1_IM-0001-3001.dcm` and `1_IM-0001-3001.dcm.png` -> `1_IM-0001-3001`.
    """
    match = _FILE.match(name)
    return _REPEATED.sub(r"\1_", match[1]) if match else name


def _as_structs(column: pl.Series) -> pl.Series:
    """Sentences as a manifest has them: no boxes point anywhere here."""
    return pl.Series(
        "sentences",
        [texts and [{"text": text, "boxes": []} for text in texts] for texts in column.to_list()],
        dtype=OPTIONAL_TYPES["sentences"],
    )
