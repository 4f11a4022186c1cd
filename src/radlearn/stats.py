"""Uncertainty of a score: patient-clustered bootstrap, paired comparison of two runs, spread over seeds.

Three uncertainties stay separate: which patients were tested (the bootstrap here), how the training was
seeded and which few-shot draw it got (`mean_and_interval` over runs). None of them contains another.

The bootstrap redraws patients, not images: images of one patient resemble each other, so redrawing images
makes intervals too narrow. A drawn patient brings all images, so a draw is one integer weight a patient, and
a ranking metric of the draw is the weighted metric. Scores are ranked once a label; each draw then costs two
sums along that ranking, done for many draws at a time as a product of a sparse 0/1 matrix with the weights.
The sums are integers held in float64, hence exact, so the AUROC of a draw has one rounding, in its last
division.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 15 (percentile interval,
achieved significance level); Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8
(resampling of whole clusters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import stdtrit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

METRICS = ("auroc", "average_precision")
# The weights of one block of draws are read at random, so they should stay in a second-level cache.
_BLOCK_BYTES = 2**21
_MIN_BLOCK, _MAX_BLOCK = 16, 256


@dataclass(frozen=True)
class Interval:
    """A value with its interval.

    Attributes:
        value: the number itself, on the data as they are.
        low, high: limits of the interval; NaN where too few draws or values remain.
        num_used: draws (bootstrap) or values (seeds) the limits rest on.
        num_excluded: draws in which a class vanished, or values that are NaN.
    """

    value: float
    low: float
    high: float
    num_used: int
    num_excluded: int


@dataclass(frozen=True)
class Difference:
    """First minus second, on the same draws.

    Attributes:
        value, low, high: the difference and its interval.
        p_value: two-sided: twice the share of draws on the rarer side of zero; at least 2 / (num_used + 1).
        num_used, num_excluded: draws, as for `Interval`.
    """

    value: float
    low: float
    high: float
    p_value: float
    num_used: int
    num_excluded: int


@dataclass(frozen=True)
class MetricIntervals:
    """One interval a label, and that of their mean.

    A draw counts for the mean if no label of the mean lost a class in it.
    """

    labels: tuple[Interval, ...]
    macro: Interval


@dataclass(frozen=True)
class MetricDifferences:
    """One difference a label, and that of their mean."""

    labels: tuple[Difference, ...]
    macro: Difference


def patient_bootstrap(
    scores: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[object] | NDArray[np.generic],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    in_macro: Sequence[bool] | None = None,
) -> dict[str, MetricIntervals]:
    """Intervals of AUROC and average precision by redrawing patients.

    Args:
        scores: (N, L) or (N,), higher is more positive.
        labels: same shape, 1, 0 or NaN (left out).
        patients: (N,) patient of each row; the order of the rows does not change the draws.
        draws: how many times the patients are redrawn.
        seed: seeds the draws; equal seeds and patients give equal draws.
        level: coverage; 0.95 takes the 2.5 and 97.5 percentiles.
        in_macro: (L,) which labels belong in the mean; default all. Labels with one class are left out
            anyway.

    Returns:
        `auroc` and `average_precision`, each with one interval a label and that of the mean.

    Raises:
        ValueError: on shapes that do not fit, labels other than 1, 0 and NaN, or a NaN score.
    """
    multiplicities, index = drawn_patients(patients, draws, seed)
    measured = ranking_metrics_of_draws(scores, labels, index, multiplicities)
    chosen = _macro_mask(measured["auroc"][0], in_macro)
    return {
        metric: MetricIntervals(
            labels=tuple(interval_of_draws(column, level) for column in values.T),
            macro=interval_of_draws(_macro(values, chosen), level),
        )
        for metric, values in measured.items()
    }


def paired_bootstrap(
    scores_first: ArrayLike,
    scores_second: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[object] | NDArray[np.generic],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    in_macro: Sequence[bool] | None = None,
) -> dict[str, MetricDifferences]:
    """Compare two runs on the same cases: first minus second, both scored on the same draws of patients.

    Pairing removes what the two share, the difficulty of the drawn patients; two overlapping intervals of
    `patient_bootstrap` therefore say nothing about a difference.

    Args:
        scores_first: (N, L) or (N,), higher is more positive.
        scores_second: same shape, the rows being the same cases.
        labels: same shape, 1, 0 or NaN (left out).
        patients: (N,) patient of each row.
        draws: how many times the patients are redrawn.
        seed: seeds the draws.
        level: coverage of the intervals.
        in_macro: (L,) which labels belong in the mean; default all.

    Returns:
        `auroc` and `average_precision`, each with one difference a label and that of the mean.

    Raises:
        ValueError: as `patient_bootstrap`.
    """
    multiplicities, index = drawn_patients(patients, draws, seed)
    first = ranking_metrics_of_draws(scores_first, labels, index, multiplicities)
    second = ranking_metrics_of_draws(scores_second, labels, index, multiplicities)
    chosen = _macro_mask(first["auroc"][0], in_macro)
    return {
        metric: MetricDifferences(
            labels=tuple(difference_of_draws(column, level) for column in (first[metric] - second[metric]).T),
            macro=difference_of_draws(_macro(first[metric], chosen) - _macro(second[metric], chosen), level),
        )
        for metric in METRICS
    }


def mean_and_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean over seeds or few-shot draws with its t interval; NaN values are left out and counted.

    It says how much a new seed would move the mean, and nothing about new patients. One value has no
    interval.
    """
    given = np.asarray(values, dtype=np.float64).ravel()
    used = given[~np.isnan(given)]
    excluded = given.size - used.size
    mean = float(used.mean()) if used.size else float("nan")
    if used.size < 2:
        return Interval(mean, float("nan"), float("nan"), int(used.size), int(excluded))
    half = (
        float(stdtrit(used.size - 1, 0.5 + level / 2)) * float(used.std(ddof=1)) / float(np.sqrt(used.size))
    )
    return Interval(mean, mean - half, mean + half, int(used.size), int(excluded))


