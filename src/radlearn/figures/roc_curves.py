"""ROC curves: sensitivity against 1 - specificity, one curve a label, with the diagonal that chance follows.

Reads `predictions/<task>-<data>.parquet`: `image_id`, `patient_id`, and `score_<label>` with `label_<label>`
for each label. Labels other than 1 and 0 (uncertain, not mentioned) are left out of that label's curve.
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

NEEDS = ("patient_id",)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Corners of a ROC curve, each (K,), the area below it and the counts it rests on."""

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    area: float
    num_positive: int
    num_negative: int


def draw(table: pl.DataFrame, *, title: str = "") -> Figure:
    """Draw one curve a label, ordered in the legend by the area below it.

    Args:
        table: columns as in the module's docstring, one row an image.
        title: what stands on top.
    Raises:
        DataError: if the table is empty, has no pair of score and label columns, a score that is no number,
            or no label with both classes.
    """
    base.require(table, NEEDS, "roc_curves")
    labels = [name for name in base.label_names(table) if f"score_{name}" in table.columns]
    if not labels:
        raise DataError(
            "figure 'roc_curves' needs pairs of columns 'score_<label>' and 'label_<label>'; there is none"
        )
    curves = {label: curve for label in labels if (curve := _curve_of(table, label)) is not None}
    if not curves:
        raise DataError(f"figure 'roc_curves': none of {', '.join(labels)} has both positives and negatives")
    with base.style():
        figure = base.new_figure(9.0, 4.7 + 0.3 * bool(title), title)
        # The legend has axes of its own: its width cannot push square axes off the paper. The left part is
        # wider than high, so that squaring the axes takes from their width and leaves the labels below where
        # they are.
        axes, beside = figure.subplots(1, 2, width_ratios=[1.3, 1])
        beside.axis("off")
        _plot(axes, labels, curves)
        _legend(axes, beside)
        missing = [base.display(label) for label in labels if label not in curves]
        patients = base.count(table["patient_id"].n_unique(), "patient")
        note = f"n = {base.count(table.height, 'image')} of {patients}"
        note += f" · one class only, not drawn: {', '.join(missing)}" if missing else ""
        base.footer(figure, note, synthetic=base.is_synthetic(table))
    return figure


def fake() -> pl.DataFrame:
    """300 images of 180 patients; five findings, from chance to nearly perfect; some uncertain labels."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([2, 0])))
    shifts = {"cardiomegaly": 2.6, "edema": 2.2, "pleural_effusion": 1.6, "consolidation": 0.8, "nodule": 0.1}
    columns: dict[str, Any] = {
        "image_id": [f"image_{i:04d}" for i in range(300)],
        "patient_id": [f"patient_{i % 180:04d}" for i in range(300)],
    }
    for name, shift in shifts.items():
        positive = rng.random(300) < 0.2
        columns[f"score_{name}"] = rng.standard_normal(300) + shift * positive
        columns[f"label_{name}"] = np.where(rng.random(300) < 0.03, -1.0, positive).astype(np.float32)
    return pl.DataFrame(columns | {"synthetic": [True] * 300})


def roc_curve(scores: FloatArray, positive: NDArray[np.bool_]) -> Curve:
    """The curve of (N,) scores; tied scores make one sloped piece, so the area counts a tie one half.

    Source: Fawcett 2006, An introduction to ROC analysis, algorithm 1 and section 7.
    """
    order = np.argsort(-scores, kind="stable")
    descending, hits = scores[order], positive[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(descending)), descending.size - 1)
    true_positives = np.concatenate([[0], np.cumsum(hits)[last_of_tie]])
    false_positives = np.concatenate([[0], np.cumsum(~hits)[last_of_tie]])
    num_positive, num_negative = int(true_positives[-1]), int(false_positives[-1])
    x, y = false_positives / num_negative, true_positives / num_positive
    return Curve(x, y, float(np.trapezoid(y, x)), num_positive, num_negative)


def _curve_of(table: pl.DataFrame, label: str) -> Curve | None:
    known = table.filter(pl.col(f"label_{label}").cast(pl.Float64).is_in([0.0, 1.0]))
    scores = known[f"score_{label}"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    if np.isnan(scores).any():
        raise DataError(
            f"figure 'roc_curves': 'score_{label}' holds a value that is no number; score the run again"
        )
    positive = (known[f"label_{label}"] == 1).to_numpy()
    return roc_curve(scores, positive) if positive.any() and not positive.all() else None


def _plot(axes: Any, labels: list[str], curves: dict[str, Curve]) -> None:
    hue, line = base.colours(labels), base.line_styles(labels)
    axes.plot([0, 1], [0, 1], label="chance  0.500", **base.CHANCE)
    for label, curve in sorted(curves.items(), key=lambda item: -item[1].area):
        counts = f"({curve.num_positive:,} + / {curve.num_negative:,} −)"
        entry = f"{base.display(label, 30)}  {curve.area:.3f}  {counts}"
        axes.plot(
            curve.false_positive_rate,
            curve.true_positive_rate,
            color=hue[label],
            linestyle=line[label],
            label=entry,
        )
    axes.set(
        xlabel="false positive rate (1 − specificity)",
        ylabel="true positive rate (sensitivity)",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
        anchor="W",
    )


def _legend(axes: Any, beside: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    # Chance was drawn first to lie below the curves; it is the worst, so it ends the ordered legend.
    beside.legend(
        handles[1:] + handles[:1],
        names[1:] + names[:1],
        loc="center left",
        title="label  AUC  (positives / negatives)",
        alignment="left",
        labelspacing=0.7,
        borderaxespad=0,
    )
