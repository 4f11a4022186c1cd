import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from radlearn.metrics.classification import auroc, average_precision, class_counts, macro, roc_curve


def tied_problem(seed, cases=200, columns=3):
    """Scores with many ties, and labels that hold both classes in every column."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, size=(cases, columns)).astype(float)
    labels[:2] = [[0.0], [1.0]]
    scores = np.round(generator.normal(size=(cases, columns)) + labels, 1)
    return scores, labels


def count_pairs(scores, labels):
    positives, negatives = scores[labels == 1], scores[labels == 0]
    wins = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    return sum(wins) / len(wins)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_a_count_of_all_pairs(seed):
    scores, labels = tied_problem(seed, cases=60)
    expected = [count_pairs(scores[:, column], labels[:, column]) for column in range(3)]
    np.testing.assert_allclose(auroc(scores, labels), expected, rtol=0, atol=1e-14)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=40))
@settings(max_examples=150, deadline=None)
def test_both_equal_scikit_learn_on_any_ties_and_weights(cases):
    scores, labels, weights = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
    if weights[labels == 1].sum() == 0 or weights[labels == 0].sum() == 0:
        assert np.isnan(auroc(scores, labels, weights))
        assert np.isnan(average_precision(scores, labels, weights))
        return
    area = reference.roc_auc_score(labels, scores, sample_weight=weights)
    precision = reference.average_precision_score(labels, scores, sample_weight=weights)
    assert auroc(scores, labels, weights) == pytest.approx(area, abs=1e-12)
    assert average_precision(scores, labels, weights) == pytest.approx(precision, abs=1e-12)


def test_swapping_the_prompts_gives_one_minus_the_area():
    scores, labels = tied_problem(0)
    np.testing.assert_allclose(auroc(-scores, labels), 1 - auroc(scores, labels), rtol=0, atol=1e-14)


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_duplicated_data_change_nothing(metric):
    scores, labels = tied_problem(1)
    twice = metric(np.tile(scores, (2, 1)), np.tile(labels, (2, 1)))
    np.testing.assert_allclose(twice, metric(scores, labels), rtol=0, atol=1e-14)


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_integer_weights_equal_repeated_rows(metric):
    scores, labels = tied_problem(2)
    weights = np.random.default_rng(3).integers(0, 4, size=len(scores))
    repeated = metric(np.repeat(scores, weights, axis=0), np.repeat(labels, weights, axis=0))
    np.testing.assert_allclose(metric(scores, labels, weights), repeated, rtol=0, atol=1e-14)


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_unknown_labels_are_left_out_of_their_column_only(metric):
    scores, labels = tied_problem(4)
    masked = labels.copy()
    masked[50:120, 1] = np.nan
    # A case that does not count may have no score either.
    blank = scores.copy()
    blank[50:120, 1] = np.nan
    expected = metric(scores, labels)
    expected[1] = metric(np.delete(scores[:, 1], np.s_[50:120]), np.delete(labels[:, 1], np.s_[50:120]))
    np.testing.assert_array_equal(metric(blank, masked), expected)


@pytest.mark.parametrize("metric", [auroc, average_precision])
@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1], [np.nan, 1], [np.nan, np.nan]])
def test_one_class_scores_nan_and_raises_nothing(metric, labels):
    assert np.isnan(metric(np.zeros(len(labels)), labels))


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_a_constant_score_is_chance(metric):
    labels = np.array([1.0, 0, 0, 0])
    assert metric(np.zeros(4), labels) == {auroc: 0.5, average_precision: 0.25}[metric]


def test_class_counts():
    positives, negatives = class_counts([[1, 0], [np.nan, 0], [0, 1], [1, np.nan]])
    assert positives.tolist() == [2, 1]
    assert negatives.tolist() == [1, 2]


def test_macro_leaves_out_nan_with_a_warning_and_a_count():
    with pytest.warns(UserWarning, match="1 of 3 labels"):
        mean = macro([0.5, np.nan, 0.7])
    assert (mean.value, mean.num_labels, mean.num_left_out) == (pytest.approx(0.6), 2, 1)
    with pytest.warns(UserWarning, match="1 of 1"):
        assert np.isnan(macro([np.nan]).value)


def test_macro_holds_only_the_labels_asked_for():
    mean = macro([0.5, np.nan, 0.7], include=[True, False, False])
    assert (mean.value, mean.num_labels, mean.num_left_out) == (0.5, 1, 0)


@pytest.mark.parametrize("seed", range(3))
def test_roc_curve_drops_only_points_between_corners(seed):
    scores, labels = tied_problem(seed, columns=1)
    curve = roc_curve(scores[:, 0], labels[:, 0])
    corners = list(zip(curve.false_positive_rate, curve.true_positive_rate, curve.thresholds, strict=True))
    every = list(zip(*reference.roc_curve(labels[:, 0], scores[:, 0], drop_intermediate=False), strict=True))
    assert len(corners) < len(every)
    assert set(corners) < set(every)
    assert corners[0] == (0, 0, np.inf)
    assert corners[-1][:2] == (1, 1)
    enclosed = reference.auc(curve.false_positive_rate, curve.true_positive_rate)
    assert enclosed == pytest.approx(float(auroc(scores[:, 0], labels[:, 0])), abs=1e-12)


def test_roc_curve_of_one_class_is_nan_not_an_error():
    curve = roc_curve([0.1, 0.2], [1, 1])
    assert np.isnan(curve.false_positive_rate).all()
    assert curve.true_positive_rate[-1] == 1
    assert np.isnan(roc_curve([], []).true_positive_rate).all()


@pytest.mark.parametrize(
    ("scores", "labels", "weights", "message"),
    [
        ([0.1, 0.2], [1, 0, 1], None, r"\(2,\) and \(3,\)"),
        ([0.1, 0.2], [1, -1], None, "row 1, column 0 is -1; apply the policy"),
        ([0.1, np.nan], [1, 0], None, "NaN score has no rank: row 1"),
        ([0.1, 0.2], [1, 0], [1, -1], "weights must be 2 numbers >= 0"),
        ([0.1, 0.2], [1, 0], [1], "weights must be 2"),
    ],
)
def test_errors_say_what_came(scores, labels, weights, message):
    with pytest.raises(ValueError, match=message):
        auroc(scores, labels, weights)
    with pytest.raises(ValueError, match=message):
        roc_curve(scores, labels, weights)


def test_roc_curve_takes_one_label():
    with pytest.raises(ValueError, match="one label at a time, got 3"):
        roc_curve(*tied_problem(0))


def test_needs_no_torch():
    code = (
        "import sys, radlearn.metrics.classification, radlearn.stats, radlearn.results; "
        "assert not {'torch', 'lightning', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
