"""Means, medians and hit rates of one value a case, with patient-clustered intervals and paired differences.

A case may be an image, a pair of image and report, or a sentence; a case without a value (NaN) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from radlearn.stats import (
    Difference,
    FloatArray,
    IntArray,
    Interval,
    difference_of_draws,
    drawn_patients,
    interval_of_draws,
)

# Metric -> how it summarises ranks: the share of ranks up to k, or their median.
RANK_SUMMARIES = {"recall@1": "at_most_1", "recall@5": "at_most_5", "recall@10": "at_most_10"}
RANK_SUMMARIES["median_rank"] = "median"
# Columns of per-case values that are ranks; of every other column the mean is taken, under its own name.
RANKS = ("image_to_report", "report_to_image")
_BLOCK_CELLS = 2**22


def summaries_of(column: str) -> Mapping[str, str]:
    """Metric -> summary of a column of per-case values."""
    return RANK_SUMMARIES if column in RANKS else {column: "mean"}


def interval(
    values: ArrayLike,
    patients: Sequence[object] | NDArray[np.generic],
    summary: str,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """A summary of per-case values with its interval by redrawing patients.

    Args:
        values: (N,), NaN where a case has none.
        patients: (N,) patient of each case.
        summary: `mean`, `median`, or `at_most_K`: the share of values up to K.
        draws, seed, level: see `stats.patient_bootstrap`.
    """
    multiplicities, index = drawn_patients(patients, draws, seed)
    return interval_of_draws(summary_of_draws(values, index, multiplicities, summary), level)


def difference(
    first: ArrayLike,
    second: ArrayLike,
    patients: Sequence[object] | NDArray[np.generic],
    summary: str,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """First minus second, both summarised on the same draws of patients; arguments as for `interval`."""
    multiplicities, index = drawn_patients(patients, draws, seed)
    ours, theirs = (summary_of_draws(v, index, multiplicities, summary) for v in (first, second))
    return difference_of_draws(ours - theirs, level)


def summary_of_draws(
    values: ArrayLike, patients: IntArray, multiplicities: NDArray[np.integer], summary: str
) -> FloatArray:
    """The summary of the data as they are, then of every draw: (1 + draws,).

    Args:
        values: (N,), NaN where a case has none.
        patients: (N,) row of `multiplicities` that belongs to each case.
        multiplicities: (P, draws) how often each patient was drawn.
        summary: see `interval`.

    Raises:
        ValueError: for shapes that do not fit or an unknown summary.
    """
    cases = np.asarray(values, dtype=np.float64)
    if cases.shape != patients.shape:
        raise ValueError(f"one value and one patient a case: got {cases.shape} and {patients.shape}")
    known = ~np.isnan(cases)
    cases, index = cases[known], patients[known]
    weights = np.concatenate([np.ones((len(multiplicities), 1), np.int64), multiplicities], axis=1)
    if summary == "median":
        return _medians(cases, index, weights)
    if summary.startswith("at_most_"):
        cases = (cases <= float(summary.removeprefix("at_most_"))).astype(np.float64)
    elif summary != "mean":
        raise ValueError(f"summary is mean, median or at_most_K: got '{summary}'")
    totals, counts = (
        np.bincount(index, each, minlength=len(weights)) @ weights for each in (cases, np.ones_like(cases))
    )
    with np.errstate(invalid="ignore"):
        mean: FloatArray = totals / counts
    return mean


def _medians(cases: FloatArray, index: IntArray, weights: NDArray[np.int64]) -> FloatArray:
    """Median of each column's redrawn cases; of an even number the mean of the two in the middle."""
    distinct, place = np.unique(cases, return_inverse=True)
    if not distinct.size:
        return np.full(weights.shape[1], np.nan)
    counts = csr_array((np.ones(len(cases), np.int64), (place, index)), shape=(distinct.size, len(weights)))
    medians = np.empty(weights.shape[1])
    block = max(_BLOCK_CELLS // distinct.size, 1)
    for start in range(0, weights.shape[1], block):
        below = np.cumsum(counts @ weights[:, start : start + block], axis=0)
        total = below[-1]
        middle = [distinct[(below > position).argmax(0)] for position in ((total - 1) // 2, total // 2)]
        medians[start : start + block] = np.where(total > 0, np.mean(middle, axis=0), np.nan)
    return medians
