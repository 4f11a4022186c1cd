"""Score tables: rows of results laid out as people read them, a label a row, a measurement a column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from radlearn.figures.auc_intervals import is_mean
from radlearn.figures.base import display

AUC, AVERAGE_PRECISION = "auc", "average_precision"
# Measured beside a task to judge it: what small pixels give away without any network.
REFERENCE_TASKS = {"pixel_probe": "Pixel probe"}
REFERENCE_VARIANTS = {"untrained": "Untrained network"}
_VARIANTS = {"negative=no_x": "Negative prompt “No X”", **REFERENCE_VARIANTS}
MEASURES = {AUC: "AUC", AVERAGE_PRECISION: "Average precision"}

# Of other tasks, what runs are compared by.
HEADLINES = {
    "retrieval": "recall@10",
    "localisation": "region_auc",
    "segmentation": "dice",
    "detection": "map",
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One measurement: its heading, and the row of results of each label it has a value for."""

    heading: str
    rows: Mapping[str, Row]
    with_chance: bool = False


@dataclass(frozen=True)
class Line:
    """One label of a table: a row of results a column, or None, and the counts of the first."""

    label: str
    mean: bool
    cells: tuple[Row | None, ...]

    @property
    def counts(self) -> Row:
        """The first measurement there is; it carries the counts."""
        return next(cell for cell in self.cells if cell is not None)


@dataclass(frozen=True)
class ScoreTable:
    """A table of one task on one split of one data set."""

    task: str
    data: str
    split: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        """What the table is about, `zero_shot on phantom_cxr, test`."""
        return f"{self.task} on {self.data}, {self.split}"


def subjects(results: pl.DataFrame) -> list[tuple[str, str, str]]:
    """Each task, data set and split with AUC rows, references left out, in the order of the rows."""
    rows = results.filter((pl.col("metric") == AUC) & ~pl.col("task").is_in(list(REFERENCE_TASKS)))
    keys = rows.select("task", "data", "split").unique(maintain_order=True).rows()
    return [(str(task), str(data), str(split)) for task, data, split in keys]


def one_run(results: pl.DataFrame, subject: tuple[str, str, str], order: Sequence[str] = ()) -> ScoreTable:
    """The table of one run: AUC, average precision, then the AUC of other variants and of the references.

    Args:
        results: rows of one run.
        subject: task, data set and split.
        order: labels in the order wanted; others follow, means come last.
    """
    task, data, split = subject
    here = results.filter((pl.col("data") == data) & (pl.col("split") == split))
    own = here.filter(pl.col("task") == task)
    main = main_variant(own)
    columns = [
        Column(heading, rows, with_chance=True)
        for metric, heading in MEASURES.items()
        if (rows := pick(own, metric, main))
    ]
    columns += [
        Column(variant_title(variant), rows)
        for variant in variants(own)
        if variant != main and (rows := pick(own, AUC, variant))
    ]
    for reference, heading in REFERENCE_TASKS.items():
        beside = here.filter(pl.col("task") == reference)
        if found := pick(beside, AUC, main_variant(beside)):
            columns.append(Column(heading, found))
    return ScoreTable(task, data, split, tuple(columns), _lines(columns, order))


def several_runs(
    results: Mapping[str, pl.DataFrame], subject: tuple[str, str, str], order: Sequence[str] = ()
) -> ScoreTable:
    """The AUC of several runs side by side, each in its main variant."""
    columns = []
    for run, rows in results.items():
        own = of_subject(rows, subject)
        if found := pick(own, AUC, main_variant(own)):
            columns.append(Column(run, found))
    return ScoreTable(*subject, tuple(columns), _lines(columns, order))


def of_subject(results: pl.DataFrame, subject: tuple[str, str, str]) -> pl.DataFrame:
    """The rows of a task on a split of a data set."""
    task, data, split = subject
    return results.filter((pl.col("task") == task) & (pl.col("data") == data) & (pl.col("split") == split))


