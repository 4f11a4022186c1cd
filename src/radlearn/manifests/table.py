"""Any table of images: csv, tsv, parquet or jsonl with column names of your own.

    radlearn pretrain data.train_manifest=train.csv data.image_root=/data/mimic-cxr-jpg/files
    radlearn pretrain data.train_manifest=all.parquet data.split_col=fold data.label_cols=[Edema]

The rules are those of NOVA's tables: frontal views only, the impression as text, uncertain and blank labels
negative, a training row without text dropped. Each rule is a setting; dropped rows are counted by reason.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data import reports
from radlearn.data.labels import CODES, SOFT, apply_policy, check_policy, parse_labels
from radlearn.errors import ConfigurationError, DataError, nearest
from radlearn.manifests import _table_fake
from radlearn.manifests._paths import PathJoiner
from radlearn.manifests._table_cells import as_text, parse_splits
from radlearn.manifests._table_file import TableFile
from radlearn.manifests._table_masks import add_masks
from radlearn.manifests._table_rows import as_type, taken_along, with_ids, with_patients
from radlearn.manifests._table_shapes import Shapes
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import OPTIONAL_TYPES, REQUIRED_TYPES, finish, reject
from radlearn.records import Card, Release

_ID_KEYS = {"patient_id": "patient_col", "study_id": "study_col", "image_id": "id_col"}


class Table(Manifest):
    """Rows from one table with a split column, or from one table a split.

    Args:
        train_manifest: table of the training rows, or of all rows if `split_col` is set. Relative names are
            looked up in the root, then in the working directory.
        validate_manifest: table of the validation rows.
        test_manifest: table of the test rows.
        image_root: folder that image paths are relative to; None takes the root given to `read`.
        image_col: column of the image paths.
        text_col: column of the training text.
        report_col: column of whole reports: their impression stands in where `text_col` is missing or blank.
        view_col: column of the view; a table without it keeps all rows.
        views: values of `view_col` that are kept, in any case; empty keeps all.
        label_cols: columns of labels: 1, 0, -1 uncertain, blank not mentioned.
        uncertain: what -1 becomes: zeros, ones, ignore, soft (0.5, training losses only) or keep.
        blank: what a blank label becomes: zeros or ignore.
        patient_col: column of patient ids; without it they are read from MIMIC-CXR or CheXpert paths, else
            each image is its own patient.
        study_col: column of study ids; without it as for patients. Ids that two patients share are prefixed.
        id_col: column of image ids; without it the path without its suffix.
        split_col: column with train, validate or test (also val, valid, validation, dev).
        require_text: drop training rows without text.
        impression_fallback: what stands in for a missing impression: none, findings or last_paragraph.
        strip_enumeration: remove list numbers from the text.
        deid: keep or remove marks of de-identification.
        drop_comparison: leave out sentences that compare with an earlier study.
        delimiter: of csv and tsv; None takes a comma or a tab.
        check_files: reject rows whose image file is missing or empty (`prepare` finds those anyway).
        boxes_col: column of all boxes of an image: JSON `[[x, y, w, h, "class"], ...]`, LoVT's
            `x;y;w;h|x;y;w;h`, or `x y w h class|x y w h class`; a blank cell has none.
        box_cols: four columns of one box; an image has a row a box, or one of four blanks.
        box_form: `xywh`: left, top, width and height in pixels, or `xyxy`: left, top, right and bottom.
        class_col: column of the class of a row's box or mask; of several boxes in one cell joined by `|`.
        class_name: class of boxes and masks that tell none.
        mask_col: column of masks; an image may have several rows.
        mask_form: `path`: an image (PNG, GIF), all above 0 is the mask; `rle`: "start length ..." row by row,
            from 0; `relative_rle`: SIIM-ACR's "gap length ..." down the columns, -1 for none.
        mask_classes: value in a mask's image -> class, for images of several classes; 0 is the ground.
        mask_root: folder that paths of masks are relative to; None takes that of the images.
        title: name of the data set in results and pages.
        access: open, credentialed or synthetic; pages about credentialed data show no pixels, ids or text.
    """

    card: ClassVar[Card] = Card(
        name="table",
        source="table files given by the user",
        licence="as obtained by the user",
        access="credentialed",
        release="",
        split_rule="as the tables give it",
    )

    def __init__(
        self,
        *,
        train_manifest: str | None = None,
        validate_manifest: str | None = None,
        test_manifest: str | None = None,
        image_root: str | None = None,
        image_col: str = "image_path",
        text_col: str = "impression",
        report_col: str | None = None,
        view_col: str = "ViewPosition",
        views: Sequence[str] = ("PA", "AP"),
        label_cols: Sequence[str] = (),
        uncertain: str = "zeros",
        blank: str = "zeros",
        patient_col: str | None = None,
        study_col: str | None = None,
        id_col: str | None = None,
        split_col: str | None = None,
        require_text: bool = True,
        impression_fallback: str = "none",
        strip_enumeration: bool = False,
        deid: str = "keep",
        drop_comparison: bool = False,
        delimiter: str | None = None,
        check_files: bool = False,
        boxes_col: str | None = None,
        box_cols: Sequence[str] = (),
        box_form: str = "xywh",
        class_col: str | None = None,
        class_name: str = "finding",
        mask_col: str | None = None,
        mask_form: str = "path",
        mask_classes: Mapping[Any, str] | None = None,
        mask_root: str | None = None,
        title: str = "table",
        access: str = "credentialed",
    ) -> None:
        check_policy(uncertain, blank)
        _one_of("impression_fallback", impression_fallback, ("none", "findings", "last_paragraph"))
        _one_of("deid", deid, ("keep", "remove"))
        _one_of("access", access, ("open", "credentialed", "synthetic"))
        if split_col and (validate_manifest or test_manifest):
            raise ConfigurationError("split_col splits the one table train_manifest: give no other beside it")
        taken = sorted({*label_cols} & {*REQUIRED_TYPES, *OPTIONAL_TYPES})
        if taken or len({*label_cols}) < len(label_cols):
            raise ConfigurationError(
                f"label_cols are distinct and none of the manifest's own columns: got {label_cols}"
            )
        self.files = {"train": train_manifest, "validate": validate_manifest, "test": test_manifest}
        self.image_root = image_root
        self.image_col, self.text_col, self.report_col = image_col, text_col, report_col
        self.view_col, self.views = view_col, tuple(views or ())
        self.label_cols, self.uncertain, self.blank = tuple(label_cols), uncertain, blank
        self.id_cols = {"patient_id": patient_col, "study_id": study_col, "image_id": id_col}
        self.split_col, self.require_text, self.delimiter = split_col, require_text, delimiter
        self.check_files, self.title, self.access = check_files, title, access
        self.shapes = Shapes(
            boxes_col=boxes_col,
            box_cols=tuple(box_cols),
            box_form=box_form,
            class_col=class_col,
            class_name=class_name,
            mask_col=mask_col,
            mask_form=mask_form,
            mask_classes=mask_classes or {},
        )
        self.mask_root = mask_root
        self.fallback: Any = impression_fallback
        self.text_options: dict[str, Any] = {
            "strip_enumeration": strip_enumeration, "deid": deid, "drop_comparison": drop_comparison,
        }  # fmt: skip

    def default_root(self) -> Path | None:
        """The image root, or the folder of the first table."""
        if self.image_root is not None:
            return Path(self.image_root).expanduser()
        return next((Path(file).expanduser().parent for file in self.files.values() if file), None)

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the tables. Images are opened by `prepare`, not here.

        Args:
            root: folder that relative names of tables, and image paths, are relative to.
            progress: optional callable (done, total, what), called while reports are read.

        Raises:
            DataError: if a table or a column is missing, or a label or a split is undefined.
        """
        root = Path(root)
        if not any(self.files.values()):
            raise DataError(
                "no table: set data.train_manifest=TABLE (or data.validate_manifest, data.test_manifest)"
            )
        image_root = root if self.image_root is None else _locate(self.image_root, root)
        tables = [
            self._read_table(TableFile(_locate(name, root), delimiter=self.delimiter), split)
            for split, name in self.files.items()
            if name
        ]
        rows = with_ids(pl.concat(tables, how="diagonal"), PathJoiner(image_root))
        rejected = []
        for reason, faulty in self._faults():
            rejected.append(reject(rows.filter(faulty), reason))
            rows = rows.filter(~faulty)
        rows, disagreeing = self.shapes.gather(rows, ["path", "split", "_view", *self.label_cols])
        rejected.append(reject(disagreeing, "conflicting_rows"))
        num_rows = len(rows)
        seen = rows.filter(self._has_wanted_view())
        told = self._with_texts(seen, progress).filter(self._has_needed_text())
        rows = self._with_labels(with_patients(told))
        if self.shapes.mask_col:
            mask_root = image_root if self.mask_root is None else _locate(self.mask_root, root)
            rows, without = add_masks(
                rows,
                self.shapes.mask_form,
                self.shapes.value_classes,
                mask_root=mask_root,
                image_root=image_root,
                progress=progress,
            )
            rejected.append(without)
        columns = [
            name for name in (*REQUIRED_TYPES, *OPTIONAL_TYPES, *self.label_cols) if name in rows.columns
        ]
        card = dataclasses.replace(
            self.card, name=self.title, access=self.access, label_names=self.label_cols
        )
        return finish(
            rows.select(columns),
            rejected,
            card,
            image_root,
            left_out={"other_view": num_rows - len(seen), "no_text": len(seen) - len(told)},
            label_values=(*CODES, SOFT) if self.uncertain == "soft" else CODES,
            check_files=self.check_files,
            # Mask images may change where the tables do not: such data are read each time.
            sources=[]
            if self.shapes.mask_col
            else [_locate(name, root) for name in self.files.values() if name],
        )

    @classmethod
    def fake(cls, root: Path) -> Table:
        """Write a miniature of MIMIC-CXR-JPG: JPEGs in its folders, and one table a split in three formats.

        Its oddities:
        - train.csv begins with a byte order mark, ends lines with CRLF, and has blank lines
        - reports hold quoted commas, quotes and line breaks; one is not ASCII
        - labels come as 1, 1.0, -1, -1.0, 0 and blank
        - lateral views, views in lower case and with spaces, rows without a view
        - an impression that only its report tells, one that nothing tells
        - paths with `files/` and without, one absolute, one that leaves the root
        - the same image twice, an image whose file is missing
        - validation rows are gzipped, test rows JSON lines with numbers and nulls
        """
        return cls(**_table_fake.write(root))

    def _read_table(self, file: TableFile, split: str) -> pl.DataFrame:
        """One table with columns of the contract where it tells them, and working columns `_...`."""
        names = {"_cell": file.require(self.image_col, "image_col")}
        for name, column in self.id_cols.items():
            if column:
                names[name] = file.require(column, _ID_KEYS[name])
        if self.split_col:
            names["split"] = file.require(self.split_col, "split_col")
        if self._has_views(file):
            names["_view"] = self.view_col
        names |= self._text_columns(file, wanted=split == "train" and self.require_text)
        labels = [file.require(name, "label_cols") for name in self.label_cols]
        shapes = [file.require(column, key) for column, key in self.shapes.keys.items()]
        along = taken_along(file, [*labels, *shapes])
        table = file.read([*names.values(), *labels, *along, *shapes])
        columns = [as_text(table[column]).alias(name) for name, column in names.items()]
        columns += [parse_labels(table[name], str(file.path)) for name in labels]
        columns += [as_type(table[name], file.path) for name in along]
        columns += self.shapes.read(table, file.path)
        rows = pl.DataFrame(columns)
        rows = rows.with_columns(
            parse_splits(rows["split"], file.path, self.split_col)
            if self.split_col
            else pl.lit(split).alias("split")
        )
        rows = rows.with_columns(_has_view=pl.lit("_view" in names))
        return rows.filter(pl.any_horizontal(pl.col(*names, *labels).is_not_null()))  # blank lines

    def _has_views(self, file: TableFile) -> bool:
        if self.view_col not in file.columns and self.views:
            warnings.warn(
                f"{file.path} has no column '{self.view_col}' (data.view_col)"
                f"{nearest(self.view_col, file.columns)}: all views are kept",
                stacklevel=2,
            )
        return self.view_col in file.columns

    def _text_columns(self, file: TableFile, *, wanted: bool) -> dict[str, str]:
        names = {}
        if self.text_col in file.columns:
            names["impression"] = self.text_col
        if self.report_col and (wanted or self.report_col in file.columns):
            names["report"] = file.require(self.report_col, "report_col")
        if wanted and not names:
            file.require(self.text_col, "text_col")
        return names

    def _with_texts(self, rows: pl.DataFrame, progress: Any) -> pl.DataFrame:
        """Clean the impression; where there is none take the report's; add the report's findings."""
        own = _mapped(rows, "impression", partial(reports.clean, **self.text_options))
        if "report" not in rows.columns:
            return rows.with_columns(own)
        extract = partial(reports.impression, fallback=self.fallback, **self.text_options)
        found = _mapped(rows, "report", extract, progress)
        findings = _mapped(rows, "report", reports.findings, progress)
        return rows.with_columns(own.zip_with(own.is_not_null(), found), findings.alias("findings"))

    def _faults(self) -> Iterator[tuple[str, pl.Expr]]:
        """Why a row is rejected, and which are, in the order in which rows are tested."""
        yield "no_path", pl.col("path").is_null()
        yield "no_image_id", pl.col("image_id").is_null()
        if self.id_cols["patient_id"]:
            yield "no_patient_id", pl.col("patient_id").is_null()
        yield "no_split", pl.col("split").is_null()

    def _has_wanted_view(self) -> pl.Expr:
        wanted = pl.col("_view").str.to_uppercase().is_in([view.strip().upper() for view in self.views])
        return ~pl.col("_has_view") | wanted.fill_null(False) if self.views else pl.lit(True)

    def _has_needed_text(self) -> pl.Expr:
        training = pl.col("split") == "train"
        return pl.col("impression").is_not_null() | ~training if self.require_text else pl.lit(True)

    def _with_labels(self, rows: pl.DataFrame) -> pl.DataFrame:
        policy = partial(apply_policy, uncertain=self.uncertain, blank=self.blank)
        return rows.with_columns([policy(rows[name]) for name in self.label_cols])


