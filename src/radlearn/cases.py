"""A few cases of a set for the page: pixels and report text, written for open and synthetic data only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from radlearn.data.images import to_uint8
from radlearn.datasets import Dataset

NUM_CASES = 8
_MASK = pl.List(pl.Struct({"class": pl.String, "rle": pl.String}))
_SCHEMA: dict[str, Any] = {
    "image_id": pl.String,
    "view": pl.String,
    "impression": pl.String,
    "findings": pl.List(pl.String),
    "height": pl.Int32,
    "width": pl.Int32,
    "png": pl.Binary,
    "mask": _MASK,
    "synthetic": pl.Boolean,
}


def write(run: Path, name: str, data: Dataset, positions: np.ndarray) -> Path:
    """Write `cases/<name>.parquet` of a run: for each label the first case that has it, then the first
    others.

    Args:
        run: the run's folder.
        name: of the evaluation set.
        data: open or synthetic data.
        positions: rows to choose from.
    Raises:
        ValueError: if the data are credentialed.
    """
    if data.card.access not in ("open", "synthetic"):
        raise ValueError(f"cases of {data.card.access} data are never written")
    chosen = choose(data.labels()[positions], NUM_CASES)
    rows = [_case(data, int(position)) for position in positions[chosen]]
    path = run / "cases" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=_SCHEMA).write_parquet(path)
    return path


def choose(labels: np.ndarray, count: int) -> list[int]:
    """Rows of labels (N, L): the first with each label, rows with the fewest labels first, then rows in
    order.
    """
    num_positive = np.nansum(labels == 1, axis=1)
    chosen: list[int] = []
    for column in labels.T:
        candidates = [i for i in np.flatnonzero(column == 1) if i not in chosen]
        if candidates:
            chosen.append(int(min(candidates, key=lambda i: (num_positive[i], i))))
    chosen += [i for i in range(len(labels)) if i not in chosen][: max(count - len(chosen), 0)]
    return chosen[:count]


def _case(data: Dataset, position: int) -> dict[str, Any]:
    row = data.rows.row(position, named=True)
    image = to_uint8(data.source.image(int(data.source_rows[position])))
    found, png = cv2.imencode(".png", image)
    assert found
    return {
        "image_id": row["image_id"],
        "view": row["view"],
        "impression": row.get("impression"),
        "findings": _positive(row, data.card.label_names),
        "height": row["height"] or image.shape[0],
        "width": row["width"] or image.shape[1],
        "png": png.tobytes(),
        "mask": row.get("mask") or [],
        "synthetic": data.card.synthetic,
    }


def _positive(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [name for name in names if row[name] == 1]
