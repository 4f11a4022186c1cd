"""Every objective, plug-ins included: what a method must do before it may be called done."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from radlearn import registry
from radlearn.training import checkpoint

# Settings besides the defaults under which an objective's two ranks must equal one.
VARIANTS = {
    "nova": [{}, {"sigreg": {"slices": 32, "pool": "per_view"}}, {"text_head": "mlp"}],
    "contrastive": [{}, {"same_text": "positive"}, {"same_text": "positive", "chunk_rows": 3}],
    "siglip": [{}, {"same_text": "positive"}, {"chunk_rows": 3}],
    "medclip": [{}, {"similarity": "cosine", "label_coding": "signed"}],
    "lovt": [
        {},
        {"same_modality": True, "learn_temperature": True},
        {
            "image_pool": "average",
            "report_pool": "token_max",
            "projection_norm": "none",
            "image_loss": False,
            "report_loss": False,
        },
        {"global_loss": False, "local_attention": False, "report_pool": "token_max"},
    ],
}
CASES = [(name, variant) for name in registry.names("objectives") for variant in VARIANTS.get(name, [{}])]
NAMES = registry.names("objectives")


def gradients(objective):
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_a_finite_scalar_and_metrics_are_detached(name):
    output = tiny.objective(name).train()(tiny.batch(), 3)
    assert output.loss.shape == ()
    assert torch.isfinite(output.loss)
    assert all(not value.requires_grad and value.ndim == 0 for value in output.metrics.values())


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_trainable_weight_and_no_frozen_one(name):
    objective = tiny.objective(name).train()
    frozen = next(objective.image_encoder.parameters()).requires_grad_(False)
    objective(tiny.batch(), 0).loss.backward()
    for parameter_name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            # A bias before batch norm has no effect on the loss: its gradient is rounding noise.
            assert torch.isfinite(parameter.grad).all(), parameter_name
    assert frozen.grad is None
    weights = [p for n, p in objective.named_parameters() if p.requires_grad and p.ndim > 1]
    assert all(p.grad.abs().max() > 0 for p in weights)


@pytest.mark.parametrize("name", NAMES)
def test_every_view_receives_gradient(name):
    batch = tiny.batch(seed=1)
    objective = tiny.objective(name).train()
    views = tuple((v.float() / 255).requires_grad_() for v in batch.views)
    objective(dataclasses.replace(batch, views=views), 0).loss.backward()
    for view in views:
        assert view.grad is not None
        assert (view.grad.abs().flatten(2).amax(-1) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_order_of_studies_does_not_matter(name):
    batch = tiny.batch()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    shuffled = batch.studies(order)
    first, second = (tiny.objective(name).train()(b, 5).loss for b in (batch, shuffled))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_two_unequal_ranks_equal_one(name, variant, two_ranks):
    objective = tiny.objective(name, **variant).train()
    whole = objective(tiny.batch(), 7)
    whole.loss.backward()
    for answer in two_ranks("two_rank_jobs:objective_gradients", name=name, arguments=variant, step=7):
        torch.testing.assert_close(answer["loss"], whole.loss.detach(), rtol=1e-5, atol=1e-6)
        for key, value in whole.metrics.items():
            torch.testing.assert_close(answer["metrics"][key], value, rtol=1e-4, atol=1e-5)
        own = gradients(objective)
        assert set(answer["gradients"]) == set(own)
        for key, gradient in own.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(
                answer["gradients"][key], gradient, rtol=1e-3, atol=1e-4 * scale + 1e-5
            )
        for key, buffer in objective.named_buffers():
            torch.testing.assert_close(answer["buffers"][key], buffer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_load_and_agree(name, tmp_path):
    objective = tiny.objective(name)
    objective.train()(tiny.batch(), 0)
    folder = checkpoint.save(tmp_path / "step-1", objective, config={}, about={"step": 1}, state=None)
    other = tiny.objective(name, seed=1)
    checkpoint.load_weights(other, checkpoint.load(folder).weights, where="the test")
    images = tiny.batch().views[0][0]
    torch.testing.assert_close(objective.eval().embed_image(images), other.eval().embed_image(images))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast_stays_close(name):
    objective = tiny.objective(name).train()
    exact = objective(tiny.batch(), 0).loss
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(tiny.batch(), 0).loss
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_ten_steps_lower_the_loss_on_one_batch(name):
    losses = tiny.curve(name, lr=2e-3)
    assert losses[-1] < losses[0]
