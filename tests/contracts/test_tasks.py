"""Every task, plug-ins included: chance on shuffled labels, near 1 for an oracle, one seed one number."""

from __future__ import annotations

import math

import dense_cases
import numpy as np
import pytest
import torch

from radlearn import registry
from radlearn.tasks.base import Inputs, Labelled, Prompts, Regions

ALL = registry.names("tasks")
# Tasks that train a head on maps have inputs of their own.
DENSE = [name for name in ALL if "dense" in registry.find("tasks", name).needs]
NAMES = [name for name in ALL if name not in DENSE]
LABELS = ("effusion", "edema")


def inputs(*, shuffled: bool = False, num_cases: int = 400) -> Inputs:
    """Cases whose embeddings, features, prompts, texts, regions and pixels all show what is right, unless
    that is shuffled.
    """
    random = np.random.default_rng(0)
    labels = (random.random((3 * num_cases, 2)) < 0.3).astype(np.float64)
    axes = torch.eye(8)
    embeddings = 3 * torch.from_numpy(labels).float() @ axes[:2] + 0.3 * torch.randn(
        3 * num_cases, 8, generator=torch.Generator().manual_seed(0)
    )
    pixels = random.integers(100, 120, (3 * num_cases, 16, 16))
    pixels[:, 2:6, 2:6] += (100 * labels[:, 0]).astype(int)[:, None, None]
    pixels[:, 10:14, 10:14] += (100 * labels[:, 1]).astype(int)[:, None, None]
    pixels = pixels.astype(np.uint8)
    shown = labels[random.permutation(len(labels))] if shuffled else labels
    test, train, validate = (slice(i * num_cases, (i + 1) * num_cases) for i in range(3))
    images, patients = (
        [f"{of}-{i // n}" for i in range(num_cases)] for of, n in (("image", 1), ("patient", 2))
    )
    others = [f"other-{i // 2}" for i in range(num_cases)]
    covered = (random.random((num_cases, 16)) < 0.2).astype(np.float64)
    covered[:, 3] = 1
    similarity = 9 * covered + random.random(covered.shape)
    return Inputs(
        image_ids=images,
        patient_ids=patients,
        labels=shown[test],
        label_names=LABELS,
        embeddings=embeddings[test],
        features=embeddings[test],
        train=Labelled(embeddings[train], shown[train], others),
        validate=Labelled(embeddings[validate], shown[validate], others),
        texts=embeddings[test],
        text_index=random.permutation(num_cases) if shuffled else np.arange(num_cases),
        regions=Regions(
            case_ids=images,
            patient_ids=patients,
            kinds=["effusion"] * num_cases,
            similarity={"": random.permuted(similarity, axis=1) if shuffled else similarity},
            coverage=covered,
            positive=covered > 0.5,
        ),
        prompts={"": Prompts([axes[0:1], axes[1:2]], [-axes[0:1], -axes[1:2]])},
        pixels=pixels[test],
        train_pixels=pixels[train],
        train_labels=shown[train],
        num_bootstrap=200,
        provenance={"run": "oracle", "data": "made_up", "data_hash": "0", "split": "test"},
    )


def headline(name, evaluation):
    metric, label = registry.find("tasks", name).headline
    (row,) = [r for r in evaluation.results if (r.metric, r.label, r.variant) == (metric, label, "")]
    return row


@pytest.mark.parametrize("name", NAMES)
def test_an_oracle_scores_near_one_and_shuffled_labels_at_chance(name):
    task = registry.find("tasks", name)
    oracle, shuffled = (headline(name, task().run(inputs(shuffled=s))) for s in (False, True))
    assert oracle.value > 0.97
    assert shuffled.low < shuffled.chance < shuffled.high
    assert shuffled.chance <= 0.5


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

    nothing = dict.fromkeys(
        ("embeddings", "features", "train", "validate", "texts", "regions", "pixels", "train_pixels")
    )
    bare = replace(inputs(), prompts={}, **nothing)
    with pytest.raises(ConfigurationError, match="needs"):
        registry.find("tasks", name)().run(bare)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_each_case_gives_the_numbers_again(name):
    evaluation = registry.find("tasks", name)().run(inputs())
    assert evaluation.scores or evaluation.values
    for scores in evaluation.scores.values():
        assert scores.shape == (400, 2)
    for values in evaluation.values.values():
        assert values.values.shape == (len(values.case_ids), len(values.names))
        assert len(set(values.case_ids)) == len(values.case_ids)


# --- dense tasks


def dense_run(name, *, seed=0, **of):
    narrow = {"head_width": 32} if "head_width" in registry.signature("tasks", name) else {}
    task = registry.find("tasks", name)(lr=0.1, batch_size=16, max_epochs=8, patience=8, **narrow)
    return task.run(dense_cases.inputs(dense_cases.dense(**of), seed=seed))


@pytest.fixture(scope="module", params=DENSE)
def dense_pair(request):
    """Name, and the evaluations of right and of shuffled annotations."""
    return request.param, dense_run(request.param), dense_run(request.param, shuffled=True)


def test_a_head_finds_what_is_there_and_nothing_in_shuffled_annotations(dense_pair):
    name, right, shuffled = dense_pair
    right, shuffled = headline(name, right), headline(name, shuffled)
    assert right.low > max(3 * right.chance, shuffled.high)
    assert shuffled.value < shuffled.chance + 0.15


def test_rows_of_dense_tasks_are_whole(dense_pair):
    name, right, _ = dense_pair
    for row in right.results:
        assert row.low <= row.value <= row.high
        assert row.task == name
        assert (row.run, row.data, row.split) == ("r", "squares", "test")
        assert (row.num_cases, row.num_patients, row.lr, row.fraction) == (40, 20, 0.1, 1.0)


@pytest.mark.parametrize("name", DENSE)
def test_the_seed_decides_a_head(name):
    first, again, other = (dense_run(name, seed=seed, num=16) for seed in (0, 0, 1))
    assert first.results == again.results
    assert headline(name, first).value != headline(name, other).value