def draw_patients(num_patients: int, draws: int, seed: int) -> NDArray[np.uint8]:
    """How often each patient is drawn: (num_patients, draws), each column with replacement.

    The first columns do not depend on how many follow.
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    # uint8 holds them: with over 255 patients, one of them drawn over 255 times has a chance below 1e-500.
    multiplicities = np.empty((draws, num_patients), dtype=np.uint8)
    for row in multiplicities:
        row[:] = np.bincount(generator.integers(num_patients, size=num_patients), minlength=num_patients)
    return np.ascontiguousarray(multiplicities.T)


def ranking_metrics_of_draws(
    scores: ArrayLike, labels: ArrayLike, patients: IntArray, multiplicities: NDArray[np.integer]
) -> dict[str, FloatArray]:
    """AUROC and average precision of the data as they are, and of every draw.

    Args:
        scores: (N, L) or (N,), higher is more positive.
        labels: same shape, 1, 0 or NaN (left out).
        patients: (N,) row of `multiplicities` that belongs to each case.
        multiplicities: (P, draws) how often each patient was drawn.

    Returns:
        `auroc` and `average_precision`, each (1 + draws, L): the first row weighs every patient once. NaN
        where a class has no weight.

    Raises:
        ValueError: on shapes that do not fit, labels other than 1, 0 and NaN, or a NaN score.
    """
    columns, targets = _checked(scores, labels, patients)
    num_patients, draws = multiplicities.shape
    rankings = [
        _rank(columns[:, label], targets[:, label], patients, num_patients)
        for label in range(columns.shape[1])
    ]
    auroc = np.empty((1 + draws, len(rankings)))
    average_precision = np.empty_like(auroc)
    block = int(np.clip(_BLOCK_BYTES // (8 * max(num_patients, 1)), _MIN_BLOCK, _MAX_BLOCK))
    starts = range(0, draws, block)
    once = np.ones((num_patients, 1))
    for rows, weights in [
        (slice(0, 1), once),
        *((slice(1 + s, 1 + min(s + block, draws)), multiplicities[:, s : s + block]) for s in starts),
    ]:
        weights_of_block = np.ascontiguousarray(weights, dtype=np.float64)
        for label, ranking in enumerate(rankings):
            auroc[rows, label], average_precision[rows, label] = _score(ranking, weights_of_block)
    return {"auroc": auroc, "average_precision": average_precision}


@dataclass(frozen=True)
class _Ranking:
    """The cases of one label, ranked, as counts a patient; G distinct scores of positives, ascending.

    Attributes:
        positives: (G, P) positives of each patient at each of these scores.
        negatives: (G + 1, P) negatives below the first score, then from each score up to the next.
        tied_negatives: (T, P) negatives exactly at a score, for those T scores where there are any.
        tied: (T,) these scores' places among the G.
    """

    positives: csr_array
    negatives: csr_array
    tied_negatives: csr_array
    tied: IntArray


def _rank(scores: FloatArray, labels: FloatArray, patients: IntArray, num_patients: int) -> _Ranking:
    """Rank the cases of one label: of the negatives, only the place between positives matters."""
    positive, negative = labels == 1, labels == 0
    distinct, place = np.unique(scores[positive], return_inverse=True)
    above = np.searchsorted(distinct, scores[negative], side="right")
    equal = np.searchsorted(distinct, scores[negative], side="left") < above
    tied, tied_place = np.unique(above[equal] - 1, return_inverse=True)
    patients_negative = patients[negative]
    return _Ranking(
        positives=_counts(place, patients[positive], (distinct.size, num_patients)),
        negatives=_counts(above, patients_negative, (distinct.size + 1, num_patients)),
        tied_negatives=_counts(tied_place, patients_negative[equal], (tied.size, num_patients)),
        tied=tied,
    )


def _counts(rows: IntArray, columns: IntArray, shape: tuple[int, int]) -> csr_array:
    """A sparse table of how often each (row, column) occurs."""
    return csr_array((np.ones(rows.size), (rows, columns)), shape=shape)


def _score(ranking: _Ranking, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """AUROC and average precision, each (B,), for the patient weights (P, B) of B draws."""
    gained = ranking.positives @ weights
    below = np.cumsum(ranking.negatives @ weights, axis=0)
    total_negative = below[-1].copy()
    below = below[:-1]
    total_positive = gained.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        vanished = np.where((total_positive > 0) & (total_negative > 0), 1.0, np.nan)
        pairs = np.einsum("gb,gb->b", gained, below)
        if ranking.tied.size:
            pairs += 0.5 * np.einsum("gb,gb->b", gained[ranking.tied], ranking.tied_negatives @ weights)
        area = vanished * pairs / (total_positive * total_negative)
    # `below` counts negatives under each score, so those at or above it are the rest.
    true_positives = np.cumsum(gained[::-1], axis=0)[::-1]
    called = total_negative - below + true_positives
    # Where nothing is called, nothing is gained either: any finite precision will do.
    np.maximum(called, 1.0, out=called)
    np.divide(true_positives, called, out=called)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = vanished * np.einsum("gb,gb->b", gained, called) / total_positive
    return area, precision


def drawn_patients(
    patients: Sequence[object] | NDArray[np.generic], draws: int, seed: int
) -> tuple[NDArray[np.uint8], IntArray]:
    """The multiplicities (P, draws) and each row's patient as an index into them."""
    if draws < 1:
        raise ValueError(f"a bootstrap needs at least one draw, got draws={draws}")
    distinct, index = np.unique(np.asarray(patients), return_inverse=True)
    if not distinct.size:
        raise ValueError("a bootstrap needs at least one patient, got an empty list")
    return draw_patients(distinct.size, draws, seed), index.ravel()


