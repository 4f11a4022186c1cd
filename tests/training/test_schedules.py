"""Learning rates against torch.optim.lr_scheduler, and published values."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from radlearn.training.schedules import Plateau, learning_rate

NOVA = {"peak": 1e-4, "final": 1e-5, "warmup_steps": 1000, "num_steps": 92_600}
PLAIN = {"peak": 1.0, "final": 0.1, "warmup_steps": 0, "num_steps": 100}


def torch_rates(build, num_steps, *, lr=1.0):
    """What a scheduler of PyTorch gives, stepped once an optimiser step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = build(optimizer)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_published_schedule_peaks_after_warm_up_and_ends_at_its_final_value():
    assert learning_rate(0, **NOVA) == pytest.approx(1e-7)  # never 0: the first step counts
    assert learning_rate(999, **NOVA) == pytest.approx(1e-4)
    assert learning_rate(1000, **NOVA) == pytest.approx(1e-4)
    assert learning_rate(92_599, **NOVA) == pytest.approx(1e-5)
    middle = 1000 + (92_599 - 1000) / 2
    assert learning_rate(round(middle), **NOVA) == pytest.approx(5.5e-5, rel=1e-3)


def test_cosine_is_torchs():
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=99, eta_min=0.1), 100)
    np.testing.assert_allclose([learning_rate(s, **PLAIN) for s in range(100)], theirs, atol=1e-9)


def test_a_run_shorter_than_its_warm_up_still_ends():
    values = [learning_rate(s, peak=1.0, final=0.1, warmup_steps=1000, num_steps=3) for s in range(3)]
    assert all(math.isfinite(v) and v > 0 for v in values)


def test_cosine_epoch_is_the_release_of_lovt():
    """Published: CosineAnnealingLR of one epoch, never restarted: T_max 10, lr 1e-4."""
    settings = {"schedule": "cosine_epoch", "peak": 1e-4, "final": 0.0, "warmup_steps": 0, "num_steps": 41}
    ours = [learning_rate(step, steps_per_epoch=10, **settings) for step in range(41)]
    golden = {0: 1e-4, 5: 5e-5, 10: 0.0, 15: 5e-5, 20: 1e-4}
    for step, rate in golden.items():
        assert ours[step] == pytest.approx(rate, abs=1e-12)
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=10, eta_min=0), 41, lr=1e-4)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_cosine_restarts_are_torchs():
    ours = [learning_rate(s, schedule="cosine_restarts", steps_per_epoch=10, **PLAIN) for s in range(45)]
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=10, eta_min=0.1), 45)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_an_epoch_may_be_a_fraction_of_steps_and_shorter_than_one():
    """5 batches an epoch, 2 a step: epochs begin at steps 0, 2.5 and 5."""
    settings = {"schedule": "cosine_restarts", **PLAIN, "final": 0.0}
    ours = [learning_rate(s, steps_per_epoch=2.5, **settings) for s in range(6)]
    wanted = [(1 + math.cos(math.pi * share)) / 2 for share in (0, 0.4, 0.8, 0.2, 0.6, 0)]
    np.testing.assert_allclose(ours, wanted, atol=1e-12)
    assert [learning_rate(s, steps_per_epoch=0.5, **settings) for s in range(3)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine_restarts", "cosine_epoch"])
def test_a_warm_up_comes_before_any_schedule(schedule):
    settings = {**PLAIN, "warmup_steps": 4, "schedule": schedule, "steps_per_epoch": 1000}
    ours = [learning_rate(s, **settings) for s in range(6)]
    np.testing.assert_allclose(ours, [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-4)


def test_plateau_is_torchs():
    """A loss that falls, stalls, falls by less than the threshold, and rises."""
    random = np.random.default_rng(0)
    losses = [*np.linspace(3, 2, 8), *(2 - 1e-5 * np.arange(9)), *random.uniform(1.9, 2.5, 40)]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, patience=3, factor=0.5, min_lr=0.01)
    ours = Plateau(patience=3, factor=0.5)
    rates = []
    for loss in losses:
        ours.read(loss)
        theirs.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
        settings = {**PLAIN, "final": 0.01, "schedule": "plateau", "scale": ours.scale}
        assert learning_rate(7, **settings) == pytest.approx(rates[-1])
    assert len(set(rates)) > 3


def test_a_restart_is_at_the_peak_whatever_fraction_of_a_step_an_epoch_has():
    # 25 batches, 3 a step: step 125 begins epoch 15, and 125 / (25 / 3) is a rounding error below it.
    rate = learning_rate(
        125, schedule="cosine_restarts", peak=1e-4, final=0.0, warmup_steps=0, num_steps=1000,
        steps_per_epoch=25 / 3,
    )  # fmt: skip
    assert rate == pytest.approx(1e-4)
