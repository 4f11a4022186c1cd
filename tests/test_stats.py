import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from radlearn import stats
from radlearn.metrics.classification import auroc, average_precision


def clustered_problem(seed, cases=300, patients=80, labels=4, decimals=1):
    """Tied scores of images that share patients; the last label is rare, the first has unknown cases."""
    generator = np.random.default_rng(seed)
    prevalence = np.linspace(0.5, 0.03, labels)
    targets = (generator.random((cases, labels)) < prevalence).astype(float)
    scores = np.round(generator.normal(size=(cases, labels)) + targets, decimals)
    targets[generator.random(cases) < 0.2, 0] = np.nan
    return scores, targets, generator.integers(patients, size=cases)


def slow_loop(scores, targets, weights, metric):
    """A metric for each draw and label, one scikit-learn call each; NaN where a class vanished."""
    values = np.full((weights.shape[1], targets.shape[1]), np.nan)
    for draw, label in np.ndindex(values.shape):
        known = ~np.isnan(targets[:, label])
        weight, target = weights[known, draw], targets[known, label]
        if weight[target == 1].sum() and weight[target == 0].sum():
            values[draw, label] = metric(target, scores[known, label], sample_weight=weight)
    return values


@pytest.mark.parametrize("decimals", [1, 12], ids=["ties", "no ties"])
def test_draws_equal_a_slow_loop_of_scikit_learn(decimals):
    scores, targets, patients = clustered_problem(0, decimals=decimals)
    _, index = np.unique(patients, return_inverse=True)
    multiplicities = stats.draw_patients(index.max() + 1, 40, seed=5)
    values = stats.ranking_metrics_of_draws(scores, targets, index, multiplicities)
    weights = multiplicities[index]
    for name, metric in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        np.testing.assert_allclose(
            values[name][1:], slow_loop(scores, targets, weights, metric), rtol=0, atol=1e-12
        )


def test_the_value_is_the_metric_of_the_data_as_they_are():
    scores, targets, patients = clustered_problem(1)
    result = stats.patient_bootstrap(scores, targets, patients, draws=20)
    for name, metric in (("auroc", auroc), ("average_precision", average_precision)):
        values = [interval.value for interval in result[name].labels]
        np.testing.assert_allclose(values, metric(scores, targets), rtol=0, atol=1e-12)
        assert result[name].macro.value == pytest.approx(np.mean(values), abs=1e-12)


def test_limits_are_percentiles_of_the_draws():
    scores, targets, patients = clustered_problem(2)
    result = stats.patient_bootstrap(scores, targets, patients, draws=50, seed=3)
    _, index = np.unique(patients, return_inverse=True)
    weights = stats.draw_patients(index.max() + 1, 50, seed=3)[index]
    drawn = slow_loop(scores, targets, weights, roc_auc_score)
    for label, interval in enumerate(result["auroc"].labels):
        low, high = np.nanpercentile(drawn[:, label], [2.5, 97.5])
        assert (interval.low, interval.high) == (
            pytest.approx(low, abs=1e-12),
            pytest.approx(high, abs=1e-12),
        )
        assert interval.num_excluded == np.isnan(drawn[:, label]).sum()
    mean = drawn.mean(axis=1)
    assert result["auroc"].macro.low == pytest.approx(np.nanpercentile(mean, 2.5), abs=1e-12)
    assert result["auroc"].macro.num_used == np.isfinite(mean).sum()


def test_draws_in_which_a_class_vanishes_are_excluded_and_counted():
    # One of 40 patients has the only positive: it is missing from (39/40)^40 = 36.3 % of the draws.
    scores, targets = np.linspace(1, 0, 40), np.eye(40)[0]
    interval = stats.patient_bootstrap(scores, targets, np.arange(40), draws=2000)["auroc"].labels[0]
    assert interval.num_used + interval.num_excluded == 2000
    assert interval.num_excluded / 2000 == pytest.approx(0.363, abs=0.04)
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


