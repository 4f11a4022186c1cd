"""Classifiers that learn beside a method without touching it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from small_runs import LOVT
from torch import nn
from torch.nn import functional

from radlearn.errors import ConfigurationError, DataError
from radlearn.records import Batch
from radlearn.training import checkpoint
from radlearn.training.online_evaluators import OnlineEvaluators, targets
from radlearn.training.pretrain import pretrain

ALL = "online_evaluators=[image,report,joint]"


def test_uncertain_counts_as_positive_and_blank_as_negative_unless_asked():
    labels = torch.tensor([[1.0, 0.0, -1.0, torch.nan]])
    assert targets(labels, uncertain="ones", blank="zeros").tolist() == [[1, 0, 1, 0]]
    assert targets(labels, uncertain="zeros", blank="zeros").tolist() == [[1, 0, 0, 0]]
    ignored = targets(labels, uncertain="ignore", blank="ignore")
    assert ignored.isnan().tolist() == [[False, False, True, True]]


def test_some_labels_alone_are_learned():
    online = OnlineEvaluators(["image"], ["a", "b", "c"], seed=0, labels=["c", "a"])
    labels = torch.tensor([[1.0, -1.0, 0.0]])
    assert online.target(Batch((), torch.arange(1), labels=labels)).tolist() == [[0, 1]]


def test_a_step_is_adam_on_the_mean_cross_entropy_of_the_known_labels():
    torch.manual_seed(0)
    features, target = torch.randn(12, 5), torch.randint(0, 2, (12, 3)).float()
    target[2, 1] = target[7, 0] = torch.nan
    online = OnlineEvaluators(["image"], ["a", "b", "c"], seed=0, dropout=0.0)
    before = torch.get_rng_state()
    losses = [online.update("image", features, target)]
    assert torch.equal(torch.get_rng_state(), before)
    twin = nn.Linear(5, 3)
    fresh = OnlineEvaluators(["image"], ["a", "b", "c"], seed=0, dropout=0.0)
    twin.load_state_dict(fresh._head("image", features).state_dict())
    losses += [online.update("image", features, target) for _ in range(4)]
    adam = torch.optim.Adam(twin.parameters(), lr=1e-4)
    known = ~target.isnan()
    for loss in losses:
        wanted = functional.binary_cross_entropy_with_logits(twin(features)[known], target[known])
        torch.testing.assert_close(loss, wanted.detach())
        adam.zero_grad()
        wanted.backward()
        adam.step()
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(online.heads["image"].state_dict()[name], value)


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    random = np.random.default_rng(0)
    logits = random.standard_normal((60, 3)).astype(np.float32)
    target = (random.random((60, 3)) < 0.4).astype(np.float32)
    target[:5, 2] = np.nan
    found = OnlineEvaluators(["image"], ["a", "No Finding", "c"], seed=0).score(logits, target)
    known = ~np.isnan(target)
    chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert found["loss"] == pytest.approx(log_loss(target[known], chance[known]))
    assert found["accuracy"] == pytest.approx(accuracy_score(target[known], chance[known] > 0.5))
    each = [roc_auc_score(target[known[:, i], i], logits[known[:, i], i]) for i in (0, 2)]
    assert found["auroc"] == pytest.approx(np.mean(each))


def test_two_unequal_ranks_equal_one(two_ranks):
    torch.manual_seed(0)
    features, target = torch.randn(8, 5), torch.randint(0, 2, (8, 3)).float()
    target[6] = torch.nan
    online = OnlineEvaluators(["image"], ["a", "b", "c"], seed=0, dropout=0.0)
    losses = torch.stack([online.update("image", features, target) for _ in range(3)])
    for answer in two_ranks("training.rank_jobs:online_steps", features=features, target=target):
        torch.testing.assert_close(answer["losses"], losses)
        for name, value in online.heads["image"].state_dict().items():
            torch.testing.assert_close(answer["head"][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [[*LOVT], ["method=nova"]])
def test_encoders_are_the_same_to_the_last_bit_with_and_without(method, configure):
    settings = [*method, "max_steps=3", "accumulate=2"]
    without = pretrain(configure(*settings, run="without"))
    beside = pretrain(configure(*settings, ALL, "validate_every_n_steps=2", run="with"))
    weights = [checkpoint.load(run.folder).weights for run in (without, beside)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    table = pl.read_parquet(beside.folder / "metrics.parquet")
    for name in ("image", "report", "joint"):
        assert table[f"online_{name}_loss"].is_not_null().all()
        assert table[f"val/online_{name}_auroc"].drop_nulls().is_between(0, 1).all()
        assert table[f"val/online_{name}_accuracy"].drop_nulls().len() == 2
    state = checkpoint.load(beside.folder).state()["online"]
    assert state["joint"]["head"]["weight"].shape[0] == 8
    # One update a micro-batch, two an optimiser step.
    assert float(state["image"]["optimizer"]["state"][0]["step"]) == 6


def test_unknown_names_and_data_without_labels_are_refused(configure):
    with pytest.raises(ConfigurationError, match="image, report, joint: got 'imag'; did you mean 'image'"):
        pretrain(configure("online_evaluators=[imag]"))
    with pytest.raises(ConfigurationError, match=r"online_labels names 'edma': .* did you mean 'edema'"):
        pretrain(configure(ALL, "online_labels=[edma]"))
    with pytest.raises(DataError, match="need labels"):
        OnlineEvaluators(["image"], [], seed=0)
    online = OnlineEvaluators(["report"], ["a"], seed=0)
    with pytest.raises(ConfigurationError, match="reads features_text"):
        online.features("report", {"features_image": torch.zeros(2, 3)})
