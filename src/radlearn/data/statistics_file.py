"""`dataset_statistics.json`: LoVT's form of a data set's pixel statistics, read and written.

    {"train": {"num_samples": 16010, "scan": {"pixel_mean": 0.49, "pixel_std": 0.25}}, "validation": ...}

Every image counts alike, however large: the mean is the mean of the images' means, the standard deviation is
sqrt(mean of the images' variances + variance of their means); pixels lie in [0, 1]. LoVT measured images of
full size. Those that `prepare` measures are shrunk, which takes a little of the deviation.

Source: LoVT (Mueller, Kaissis, Zou, Rueckert 2022, arXiv:2112.02889), the files shipped with its code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlearn.errors import DataError

NAME = "dataset_statistics.json"
# Our split -> how the file calls it; the first is written.
_SPELLINGS = {
    "train": ("train", "training"),
    "validate": ("validation", "validate", "val", "valid", "dev"),
    "test": ("test",),
}


@dataclass(frozen=True)
class SplitStatistics:
    """What the file says of one split.

    Attributes:
        num_samples: images.
        pixel_mean, pixel_std: of the pixels in [0, 1].
        patient_ids: of its patients, where the file lists them.
        segmentation_pos_weights: background over foreground pixels, one a class of the masks, where known.
    """

    num_samples: int
    pixel_mean: float
    pixel_std: float
    patient_ids: tuple[str, ...] = ()
    segmentation_pos_weights: tuple[float, ...] = ()


def of_splits(rows: pl.DataFrame, sums: np.ndarray) -> dict[str, SplitStatistics]:
    """The statistics of every split that has images.

    Args:
        rows: a manifest table with `split`, and for positive weights `mask`, `height` and `width`. Patients
            are not listed: the table does that.
        sums: (N, 3) number, sum and sum of squares of each row's 8-bit pixels.
    """
    found = {}
    for split in _SPELLINGS:
        chosen = (rows["split"] == split).to_numpy()
        if chosen.any():
            mean, std = _mean_and_std(sums[chosen])
            weights = _positive_weights(rows.filter(pl.col("split") == split))
            found[split] = SplitStatistics(
                int(chosen.sum()), mean, std, segmentation_pos_weights=tuple(weights.values())
            )
    return found


def _mean_and_std(sums: np.ndarray) -> tuple[float, float]:
    count, total, squares = sums.astype(np.float64).T
    means = total / count / 255
    variances = squares / count / 255**2 - means**2
    return float(means.mean()), math.sqrt(max(float(variances.mean() + means.var()), 0.0))


def _positive_weights(rows: pl.DataFrame) -> dict[str, float]:
    """Background over foreground pixels of each class, over the rows with a `mask`, empty ones too."""
    if "mask" not in rows.columns:
        return {}
    with_mask = rows.filter(pl.all_horizontal(pl.col("mask", "height", "width").is_not_null()))
    pixels = with_mask.select((pl.col("height").cast(pl.Int64) * pl.col("width")).sum()).item()
    lengths = (
        pl.col("rle").str.split(" ").list.gather_every(2, 1).list.eval(pl.element().cast(pl.Int64)).list.sum()
    )
    foreground = (
        with_mask.select(pl.col("mask").explode())
        .drop_nulls()
        .unnest("mask")
        .group_by("class")
        .agg(lengths.sum().alias("pixels"))
        .sort("class")
    )
    return {name: (pixels - count) / count for name, count in foreground.iter_rows() if count}


def write(path: Path, statistics: Mapping[str, SplitStatistics]) -> None:
    """Write the file; optional entries only where they are known."""
    content: dict[str, Any] = {}
    for split, known in statistics.items():
        content[_SPELLINGS[split][0]] = {
            "num_samples": known.num_samples,
            "scan": {"pixel_mean": known.pixel_mean, "pixel_std": known.pixel_std},
            **({"patient_ids": list(known.patient_ids)} if known.patient_ids else {}),
            **(
                {"segmentation_pos_weights": list(known.segmentation_pos_weights)}
                if known.segmentation_pos_weights
                else {}
            ),
        }
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def read(path: Path) -> dict[str, SplitStatistics]:
    """The splits of a file, by our names.

    Raises:
        DataError: if it is not of this form; says what was wanted.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    names = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}
    if not isinstance(content, dict) or not names.keys() & content.keys():
        raise DataError(f"{path} has no statistics of a split: one of {', '.join(names)} is wanted")
    return {names[key]: _split(path, key, value) for key, value in content.items() if key in names}


def _split(path: Path, key: str, value: Any) -> SplitStatistics:
    try:
        scan = value["scan"]
        weights = value.get("segmentation_pos_weights") or ()
        known = SplitStatistics(
            int(value["num_samples"]),
            float(scan["pixel_mean"]),
            float(scan["pixel_std"]),
            tuple(map(str, value.get("patient_ids") or ())),
            tuple(map(float, weights)) if isinstance(weights, list | tuple) else (float(weights),),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: '{key}' holds num_samples and scan: {{pixel_mean, pixel_std}}; wrong or missing: "
            f"{error}"
        ) from error
    if not 0 <= known.pixel_mean <= 1 or not 0 < known.pixel_std <= 1:
        raise DataError(
            f"{path}: '{key}' has pixel_mean {known.pixel_mean:g} and pixel_std {known.pixel_std:g}: pixels "
            "in [0, 1] are meant, divide by 255 or 65535"
        )
    return known
