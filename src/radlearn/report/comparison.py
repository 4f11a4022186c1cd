"""Several runs against each other: ranks, whether they are fair, paired differences, spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlearn import stats
from radlearn.figures.base import label_names
from radlearn.report.run_folder import RunFolder, table
from radlearn.report.scores import AUC, main_variant, of_subject, pick

BUDGETS = {
    "samples_seen": "samples seen",
    "num_views": "views a sample",
    "image_tokens": "image tokens",
    "forward_flops": "forward FLOPs",
    "tuning_trials": "tuning trials",
}
# Budgets count as equal within this share: two loaders round the last batch of an epoch differently.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Standing:
    """One run in the ranking; `rank` is None where it cannot be ranked."""

    run: str
    macro: Mapping[str, Any]
    rank: int | None


@dataclass(frozen=True)
class Paired:
    """Macro AUC of `first` minus that of `second` on the same cases."""

    first: str
    second: str
    difference: stats.Difference
    num_cases: int
    num_patients: int


@dataclass(frozen=True)
class Seeds:
    """One setting trained from several seeds: the mean macro AUC and its t interval over seeds."""

    setting: str
    mean: stats.Interval
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs on one task, data set and split, best first.

    Attributes:
        standings: one a run with a macro AUC.
        unequal: budgets that differ or are not known for each run, in words.
        unlike: other reasons why the numbers do not compare: data versions, text models.
        ranked: whether ranks are given at all; numbers from different versions of the data are not ranked.
        paired: each run against the best.
        seeds: settings with more than one seed.
    """

    standings: tuple[Standing, ...]
    unequal: tuple[str, ...]
    unlike: tuple[str, ...]
    ranked: bool
    paired: tuple[Paired, ...]
    seeds: tuple[Seeds, ...]


def compare(runs: Sequence[RunFolder], subject: tuple[str, str, str]) -> Comparison:
    """Compare runs on one subject (task, data set, split); runs without a macro AUC there are left out."""
    macros = {run.name: macro for run in runs if (macro := macro_row(run.results, subject)) is not None}
    best_first = sorted(macros.items(), key=lambda item: -_finite(item[1]["value"]))
    ranked = len({macro["data_hash"] for macro in macros.values()}) <= 1
    standings = [
        Standing(name, macro, place if ranked and _finite(macro["value"]) >= 0 else None)
        for place, (name, macro) in enumerate(best_first, start=1)
    ]
    folders = [next(run for run in runs if run.name == name) for name, _ in best_first]
    rows = [macro for _, macro in best_first]
    return Comparison(
        standings=tuple(standings),
        unequal=unequal_budgets(rows),
        unlike=_unlike(rows),
        ranked=ranked,
        paired=tuple(
            pair for other in folders[1:] if ranked and (pair := paired(folders[0], other, subject))
        ),
        seeds=_seeds(rows),
    )


def macro_row(results: pl.DataFrame, subject: tuple[str, str, str]) -> Mapping[str, Any] | None:
    """The row of the macro AUC over all labels, or None."""
    own = of_subject(results, subject)
    return pick(own, AUC, main_variant(own)).get("macro")


def unequal_budgets(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Budgets in which runs differ by more than a hundredth, or that not every run states."""
    if len(rows) < 2:
        return ()
    found = []
    for column, name in BUDGETS.items():
        known = [float(row[column]) for row in rows if row[column] is not None]
        if 0 < len(known) < len(rows):
            found.append(f"{name} (not known for every run)")
        elif known and max(known) - min(known) > _TOLERANCE * max(abs(value) for value in known):
            found.append(name)
    if all(row[column] is None for row in rows for column in BUDGETS):
        found.append("all budgets (none was recorded)")
    return tuple(found)


def paired(first: RunFolder, second: RunFolder, subject: tuple[str, str, str]) -> Paired | None:
    """Difference of the macro AUC on the images that both runs scored, or None where no two files fit.

    Redrawing the same patients for both removes what they share: two overlapping intervals say nothing about
    a difference.
    """
    ours_at, theirs_at = (
        run.predictions_of(*subject, main_variant(of_subject(run.results, subject)))
        for run in (first, second)
    )
    if ours_at is None or theirs_at is None:
        return None
    joined, labels = _same_cases(ours_at, theirs_at)
    if joined is None or not labels:
        return None
    targets, ours, theirs = (
        joined.select(
            pl.col(f"{prefix}{label}{suffix}").cast(pl.Float64).fill_null(np.nan) for label in labels
        )
        .to_numpy()
        .copy()
        for prefix, suffix in (("label_", ""), ("score_", ""), ("score_", "_second"))
    )
    # Uncertain and not mentioned labels have no side to be right about.
    targets[~np.isin(targets, (0.0, 1.0))] = np.nan
    compared = stats.paired_bootstrap(ours, theirs, targets, joined["patient_id"].to_numpy())
    return Paired(
        first.name, second.name, compared["auroc"].macro, joined.height, joined["patient_id"].n_unique()
    )


def _same_cases(first: Path, second: Path) -> tuple[pl.DataFrame | None, list[str]]:
    """Both files side by side, if they hold the same images once each, and the labels that both scored."""
    ours, theirs = table(first), table(second)
    labels = [
        name
        for name in label_names(ours)
        if f"score_{name}" in ours.columns and f"score_{name}" in theirs.columns
    ]
    scores = theirs.select("image_id", pl.col(f"score_{name}" for name in labels).name.suffix("_second"))
    joined = ours.join(scores, on="image_id", how="inner")
    complete = joined.height == ours.height == theirs.height == ours["image_id"].n_unique()
    return (joined if complete else None), labels


def _unlike(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    reasons = {
        "data_hash": "the runs were scored on different versions of the data, so they are not ranked",
        "text_model": "the runs used different text models",
    }
    return tuple(reason for column, reason in reasons.items() if len({row[column] or "" for row in rows}) > 1)


def _seeds(rows: Sequence[Mapping[str, Any]]) -> tuple[Seeds, ...]:
    same = ("method", "encoder", "text_model", "data_hash", *BUDGETS)
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in same), []).append(row)
    found = []
    for group in groups.values():
        seeds = {row["seed"]: float(row["value"]) for row in group if row["seed"] is not None}
        if len(seeds) > 1:
            setting = ", ".join(filter(None, (group[0]["method"], group[0]["encoder"]))) or "one setting"
            found.append(Seeds(setting, stats.mean_and_interval(list(seeds.values())), tuple(sorted(seeds))))
    return tuple(found)


def _finite(value: float | None) -> float:
    """A value to sort by; what is no number comes last."""
    return -1.0 if value is None or math.isnan(value) else float(value)
