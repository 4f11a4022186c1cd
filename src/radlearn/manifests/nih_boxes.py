"""The 984 boxes of NIH ChestX-ray14: 880 images with boxes of eight findings, and images without finding.

    BBox_List_2017.csv               one row a box, in pixels of the 1024 x 1024 images
    Data_Entry_2017_v2020.csv        patients, views and labels
    test_list.txt                    images without finding come from the official test images
    images_001/images/*.png          or as LoVT lays them out, images/images_01/images/*.png

The protocol is LoVT's: 100 images without finding join the 880, and boxes stand in for masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data import masks, split_files
from radlearn.data.balanced import balanced_set, draw_patients
from radlearn.data.splits import SplitRule
from radlearn.errors import ConfigurationError, DataError, nearest
from radlearn.manifests import _nih, _nih_fake
from radlearn.manifests._release import check_choice, need, read_columns
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import OPTIONAL_TYPES, finish, reject
from radlearn.records import Card, Pixels, Release

LABELS = _nih.LABELS[:8]
_FILE = "BBox_List_2017.csv"
# The header splits "Bbox [x,y,w,h]" over four cells and ends in three empty ones.
_COLUMNS = {
    "_file": "Image Index",
    "class": "Finding Label",
    "x": "Bbox [x",
    "y": "y",
    "w": "w",
    "h": "h]",
}
# The table of boxes has its own word for one finding of the table of entries.
_SAME_CLASS = {"Infiltrate": "Infiltration"}
_HELD_OUT = 0.2


class NIHBoxes(Manifest):
    """NIH ChestX-ray14's boxes, as detection and, boxes filled, as segmentation.

    Args:
        split: one of `splits`.
        negatives: images without finding that are drawn from the official test images; 0 needs no list, None
            takes all of them, for `data.split_files` to choose from.
        equalize: equalise the histogram of each image, as LoVT did.
    """

    card: ClassVar[Card] = Card(
        name="nih_boxes",
        source=_nih.SOURCE,
        licence=_nih.LICENCE,
        access="open",
        release="2017, table of 2020",
        label_names=LABELS,
        patient_namespace=_nih.NAMESPACE,
        overlaps=("chestxray14", "rsna_pneumonia", "siim_pneumothorax"),
        citation=_nih.CITATION,
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "lovt": SplitRule(
            "LoVT's protocol: images with boxes and images without finding apart, whole patients in hashed "
            "order fill test, then validate, to 20 % of the images each; the rest is train",
            seed=0,
        )
    }

    def __init__(self, *, split: str = "lovt", negatives: int | None = 100, equalize: bool = False) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        if negatives is not None and negatives < 0:
            raise ConfigurationError(
                f"data.negatives is a number of images, 0 or more, or null: got {negatives}"
            )
        self.negatives, self.equalize = negatives, equalize

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the tables and find the images; they are opened by `prepare`, not here.

        Raises:
            DataError: if a table or list is missing, a box is not four numbers or of an unknown finding, or
                the images are not those of 1024 x 1024 pixels that boxes are drawn in.
        """
        root = Path(root)
        sources = [need(root, _FILE, what="table of the NIH boxes"), _nih.entries_file(root)]
        boxes = _read_boxes(sources[0])
        entries, incomplete = _nih.read_entries(sources[1])
        boxed = entries.join(boxes, on="_file", how="inner", maintain_order="left")
        nowhere = boxes.join(entries, on="_file", how="anti").with_columns(
            image_id=pl.col("_file").str.strip_suffix(".png"), path=pl.col("_file")
        )
        groups = [boxed]
        if self.negatives != 0:
            sources.append(
                _nih.official_list(root, "test", instead="Without it set data.negatives=0: boxes alone")
            )
            groups = self._with_negatives(boxed, entries, sources[-1])
        rule = self.splits[self.split]
        rows = pl.concat([_split_group(group, rule.seed or 0) for group in groups], how="diagonal")
        rows, missing = _nih.with_paths(rows, root)
        if len(rows) and _nih.side(rows, root) is None:
            raise DataError(
                f"{root}: the images are not {_nih.SIDE} x {_nih.SIDE} pixels, which boxes are drawn in: "
                "use the release's own images; `radlearn prepare` shrinks them and keeps the boxes right"
            )
        card = dataclasses.replace(
            self.card, split=self.split, split_seed=rule.seed, split_rule=f"{rule.about}; seed {rule.seed}"
        )
        return finish(
            _as_manifest(rows),
            [
                incomplete,
                reject(nowhere, "no_entry", "a box of an image that the table of entries lacks"),
                missing,
            ],
            card,
            root,
            pixels=Pixels(equalize=self.equalize),
            sources=sources,
        )

    @classmethod
    def fake(cls, root: Path) -> NIHBoxes:
        """Write a miniature release: 20 images with boxes, 12 without finding among the test images.

        Its oddities:
        - the header `Bbox [x,y,w,h]` is four cells, and three empty cells follow that no row has
        - the table of boxes says Infiltrate where the table of entries says Infiltration
        - coordinates are fractions of pixels with up to fifteen digits
        - an image with boxes of several findings, and findings without a box
        - patients with several images that have boxes
        - images lie in images/images_01/images, as LoVT lays them out
        """
        _nih_fake.write_nih_boxes(root)
        return cls(negatives=10)

    def _with_negatives(self, boxed: pl.DataFrame, entries: pl.DataFrame, path: Path) -> list[pl.DataFrame]:
        """The groups that are split apart: images with boxes, and images without finding of the test list.

        The drawn ones are of patients without any box, so that the two groups share no patient; all of them
        are not, so they are one group with the boxed ones.

        Raises:
            DataError: if there are too few.
        """
        listed, _ = split_files.apply(entries, {"test": path})
        clear = listed.drop("split").filter(pl.col(_nih.NO_FINDING) == 1)
        if self.negatives is None:
            more = clear.join(boxed, on="image_id", how="anti", maintain_order="left")
            return [pl.concat([boxed, more], how="diagonal")]
        strangers = clear.join(boxed, on="patient_id", how="anti", maintain_order="left")
        seed = self.splits[self.split].seed or 0
        return [boxed, balanced_set(strangers, [_nih.NO_FINDING], self.negatives, seed, exclusive=False).rows]


