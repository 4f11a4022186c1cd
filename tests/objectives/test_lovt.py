"""LoVT: the whole loss against its parts, and that a report's batch mates do not matter."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from radlearn.encoders.timm_image import TimmImage
from radlearn.errors import ConfigurationError
from radlearn.metrics.embedding_spaces import of_batch, summarise
from radlearn.objectives.base import build
from radlearn.records import Tokens


def padded(tokens, more):
    """The same texts, padded further."""
    shape = (len(tokens), more)
    return Tokens(
        torch.cat([tokens.ids, torch.zeros(shape, dtype=torch.int64)], 1),
        torch.cat([tokens.mask, torch.zeros(shape, dtype=torch.bool)], 1),
        torch.cat([tokens.sentence, torch.full(shape, -1)], 1),
    )


def test_the_loss_is_the_weighted_sum_of_its_terms():
    output = tiny.objective("lovt").train()(tiny.batch(), 0)
    m = output.metrics
    wanted = 0.75 * m["global_a2b"] + 0.25 * m["global_b2a"]
    wanted = wanted + 0.375 * sum(m[f"local_{side}_{way}"] for side in "ab" for way in ("l2att", "att2l"))
    torch.testing.assert_close(output.loss.detach(), wanted)
    other = tiny.objective("lovt", global_weight=2.0, image_to_report=0.5, local_weight=0.1).train()
    m = other(tiny.batch(), 0)
    wanted = m.metrics["global_a2b"] + m.metrics["global_b2a"]
    wanted = wanted + 0.05 * sum(v for k, v in m.metrics.items() if k.startswith("local"))
    torch.testing.assert_close(m.loss.detach(), wanted)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, {"global", "local_a", "local_b"}),
        ({"image_loss": False}, {"global", "local_b"}),
        ({"report_loss": False}, {"global", "local_a"}),
        ({"image_loss": False, "report_loss": False}, {"global"}),
        ({"global_loss": False, "local_attention": False}, {"local_a", "local_b"}),
    ],
)
def test_losses_can_be_dropped(settings, kept):
    metrics = tiny.objective("lovt", **settings).train()(tiny.batch(), 0).metrics
    assert {key.rsplit("_", 1)[0] for key in metrics} - {"global_a2b", "global_b2a"} == kept


def test_accuracy_is_the_share_of_partners_found_in_the_batch():
    """Both views of twelve studies; bf16 around it ties nothing."""
    objective, batch = tiny.objective("lovt").eval(), tiny.batch(12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = objective(batch, 0)
    z_b = output.tensors["text"].float().numpy()
    for way in ("a2b", "b2a"):
        for k in (1, 5):
            shares = []
            for z_a in output.tensors["image"].float().numpy():
                cosines = unit(z_a) @ unit(z_b).T
                cosines = cosines if way == "a2b" else cosines.T
                # Equal reports share a place.
                better = (cosines > np.diag(cosines)[:, None] + 1e-6).sum(1)
                tied = (np.abs(cosines - np.diag(cosines)[:, None]) <= 1e-6).sum(1)
                shares.append(np.clip((k - better) / tied, 0, 1).mean())
            assert float(output.metrics[f"global_{way}_top{k}"]) == pytest.approx(np.mean(shares), abs=1e-6)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_spaces_for_the_embedding_statistics():
    """Every variant offers what it has, and all of it is finite; a report's padding is not an item."""
    batch = tiny.batch()
    for settings, local, pooled in (
        ({}, {"yl_a", "yl_b", "zl_a", "zl_b", "zl_ab"}, {"zg_a", "zg_b", "zl_a_avg", "zl_b_avg"}),
        ({"image_loss": False, "report_loss": False}, {"yl_a", "yl_b"}, {"zg_a", "zg_b"}),
        (
            {"global_loss": False, "local_attention": False},
            {"yl_a", "yl_b", "zl_a", "zl_b", "zl_ab"},
            {"zl_a_avg", "zl_b_avg"},
        ),
    ):
        objective = tiny.objective("lovt", **settings).eval()
        spaces = objective.embedding_spaces(objective.encode(batch), batch)
        assert set(spaces.local) == local
        assert set(spaces.pooled) == pooled | {"yg_a", "yg_b"}
        values = summarise([of_batch(spaces)])
        assert np.isfinite(list(values.values())).all()
        longer = dataclasses.replace(batch, tokens=padded(batch.tokens, 4))
        again = summarise([of_batch(objective.embedding_spaces(objective.encode(longer), longer))])
        assert again == pytest.approx(values, rel=1e-3, abs=1e-6)


