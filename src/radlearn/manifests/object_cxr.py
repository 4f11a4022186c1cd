"""object-CXR: foreign objects on 9,000 radiographs, as rectangles, ellipses and polygons.

    train.csv, dev.csv                image_name,annotation; here or in input/
    train/*.jpg, dev/*.jpg            beside them

The third part of the challenge, 1,000 test images, has no public annotations; papers test on dev. The release
tells no patients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from radlearn.data import published_splits
from radlearn.data.images import ImageError, image_size
from radlearn.data.splits import SplitRule
from radlearn.errors import DataError
from radlearn.manifests import _object_fake
from radlearn.manifests import _object_shapes as shapes
from radlearn.manifests._each_file import each_file
from radlearn.manifests._faults import set_aside
from radlearn.manifests._mask_column import mask_column
from radlearn.manifests._release import check_choice, need, read_columns
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import OPTIONAL_TYPES, fingerprint, finish, reject
from radlearn.records import Card, Pixels, Release

LABEL = "foreign_object"
_COLUMNS = {"image_id": "image_name", "annotation": "annotation"}


class ObjectCXR(Manifest):
    """Label, boxes and masks of class `foreign_object`.

    Boxes are the shapes' extent, cut to the image; masks are the shapes. MGCA's boxes of polygons (a square
    around the point furthest inside) are not offered: they are neither the annotation nor in use elsewhere.

    Args:
        split: `lovt` or `mgca`.
        equalize: equalise each image's histogram, as LoVT prepared this data set.
        masks: read each image's size, which masks need. Without, there are neither masks nor sizes, no file
            is looked for, and boxes are not cut.
        legacy: set both switches below, for numbers to compare with LoVT's. Never mix the two.
        published_boxes: boxes with width and height exchanged, as in LoVT's lists.
        published_masks: ellipses filled as rectangles, polygons with x and y exchanged, as in LoVT.
    """

    card: ClassVar[Card] = Card(
        name="object_cxr",
        source=(
            "https://github.com/hlk-1135/object-CXR; copy: "
            "https://www.kaggle.com/datasets/raddar/foreign-objects-in-chest-xrays"
        ),
        licence="research and non-commercial use, as the organisers state",
        access="open",
        release="2020, train and dev",
        label_names=(LABEL,),
        citation="JF Healthcare 2020, object-CXR: Automatic detection of foreign objects on chest X-rays",
    )  # fmt: skip
    # The release tells no patients, so that each image is its own and a split by image is one by patient.
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "lovt": SplitRule(
            "LoVT's rule: train 80/20 at random by image, dev is test; its own draw is in its lists", seed=0
        ),
        "mgca": SplitRule(
            "MGCA's images: train 90/10 by scikit-learn in the table's order, dev is test", seed=0
        ),
    }

    def __init__(
        self,
        *,
        split: str = "lovt",
        equalize: bool = False,
        masks: bool = True,
        legacy: bool = False,
        published_boxes: bool = False,
        published_masks: bool = False,
    ) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.equalize, self.masks = equalize, masks
        self.published_boxes = legacy or published_boxes
        self.published_masks = legacy or published_masks

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the tables and, for masks, the size of every image from its header.

        Args:
            root: folder of the release.
            progress: optional callable (done, total, what), called while sizes are read.

        Raises:
            DataError: if a table is missing, or has another header.
        """
        root = Path(root)
        tables = {
            part: need(root, f"{part}.csv", f"input/{part}.csv", what="table of annotations")
            for part in ("train", "dev")
        }
        named = {part: self._read_table(path, part, root) for part, path in tables.items()}
        parsed = [_parsed(rows.drop_nulls("image_id")) for rows in named.values()]
        rejected = [reject(t.filter(pl.col("image_id").is_null()), "no_image_id") for t in named.values()]
        rejected += [faulty for _, faulty in parsed]
        rows = pl.concat([sound for sound, _ in parsed])
        if self.masks:
            rows, unusable = _with_sizes(rows, root, progress)
            rejected.append(unusable)
        else:
            rows = rows.with_columns(pl.lit(None, pl.Int32).alias(side) for side in ("height", "width"))
        rows = self._with_shapes(rows)
        rule = self.splits[self.split]
        card = dataclasses.replace(
            self.card, split=self.split, split_seed=rule.seed, split_unit=rule.unit, split_rule=rule.about
        )
        release = finish(
            rows.drop("annotation"),
            rejected,
            card,
            root,
            pixels=Pixels(equalize=self.equalize),
            sources=[*tables.values(), *(path.parent / part for part, path in tables.items())],
        )
        return _with_published_boxes(release, rows) if self.published_boxes else release

    @classmethod
    def fake(cls, root: Path) -> ObjectCXR:
        """Write a miniature of the release.

        Its oddities:
        - one cell holds all shapes of an image, of all three kinds; it is blank where there is none
        - images have different sizes, portrait and landscape
        - a shape that leaves the image, and one that ends with a `;`
        - an annotation that is no shape
        - a row whose image is missing
        - tables and folders lie in input/, as Kaggle's archive unpacks
        """
        _object_fake.write(root)
        return cls()

    def _read_table(self, path: Path, part: str, root: Path) -> pl.DataFrame:
        """The rows of one table, with `path` and `split`; train is split in the table's order."""
        folder = (path.parent / part).relative_to(root).as_posix()
        rows = read_columns(path, _COLUMNS).with_columns(path=f"{folder}/" + pl.col("image_id"))
        if part == "dev":
            return rows.with_columns(split=pl.lit("test"))
        ids, seed = (
            rows["image_id"].drop_nulls().unique(maintain_order=True),
            self.splits[self.split].seed or 0,
        )
        if self.split == "mgca":
            parts = published_splits.hold_out(ids.to_list(), 0.1, seed)
        else:
            parts = published_splits.lovt(ids.sort().to_list(), seed, test=0)
        return rows.with_columns(published_splits.column(rows["image_id"], parts))

    def _with_shapes(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add label, boxes, masks, and the columns that this release has no cell for."""
        boxes, rles = [], []
        for annotation, height, width in rows.select("annotation", "height", "width").iter_rows():
            found = shapes.parse(annotation)
            boxes.append([_box(shapes.box(shape, height, width)) for shape in found])
            if self.masks:
                rles.append(shapes.mask(found, height, width, published=self.published_masks))
        columns = [pl.Series("boxes", boxes, OPTIONAL_TYPES["boxes"])]
        if self.masks:
            columns.append(mask_column(rles, LABEL))
        return rows.with_columns(
            *columns,
            pl.Series(LABEL, [bool(found) for found in boxes]).cast(pl.Float32),
            patient_id=pl.col("image_id"),
            study_id=pl.col("image_id"),
            view=pl.lit(None, pl.String),
        )


def _box(sides: shapes.Box) -> dict[str, Any]:
    return {**dict(zip("xywh", sides, strict=True)), "class": LABEL}


def _parsed(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows whose annotation follows the grammar, and the others as rejected."""
    faults = pl.Series("detail", [_fault(annotation) for annotation in rows["annotation"]], dtype=pl.String)
    reason = pl.when(faults.is_not_null()).then(pl.lit("bad_annotation")).alias("reason")
    return set_aside(rows.with_columns(reason, faults))


def _fault(annotation: str | None) -> str | None:
    try:
        shapes.parse(annotation)
    except DataError as error:
        return str(error)
    return None


def _with_sizes(rows: pl.DataFrame, root: Path, progress: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add `height` and `width` of the files; rows whose file has none are rejected by its reason."""
    sizes = each_file(image_size, [root / path for path in rows["path"]], progress, "image sizes")
    told = [
        (None, None, size.reason, size.detail) if isinstance(size, ImageError) else (*size, None, None)
        for size in sizes
    ]
    types = {"height": pl.Int32, "width": pl.Int32, "reason": pl.String, "detail": pl.String}
    return set_aside(rows.hstack(pl.DataFrame(told, schema=types, orient="row")))


def _with_published_boxes(release: Release, rows: pl.DataFrame) -> Release:
    """Exchange the sides of the boxes after all checks: exchanged, some of them leave their image."""
    kept = release.rows.select("image_id").join(rows, on="image_id", how="left", maintain_order="left")
    boxes = [
        [_box(shapes.published_box(shape)) for shape in shapes.parse(cell)] for cell in kept["annotation"]
    ]
    changed = release.rows.with_columns(pl.Series("boxes", boxes, OPTIONAL_TYPES["boxes"]))
    card = dataclasses.replace(release.card, fingerprint=fingerprint(changed, release.card))
    return dataclasses.replace(release, rows=changed, card=card)
