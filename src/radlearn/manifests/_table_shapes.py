"""Boxes and masks of a user's table: which columns hold them, and in which form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._release import check_choice
from radlearn.manifests._table_cells import BOX_FORMS, as_text, first_wrong, parse_boxes
from radlearn.manifests._table_masks import MASK_CELL, MASK_FORMS
from radlearn.manifests.checks import OPTIONAL_TYPES

_NO_MASK = ("-1", "")
_RUNS = r"^\d+\s+\d+(\s+\d+\s+\d+)*$"


@dataclass(frozen=True)
class Shapes:
    """Settings of boxes and masks, as `Table` documents them; all in pixels of the source image."""

    boxes_col: str | None = None
    box_cols: Sequence[str] = ()
    box_form: str = "xywh"
    class_col: str | None = None
    class_name: str = "finding"
    mask_col: str | None = None
    mask_form: str = "path"
    mask_classes: Mapping[Any, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("box_form", self.box_form, BOX_FORMS)
        check_choice("mask_form", self.mask_form, MASK_FORMS)
        wrong = ""
        if self.boxes_col and self.box_cols:
            wrong = "boxes_col holds all boxes of an image and box_cols one box a row: set one of them"
        elif self.box_cols and len({*self.box_cols}) != 4:
            wrong = f"box_cols names four columns: got {list(self.box_cols)}"
        elif self.mask_classes and self.mask_form != "path":
            wrong = "mask_classes tells the values of a mask's image: set data.mask_form=path"
        elif self.class_col and not (self.boxes_col or self.box_cols or self.mask_col):
            wrong = "class_col is the class of boxes or masks, and no column of these is set"
        if wrong:
            raise ConfigurationError(f"data.{wrong}")

    @property
    def keys(self) -> dict[str, str]:
        """Column of the table -> the setting that names it."""
        named = {"boxes_col": self.boxes_col, "class_col": self.class_col, "mask_col": self.mask_col}
        columns = {column: key for key, column in named.items() if column}
        return columns | dict.fromkeys(self.box_cols, "box_cols")

    @property
    def value_classes(self) -> dict[int, str]:
        """`mask_classes` with the values as numbers, however the configuration wrote them."""
        return {int(value): str(name) for value, name in self.mask_classes.items()}

    def read(self, table: pl.DataFrame, path: Path) -> list[pl.Series]:
        """Columns `boxes`, in the type of the contract, and `_mask`, of `MASK_CELL`, of a table's rows.

        Raises:
            DataError: names the first row that is neither blank nor of the form.
        """
        classes = (
            as_text(table[self.class_col]) if self.class_col else pl.repeat(None, len(table), eager=True)
        )
        classes = classes.cast(pl.String).rename("class")
        columns = []
        if self.boxes_col:
            columns.append(self._boxes_of_cells(table[self.boxes_col], classes, path))
        if self.box_cols:
            columns.append(self._boxes_of_columns(table.select(self.box_cols), classes, path))
        if self.mask_col:
            columns.append(self._mask_cells(as_text(table[self.mask_col]), classes, path))
        return columns

    def _boxes_of_cells(self, cells: pl.Series, classes: pl.Series, path: Path) -> pl.Series:
        rows = []
        for row, (cell, names) in enumerate(zip(cells.to_list(), classes.to_list(), strict=True), start=1):
            try:
                boxes = parse_boxes(cell, self.box_form)
                words = self._classes_of(names, len(boxes))
            except ValueError as error:  # json's own too
                raise DataError(
                    f"{path}: column '{self.boxes_col}' holds {cell!r} in row {row}: {error}"
                ) from error
            rows.append(
                [box | {"class": box["class"] or word} for box, word in zip(boxes, words, strict=True)]
            )
        return pl.Series("boxes", rows, dtype=OPTIONAL_TYPES["boxes"])

    def _classes_of(self, names: str | None, count: int) -> list[str]:
        """A class for each of `count` boxes: `a|b`, or one for all."""
        words = [word.strip() or self.class_name for word in (names or self.class_name).split("|")]
        if len(words) == 1 or not count:
            return words[:1] * count
        if len(words) != count:
            raise ValueError(f"{count} boxes have {len(words)} classes in '{self.class_col}'")
        return words

    def _boxes_of_columns(self, table: pl.DataFrame, classes: pl.Series, path: Path) -> pl.Series:
        text = table.select(as_text(table[name]) for name in self.box_cols)
        sides = text.select(pl.all().cast(pl.Float64, strict=False))
        shown = text.select(pl.concat_str(pl.all().fill_null(""), separator=",")).to_series()
        shown = shown.set(shown == ",,,", None)
        sound = sides.select(pl.all_horizontal(pl.all().is_finite())).to_series()
        wanted = "a box is four numbers, or four blanks where there is none"
        first_wrong(shown, sound, path, ",".join(self.box_cols), wanted)
        x, y, w, h = (sides[name] for name in self.box_cols)
        if self.box_form == "xyxy":
            w, h = w - x, h - y
        boxes = {"x": x, "y": y, "w": w, "h": h, "class": classes.fill_null(self.class_name)}
        return _listed(pl.DataFrame(boxes), shown.is_not_null(), OPTIONAL_TYPES["boxes"]).rename("boxes")

    def _mask_cells(self, cells: pl.Series, classes: pl.Series, path: Path) -> pl.Series:
        there = ~cells.is_in(_NO_MASK).fill_null(True)
        if self.mask_form != "path":
            wanted = f"{self.mask_form} is pairs of whole numbers (data.mask_form)"
            first_wrong(cells, ~there | cells.str.contains(_RUNS), path, str(self.mask_col), wanted)
        parts = {"class": classes.fill_null(self.class_name), "cell": cells}
        return _listed(pl.DataFrame(parts), there, MASK_CELL).rename("_mask")

    def gather(self, rows: pl.DataFrame, alike: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """One row an image, with the boxes and masks of all its rows.

        Args:
            rows: with `image_id`, `path` and what `read` gave.
            alike: columns in which the rows of an image must agree.

        Returns:
            The images, and the rows of images whose rows do not agree.
        """
        lists = [name for name in ("boxes", "_mask") if name in rows.columns]
        if not self.keys or rows["image_id"].is_unique().all():
            return rows, rows.clear()
        differ = pl.any_horizontal(pl.col(name).n_unique().over("image_id") > 1 for name in alike)
        others = [name for name in rows.columns if name not in ("image_id", *lists)]
        images = (
            rows.filter(~differ)
            .group_by("image_id", maintain_order=True)
            .agg(
                pl.col(others).first(),
                *(pl.col(name).explode(empty_as_null=False).unique(maintain_order=True) for name in lists),
            )
        )
        return images.select(rows.columns), rows.filter(differ)


def _listed(fields: pl.DataFrame, there: pl.Series, dtype: pl.DataType) -> pl.Series:
    """A list of one struct where there is one, else an empty list."""
    one = pl.concat_list(pl.struct(pl.all())).cast(dtype)
    return fields.select(pl.when(there).then(one).otherwise(pl.lit([], dtype))).to_series()