def test_a_label_with_one_class_has_no_interval_and_leaves_the_mean():
    scores, targets, patients = clustered_problem(3)
    targets[:, 1] = 0
    result = stats.patient_bootstrap(scores, targets, patients, draws=30)["auroc"]
    assert np.isnan([result.labels[1].value, result.labels[1].low, result.labels[1].high]).all()
    assert result.labels[1].num_used == 0
    others = [result.labels[label].value for label in (0, 2, 3)]
    assert result.macro.value == pytest.approx(np.mean(others), abs=1e-12)
    nothing = stats.patient_bootstrap(scores, np.zeros_like(targets), patients, draws=5)["auroc"].macro
    assert np.isnan(nothing.value)
    assert nothing.num_excluded == 5


def test_the_mean_holds_the_labels_asked_for():
    scores, targets, patients = clustered_problem(4)
    result = stats.patient_bootstrap(
        scores, targets, patients, draws=30, in_macro=[False, True, False, False]
    )
    assert result["auroc"].macro == result["auroc"].labels[1]
    with pytest.raises(ValueError, match="one entry a label, 4: got 1"):
        stats.patient_bootstrap(scores, targets, patients, draws=5, in_macro=[True])


def test_one_label_may_come_as_a_vector():
    scores, targets, patients = clustered_problem(5)
    alone = stats.patient_bootstrap(scores[:, 1], targets[:, 1], patients, draws=30)
    together = stats.patient_bootstrap(scores, targets, patients, draws=30)
    assert alone["auroc"].labels[0] == together["auroc"].labels[1]


def test_row_order_and_block_size_change_nothing(monkeypatch):
    scores, targets, patients = clustered_problem(6)
    expected = stats.patient_bootstrap(scores, targets, patients, draws=90)["auroc"]
    order = np.random.default_rng(0).permutation(len(scores))
    names = np.array([f"p{patient:03d}" for patient in patients])
    shuffled = stats.patient_bootstrap(scores[order], targets[order], names[order], draws=90)["auroc"]
    assert shuffled.labels == expected.labels
    monkeypatch.setattr(stats, "_MAX_BLOCK", 17)
    assert stats.patient_bootstrap(scores, targets, patients, draws=90)["auroc"] == expected


def test_seeds_and_prefixes_of_draws():
    drawn = stats.draw_patients(50, 40, seed=1)
    assert drawn.shape == (50, 40)
    assert (drawn.sum(axis=0) == 50).all()
    np.testing.assert_array_equal(stats.draw_patients(50, 10, seed=1), drawn[:, :10])
    assert (stats.draw_patients(50, 40, seed=2) != drawn).any()


def test_patients_widen_the_interval_of_clustered_images():
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 10)
    target = np.repeat(generator.integers(0, 2, 60), 10).astype(float)
    # Ten near copies a patient: 600 images tell little more than 60.
    score = target + np.repeat(generator.normal(size=60), 10) + 0.05 * generator.normal(size=600)
    by_patient = stats.patient_bootstrap(score, target, patients, draws=300)["auroc"].labels[0]
    by_image = stats.patient_bootstrap(score, target, np.arange(600), draws=300)["auroc"].labels[0]
    assert by_patient.high - by_patient.low > 2 * (by_image.high - by_image.low)


def test_intervals_cover_the_true_area():
    # Binormal scores, one standard deviation apart: the area is Phi(1 / sqrt(2)) = 0.7602.
    generator = np.random.default_rng(0)
    covered = 0
    for repeat in range(200):
        target = np.repeat([0.0, 1.0], 50)
        score = generator.normal(size=100) + target
        found = stats.patient_bootstrap(score, target, np.arange(100), draws=200, seed=repeat)[
            "auroc"
        ].labels[0]
        covered += found.low <= 0.76025 <= found.high
    # 95 % of 200 with three standard errors, and the known small-sample shortfall of percentile intervals.
    assert 0.88 <= covered / 200 <= 0.995


