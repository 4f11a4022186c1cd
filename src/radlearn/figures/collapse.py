"""Collapse diagnostics: does the embedding keep its spread and its dimensions while training?

Reads `metrics.parquet`: `step` and the sparse columns `diagnostics/.../<side>_std_mean` (mean over
dimensions of the standard deviation over a held-out batch) and `diagnostics/.../<side>_effective_rank`
(exp of the entropy of the singular values of the centred embeddings divided by their sum). A mean
standard deviation below 0.1 is scale collapse, which neither the effective rank nor a cosine shows; a
rank below an eighth of the width is dimensional collapse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from radlearn.errors import DataError
from radlearn.figures import base

NEEDS = ("step",)
ALARM_STD = 0.1
# A rank below width / 8 raises the alarm.
ALARM_RANK_SHARE = 8
# One low probe may be chance, such as the first before warm-up.
_IN_A_ROW = 3
_STD, _RANK = "_std_mean", "_effective_rank"


def draw(table: pl.DataFrame, *, title: str = "", width: int | None = None) -> Figure:
    """Draw the standard deviation and, where it was measured, the effective rank over the steps.

    Args:
        table: columns as in the module's docstring; rows without a probe are skipped.
        title: what stands on top.
        width: width of the embedding, which gives the alarm level of the rank.
    Raises:
        DataError: if the table is empty, a column is missing, or no probe was made yet.
    """
    base.require(table, NEEDS, "collapse")
    spread, rank = _sides(table, _STD), _sides(table, _RANK)
    if not spread:
        raise DataError(
            "figure 'collapse' found no probe in 'diagnostics/*_std_mean': train past the first one"
        )
    with base.style():
        figure = base.new_figure(4.6 * (1 + bool(rank)), 3.1 + 0.3 * bool(title), title)
        axes = figure.add_subplot(1, 1 + bool(rank), 1)
        _lines(axes, spread, ALARM_STD, f"alarm below {ALARM_STD:g}")
        axes.set(
            title="Spread of the embedding",
            xlabel="optimiser step",
            ylabel="mean standard deviation a dimension",
        )
        if rank:
            axes = figure.add_subplot(1, 2, 2)
            level = None if width is None else width / ALARM_RANK_SHARE
            _lines(axes, rank, level, f"alarm below width / {ALARM_RANK_SHARE}")
            of = "" if width is None else f" of {width}"
            axes.set(
                title="Dimensions in use", xlabel="optimiser step", ylabel=f"effective rank (dimensions{of})"
            )
        probes = max(rows.height for rows in spread.values())
        note = f"n = {base.count(probes, 'probe')}, each of one held-out batch, one training run"
        base.footer(figure, note, synthetic=base.is_synthetic(table))
    return figure


def fake() -> pl.DataFrame:
    """300 steps with a probe every 25: the image side opens up, the text side is steady."""
    step = np.arange(1, 301)
    probed = step % 25 == 0
    progress = step / 300
    columns = {
        "diagnostics/image_std_mean": 0.12 + 0.8 * (1 - np.exp(-4 * progress)),
        "diagnostics/text_std_mean": 0.95 + 0.03 * np.sin(9 * progress),
        "diagnostics/image_effective_rank": 8 + 40 * (1 - np.exp(-3 * progress)),
        "diagnostics/text_effective_rank": 50 + 2 * np.cos(7 * progress),
    }
    sparse = {
        name: [float(v) if p else None for v, p in zip(values, probed, strict=True)]
        for name, values in columns.items()
    }
    return pl.DataFrame({"step": step, **sparse, "synthetic": [True] * 300})


def measured(table: pl.DataFrame) -> bool:
    """Whether the table has anything that this figure shows."""
    return any(_is_probe(column, _STD) for column in table.columns)


def alarms(table: pl.DataFrame) -> dict[str, int]:
    """Sides that collapsed: the first step of three probes in a row with a spread below the alarm level."""
    found = {}
    for side, rows in _sides(table, _STD).items():
        low = (rows["value"] < ALARM_STD).to_list()
        starts = [i for i in range(len(low) - _IN_A_ROW + 1) if all(low[i : i + _IN_A_ROW])]
        if starts:
            found[side] = int(rows["step"][starts[0]])
    return found


def _is_probe(column: str, ending: str) -> bool:
    return column.startswith("diagnostics/") and column.endswith(ending)


def _sides(table: pl.DataFrame, ending: str) -> dict[str, pl.DataFrame]:
    """Side of the model -> its probes as columns `step` and `value`."""
    found = {}
    for column in (column for column in table.columns if _is_probe(column, ending)):
        values = table.select("step", value=pl.col(column).cast(pl.Float64))
        rows = values.drop_nulls().filter(pl.col("value").is_finite()).sort("step")
        if rows.height:
            found[column.rpartition("/")[2].removesuffix(ending)] = rows
    return found


def _lines(axes: Any, sides: Mapping[str, pl.DataFrame], alarm: float | None, meaning: str) -> None:
    names = list(sides)
    hue, line = base.colours(names), base.line_styles(names)
    for index, (name, rows) in enumerate(sides.items()):
        axes.plot(
            rows["step"],
            rows["value"],
            color=hue[name],
            linestyle=line[name],
            label=base.display(name, 32),
            marker=base.MARKERS[index % len(base.MARKERS)],
            markersize=3.5,
        )
    if alarm is not None:
        axes.axhline(alarm, color=base.ALARM, linewidth=1.1, linestyle=(0, (4, 3)), label=meaning)
        axes.axhspan(0, alarm, color=base.ALARM, alpha=0.06, linewidth=0)
    axes.set_xlim(0, 1.03 * max(int(rows["step"].max()) for rows in sides.values()))  # type: ignore[arg-type]
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    axes.legend(loc="best")
