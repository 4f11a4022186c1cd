"""Your own CT slices in folders of patients, with a table of lesions and a table of labels if you have them.

    radlearn pretrain method=lecl data=ct_folders data.root=D data.table=F
    radlearn prepare data=ct_folders data.root=D data.labels=studies.csv

    D/patient/slice.png                     8 bits: windowed already; 16 bits: Hounsfield units plus an offset
    D/patient/.../*.dcm                     DICOM series, ordered by position
    D/patient/scan.nii.gz, D/patient.nii.gz

All files of one root are of one kind. Patients are the folders of the first level, unless a table tells them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from radlearn.data._dicom_hounsfield import hounsfield_problem, to_hounsfield
from radlearn.data.images import ImageError, read_image
from radlearn.data.pixels import GREY
from radlearn.data.split_files import locate
from radlearn.data.splits import SplitRule, assign
from radlearn.data.windows import DEFAULT
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _ct_folders_fake, _ct_labels, _ct_lesions
from radlearn.manifests._ct_files import KINDS, choose_kind, scan
from radlearn.manifests._ct_series import READERS, Found, dicom_series
from radlearn.manifests._release import check_choice
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import finish, reject
from radlearn.records import Card, Pixels, Release

logger = logging.getLogger("radlearn")

# What 16-bit pictures of CT commonly hold: the unit plus 32,768 (DeepLesion) or plus 1,024 (12-bit scanners).
OFFSETS = (-32768, -1024)
_NUM_SAMPLES, _MOST_AGREE = 24, 0.9
_SHARES = {"train": 0.7, "validate": 0.1, "test": 0.2}


class CTFolders(Manifest):
    """Folders of CT slices.

    Args:
        table: table of lesions with columns image and lesion_present, and optionally patient_id, bbox or
            x_min, y_min, x_max, y_max, study_id, series_id, slice_index, split. By absolute path, or relative
            to the root or the working directory.
        labels: table of labels of slices, series, studies or patients: image, then a column a label.
        label_cols: columns of `labels` that are labels; empty takes all but `all`.
        unlisted: what a slice in no row of `table` counts as: `negative` or `unknown`.
        split: one of `splits`; where no table has a column split, `table` draws as `patient` does.
        split_seed: of the drawn split.
        kind: `png` (also JPEG), `dicom` or `nifti`; `auto` takes the one kind that is there.
        hounsfield_offset: of 16-bit pictures: Hounsfield units are the stored value plus this. `auto` tries
            the usual ones, -32768 and -1024, and takes the one with which air and tissue lie in their places.
        planes: of DICOM series: `axial`, or `all`, coronal and sagittal ones too.
        title: name of the data set in results and pages.
        access: open, credentialed or synthetic; pages about credentialed data show no pixels, ids or text.
    """

    card: ClassVar[Card] = Card(
        name="ct_folders",
        source="folders of CT slices given by the user",
        licence="as obtained by the user",
        access="credentialed",
        release="",
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "table": SplitRule("the tables' column split; slices in no row go with their patient's others"),
        "patient": SplitRule("70, 10 and 20 % of the patients, drawn by hash", seed=0),
    }

    def __init__(
        self,
        *,
        table: str | None = None,
        labels: str | None = None,
        label_cols: Sequence[str] = (),
        unlisted: str = "negative",
        split: str = "table",
        split_seed: int = 0,
        kind: str = "auto",
        hounsfield_offset: int | str = "auto",
        planes: str = "axial",
        title: str = "ct_folders",
        access: str = "credentialed",
    ) -> None:
        if hounsfield_offset != "auto" and (
            isinstance(hounsfield_offset, bool) or not isinstance(hounsfield_offset, int)
        ):
            raise ConfigurationError(
                f"data.hounsfield_offset is auto or a whole number: got {hounsfield_offset!r}"
            )
        if label_cols and labels is None:
            raise ConfigurationError("data.label_cols are columns of data.labels, which is not set")
        self.table, self.labels, self.label_cols = table, labels, tuple(label_cols)
        self.unlisted = check_choice("unlisted", unlisted, ("negative", "unknown"))
        self.split, self.split_seed = check_choice("split", split, tuple(self.splits)), split_seed
        self.kind = check_choice("kind", kind, ("auto", *KINDS))
        self.offset = hounsfield_offset
        self.planes = check_choice("planes", planes, ("axial", "all"))
        self.title = title
        self.access = check_choice("access", access, ("open", "credentialed", "synthetic"))

    def read(self, root: Path, progress: Any = None) -> Release:
        """Look through the folders and read headers; pixels are decoded by `prepare`, not here.

        Raises:
            DataError: if there are no slices, or of several kinds; if nothing tells how 16-bit pictures hold
                Hounsfield units; if a table is missing, undefined, or about other folders.
            ConfigurationError: if DICOM or NIfTI files need an extra that is not installed.
        """
        root = Path(root)
        if not root.is_dir():
            raise DataError(f"{root} is no folder: data.root is the folder of the patients")
        tree = scan(root)
        kind = choose_kind(tree.files, self.kind, root)
        read = partial(dicom_series, planes=self.planes) if kind == "dicom" else READERS[kind]
        found = read(root, tree.files[kind], progress)
        left_out = {
            **found.left_out,
            "linked_folder": tree.linked,
            "other_kind": sum(len(paths) for other, paths in tree.files.items() if other != kind),
        }
        rows, rejected, tables, names = self._with_tables(found, root)
        no_patient = pl.col("patient_id").is_null()
        rejected.append(reject(rows.filter(no_patient), "no_patient_id"))
        rows = _in_order(_unique_over_patients(rows.filter(~no_patient)))
        if rows.is_empty():
            reasons = pl.concat(rejected)["reason"].unique().sort().to_list()
            raise DataError(f"no usable slice in {root}: {', '.join([*reasons, *found.left_out])}")
        rows, split = self._split_rows(rows)
        undecided = pl.col("split").is_null()
        left_out["in_no_split"] = int(rows["split"].null_count())
        card = dataclasses.replace(
            self.card,
            name=self.title,
            access=self.access,
            label_names=names,
            split=split,
            split_seed=self.split_seed if split == "patient" else None,
            split_rule=self.splits[split].about,
        )
        return finish(
            rows.filter(~undecided).with_columns(view=pl.lit(None, pl.String)),
            rejected,
            card,
            root,
            left_out=left_out,
            pixels=self._pixels(kind, found, rows, root),
            sources=[*tables, *tree.folders],
        )

    @classmethod
    def fake(cls, root: Path) -> CTFolders:
        """Write DICOM series in folders of patients, a table of lesions and a table of labels.

        Its oddities:
        - names of files tell nothing: they are shuffled, some without a suffix; order is by position
        - one series numbers its slices from the feet, another tells no position but InstanceNumber
        - a localizer, a coronal reformat and a radiograph lie among the slices; DICOMDIR and hidden files too
        - a slice was exported twice under two names
        - one file states a rescale although it holds Hounsfield units already
        - a slice with two lesions has two rows, one lesion has no box, one box is padded over the border
        - slices that no row names count as without lesion; one row names an image that is not there
        - two rows of one image disagree
        - labels are by study or by patient, blank where nobody looked; `all` is no label
        - splits are told in several words, of some slices only
        """
        _ct_folders_fake.write_dicom(root)
        return cls(table="lesions.csv", labels="studies.csv")

    def _with_tables(
        self, found: Found, root: Path
    ) -> tuple[pl.DataFrame, list[pl.DataFrame], list[Path], tuple[str, ...]]:
        """The rows with what the tables tell, rejected rows, the tables' files, the names of the labels."""
        rows, rejected = found.rows, [found.rejected_table()]
        tables: list[Path] = []
        names: tuple[str, ...] = ()
        if self.table is not None:
            tables.append(locate(self.table, root, "table"))
            rows, aside = _ct_lesions.merge(rows, tables[-1], root, unlisted=self.unlisted)
            rejected += aside
        if self.labels is not None:
            tables.append(locate(self.labels, root, "table"))
            rows, aside, names = _ct_labels.merge(rows, tables[-1], root, self.label_cols)
            rejected += aside
        return rows, rejected, tables, names

    def _split_rows(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
        """The rows with their split, and which of `splits` it is."""
        if "split" not in rows.columns or self.split == "patient":
            return assign(rows, _SHARES, self.split_seed), "patient"
        of_patient = pl.col("split").drop_nulls().first().over("patient_id")
        return rows.with_columns(split=pl.coalesce("split", of_patient)), "table"

    def _pixels(self, kind: str, found: Found, rows: pl.DataFrame, root: Path) -> Pixels:
        if kind != "png":
            return Pixels(kind="hounsfield", window=DEFAULT)
        if len(found.bits) > 1:
            examples = ", ".join(f"{path} ({bits} bits)" for bits, path in sorted(found.bits.items()))
            raise DataError(
                f"{root} mixes pictures of 8 and 16 bits: {examples}. Grey of a window and Hounsfield units "
                "do not go together: keep them in two roots"
            )
        if 16 not in found.bits:
            return GREY
        offset = self.offset if isinstance(self.offset, int) else find_offset(rows["path"].to_list(), root)
        return Pixels(kind="hounsfield", offset=offset, window=DEFAULT)


def find_offset(paths: Sequence[str], root: Path) -> int:
    """The offset with which a sample of 16-bit pictures holds Hounsfield units.

    Raises:
        DataError: if that is none of `OFFSETS`, or several.
    """
    spread = np.unique(np.linspace(0, len(paths) - 1, _NUM_SAMPLES).astype(int))
    problems: dict[int, list[str | None]] = {offset: [] for offset in OFFSETS}
    for place in spread:
        try:
            stored = read_image(root / paths[place])
        except ImageError:
            continue  # prepare names it
        for offset, seen in problems.items():
            seen.append(hounsfield_problem(to_hounsfield(stored, 1, offset)))
    agreeing = [
        offset
        for offset, seen in problems.items()
        if seen and sum(problem is None for problem in seen) >= _MOST_AGREE * len(seen)
    ]
    if len(agreeing) != 1:
        why = "; ".join(
            f"{offset}: {next((p for p in seen if p), 'agrees' if seen else 'nothing could be read')}"
            for offset, seen in problems.items()
        )
        raise DataError(
            f"{root}: cannot tell how its 16-bit pictures hold Hounsfield units. Tried {why}. Set "
            "data.hounsfield_offset, which is added to the stored value"
        )
    logger.info("16-bit pictures: Hounsfield units are the stored value %+d", agreeing[0])
    return agreeing[0]


def _unique_over_patients(rows: pl.DataFrame) -> pl.DataFrame:
    """Studies and series that two patients share get the patient in front; those without a name are his."""
    for name in ("study_id", "series_id"):
        nameless = pl.col(name) == ""
        shared = pl.col("patient_id").n_unique().over(name) > 1
        prefixed = pl.concat_str("patient_id", name, separator="/")
        unique = pl.when(nameless).then("patient_id").when(shared).then(prefixed).otherwise(name)
        rows = rows.with_columns(unique.alias(name))
    return rows


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Slices counted from 0 in each series, or as the table counts them where it does so for all of it."""
    place = pl.col("slice_index").rank("ordinal").over("series_id") - 1
    told = pl.lit(None, pl.Int32)
    if "told_slice_index" in rows.columns:
        number = pl.col("told_slice_index")
        told = pl.when(number.is_not_null().all().over("series_id")).then(number)
    index = pl.coalesce(told, place.cast(pl.Int32)).alias("slice_index")
    return rows.with_columns(index).drop("told_slice_index", strict=False)