def interval_of_draws(values: FloatArray, level: float) -> Interval:
    """Percentile interval of (1 + draws,) values, the first being the one on the data as they are."""
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = _percentiles(drawn, level)
    return Interval(float(values[0]), low, high, int(drawn.size), int(values.size - 1 - drawn.size))


def difference_of_draws(values: FloatArray, level: float) -> Difference:
    """Percentile interval and two-sided p value of (1 + draws,) differences."""
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = _percentiles(drawn, level)
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    # The data themselves count as one more draw, so a p value is never 0.
    p_value = min(1.0, 2 * (rarer + 1) / (drawn.size + 1)) if drawn.size else float("nan")
    return Difference(
        float(values[0]), low, high, p_value, int(drawn.size), int(values.size - 1 - drawn.size)
    )


def _percentiles(drawn: FloatArray, level: float) -> tuple[float, float]:
    """The limits that leave out (1 - level) / 2 on each side."""
    if not 0 < level < 1:
        raise ValueError(f"level is a coverage between 0 and 1, such as 0.95: got {level}")
    if not drawn.size:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _macro_mask(values: FloatArray, in_macro: Sequence[bool] | None) -> NDArray[np.bool_]:
    """Labels of the mean: those asked for that have both classes in the data as they are."""
    chosen = np.ones(values.size, dtype=bool) if in_macro is None else np.asarray(in_macro, dtype=bool)
    if chosen.shape != values.shape:
        raise ValueError(f"in_macro needs one entry a label, {values.size}: got {chosen.size}")
    return chosen & ~np.isnan(values)


def _macro(values: FloatArray, chosen: NDArray[np.bool_]) -> FloatArray:
    """Mean over the chosen labels; NaN in draws where one lost a class, so that all draws mean the same."""
    if not chosen.any():
        return np.full(len(values), np.nan)
    mean: FloatArray = values[:, chosen].mean(axis=1)
    return mean


def _checked(scores: ArrayLike, labels: ArrayLike, patients: IntArray) -> tuple[FloatArray, FloatArray]:
    """Scores and labels as (N, L) float64, or an error that says what does not fit."""
    columns, targets = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if columns.shape != targets.shape or columns.ndim not in (1, 2) or len(columns) != len(patients):
        raise ValueError(
            "scores and labels must have one shape, (N,) or (N, L), with one patient a row: got "
            f"{columns.shape}, {targets.shape} and {len(patients)} patients"
        )
    if columns.ndim == 1:
        columns, targets = columns[:, None], targets[:, None]
    known = ~np.isnan(targets)
    if (known & (targets != 0) & (targets != 1)).any():
        raise ValueError("labels must be 1, 0 or NaN: apply the policy for uncertain labels first")
    if (np.isnan(columns) & known).any():
        raise ValueError("a NaN score has no rank: look for a non-finite embedding")
    return columns, targets
