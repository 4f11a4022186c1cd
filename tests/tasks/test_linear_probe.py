"""The linear probe against scikit-learn, label by label; few, unknown and one-sided labels."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from radlearn.errors import ConfigurationError
from radlearn.metrics.classification import auroc
from radlearn.tasks import _logistic
from radlearn.tasks.base import Inputs, Labelled, few_shot
from radlearn.tasks.linear_probe import LinearProbe

NAMES = ("effusion", "edema", "nodule")


def simulated(num_cases, *, seed=0, width=24):
    """Features with very unlike directions, and labels of unlike prevalence that follow them."""
    random = np.random.default_rng([seed, num_cases])
    mixed = np.random.default_rng(99).standard_normal((width, width)) * np.geomspace(1, 1e-2, width)
    x = random.standard_normal((num_cases, width)) @ mixed + 3
    logits = 2 * (x - 3) @ np.random.default_rng(7).standard_normal((width, 3)) + [-2, -1, 0]
    labels = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    return x, labels


def inputs(**changes):
    parts = {}
    for split, count in (("train", 600), ("validate", 300), ("test", 400)):
        x, labels = simulated(count)
        patients = [f"{split}-{i // 2}" for i in range(count)]
        parts[split] = Labelled(torch.from_numpy(x).float(), labels, patients)
    test = parts["test"]
    return replace(
        Inputs(
            image_ids=[str(i) for i in range(400)],
            patient_ids=test.patient_ids,
            labels=test.labels,
            label_names=NAMES,
            features=test.features,
            train=parts["train"],
            validate=parts["validate"],
            num_bootstrap=50,
        ),
        **changes,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 2e-3)])
def test_every_point_of_the_path_is_the_solution_of_scikit_learn(dtype, tolerance):
    x, labels = simulated(500)
    labels[np.random.default_rng(1).random(labels.shape) < 0.2] = np.nan
    features = _logistic.rotate(torch.from_numpy(x).to(dtype))
    grid = [1e-4, 1e-2, 1.0, 100.0]
    standardised = (x - x.mean(0)) / x.std(0)
    for c, weights in zip(
        grid, _logistic.path(features, torch.from_numpy(labels).to(dtype), grid), strict=True
    ):
        ours = (features.of(torch.from_numpy(x)) @ weights).double().numpy()
        for label in range(3):
            known = ~np.isnan(labels[:, label])
            model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=1000)
            model.fit(standardised[known], labels[known, label])
            theirs = model.decision_function(standardised)
            np.testing.assert_allclose(ours[:, label], theirs, atol=tolerance * np.abs(theirs).max())


def test_more_features_than_cases_lose_nothing():
    x, labels = simulated(16, width=40)
    labels = labels[:, 2:]
    features = _logistic.rotate(torch.from_numpy(x))
    assert features.z.shape[1] <= 17
    (weights,) = _logistic.path(features, torch.from_numpy(labels), [0.5])
    standardised = (x - x.mean(0)) / x.std(0)
    model = LogisticRegression(C=0.5, tol=1e-12, max_iter=10_000).fit(standardised, labels[:, 0])
    new, _ = simulated(30, width=40)
    ours = (features.of(torch.from_numpy(new)) @ weights).numpy()[:, 0]
    np.testing.assert_allclose(ours, model.decision_function((new - x.mean(0)) / x.std(0)), atol=1e-5)


def test_c_is_the_one_of_the_best_validation_auc():
    given = inputs()
    scores = LinearProbe(precision="float64", inverse_penalties=[1e-4, 1e-2, 1.0]).scores(given)[""]
    train = given.train.features.double().numpy()
    mean, deviation = train.mean(0), train.std(0)
    for label in range(3):
        best = None
        for c in (1e-4, 1e-2, 1.0):
            model = LogisticRegression(C=c, tol=1e-12, max_iter=10_000)
            model.fit((train - mean) / deviation, given.train.labels[:, label])
            seen, test = (
                model.decision_function((x.double().numpy() - mean) / deviation)
                for x in (given.validate.features, given.features)
            )
            reached = float(auroc(seen, given.validate.labels[:, label]))
            if best is None or reached > best[0] + 1e-9:
                best = (reached, test)
        np.testing.assert_allclose(scores[:, label], best[1], atol=1e-5)


def test_the_test_labels_have_no_part_in_the_scores():
    given = inputs()
    other = replace(given, labels=1 - given.labels)
    np.testing.assert_array_equal(LinearProbe().scores(given)[""], LinearProbe().scores(other)[""])


def test_without_a_validation_split_patients_are_held_out(monkeypatch):
    from radlearn.tasks import linear_probe

    seen = []
    original = linear_probe.fit

    def fit(train, validate, *rest):
        seen.append((train, validate))
        return original(train, validate, *rest)

    monkeypatch.setattr(linear_probe, "fit", fit)
    scores = LinearProbe().scores(inputs(validate=None))[""]
    ((train, validate),) = seen
    assert not {*train.patient_ids} & {*validate.patient_ids}
    assert len(train) + len(validate) == 600
    assert 0.1 < len(validate) / 600 < 0.3
    assert (auroc(scores, inputs().labels) > 0.7).all()


def test_few_shot_draws_are_nested_stand_in_the_results_and_name_the_predictions():
    given = inputs()
    shares = [few_shot(given.train, NAMES, fraction, seed=0, draw=1) for fraction in (0.05, 0.2, 1.0)]
    held = [{*share.patient_ids} for share in shares]
    assert held[0] < held[1] < held[2]
    assert [len(each) for each in held] == [15, 60, 300]
    evaluation = LinearProbe(fraction=0.2, draw=1).run(given)
    assert {(r.fraction, r.draw, r.tuning_trials) for r in evaluation.results} == {(0.2, 1, 17)}
    assert list(evaluation.scores) == ["fraction=0.2, draw=1"]
    whole = LinearProbe(draw=1).run(given)
    assert {(r.fraction, r.draw) for r in whole.results} == {(1.0, None)}
    assert list(whole.scores) == [""]


def test_a_label_with_one_class_scores_zero_and_stops_nothing():
    given = inputs()
    labels = given.train.labels.copy()
    labels[:, 0] = 0
    scores = LinearProbe().scores(replace(given, train=replace(given.train, labels=labels)))[""]
    assert (scores[:, 0] == 0).all()
    assert (auroc(scores, given.labels)[1:] > 0.7).all()


def test_a_label_that_validation_cannot_judge_takes_the_others_choice():
    from radlearn.tasks.linear_probe import _choose

    reached = np.array([[0.6, np.nan, 0.7], [0.8, np.nan, 0.75], [0.7, np.nan, 0.8]])
    np.testing.assert_array_equal(_choose(reached), [1, 1, 2])
    np.testing.assert_array_equal(_choose(np.full((5, 2), np.nan)), [2, 2])
    np.testing.assert_array_equal(_choose(np.array([[0.9], [0.9]])), [0])


def test_choices_at_the_edge_are_warned_of(caplog):
    logging.getLogger("radlearn").propagate = True
    with caplog.at_level(logging.WARNING, logger="radlearn"):
        LinearProbe(inverse_penalties=[1e-9, 1e-8, 1e-7]).scores(inputs())
    assert "at the end of its candidates" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0}, "above 0 and at most 1: got 0"),
        ({"inverse_penalties": [0, 1]}, "numbers above 0"),
        ({"precision": "half"}, "float32 or float64: got 'half'"),
    ],
)
def test_bad_settings_say_what_they_want(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        LinearProbe(**arguments)