def _read_boxes(path: Path) -> pl.DataFrame:
    """Boxes by `_file`: a list of structs x, y, w, h (pixels) and class.

    Raises:
        DataError: if a box is not four numbers, or its finding is none of the eight.
    """
    cells = read_columns(path, _COLUMNS)
    sides = [pl.col(side).cast(pl.Float32, strict=False) for side in "xywh"]
    boxes = cells.with_columns(*sides, pl.col("class").replace(_SAME_CLASS))
    unknown = boxes["class"].is_null() | ~boxes["class"].is_in(LABELS)
    wrong = (
        unknown | boxes.select(pl.any_horizontal(pl.col("x", "y", "w", "h", "_file").is_null())).to_series()
    )
    if wrong.any():
        row = wrong.to_list().index(True)
        cell = cells["class"][row]
        hint = nearest(str(cell), LABELS) if unknown[row] else ""
        raise DataError(
            f"{path}: row {row + 1} is no box: an image, a finding of {', '.join(LABELS)} and four numbers "
            f"are wanted, got {cells.row(row)}{hint}"
        )
    box = pl.struct("x", "y", "w", "h", "class")
    return boxes.group_by("_file", maintain_order=True).agg(box.alias("boxes"))


def _split_group(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Whole patients fill test, then validate, to their share of the images."""
    wanted = round(_HELD_OUT * len(rows))
    test = draw_patients(rows, wanted, seed)
    rest = rows.filter(~pl.col("patient_id").is_in(test))
    validate = draw_patients(rest, wanted, seed)
    split = (
        pl.when(pl.col("patient_id").is_in(test))
        .then(pl.lit("test"))
        .when(pl.col("patient_id").is_in(validate))
        .then(pl.lit("validate"))
        .otherwise(pl.lit("train"))
    )
    return rows.with_columns(split=split)


def _as_manifest(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns of the manifest; images without finding have no box and no mask, which is not unknown."""
    boxes = rows["boxes"].fill_null([]).cast(OPTIONAL_TYPES["boxes"])
    mask = pl.Series("mask", [_masks(cell) for cell in boxes.to_list()], dtype=OPTIONAL_TYPES["mask"])
    size = pl.lit(_nih.SIDE, pl.Int32)
    columns = ("image_id", "patient_id", "study_id", "split", "view", "path", *LABELS)
    return rows.select(*columns, boxes, mask, height=size, width=size)


def _masks(boxes: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One mask a finding: the union of its filled boxes."""
    by_class: dict[str, list[tuple[float, ...]]] = {}
    for box in boxes:
        by_class.setdefault(box["class"], []).append(tuple(box[side] for side in "xywh"))
    return masks.row(
        {name: masks.from_boxes(by_class[name], _nih.SIDE, _nih.SIDE) for name in LABELS if name in by_class}
    )
