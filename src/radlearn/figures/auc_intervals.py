"""Forest plot: the AUC of every label with its 95 % interval, runs side by side, means over labels set apart.

Reads rows of `results.parquet` (`radlearn.records.Result`). An interval says how the number would move with
other test patients; it says nothing about other training seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from radlearn.errors import DataError
from radlearn.figures import base

NEEDS = ("run", "label", "metric", "value", "low", "high", "num_cases", "num_patients", "num_positive")
# Height of one run's marker and of one label's share of the axis, in inches.
_INCH_A_RUN, _INCH_A_LABEL = 0.13, 0.17
# Empty rows between the labels and their means.
_GAP = 0.7


def draw(table: pl.DataFrame, *, title: str = "", metric: str = "auc", variant: str = "") -> Figure:
    """Draw a row a label, a marker a run, and the chance line.

    Args:
        table: rows of `records.Result`; of several rows with one run and label the last counts.
        title: what stands on top.
        metric: which rows to take.
        variant: which rows to take, where the table has the column `variant`.
    Raises:
        DataError: if the table is empty, a column is missing, or no row fits.
    """
    base.require(table, NEEDS, "auc_intervals")
    rows = table.filter(pl.col("metric") == metric)
    if "variant" in rows.columns:
        rows = rows.filter(pl.col("variant").fill_null("") == variant)
    rows = rows.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
    if rows.is_empty():
        there = ", ".join(sorted({str(name) for name in table["metric"].unique()}))
        raise DataError(
            f"figure 'auc_intervals' found no value with metric='{metric}' and variant='{variant}'; "
            f"there is {there}"
        )
    rows = rows.unique(["run", "label"], keep="last", maintain_order=True)
    runs = rows["run"].unique(maintain_order=True).to_list()
    places = _places(rows["label"].unique(maintain_order=True).to_list())
    span = max(places.values()) + 1
    with base.style():
        height = span * (_INCH_A_LABEL + _INCH_A_RUN * len(runs)) + 1.1 + 0.2 * bool(title)
        figure = base.new_figure(8.0, height + 0.2 * len(runs) * (len(runs) > 1), title)
        axes = figure.add_subplot()
        chance = _chance(rows, metric)
        for index, run in enumerate(runs):
            _plot_run(axes, rows.filter(pl.col("run") == run), places, index, len(runs))
        _axes(axes, rows, places, metric, chance)
        if len(runs) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(3, len(runs)))
        base.footer(figure, _note(rows), synthetic=base.is_synthetic(rows))
    return figure


def fake() -> pl.DataFrame:
    """Two runs with five labels and two means, on 400 images of 200 patients."""
    values = {"cardiomegaly": 0.95, "edema": 0.96, "effusion": 0.88, "consolidation": 0.71, "nodule": 0.52}
    values |= {"macro": 0.80, "macro_without_nodule_and_devices": 0.88}
    rows = []
    for run, shift in (("nova", 0.0), ("infonce", 0.02)):
        for position, (label, value) in enumerate(values.items()):
            score, half = min(value + shift, 0.99), 0.015 + 0.06 * (1 - value)
            rows.append(
                {
                    "run": run,
                    "task": "zero_shot",
                    "data": "phantom_cxr",
                    "split": "test",
                    "metric": "auc",
                    "label": label,
                    "value": score,
                    "low": score - half,
                    "high": min(score + half, 0.995),
                    "chance": 0.5,
                    "num_cases": 400,
                    "num_patients": 200,
                    "num_positive": None if label.startswith("macro") else 48 + 4 * position,
                    "variant": "",
                    "synthetic": True,
                }
            )
    return pl.DataFrame(rows)


def is_mean(label: str) -> bool:
    """Whether a row is a mean over labels, `macro` or `macro_without_...`."""
    return label == "macro" or label.startswith("macro_")


def _places(labels: list[str]) -> dict[str, float]:
    """Label -> position from the top; the means follow after a gap."""
    single = [label for label in labels if not is_mean(label)]
    means = [label for label in labels if is_mean(label)]
    start = len(single) + (_GAP if single else 0)
    return {label: float(i) for i, label in enumerate(single)} | {
        label: start + i for i, label in enumerate(means)
    }


def _chance(rows: pl.DataFrame, metric: str) -> float | None:
    """The level that all rows share, or None where it differs (average precision) or is unknown."""
    if "chance" in rows.columns and (levels := rows["chance"].drop_nulls().unique().to_list()):
        return float(levels[0]) if len(levels) == 1 else None
    return 0.5 if metric == "auc" else None


def _plot_run(axes: Any, rows: pl.DataFrame, places: dict[str, float], index: int, runs: int) -> None:
    offset = (index - (runs - 1) / 2) * 0.62 / runs
    colour, marker = base.PALETTE[index % len(base.PALETTE)], base.MARKERS[index % len(base.MARKERS)]
    where = np.array([places[label] for label in rows["label"]]) + offset
    value = rows["value"].to_numpy()
    limits = rows.select(pl.col("low", "high").cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    axes.hlines(where, limits[:, 0], limits[:, 1], color=colour, linewidth=1.8)
    label = base.entry(str(rows["run"][0]), 40)
    axes.plot(value, where, linestyle="none", marker=marker, color=colour, markersize=5.5, label=label)
    if runs == 1:
        for y, row in zip(where, rows.iter_rows(named=True), strict=True):
            axes.annotate(
                f"{row['value']:.3f}",
                (row["value"], y),
                (0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )


def _axes(axes: Any, rows: pl.DataFrame, places: dict[str, float], metric: str, chance: float | None) -> None:
    means = [place for label, place in places.items() if is_mean(label)]
    if means and len(means) < len(places):
        axes.axhline(min(means) - (1 + _GAP) / 2, color=base.FAINT, linewidth=0.8)
    axes.set_yticks(list(places.values()), [base.display(label, 40) for label in places])
    for tick, label in zip(axes.get_yticklabels(), places, strict=True):
        tick.set_color(base.INK)
        tick.set_fontweight("bold" if is_mean(label) else "normal")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(max(places.values()) + 0.6, -0.75)
    _limits(axes, rows, chance)
    name = {"auc": "AUC", "average_precision": "average precision"}.get(metric, base.display(metric))
    axes.set_xlabel(f"{name} with 95 % interval (no unit, 1 is perfect)")
    if chance is not None:
        axes.axvline(chance, zorder=0.9, **base.CHANCE)
        axes.annotate(
            f"chance {chance:g}",
            (chance, 1),
            (3, -1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8,
            va="top",
            color="#52606d",
        )
    _counts(axes, rows, places)


def _limits(axes: Any, rows: pl.DataFrame, chance: float | None) -> None:
    values = [rows[name].cast(pl.Float64).drop_nulls().drop_nans() for name in ("value", "low", "high")]
    lowest = min(float(column.min()) for column in values if column.len())  # type: ignore[arg-type]
    highest = max(float(column.max()) for column in values if column.len())  # type: ignore[arg-type]
    axes.set_xlim(min([lowest, *([] if chance is None else [chance])]) - 0.03, max(1.0, highest) + 0.005)


def _counts(axes: Any, rows: pl.DataFrame, places: dict[str, float]) -> None:
    """Positives of all cases, at the right border, once a label."""
    transform = blended_transform_factory(axes.transAxes, axes.transData)
    counted = {row["label"]: row for row in rows.iter_rows(named=True) if row["num_positive"] is not None}
    if counted:
        axes.text(1.02, -0.75, "positive / n", transform=transform, va="center", fontsize=8, color="#52606d")
    for label, row in counted.items():
        entry = f"{row['num_positive']:,} / {row['num_cases']:,}"
        axes.text(1.02, places[label], entry, transform=transform, va="center", fontsize=8)


def _note(rows: pl.DataFrame) -> str:
    return f"n = {_span(rows['num_cases'])} images of {_span(rows['num_patients'])} patients a label"


def _span(counts: pl.Series) -> str:
    """`400`, or `380 to 400` where the labels differ."""
    known = sorted({int(number) for number in counts.drop_nulls()} or {0})
    return f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
