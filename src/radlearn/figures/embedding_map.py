"""Embedding map: the two main directions of the image embeddings, one panel a finding.

Reads `embeddings/<data>.parquet`: `image_id`, `patient_id`, `embedding` (list of D floats), `label_<label>`.
Embeddings are scaled to length 1, as the cosine that scores them does, centred, and projected on their first
two principal components (a singular value decomposition, so the map is deterministic and its distances are
real, which those of a neighbour embedding such as t-SNE are not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from radlearn.errors import DataError
from radlearn.figures import base

NEEDS = ("patient_id", "embedding")
_COLUMNS = 4


@dataclass(frozen=True)
class Map:
    """Coordinates (N, 2), and the share of the variance that each of the two directions holds."""

    coordinates: NDArray[np.float64]
    explained: tuple[float, float]


def draw(table: pl.DataFrame, *, title: str = "", max_points: int = 4000, seed: int = 0) -> Figure:
    """Draw one panel a label: its positives in colour on top of all others in grey.

    Args:
        table: columns as in the module's docstring, one row an image.
        title: what stands on top.
        max_points: draw at most this many images, chosen at random; all of them define the directions.
        seed: seeds that choice.
    Raises:
        DataError: if the table is empty, a column or every label is missing, embeddings differ in length or
            hold a value that is not finite, or there are fewer than 3 images.
    """
    base.require(table, NEEDS, "embedding_map")
    labels = base.label_names(table)
    if not labels:
        raise DataError("figure 'embedding_map' needs at least one column 'label_<label>' to colour by")
    mapped = principal_components(_matrix(table))
    shown = _choice(table.height, max_points, seed)
    with base.style():
        rows, columns = base.grid_shape(len(labels), _COLUMNS)
        figure = base.new_figure(2.35 * columns + 0.3, 2.3 * rows + 0.5 + 0.3 * bool(title), title)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        colours = base.colours(labels)
        for index, axes in enumerate(panels.flat):
            if index >= len(labels):
                axes.set_visible(False)
                continue
            label = labels[index]
            _panel(
                axes, mapped.coordinates[shown], table[f"label_{label}"].gather(shown), label, colours[label]
            )
            # The last panel of each column names the axis, also where the row below it is not full.
            axes.tick_params(labelbottom=index + columns >= len(labels))
            if index + columns >= len(labels):
                axes.set_xlabel(f"PC 1 ({mapped.explained[0]:.0%} of variance)")
            if index % columns == 0:
                axes.set_ylabel(f"PC 2 ({mapped.explained[1]:.0%})")
        base.footer(figure, _note(table, shown.size, mapped), synthetic=base.is_synthetic(table))
    return figure


def fake() -> pl.DataFrame:
    """240 embeddings of width 16: three findings, each pushed along its own direction."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([3, 0])))
    names = ("cardiomegaly", "edema", "pneumothorax")
    labels = rng.random((240, len(names))) < (0.3, 0.2, 0.15)
    directions = rng.standard_normal((len(names), 16))
    embeddings = 0.6 * rng.standard_normal((240, 16)) + labels @ directions + 0.5 * directions[0]
    columns: dict[str, Any] = {
        "image_id": [f"image_{i:04d}" for i in range(240)],
        "patient_id": [f"patient_{i % 150:04d}" for i in range(240)],
        "embedding": pl.Series(embeddings.astype(np.float32).tolist(), dtype=pl.List(pl.Float32)),
    }
    columns |= {f"label_{name}": labels[:, i].astype(np.float32) for i, name in enumerate(names)}
    return pl.DataFrame(columns | {"synthetic": [True] * 240})


def principal_components(embeddings: NDArray[np.float64]) -> Map:
    """The first two principal components of (N, D) embeddings scaled to length 1.

    The sign of a component is arbitrary; here its largest loading is positive, so that two machines draw one
    map.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(lengths > 0, lengths, 1)
    centred = unit - unit.mean(axis=0)
    # D x D instead of N x D: a data set has many more images than the embedding has dimensions.
    variances, directions = np.linalg.eigh(centred.T @ centred)
    main = directions[:, ::-1][:, :2]
    main = main * np.sign(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])])
    total = float(variances.sum())
    shares = np.clip(variances[::-1][:2], 0, None) / total if total > 0 else np.zeros(2)
    return Map(centred @ main, (float(shares[0]), float(shares[1])))


def _matrix(table: pl.DataFrame) -> NDArray[np.float64]:
    if not isinstance(table.schema["embedding"], pl.List | pl.Array):
        raise DataError("figure 'embedding_map' needs lists of numbers in the column 'embedding'")
    embeddings = table["embedding"].cast(pl.List(pl.Float64))
    widths = embeddings.list.len().unique().to_list()
    if len(widths) != 1 or widths[0] is None or widths[0] < 2:
        raise DataError(
            f"figure 'embedding_map' needs embeddings of one length of at least 2; lengths: {widths}"
        )
    if table.height < 3:
        raise DataError(
            f"figure 'embedding_map' needs at least 3 images to find two directions, got {table.height}"
        )
    matrix = embeddings.explode().to_numpy().reshape(table.height, widths[0])
    if not np.isfinite(matrix).all():
        raise DataError(
            "figure 'embedding_map': an embedding holds a value that is not finite; embed the run again"
        )
    return matrix


def _choice(rows: int, limit: int, seed: int) -> NDArray[np.intp]:
    """Rows to draw, ascending, so that the picture does not depend on how they were chosen from few."""
    if rows <= limit:
        return np.arange(rows)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    return np.sort(rng.choice(rows, size=limit, replace=False))


def _panel(axes: Any, points: NDArray[np.float64], values: pl.Series, label: str, colour: str) -> None:
    positive = (values == 1).fill_null(False).to_numpy()
    size = float(np.clip(4000 / len(points), 5, 16))
    # Points as pixels: thousands of them as vectors would swell the page.
    axes.scatter(*points[~positive].T, s=size, color="#c5ccd3", linewidths=0, rasterized=True)
    axes.scatter(*points[positive].T, s=size * 1.4, color=colour, alpha=0.8, linewidths=0, rasterized=True)
    axes.set_title(f"{base.display(label, 20)} ({int(positive.sum()):,})", fontsize=9)
    axes.grid(visible=False)


def _note(table: pl.DataFrame, shown: int, mapped: Map) -> str:
    patients = base.count(table["patient_id"].n_unique(), "patient")
    note = f"n = {base.count(table.height, 'image')} of {patients}"
    note += f", {shown:,} drawn at random" if shown < table.height else ""
    return (
        f"{note} · positives in brackets · both components hold {sum(mapped.explained):.0%} of the variance"
    )
