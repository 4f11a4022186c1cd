"""Pooling and cross-attention: published values, loops, and what padding must not change."""

import math

import pytest
import torch
from torch import nn

from radlearn import attention
from radlearn.attention import AttentionPool, CrossAttention, LocalProjector, MeanPool


def f1(*shape):
    return torch.sin(0.37 * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)).view(shape)


def f2(*shape):
    return torch.cos(0.53 * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) + 0.2).view(shape)


MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])


def identity_attention():
    module = CrossAttention(8, norm="none").double()
    for layer in (module.key, module.value, module.out):
        nn.init.eye_(layer.weight)
    return module


def test_cross_attention_equals_the_published_values():
    # LoVT's module with identity maps and no norm, on sin and cos ramps.
    b2a, a2b, over_b = identity_attention()(f1(2, 49, 8), f2(2, 5, 8), MASK)
    assert b2a.sum().item() == pytest.approx(-1.487073, abs=1e-6)
    assert a2b.sum().item() == pytest.approx(-0.638727, abs=1e-6)
    wanted = [0.05713, 0.39606, 0.13076, 0.05171, 0.36435]
    assert over_b[0, 0].tolist() == pytest.approx(wanted, abs=1e-5)
    assert not a2b[1, 3:].any()
    assert not over_b[1, :, 3:].any()


def test_cross_attention_equals_a_loop():
    torch.manual_seed(0)
    module = CrossAttention(6, norm="none").double()
    a, b = torch.randn(2, 4, 6).double(), torch.randn(2, 5, 6).double()
    b2a, a2b, _ = module(a, b, MASK)
    for sample in range(2):
        valid = MASK[sample].nonzero().flatten().tolist()
        for k in range(4):
            s = torch.stack([module.key(a[sample, k]) @ module.key(b[sample, j]) for j in valid]) / 6**0.5
            mix = sum(w * module.value(b[sample, j]) for w, j in zip(s.softmax(0), valid, strict=True))
            torch.testing.assert_close(b2a[sample, k], module.out(mix))
        for j in valid:
            s = torch.stack([module.key(b[sample, j]) @ module.key(a[sample, k]) for k in range(4)]) / 6**0.5
            mix = sum(w * module.value(a[sample, k]) for w, k in zip(s.softmax(0), range(4), strict=True))
            torch.testing.assert_close(a2b[sample, j], module.out(mix))


def test_attention_pooling_equals_its_definition():
    torch.manual_seed(0)
    pool, x = AttentionPool(8, num_heads=2).double().eval(), torch.randn(2, 5, 8).double()
    pooled, weights = pool(x, MASK)
    m = pool.attention
    q, k, v = m.in_proj_weight.chunk(3)
    for sample in range(2):
        items = x[sample, MASK[sample]]
        heads, attends = [], []
        for h in range(2):
            rows = slice(4 * h, 4 * h + 4)
            s = (q[rows] @ items.mean(0)) @ (items @ k[rows].T).T / 2
            attends.append(s.softmax(0))
            heads.append(s.softmax(0) @ (items @ v[rows].T))
        torch.testing.assert_close(pooled[sample], m.out_proj(torch.cat(heads)))
        torch.testing.assert_close(weights[sample, MASK[sample]], torch.stack(attends).mean(0))
    assert not weights[1, 3:].any()
    torch.testing.assert_close(weights.sum(1), torch.ones(2).double())


def test_padding_changes_no_pooled_feature_unless_the_release_is_followed():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8)
    padded, mask = nn.functional.pad(x, (0, 0, 0, 4)), torch.tensor([[True] * 3 + [False] * 4])
    for legacy in (False, True):
        for pool in (AttentionPool(8, num_heads=2, padded_length=legacy), MeanPool(padded_length=legacy)):
            same = torch.allclose(pool(x)[0], pool(padded, mask)[0], atol=1e-6)
            assert same != legacy
    # The release divides the sum of 3 valid items by the padded length 7.
    released = attention.masked_mean(padded, mask, padded_length=True)
    torch.testing.assert_close(released, x.sum(1) / 7)


def test_sentences_are_the_largest_value_of_their_tokens():
    states = torch.tensor(
        [[[9.0, 9], [1, 5], [3, 2], [4, -1], [8, 8]], [[9, 9], [-2, -3], [8, 8], [7, 7], [7, 7]]]
    )
    sentence = torch.tensor([[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1]])
    pooled, mask = attention.sentence_max(states, sentence)
    assert pooled.tolist() == [[[3, 5], [4, -1]], [[-2, -3], [0, 0]]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert attention.token_max(states, sentence).tolist() == [[4, 5], [-2, -3]]


def test_gradient_of_a_sentence_goes_to_its_largest_token_alone():
    states = torch.randn(1, 4, 3, requires_grad=True)
    sentence = torch.tensor([[-1, 0, 0, 1]])
    attention.sentence_max(states, sentence)[0].sum().backward()
    assert not states.grad[0, 0].any()
    assert (states.grad[0, 3] == 1).all()
    torch.testing.assert_close(states.grad[0, 1] + states.grad[0, 2], torch.ones(3))


def test_batch_norm_sees_valid_items_only_unless_the_release_is_followed():
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    padded = torch.where(MASK.unsqueeze(-1), x, 0.0)
    other = torch.where(MASK.unsqueeze(-1), x, y)
    for legacy in (False, True):
        projector = LocalProjector(4, 8, 3, padded_rows=legacy)
        one, two = projector(padded, MASK), projector(other, MASK)
        assert torch.allclose(one[MASK], two[MASK], atol=1e-6) != legacy


def test_projectors_start_as_published():
    projector = LocalProjector(64, 512, 256)
    # Kaiming normal over the fan out: gain sqrt(2) before the ReLU, 1 after.
    assert projector.first.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert projector.last.weight.std().item() == pytest.approx((1 / 256) ** 0.5, rel=0.02)
    assert not projector.first.bias.any()