def test_padding_changes_no_loss_and_no_embedding():
    batch = tiny.batch()
    longer = dataclasses.replace(batch, tokens=padded(batch.tokens, 5))
    one, two = (tiny.objective("lovt").train()(b, 0).loss for b in (batch, longer))
    torch.testing.assert_close(one, two)
    objective = tiny.objective("lovt").eval()
    together = objective.embed_text(batch.tokens)
    for row in range(len(batch.tokens)):
        length = int(batch.tokens.mask[row].sum())
        alone = batch.tokens[row : row + 1]
        alone = Tokens(alone.ids[:, :length], alone.mask[:, :length], alone.sentence[:, :length])
        torch.testing.assert_close(objective.embed_text(alone)[0], together[row], rtol=1e-4, atol=1e-5)


def test_the_release_lets_batch_mates_change_a_report():
    """Its masked mean divides by the longest report's number of sentences."""
    tokens = tiny.text_encoder().tokens(tiny.TEXTS)
    # Of two sentences: over a single one attention has no choice.
    rows = (tokens.sentence.amax(1) == 1).nonzero().flatten()
    for padded_numerics in (False, True):
        objective = tiny.objective("lovt", padded_numerics=padded_numerics).eval()
        short, among = objective.embed_text(tokens[rows]), objective.embed_text(tokens)[rows]
        assert torch.allclose(short, among, rtol=1e-4, atol=1e-5) != padded_numerics


def test_the_weights_of_the_local_losses_carry_no_gradient():
    objective = tiny.objective("lovt", global_weight=0.0).train()
    objective(tiny.batch(), 0).loss.backward()
    assert not any(p.grad.abs().max() > 0 for p in objective.image_pool.parameters())
    assert objective.region_head.first.weight.grad.abs().max() > 0


def test_temperatures_learn_only_if_asked():
    assert not tiny.objective("lovt").log_temperature.requires_grad
    objective = tiny.objective("lovt", learn_temperature=True).train()
    objective(tiny.batch(), 0).loss.backward()
    assert (objective.log_temperature.grad.abs() > 0).all()
    assert objective.no_weight_decay() == {"log_temperature"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"global_loss": False, "image_loss": False, "report_loss": False}, "needs a loss"),
        ({"global_loss": False}, "only learns with global_loss=true"),
        ({"report_pool": "token_max"}, "report_pool=sentence_attention"),
        ({"image_pool": "max"}, r"method\.image_pool is one of attention, average"),
        ({"projection_norm": "bach"}, "did you mean 'batch'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        tiny.objective("lovt", **settings)


def test_weights_of_an_encoder_that_only_its_pooled_feature_needs_are_frozen():
    """LoVT pools the regions itself: such weights would never get a gradient, which DDP waits for."""
    encoder = TimmImage(arch="convnext_atto", image_size=64)
    objective = build("lovt", encoder, tiny.text_encoder(), {"embed_dim": 8, "predictor_width": 16}).train()
    images = torch.randint(0, 256, (1, 8, 1, 64, 64), dtype=torch.uint8)
    objective(dataclasses.replace(tiny.batch(), views=(images,)), 0).loss.backward()
    without = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert not any(p.requires_grad for p in encoder.trunk.head.parameters())
