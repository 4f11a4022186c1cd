"""Ranking metrics for binary labels, in float64: AUROC, average precision, macro mean, ROC curve.

Everything takes scores and labels of shape (N,) or (N, L), one column a label. Labels are 1, 0 or NaN; NaN
rows do not count for that column. A column that has one class only scores NaN, never an exception, so that
one rare finding cannot end a whole evaluation; `macro` then says how many columns were left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Macro:
    """The unweighted mean over labels that have both classes, and how many labels that leaves out."""

    value: float
    num_labels: int
    num_left_out: int


@dataclass(frozen=True)
class RocCurve:
    """Corners of a ROC curve, each (K,), from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: share of negatives that score at least the threshold.
        true_positive_rate: share of positives that score at least the threshold.
        thresholds: descending; the first is infinite, where nothing is called positive.
    """

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    thresholds: FloatArray


def auroc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Area under the ROC curve: the chance that a positive outranks a negative, a tie counting one half.

    Args:
        scores: (N,) or (N, L), higher is more positive.
        labels: same shape, 1, 0 or NaN (left out).
        weights: (N,) weight of each row, such as how often it was drawn; default 1.

    Returns:
        () or (L,) areas; NaN where a class is missing.

    Raises:
        ValueError: on shapes that do not fit, labels other than 1, 0 and NaN, a NaN score, a negative weight.
    Source: Mann and Whitney 1947 with mid-ranks for ties; Hanley and McNeil 1982.
    """
    return _by_column(_area, scores, labels, weights)