def other_tables(results: pl.DataFrame) -> list[tuple[str, ScoreTable]]:
    """Tables, with their titles, of what no AUC table shows: a table each task, data set, split and variant,
    a column a metric.
    """
    found = []
    for subject, variant in _others(results):
        own = of_subject(results, subject)
        metrics = dict.fromkeys(m for m in own["metric"].to_list() if m not in MEASURES)
        columns = [Column(m, rows, with_chance=True) for m in metrics if (rows := pick(own, m, variant))]
        found.append((_title(subject, variant), ScoreTable(*subject, tuple(columns), _lines(columns, ()))))
    return found


def others_together(results: Mapping[str, pl.DataFrame]) -> list[tuple[str, ScoreTable]]:
    """The same for several runs side by side: of each task its headline metric, a column a run."""
    every = dict.fromkeys(key for rows in results.values() for key in _others(rows))
    found = []
    for subject, variant in every:
        own = {run: of_subject(rows, subject) for run, rows in results.items()}
        metrics = [m for rows in own.values() for m in rows["metric"].to_list() if m not in MEASURES]
        metric = HEADLINES.get(subject[0], metrics[0])
        columns = [Column(run, rows) for run, o in own.items() if (rows := pick(o, metric, variant))]
        if len(columns) > 1:
            title = f"{_title(subject, variant)}: {metric}"
            found.append((title, ScoreTable(*subject, tuple(columns), _lines(columns, ()))))
    return found


def _others(results: pl.DataFrame) -> list[tuple[tuple[str, str, str], str]]:
    """Task, data set and split, and variant, of rows that are neither AUC nor average precision."""
    rows = results.filter(~pl.col("metric").is_in(list(MEASURES))).iter_rows(named=True)
    keys = (((str(r["task"]), str(r["data"]), str(r["split"])), variant_of(r)) for r in rows)
    return list(dict.fromkeys(keys))


def _title(subject: tuple[str, str, str], variant: str) -> str:
    task, data, split = subject
    return f"{display(task, 80)} on {data}, {split} split" + (
        f", {variant_title(variant)}" if variant else ""
    )


def variant_of(row: Row) -> str:
    """All settings of a row that change its number, as one text; empty for the plain one."""
    parts = [row["variant"] or ""]
    parts += [f"fraction={row['fraction']:g}"] if row["fraction"] not in (None, 1.0) else []
    parts += [f"draw={row['draw']}"] if row["draw"] is not None else []
    return ", ".join(part for part in parts if part)


def variant_title(variant: str) -> str:
    """A variant as a heading."""
    return _VARIANTS.get(variant, variant or "plain")


def variants(rows: pl.DataFrame) -> list[str]:
    """The variants there are, in the order of the rows."""
    return list(dict.fromkeys(variant_of(row) for row in rows.iter_rows(named=True)))


def main_variant(rows: pl.DataFrame) -> str:
    """The plain variant, or the first where there is no plain one."""
    there = variants(rows)
    return "" if "" in there or not there else there[0]


def pick(rows: pl.DataFrame, metric: str, variant: str) -> dict[str, Row]:
    """Label -> row, for one metric and variant; of several seeds the last."""
    return {
        str(row["label"]): row
        for row in rows.filter(pl.col("metric") == metric).iter_rows(named=True)
        if variant_of(row) == variant
    }


def label_title(label: str) -> str:
    """A label as a row's heading."""
    if label == "macro":
        return "Mean of all labels (macro)"
    return (
        f"Mean {display(label.removeprefix('macro_'), 80).lower()}" if is_mean(label) else display(label, 80)
    )


def _lines(columns: Iterable[Column], order: Sequence[str]) -> tuple[Line, ...]:
    columns = list(columns)
    found = list(dict.fromkeys(label for column in columns for label in column.rows))
    ordered = [label for label in order if label in found] + [label for label in found if label not in order]
    ordered.sort(key=is_mean)
    return tuple(
        Line(label, is_mean(label), tuple(column.rows.get(label) for column in columns)) for label in ordered
    )
