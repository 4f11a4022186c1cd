"""A batch in parts has the loss and the gradient of the whole."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from rank_jobs import in_parts, vit_batch, vit_objective
from small_runs import LOVT, VIT

from radlearn.errors import ConfigurationError
from radlearn.training.gradient_cache import cut, require_parts
from radlearn.training.pretrain import pretrain

NAMES = ["lovt", "nova", "contrastive", "siglip", "medclip"]


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        # A bias before batch norm has no effect on the loss: its gradient is rounding noise of the others.
        atol = 1e-4 * float(gradient.abs().max()) + 1e-5 * largest
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=atol, msg=name)


def test_parts_cover_the_batch_and_differ_by_one():
    for count, parts in ((8, 3), (5, 5), (3, 5), (7, 1)):
        sizes = [len(range(count)[part]) for part in cut(count, parts)]
        assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1
        assert cut(count, parts)[0].start == 0


@pytest.mark.parametrize("num_parts", [1, 3, 8])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_those_of_the_whole_batch(name, num_parts):
    objective = vit_objective(name).train()
    whole = objective(vit_batch(), 3)
    whole.loss.backward()
    gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    output, found = in_parts(vit_objective(name).train(), vit_batch(), num_parts)
    torch.testing.assert_close(output.loss, whole.loss, rtol=1e-5, atol=1e-6)
    for key, value in whole.metrics.items():
        torch.testing.assert_close(output.metrics[key], value, rtol=1e-4, atol=1e-5)
    assert_close(found, gradients)


def test_dropout_is_the_same_in_both_passes():
    """Against a graph of all parts kept at once, each part with its own random state."""
    settings = {"dropout": 0.3}
    objective, batch = vit_objective("lovt", **settings).train(), vit_batch()
    parts = cut(8, 3)
    encoded = []
    for number, rows in enumerate(parts):
        torch.manual_seed(number)
        encoded.append(objective.encode(batch.studies(rows)))
    torch.manual_seed(len(parts))
    objective.compare(tuple(torch.cat(t) for t in zip(*encoded, strict=True)), batch, 3).loss.backward()
    wanted = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    _, found = in_parts(vit_objective("lovt", **settings).train(), batch, 3)
    assert_close(found, wanted)
    _, without = in_parts(vit_objective("lovt").train(), batch, 3)
    name = "text_encoder.layers.layers.0.linear1.weight"
    assert not torch.allclose(found[name], without[name], rtol=0.05)


def test_a_graph_is_kept_of_one_part_at_a_time():
    objective = vit_objective("lovt").train()
    seen = []
    for encoder, count in ((objective.image_encoder, lambda x: len(x)), (objective.text_encoder.layers, len)):
        encoder.register_forward_pre_hook(
            lambda module, args, count=count: seen.append((torch.is_grad_enabled(), count(args[0])))
        )
    in_parts(objective, vit_batch(), 4)
    # Two views of two studies, and the texts of two studies; four parts, twice.
    assert sorted(seen) == sorted([(grad, count) for grad in (False, True) for count in (4, 2)] * 4)


def test_frozen_encoders_get_no_gradient_and_need_no_second_pass():
    objective = vit_objective("contrastive").train()
    objective.image_encoder.requires_grad_(False)
    _, found = in_parts(objective, vit_batch(), 4)
    assert found
    assert not any(name.startswith("image_encoder") for name in found)


def test_batch_norm_in_an_encoder_counts_each_part_once():
    import tiny

    objective = tiny.objective("lovt").train()
    in_parts(objective, tiny.batch(local=False), 4)
    counts = {k: int(v) for k, v in objective.state_dict().items() if k.endswith("num_batches_tracked")}
    assert {v for k, v in counts.items() if k.startswith("image_encoder")} == {4}
    # Heads see the whole batch once a view; the norm of the cross-attention once a direction and view.
    assert {v for k, v in counts.items() if not k.startswith("image_encoder")} == {1, 2, 4}


def test_a_method_that_cannot_be_parted_names_those_that_can():
    with pytest.raises(ConfigurationError, match=r"choose one of .*contrastive, .*lovt, "):
        require_parts(torch.nn.Linear(1, 1), "mine")


@pytest.mark.parametrize("name", NAMES)
def test_two_unequal_ranks_equal_one(name, two_ranks):
    objective = vit_objective(name).train()
    whole = objective(vit_batch(), 3)
    whole.loss.backward()
    wanted = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    for answer in two_ranks("training.rank_jobs:cached_gradients", name=name):
        torch.testing.assert_close(answer["loss"], whole.loss.detach(), rtol=1e-5, atol=1e-6)
        assert_close(answer["gradients"], wanted)


def test_a_run_in_parts_takes_the_steps_of_a_run_of_whole_batches(configure):
    settings = [*LOVT, *VIT, "max_steps=3", "accumulate=2", "lr=1e-4"]
    whole = pretrain(configure(*settings, run="whole"))
    parts = pretrain(configure(*settings, "micro_batch=3", run="parts"))
    first, second = (pl.read_parquet(run.folder / "metrics.parquet") for run in (whole, parts))
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=1e-4)
    np.testing.assert_allclose(second["grad_norm"], first["grad_norm"], rtol=1e-3)


def test_bf16_stays_close(configure):
    settings = [*LOVT, *VIT, "max_steps=2", "precision=bf16-mixed"]
    whole = pretrain(configure(*settings, run="whole"))
    parts = pretrain(configure(*settings, "micro_batch=2", run="parts"))
    first, second = (pl.read_parquet(run.folder / "metrics.parquet") for run in (whole, parts))
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=0.02)
    np.testing.assert_allclose(second["grad_norm"], first["grad_norm"], rtol=0.1)


def test_a_batch_size_to_be_found_is_refused(configure):
    with pytest.raises(ConfigurationError, match="with micro_batch give it as a number"):
        pretrain(configure("batch_size=auto", "micro_batch=2"))
