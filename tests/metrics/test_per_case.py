"""Summaries of per-case values on draws of patients against the same values repeated row by row."""

import numpy as np
import pytest

from radlearn import stats
from radlearn.metrics.per_case import difference, interval, summaries_of, summary_of_draws

NUMPY = {
    "mean": np.mean,
    "median": np.median,
    "at_most_3": lambda v: np.mean(v <= 3) if len(v) else np.nan,
}


@pytest.mark.parametrize("summary", NUMPY)
def test_a_draw_is_the_summary_of_its_repeated_cases(summary):
    random = np.random.default_rng(0)
    values = random.integers(1, 9, 40).astype(float)
    values[:3] = np.nan
    patients = random.integers(0, 12, 40)
    drawn = stats.draw_patients(12, 30, seed=1)
    found = summary_of_draws(values, patients, drawn, summary)
    known = ~np.isnan(values)
    for weights, value in zip([np.ones(12, int), *drawn.T], found, strict=True):
        repeated = np.repeat(values[known], weights[patients[known]])
        assert value == pytest.approx(NUMPY[summary](repeated))


def test_the_interval_of_a_mean_is_that_of_clusters():
    # Two equal cases a patient: as wide as with one case each, sqrt(2) wider than of independent ones.
    random = np.random.default_rng(0)
    of_patient = random.standard_normal(400)
    doubled, patients = np.repeat(of_patient, 2), np.repeat(np.arange(400), 2)
    clustered = interval(doubled, patients, "mean", draws=2000)
    once = interval(of_patient, np.arange(400), "mean", draws=2000)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    half = 1.96 * of_patient.std() / 20
    assert (clustered.high - clustered.low) / 2 == pytest.approx(half, rel=0.08)


def test_a_known_shift_is_found_and_none_is_not():
    random = np.random.default_rng(0)
    values = random.standard_normal(300)
    patients = np.arange(300) // 2
    shifted = difference(values + 0.1, values, patients, "mean")
    assert shifted.value == pytest.approx(0.1)
    assert shifted.low == pytest.approx(0.1)  # pairing leaves no other uncertainty
    assert shifted.p_value < 0.01
    alike = difference(values + random.standard_normal(300) * 0.5, values, patients, "mean")
    assert alike.low < 0 < alike.high


def test_columns_of_ranks_have_their_metrics_and_others_their_mean():
    assert set(summaries_of("image_to_report")) == {"recall@1", "recall@5", "recall@10", "median_rank"}
    assert summaries_of("pointing") == {"pointing": "mean"}


def test_bad_calls_say_what_they_want():
    with pytest.raises(ValueError, match="mean, median or at_most_K: got 'mode'"):
        interval([1.0], ["a"], "mode")
    with pytest.raises(ValueError, match="one value and one patient a case"):
        summary_of_draws([1.0, 2.0], np.array([0]), np.ones((1, 1), int), "mean")