def average_precision(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Average precision: precision at each distinct score, weighted by the recall gained there.

    Tied scores enter together and nothing is interpolated, as in scikit-learn. Chance is the prevalence.

    Args:
        scores: (N,) or (N, L), higher is more positive.
        labels: same shape, 1, 0 or NaN (left out).
        weights: (N,) weight of each row; default 1.

    Returns:
        () or (L,) values; NaN where a class is missing.

    Raises:
        ValueError: as `auroc`.
    """
    return _by_column(_average_precision, scores, labels, weights)


def class_counts(labels: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count positives and negatives in labels (N,) or (N, L): two arrays, () or (L,)."""
    known = np.asarray(labels, dtype=np.float64)
    return (known == 1).sum(axis=0, dtype=np.int64), (known == 0).sum(axis=0, dtype=np.int64)


def macro(values: ArrayLike, include: Sequence[bool] | None = None) -> Macro:
    """Average one value a label, leaving out NaN with a warning and a count.

    Args:
        values: (L,) values, NaN where undefined.
        include: which labels belong in the mean at all; the others, such as "No Finding", are not counted.
    """
    chosen = np.asarray(values, dtype=np.float64)
    if include is not None:
        chosen = chosen[np.asarray(include, dtype=bool)]
    valid = chosen[~np.isnan(chosen)]
    left_out = chosen.size - valid.size
    if left_out:
        warnings.warn(
            f"{left_out} of {chosen.size} labels have one class only: left out of the mean", stacklevel=2
        )
    return Macro(float(valid.mean()) if valid.size else float("nan"), int(valid.size), int(left_out))


def roc_curve(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> RocCurve:
    """The ROC curve of one label, without the points that lie on a straight line between their neighbours.

    Args:
        scores: (N,), higher is more positive.
        labels: (N,), 1, 0 or NaN (left out).
        weights: (N,) weight of each row; default 1.

    Raises:
        ValueError: as `auroc`. One class only is no error: its missing rate is NaN.
    """
    checked, targets, row_weights = _checked(scores, labels, weights)
    if checked.shape[1] != 1:
        raise ValueError(f"a ROC curve is drawn for one label at a time, got {checked.shape[1]} columns")
    thresholds, true_positives, false_positives = _cumulative(checked[:, 0], targets[:, 0], row_weights)
    true_positives = np.concatenate([[0.0], true_positives])
    false_positives = np.concatenate([[0.0], false_positives])
    thresholds = np.concatenate([[np.inf], thresholds])
    # A corner is where the step to the next point differs from the step to this one.
    turns = np.diff(true_positives, 2).astype(bool) | np.diff(false_positives, 2).astype(bool)
    kept = np.concatenate([[True], turns, [True]]) if thresholds.size > 1 else np.array([True])
    with np.errstate(invalid="ignore"):
        return RocCurve(
            false_positives[kept] / false_positives[-1],
            true_positives[kept] / true_positives[-1],
            thresholds[kept],
        )


def _by_column(
    metric: Callable[[FloatArray, FloatArray], float],
    scores: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None,
) -> FloatArray:
    """Apply a function of cumulated true and false positives to every column."""
    columns, targets, row_weights = _checked(scores, labels, weights)
    values = np.full(columns.shape[1], np.nan)
    for column in range(columns.shape[1]):
        _, true_positives, false_positives = _cumulative(columns[:, column], targets[:, column], row_weights)
        if true_positives.size and true_positives[-1] > 0 and false_positives[-1] > 0:
            values[column] = metric(true_positives, false_positives)
    return values.reshape(np.shape(scores)[1:])


def _area(true_positives: FloatArray, false_positives: FloatArray) -> float:
    """Trapezoids under the curve: a tied group adds half of its own positives, which is the mid-rank."""
    gained = np.diff(true_positives, prepend=0.0)
    below = false_positives[-1] - false_positives + 0.5 * np.diff(false_positives, prepend=0.0)
    return float(gained @ below / (true_positives[-1] * false_positives[-1]))


def _average_precision(true_positives: FloatArray, false_positives: FloatArray) -> float:
    """Precision at each distinct score, weighted by the recall gained there."""
    gained = np.diff(true_positives, prepend=0.0)
    called = true_positives + false_positives
    precision = np.divide(true_positives, called, out=np.zeros_like(called), where=called > 0)
    return float(gained @ precision / true_positives[-1])


def _cumulative(
    scores: FloatArray, labels: FloatArray, weights: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct scores, descending; the weights of positives and of negatives that score at least as much."""
    known = ~np.isnan(labels)
    scores, labels = scores[known], labels[known]
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], labels[order]
    weight = np.ones_like(scores) if weights is None else weights[known][order]
    last_of_tie = (
        np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if scores.size else np.array([], int)
    )
    true_positives = np.cumsum(weight * positive)[last_of_tie]
    false_positives = np.cumsum(weight * (1 - positive))[last_of_tie]
    return scores[last_of_tie], true_positives, false_positives


def _checked(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Scores and labels as (N, L) float64, weights as (N,) or None; or an error that names the column."""
    columns, targets = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if columns.shape != targets.shape or columns.ndim not in (1, 2):
        raise ValueError(
            f"scores and labels must have one shape, (N,) or (N, L): got {columns.shape} and {targets.shape}"
        )
    if columns.ndim == 1:
        columns, targets = columns[:, None], targets[:, None]
    known = ~np.isnan(targets)
    odd = known & (targets != 0) & (targets != 1)
    if odd.any():
        row, column = np.argwhere(odd)[0]
        raise ValueError(
            f"labels must be 1, 0 or NaN: row {row}, column {column} is {targets[row, column]:g}; "
            "apply the policy for uncertain labels first"
        )
    if (np.isnan(columns) & known).any():
        row, column = np.argwhere(np.isnan(columns) & known)[0]
        raise ValueError(
            f"a NaN score has no rank: row {row}, column {column}; look for a non-finite embedding"
        )
    if weights is None:
        return columns, targets, None
    row_weights = np.asarray(weights, dtype=np.float64)
    if row_weights.shape != (len(columns),) or not (row_weights >= 0).all():
        raise ValueError(f"weights must be {len(columns)} numbers >= 0, got shape {row_weights.shape}")
    return columns, targets, row_weights
