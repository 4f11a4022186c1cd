"""Every task, plug-ins included: chance on shuffled labels, near 1 for an oracle, one seed one number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radlearn import registry
from radlearn.tasks.base import Inputs, Prompts

NAMES = registry.names("tasks")
LABELS = ("effusion", "edema")
# The metric whose chance is 0.5 and whose best is 1.
AUC = "auc"


def inputs(*, shuffled: bool = False, num_cases: int = 400) -> Inputs:
    """Cases whose embeddings, prompts and pixels all show the labels, unless these are shuffled."""
    random = np.random.default_rng(0)
    labels = (random.random((2 * num_cases, 2)) < 0.3).astype(np.float64)
    axes = torch.eye(8)
    embeddings = 3 * torch.from_numpy(labels).float() @ axes[:2] + 0.3 * torch.randn(
        2 * num_cases, 8, generator=torch.Generator().manual_seed(0)
    )
    pixels = random.integers(100, 120, (2 * num_cases, 16, 16))
    pixels[:, 2:6, 2:6] += (100 * labels[:, 0]).astype(int)[:, None, None]
    pixels[:, 10:14, 10:14] += (100 * labels[:, 1]).astype(int)[:, None, None]
    pixels = pixels.astype(np.uint8)
    shown = labels[random.permutation(len(labels))] if shuffled else labels
    test, train = slice(0, num_cases), slice(num_cases, None)
    return Inputs(
        image_ids=[f"image-{i}" for i in range(num_cases)],
        patient_ids=[f"patient-{i // 2}" for i in range(num_cases)],
        labels=shown[test],
        label_names=LABELS,
        embeddings=embeddings[test],
        prompts={"": Prompts([axes[0:1], axes[1:2]], [-axes[0:1], -axes[1:2]])},
        pixels=pixels[test],
        train_pixels=pixels[train],
        train_labels=shown[train],
        num_bootstrap=200,
        provenance={"run": "oracle", "data": "made_up", "data_hash": "0", "split": "test"},
    )


def macro(evaluation):
    (row,) = [r for r in evaluation.results if r.metric == AUC and r.label == "macro" and not r.variant]
    return row


@pytest.mark.parametrize("name", NAMES)
def test_an_oracle_scores_near_one_and_shuffled_labels_at_chance(name):
    task = registry.find("tasks", name)
    oracle, shuffled = (macro(task().run(inputs(shuffled=s))) for s in (False, True))
    assert oracle.value > 0.97
    assert shuffled.low < 0.5 < shuffled.high


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_numbers(name):
    task = registry.find("tasks", name)
    assert task().run(inputs()).results == task().run(inputs()).results


@pytest.mark.parametrize("name", NAMES)
def test_every_interval_holds_its_value_and_every_row_says_where_it_comes_from(name):
    for row in registry.find("tasks", name)().run(inputs(shuffled=True)).results:
        assert row.low <= row.value <= row.high
        assert row.task == name
        assert (row.run, row.data, row.split) == ("oracle", "made_up", "test")
        assert row.chance is not None
        assert row.num_patients == 200
        assert not math.isnan(row.value)


@pytest.mark.parametrize("name", NAMES)
def test_missing_inputs_are_named(name):
    from dataclasses import replace

    from radlearn.errors import ConfigurationError

    bare = replace(inputs(), embeddings=None, prompts={}, pixels=None, train_pixels=None)
    with pytest.raises(ConfigurationError, match="needs"):
        registry.find("tasks", name)().run(bare)
