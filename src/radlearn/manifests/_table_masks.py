"""Masks that a user's table names: images of them, or run lengths, into the column `mask`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlearn import run_lengths
from radlearn.data import masks
from radlearn.data.images import ImageError, checked_size, read_bytes
from radlearn.data.pixels import resolve_inside, source_size
from radlearn.errors import DataError
from radlearn.manifests._each_file import each_file
from radlearn.manifests.checks import OPTIONAL_TYPES, REJECTED_TYPES

MASK_FORMS = ("path", "rle", "relative_rle")
# What a table's row tells: the class, and a path or run lengths.
MASK_CELL = pl.List(pl.Struct({"class": pl.String, "cell": pl.String}))
_FORMATS = ("PNG", "GIF", "TIFF", "BMP")


@dataclass(frozen=True)
class _Fault:
    """Why the masks of a row cannot be used."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class _Painted:
    """A mask's image: height and width, and the run lengths of each value in it but 0."""

    size: tuple[int, int]
    runs: Mapping[int, str]


def add_masks(
    rows: pl.DataFrame,
    form: str,
    classes: Mapping[int, str],
    *,
    mask_root: Path,
    image_root: Path,
    progress: Any = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Replace `_mask` by the column `mask`.

    Masks are in pixels of their image, so its size is read where the table does not tell it.

    Args:
        rows: with `path`, `height`, `width` and `_mask`, of `MASK_CELL`.
        form: one of `MASK_FORMS`.
        classes: value in the image of a mask -> class; empty where all above 0 is of the class of the row.
        mask_root, image_root: folders that paths of masks and of images are relative to.
        progress: optional callable (done, total, what).

    Returns:
        The rows, and as rejected those whose image or mask cannot be used.

    Raises:
        DataError: if the image of a mask holds a value that is no class.
    """
    has_mask = pl.col("_mask").list.len() > 0
    masked, plain = rows.filter(has_mask), rows.filter(~has_mask)
    cells = masked["_mask"].to_list()
    sizes = _sizes(masked, image_root, progress)
    painted: Iterator[_Painted | ImageError] = iter(())
    if form == "path":
        files = [Path(part["cell"]) for cell in cells for part in cell]
        painted = iter(each_file(partial(_paint, mask_root, several=bool(classes)), files, progress, "masks"))
    found: list[dict[str, str] | _Fault] = []
    for cell, size in zip(cells, sizes, strict=True):
        images = [next(painted) for _ in cell] if form == "path" else []
        if isinstance(size, ImageError):
            found.append(_Fault(size.reason, size.detail))
        elif form == "path":
            found.append(_of_images(cell, images, size, classes))
        else:
            found.append(_of_runs(cell, size, form))
    faults = [one if isinstance(one, _Fault) else None for one in found]
    runs = [{} if isinstance(one, _Fault) else one for one in found]
    lists = [[{"class": name, "rle": rle} for name, rle in one.items() if rle] for one in runs]
    known = [(None, None) if isinstance(size, ImageError) else size for size in sizes]
    masked = masked.with_columns(
        pl.Series("mask", lists, dtype=OPTIONAL_TYPES["mask"]),
        pl.Series("height", [height for height, _ in known], dtype=pl.Int32),
        pl.Series("width", [width for _, width in known], dtype=pl.Int32),
        pl.Series("reason", [fault and fault.reason for fault in faults], dtype=pl.String),
        pl.Series("detail", [fault and fault.detail for fault in faults], dtype=pl.String),
    )
    faulty = masked.filter(pl.col("reason").is_not_null()).select(*REJECTED_TYPES)
    usable = masked.filter(pl.col("reason").is_null()).drop("reason", "detail")
    empty = plain.with_columns(pl.lit([], OPTIONAL_TYPES["mask"]).alias("mask"))
    return pl.concat([usable, empty]).drop("_mask"), faulty


def _sizes(rows: pl.DataFrame, root: Path, progress: Any) -> list[tuple[int, int] | ImageError]:
    """Height and width of each row's image, from the file where the table does not tell them."""
    told = rows.select("height", "width").rows()
    asked = [Path(path) for path, size in zip(rows["path"], told, strict=True) if None in size]
    read = iter(
        each_file(lambda path: source_size(resolve_inside(root, path)), asked, progress, "sizes of images")
    )
    return [next(read) if None in size else size for size in told]


def _paint(root: Path, path: Path, *, several: bool) -> _Painted:
    """Read the image of a mask.

    Args:
        root: folder that `path` is relative to.
        path: the image; of GIF the grey counts and not the index, which is 0 where all of it is white.
        several: whether its values are classes; otherwise all above 0 is 255.

    Raises:
        ImageError: with a reason of `images.REASONS`.
    """
    from PIL import Image

    file = resolve_inside(root, path)
    data = read_bytes(file)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            size = checked_size(image.size[1], image.size[0], path)
            keeps_values = several and image.format != "GIF" and image.mode in ("1", "L", "P", "I;16", "I")
            values = np.asarray(image if keeps_values else image.convert("L"))
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise anything on a damaged file
        raise ImageError(path, "corrupt", (str(error) or type(error).__name__).splitlines()[0]) from error
    if not several:
        return _Painted(size, {255: run_lengths.encode(values > 0)})
    there = np.unique(values)
    return _Painted(size, {int(v): run_lengths.encode(values == v) for v in there if v})


def _of_images(
    cell: Sequence[Mapping[str, str]],
    images: Sequence[_Painted | ImageError],
    size: tuple[int, int],
    classes: Mapping[int, str],
) -> dict[str, str] | _Fault:
    """Class -> run lengths of a row's mask images."""
    runs: dict[str, list[str]] = {}
    for part, image in zip(cell, images, strict=True):
        if isinstance(image, ImageError):
            return _Fault(f"mask_{image.reason}", f"{part['cell']} {image.detail}".rstrip())
        if image.size != size:
            return _Fault("mask_size", f"{part['cell']} has {image.size} pixels, the image {size}")
        for value, rle in image.runs.items():
            if classes and value not in classes:
                raise DataError(
                    f"the mask {part['cell']} holds the value {value}; data.mask_classes has "
                    f"{', '.join(map(str, classes))}, and 0 is the ground"
                )
            runs.setdefault(classes[value] if classes else part["class"], []).append(rle)
    return {name: " ".join(filter(None, parts)) for name, parts in runs.items()}


def _of_runs(cell: Sequence[Mapping[str, str]], size: tuple[int, int], form: str) -> dict[str, str] | _Fault:
    """Class -> run lengths of a row's masks, from run lengths in either form."""
    by_class: dict[str, list[str]] = {}
    for part in cell:
        by_class.setdefault(part["class"], []).append(part["cell"])
    try:
        if form == "relative_rle":
            return {name: masks.rle_of_relative_runs(texts, *size) for name, texts in by_class.items()}
        return {name: _checked(" ".join(texts), size) for name, texts in by_class.items()}
    except DataError as error:
        return _Fault("mask_outside", str(error))


def _checked(rle: str, size: tuple[int, int]) -> str:
    numbers = run_lengths.parse(rle)
    pixels = size[0] * size[1]
    # Each number is compared alone too: the sum of two huge ones would wrap around.
    if (numbers > pixels).any() or (numbers[::2] + numbers[1::2] > pixels).any():
        raise DataError(f"the runs leave an image of {size} pixels")
    return rle
