"""Learning curves: the loss and its terms, the learning rate and the periodic zero-shot score over the steps.

Reads `metrics.parquet`: `step`, `loss`, then any of `lr`, the method's own terms, and
`eval/<name>/macro_auc`, which has a value only at the steps where the model was scored. With a column `run`
that names several runs, their losses and scores are laid over each other and the terms, which no two methods
share, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from radlearn.errors import DataError
from radlearn.figures import base

NEEDS = ("step", "loss")
SCORE = re.compile(r"eval/(?P<name>.+)/macro_auc")
# What a trainer logs beside the terms of the objective.
_NOT_TERMS = {
    "step",
    "epoch",
    "loss",
    "lr",
    "grad_norm",
    "images_per_second",
    "data_wait",
    "samples_seen",
    "seconds",
    "memory",
    "run",
    "synthetic",
}
_NUMERIC = (pl.Float32, pl.Float64)
# A curve that falls by more than this factor is read better on a logarithmic axis.
_LOGARITHMIC_ABOVE = 20.0

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw(table: pl.DataFrame, *, title: str = "", max_terms: int = 6) -> Figure:
    """Draw up to four panels over the step: loss, its terms, learning rate, macro AUC with the chance line.

    Args:
        table: columns as in the module's docstring, one row a logged step.
        title: what stands on top.
        max_terms: draw at most this many terms, in the order of their columns.
    Raises:
        DataError: if the table is empty, lacks `step` or `loss`, or holds no finite loss.
    """
    base.require(table, NEEDS, "learning_curves")
    runs = _by_run(table)
    losses = {name: curve for name, rows in runs.items() if (curve := _curve(rows, "loss"))[0].size}
    if not losses:
        raise DataError("figure 'learning_curves' found no finite value in the column 'loss'")
    first = next(iter(runs.values()))
    several = len(runs) > 1
    terms = {} if several else {name: _curve(first, name) for name in _terms(first)[:max_terms]}
    rates = {"learning rate": _curve(first, "lr")} if "lr" in table.columns and not several else {}
    scores = _scores(runs)
    panels: list[Callable[[Any], None]] = [lambda axes: _loss(axes, losses, several)]
    if terms:
        panels.append(lambda axes: _lines(axes, terms, "Terms of the loss", "term (no unit)", smooth=True))
    if rates:
        panels.append(lambda axes: _lines(axes, rates, "Learning rate", "learning rate", legend=False))
    if scores:
        panels.append(lambda axes: _score(axes, scores))
    with base.style():
        rows, columns = base.grid_shape(len(panels), 2)
        figure = base.new_figure(4.6 * columns, 2.7 * rows + 0.4, title)
        for index, panel in enumerate(panels):
            panel(figure.add_subplot(rows, columns, index + 1))
        steps = sum(curve[0].size for curve in losses.values())
        note = f"n = {base.count(steps, 'logged step')} of {base.count(len(losses), 'training run')}"
        base.footer(figure, note, synthetic=base.is_synthetic(table))
    return figure


def fake() -> pl.DataFrame:
    """300 logged steps of one run: a falling loss of two terms, warm-up and cosine, six scores."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([1, 0])))
    step = np.arange(1, 301)
    progress = step / step.max()
    mse = 0.55 + 1.3 * np.exp(-4 * progress) + 0.05 * rng.standard_normal(step.size)
    sigreg = 1.05 + 30 * np.exp(-9 * progress) * (1 + 0.1 * rng.standard_normal(step.size))
    rate = 2e-3 * np.minimum(step / 20, 0.5 * (1 + np.cos(np.pi * np.clip((step - 20) / 280, 0, 1))))
    scores = {50: 0.58, 100: 0.66, 150: 0.72, 200: 0.755, 250: 0.78, 300: 0.785}
    return pl.DataFrame(
        {
            "step": step,
            "loss": 0.95 * mse + 0.05 * sigreg,
            "lr": rate,
            "grad_norm": 1 + rng.random(step.size),
            "images_per_second": 600 + 20 * rng.standard_normal(step.size),
            "data_wait": 0.01 * rng.random(step.size),
            "mse": mse,
            "sigreg": sigreg,
            "eval/phantom_cxr/macro_auc": [scores.get(int(s)) for s in step],
            "synthetic": [True] * step.size,
        }
    )