def read_eval(entry: Mapping[str, Any], root: Path | None = None) -> Release:
    """The rows of one entry of `evals`, as split test.

    Args:
        entry: `name`, `manifest`, and settings of `Table` such as `image_root, image_col, label_cols`;
            `enabled` and the prompts are not looked at.
        root: folder that relative names are relative to; None takes the working directory.
    """
    other = {"name", "manifest", "enabled", "positive_prompts", "negative_prompts"}
    settings = {key: value for key, value in entry.items() if key not in other}
    table = Table(title=entry["name"], test_manifest=entry["manifest"], **{"require_text": False, **settings})
    return table.read(root or table.default_root() or Path())


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f"{key} is one of {', '.join(known)}: got '{value}'{nearest(value, known)}")


def _locate(name: str, root: Path) -> Path:
    """A file or folder by absolute path, below the root, or below the working directory."""
    path = Path(name).expanduser()
    for candidate in (root / path, path):
        if candidate.exists():
            return candidate
    looked = path if path.is_absolute() else f"{(root / path).absolute()} and {path.absolute()}"
    raise DataError(f"no '{name}': looked for {looked}")


def _mapped(
    rows: pl.DataFrame, column: str, function: Callable[[str], str | None], progress: Any = None
) -> pl.Series:
    """A function of each text; images of one study share a text, which is read once."""
    texts = rows[column].unique().drop_nulls().to_list()
    found: dict[str, str | None] = {}
    for done, text in enumerate(texts, start=1):
        found[text] = function(text)
        if progress is not None and (done % 1000 == 0 or done == len(texts)):
            progress(done, len(texts), "reports")
    return pl.Series("impression", [found.get(text) for text in rows[column]], dtype=pl.String)
