"""Dice of a whole split, from counts."""

import numpy as np
import pytest

from radlearn.metrics import segmentation
from radlearn.stats import drawn_patients


@pytest.fixture
def masks():
    random = np.random.default_rng(0)
    target = random.random((6, 2, 8, 9)) < 0.3
    target[3, 1] = False
    return target ^ (random.random(target.shape) < 0.2), target


def test_ratios_are_those_of_scikit_learn(masks):
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    predicted, target = masks
    found = segmentation.ratios(segmentation.count(predicted, target).sum(0))
    for name, function in {
        "dice": f1_score, "iou": jaccard_score, "precision": precision_score, "recall": recall_score,
    }.items():  # fmt: skip
        for c in range(2):
            wanted = function(target[:, c].ravel(), predicted[:, c].ravel())
            assert found[name][c] == pytest.approx(wanted), name


def test_positive_dice_is_of_images_that_have_the_class(masks):
    predicted, target = masks
    found = segmentation.positive_dice(segmentation.count(predicted, target))
    assert np.isnan(found[3, 1])
    assert np.isnan(found).sum() == 1
    both = (predicted[0, 0] & target[0, 0]).sum()
    assert found[0, 0] == pytest.approx(2 * both / (predicted[0, 0].sum() + target[0, 0].sum()))


def test_nothing_there_and_nothing_said_is_zero():
    empty = np.zeros((2, 1, 3, 3), bool)
    assert segmentation.ratios(segmentation.count(empty, empty).sum(0))["dice"] == 0


def test_calling_everything_positive(masks):
    _, target = masks
    everything = segmentation.count(np.ones_like(target), target)
    wanted = segmentation.ratios(everything.sum(0))["dice"]
    np.testing.assert_allclose(segmentation.dice_of_everything(everything, 72), wanted)


def test_draws_repeat_patients(masks):
    counts = segmentation.count(*masks)
    patients = ["a", "a", "b", "c", "c", "d"]
    multiplicities, index = drawn_patients(patients, 20, 3)
    found = segmentation.ratios_of_draws(counts, index, multiplicities)["dice"]
    assert found.shape == (21, 2)
    np.testing.assert_allclose(found[0], segmentation.ratios(counts.sum(0))["dice"])
    for draw in range(20):
        times = multiplicities[index, draw]
        repeated = np.repeat(counts, times, axis=0).sum(0)
        np.testing.assert_allclose(found[1 + draw], segmentation.ratios(repeated)["dice"])
