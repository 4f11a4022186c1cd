import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from radlearn.metrics.classification import auroc
from radlearn.metrics.zero_shot import prompt_anchor, zero_shot_scores
from radlearn.tasks.base import Inputs, Prompts
from radlearn.tasks.zero_shot import ZeroShot


def made_up(num_cases=60, num_labels=3, width=5):
    torch.manual_seed(0)
    images = torch.randn(num_cases, width)
    sides = [[torch.randn(2, width) for _ in range(num_labels)] for _ in range(2)]
    labels = (np.random.default_rng(0).random((num_cases, num_labels)) < 0.4).astype(float)
    return images, *sides, labels


def test_cosine_is_the_difference_of_the_two_cosines():
    images, positive, negative, _ = made_up()
    scores = zero_shot_scores(images, positive, negative).numpy()
    for n in (0, 7):
        for label in range(3):
            sides = []
            for prompts in (positive[label].double().numpy(), negative[label].double().numpy()):
                anchor = (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).mean(0)
                image = images[n].double().numpy()
                sides.append(image @ anchor / np.linalg.norm(image) / np.linalg.norm(anchor))
            assert scores[n, label] == pytest.approx(sides[0] - sides[1], abs=1e-12)


def test_swapping_the_prompts_gives_one_minus_the_auc():
    images, positive, negative, labels = made_up()
    for score in ("cosine", "dot", "neg_mse"):
        one = auroc(zero_shot_scores(images, positive, negative, score=score), labels)
        other = auroc(zero_shot_scores(images, negative, positive, score=score), labels)
        np.testing.assert_allclose(one, 1 - other, atol=1e-12)


def test_squared_distance_ranks_as_the_dot_product():
    # -||z - a||^2 + ||z - b||^2 = 2 <z, a - b> + a constant of the label (reference, section 5.1).
    images, positive, negative, labels = made_up()
    dot = zero_shot_scores(images, positive, negative, score="dot")
    mse = zero_shot_scores(images, positive, negative, score="neg_mse")
    np.testing.assert_allclose(auroc(dot, labels), auroc(mse, labels), atol=1e-12)
    difference = mse - 2 * dot
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), atol=1e-9, rtol=0)


def test_duplicating_the_cases_leaves_the_auc_unchanged():
    images, positive, negative, labels = made_up()
    once = auroc(zero_shot_scores(images, positive, negative), labels)
    twice = auroc(zero_shot_scores(images.repeat(2, 1), positive, negative), np.tile(labels, (2, 1)))
    np.testing.assert_allclose(once, twice, atol=1e-12)


def test_several_prompts_are_averaged_as_unit_vectors():
    anchor = prompt_anchor(torch.tensor([[10.0, 0.0], [0.0, 0.1]]))
    np.testing.assert_allclose(anchor, [2**-0.5, 2**-0.5])


def test_bad_calls_say_what_they_want():
    images, positive, negative, _ = made_up()
    with pytest.raises(ValueError, match="cosine, dot, neg_mse"):
        zero_shot_scores(images, positive, negative, score="l2")
    with pytest.raises(ValueError, match="positive and a negative prompt: got 3 and 2"):
        zero_shot_scores(images, positive, negative[:2])


def test_swapped_labels_are_warned_of(caplog):
    axes = torch.eye(4)
    labels = np.repeat([[1.0], [0.0]], 30, axis=0)
    inputs = Inputs(
        image_ids=[str(i) for i in range(60)],
        patient_ids=[str(i) for i in range(60)],
        labels=labels,
        label_names=("edema",),
        embeddings=torch.where(torch.from_numpy(labels) == 1, -axes[:1], axes[:1]),
        prompts={"": Prompts([axes[0:1]], [axes[1:2]])},
        num_bootstrap=10,
    )
    logging.getLogger("radlearn").propagate = True
    with caplog.at_level(logging.WARNING, logger="radlearn"):
        ZeroShot().run(inputs)
        assert "edema scores AUC 0.00, far below chance" in caplog.text
        caplog.clear()
        ZeroShot().run(replace(inputs, labels=1 - labels))
        assert not caplog.text


def test_uncertain_labels_change_only_their_own_column():
    images, positive, negative, labels = made_up()
    scores = zero_shot_scores(images, positive, negative)
    masked = labels.copy()
    masked[:5, 1] = np.nan
    before, after = auroc(scores, labels), auroc(scores, masked)
    assert before[0] == after[0]
    assert before[2] == after[2]