def _by_run(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    if "run" not in table.columns:
        return {"": table.sort("step")}
    return {
        str(name): table.filter(pl.col("run") == name).sort("step")
        for name in table["run"].drop_nulls().unique(maintain_order=True)
    }


def _terms(table: pl.DataFrame) -> list[str]:
    return [
        name
        for name, kind in table.schema.items()
        if kind in _NUMERIC and name not in _NOT_TERMS and "/" not in name and table[name].is_finite().any()
    ]


def _curve(table: pl.DataFrame, column: str) -> Curve:
    """Steps and finite values of one column, each (K,)."""
    steps = table["step"].cast(pl.Float64).to_numpy()
    values = table[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def _scores(runs: Mapping[str, pl.DataFrame]) -> dict[str, Curve]:
    columns = [column for column in next(iter(runs.values())).columns if SCORE.fullmatch(column)]
    found = {}
    for run, rows in runs.items():
        for column in columns:
            curve = _curve(rows, column)
            name = SCORE.fullmatch(column)["name"]  # type: ignore[index]
            parts = [run] * bool(run) + [name] * (len(columns) > 1 or not run)
            if curve[0].size:
                found[" · ".join(parts)] = curve
    return found


def _loss(axes: Any, losses: Mapping[str, Curve], several: bool) -> None:
    _lines(axes, losses, "Training loss", "loss (no unit)", smooth=True, legend=several)


def _lines(
    axes: Any,
    curves: Mapping[str, Curve],
    title: str,
    unit: str,
    *,
    smooth: bool = False,
    legend: bool = True,
) -> None:
    """One line a curve; with `smooth`, the values faint behind their running mean."""
    names = list(curves)
    hue, line = base.colours(names), base.line_styles(names)
    for name, (steps, values) in curves.items():
        window = max(1, values.size // 40) if smooth else 1
        if window > 1:
            axes.plot(steps, values, color=hue[name], linewidth=0.6, alpha=0.3)
        label = base.entry(name) or "loss"
        axes.plot(steps, running_mean(values, window), color=hue[name], linestyle=line[name], label=label)
    if smooth and _spans_decades(curves):
        axes.set_yscale("log")
        # The default formatter writes powers in math text, which the shared style turns off.
        axes.yaxis.set_major_formatter("{x:g}")
        unit = f"{unit}, logarithmic"
    axes.set(title=title, xlabel="optimiser step", ylabel=unit)
    axes.margins(x=0.01)
    if not smooth:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4), useMathText=False)
    if legend:
        axes.legend(loc="best")


def _score(axes: Any, scores: Mapping[str, Curve]) -> None:
    """Macro AUC at the steps where it was measured, and what chance scores."""
    names = list(scores)
    hue = base.colours(names)
    for index, (name, (steps, values)) in enumerate(scores.items()):
        marker = base.MARKERS[index % len(base.MARKERS)]
        axes.plot(steps, values, color=hue[name], marker=marker, markersize=4, label=base.entry(name))
    axes.axhline(0.5, label="chance, 0.5", **base.CHANCE)
    lowest = min(float(values.min()) for _, values in scores.values())
    axes.set(
        title="Zero-shot score",
        xlabel="optimiser step",
        ylabel="macro AUC",
        ylim=(min(0.45, lowest - 0.03), 1.0),
    )
    axes.legend(loc="upper left")


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the `window` values around each value, over fewer at the ends."""
    kernel = np.ones(window)
    # Normalising by the overlap keeps a constant curve constant up to its ends.
    sums = np.convolve(values, kernel, mode="same")
    counts = np.convolve(np.ones_like(values), kernel, mode="same")
    mean: NDArray[np.float64] = sums / counts
    return mean


def _spans_decades(curves: Mapping[str, Curve]) -> bool:
    joined = np.concatenate([values for _, values in curves.values()])
    return bool(joined.min() > 0 and joined.max() / joined.min() > _LOGARITHMIC_ABOVE)
