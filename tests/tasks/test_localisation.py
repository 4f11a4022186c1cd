"""Localisation numbers of maps made by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radlearn.tasks.base import Inputs, Regions
from radlearn.tasks.localisation import Localisation, localise


def regions(similarity, coverage, positive=None):
    coverage = np.asarray(coverage, float)
    count = len(coverage)
    return Regions(
        case_ids=[f"image sentence {i}" for i in range(count)],
        patient_ids=[f"patient-{i // 2}" for i in range(count)],
        kinds=["nodule"] * count,
        similarity={"": np.asarray(similarity, float)},
        coverage=coverage,
        positive=coverage >= 0.5 if positive is None else positive,
    )


def test_maps_made_by_hand():
    similarity = np.log([[0.7, 0.1, 0.1, 0.1], [0.1, 0.4, 0.4, 0.1], [0.1, 0.2, 0.3, 0.4]])
    coverage = [[1, 0, 0, 0], [0, 1, 0, 0.25], [1, 0.5, 0, 0]]
    found = localise(similarity, regions(similarity, coverage))
    np.testing.assert_allclose(found[:, 0], [1, 0.5, 0])  # a tie for the first place shares the hit
    np.testing.assert_allclose(found[:, 1], [0.7, 0.425, 0.2])
    np.testing.assert_allclose(found[:, 2], [1, 2.5 / 3, 0])


def test_the_region_auc_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    similarity = random.integers(0, 6, (20, 25)).astype(float)
    given = regions(similarity, random.random((20, 25)))
    expected = [roc_auc_score(p, s) for p, s in zip(given.positive, similarity, strict=True)]
    np.testing.assert_allclose(localise(similarity, given)[:, 2], expected)


def test_a_box_over_the_whole_view_has_no_outside():
    found = localise(np.zeros((1, 4)), regions(np.zeros((1, 4)), np.ones((1, 4))))
    assert found[0, :2].tolist() == [1, 1]
    assert np.isnan(found[0, 2])


def test_random_maps_score_chance():
    random = np.random.default_rng(0)
    coverage = (random.random((800, 36)) < 0.15).astype(float)
    coverage[:, 7] = 1
    given = regions(random.random((800, 36)) * 1e-3, coverage)
    nobody = {"image_ids": [], "patient_ids": [], "labels": np.zeros((0, 0)), "label_names": ()}
    inputs = Inputs(**nobody, regions=given, num_bootstrap=300)
    for row in Localisation().run(inputs).results:
        assert row.label == "all"
        assert row.low < row.chance < row.high, row.metric
        assert row.value == pytest.approx(row.chance, abs=0.03)