def test_paired_difference_uses_the_same_draws():
    scores, targets, patients = clustered_problem(7)
    better = scores + 0.7 * np.nan_to_num(targets)
    _, index = np.unique(patients, return_inverse=True)
    weights = stats.draw_patients(index.max() + 1, 30, seed=4)[index]
    drawn = slow_loop(better, targets, weights, roc_auc_score) - slow_loop(
        scores, targets, weights, roc_auc_score
    )
    compared = stats.paired_bootstrap(better, scores, targets, patients, draws=30, seed=4)["auroc"]
    for label, difference in enumerate(compared.labels):
        low, high = np.nanpercentile(drawn[:, label], [2.5, 97.5])
        assert difference.low == pytest.approx(low, abs=1e-12)
        assert difference.high == pytest.approx(high, abs=1e-12)
    assert compared.macro.value > 0
    assert compared.macro.p_value == pytest.approx(2 / (compared.macro.num_used + 1))
    reverse = stats.paired_bootstrap(scores, better, targets, patients, draws=30, seed=4)["auroc"]
    assert reverse.macro.value == -compared.macro.value
    assert reverse.macro.p_value == compared.macro.p_value


def test_pairing_narrows_what_two_runs_share():
    generator = np.random.default_rng(8)
    target = generator.integers(0, 2, 300).astype(float)
    shared = target + generator.normal(size=300)
    first, second = shared + 0.1 * generator.normal(size=300), shared + 0.1 * generator.normal(size=300)
    single = stats.patient_bootstrap(first, target, np.arange(300), draws=200)["auroc"].labels[0]
    paired = stats.paired_bootstrap(first, second, target, np.arange(300), draws=200)["auroc"].labels[0]
    assert paired.high - paired.low < 0.5 * (single.high - single.low)


def test_equal_runs_do_not_differ():
    scores, targets, patients = clustered_problem(9)
    same = stats.paired_bootstrap(scores, scores, targets, patients, draws=30)["average_precision"].macro
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_p_values_of_equal_models_are_spread_evenly():
    generator = np.random.default_rng(10)
    p_values = []
    for repeat in range(150):
        target = np.repeat([0.0, 1.0], 60)
        first, second = target + generator.normal(size=(2, 120))
        compared = stats.paired_bootstrap(first, second, target, np.arange(120), draws=100, seed=repeat)
        p_values.append(compared["auroc"].labels[0].p_value)
    # 5 % of 150 are 7.5, standard deviation 2.7.
    assert np.mean(np.array(p_values) < 0.05) < 0.11
    assert 0.4 < np.mean(p_values) < 0.65


def test_mean_and_interval_is_the_t_interval():
    # t quantile 0.975 with 2 degrees of freedom: 4.302653 (any table of Student's t).
    result = stats.mean_and_interval([0.80, 0.82, 0.84, np.nan])
    assert result.value == pytest.approx(0.82)
    assert result.high - result.value == pytest.approx(4.302653 * 0.02 / np.sqrt(3), rel=1e-6)
    assert result.value - result.low == pytest.approx(result.high - result.value)
    assert (result.num_used, result.num_excluded) == (3, 1)


@pytest.mark.parametrize("values", [[], [0.7], [0.7, np.nan]])
def test_fewer_than_two_seeds_have_no_interval(values):
    result = stats.mean_and_interval(values)
    assert np.isnan([result.low, result.high]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1.0, 0.0]}, r"\(3,\), \(2,\) and 3 patients"),
        ({"patients": [0, 1]}, "2 patients"),
        ({"labels": [1.0, 0.0, -1.0]}, "policy for uncertain labels"),
        ({"scores": [0.1, np.nan, 0.2]}, "NaN score"),
        ({"draws": 0}, "draws=0"),
        ({"scores": [], "labels": [], "patients": []}, "at least one patient"),
        ({"level": 95}, "between 0 and 1, such as 0.95: got 95"),
    ],
)
def test_errors_say_what_came(change, message):
    arguments = {
        "scores": [0.1, 0.2, 0.3],
        "labels": [1.0, 0.0, 1.0],
        "patients": [0, 1, 2],
        "draws": 5,
    } | change
    with pytest.raises(ValueError, match=message):
        stats.patient_bootstrap(**arguments)
