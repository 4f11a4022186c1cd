import math

import pytest
import torch
from torch import nn

from radlearn.errors import ConfigurationError
from radlearn.training.optim import freeze, learning_rate, parameter_groups

NOVA = {"peak": 1e-4, "final": 1e-5, "warmup_steps": 1000, "num_steps": 92_600}


def test_published_schedule_peaks_after_warm_up_and_ends_at_its_final_value():
    assert learning_rate(0, **NOVA) == pytest.approx(1e-7)  # never 0: the first step counts
    assert learning_rate(999, **NOVA) == pytest.approx(1e-4)
    assert learning_rate(1000, **NOVA) == pytest.approx(1e-4)
    assert learning_rate(92_599, **NOVA) == pytest.approx(1e-5)
    middle = 1000 + (92_599 - 1000) / 2
    assert learning_rate(round(middle), **NOVA) == pytest.approx(5.5e-5, rel=1e-3)


def test_cosine_agrees_with_torch_between():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=99, eta_min=0.1)
    for step in range(100):
        ours = learning_rate(step, peak=1.0, final=0.1, warmup_steps=0, num_steps=100)
        assert ours == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        schedule.step()


def test_a_run_shorter_than_its_warm_up_still_ends():
    values = [learning_rate(s, peak=1.0, final=0.1, warmup_steps=1000, num_steps=3) for s in range(3)]
    assert all(math.isfinite(v) and v > 0 for v in values)


def test_groups_hold_every_trainable_parameter_once():
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    module.scale = nn.Parameter(torch.tensor(1.0))
    module[0].bias.requires_grad_(False)
    groups = parameter_groups(module, weight_decay=0.1, no_decay_norm_bias=False, never={"scale"})
    assert [len(g["params"]) for g in groups] == [3, 1]
    assert groups[1]["params"][0] is module.scale
    groups = parameter_groups(module, weight_decay=0.1, no_decay_norm_bias=True)
    assert [[p.ndim for p in g["params"]] for g in groups] == [[2], [0, 1, 1]]


def test_freeze_by_prefix_and_a_prefix_without_match():
    module = nn.ModuleDict({"image_encoder": nn.Linear(2, 2), "predictor": nn.Linear(2, 2)})
    assert freeze(module, ["image_encoder"]) == ["image_encoder.weight", "image_encoder.bias"]
    assert not module["image_encoder"].weight.requires_grad
    with pytest.raises(ConfigurationError, match="start with image_encoder, predictor"):
        freeze(module, ["image"])
