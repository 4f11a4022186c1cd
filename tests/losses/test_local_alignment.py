"""Local and directed losses: the values of the published modules, a loop in NumPy, and limits.

The published values (LoVT's `local_alignment.py` and `global_alignment.py` run on sin and cos ramps) are
quoted to six digits. Its grid distances are float32, which moves smoothed losses by about 1e-6.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radlearn.losses.contrastive import directed_info_nce, info_nce
from radlearn.losses.local_alignment import grid_distances, local_contrastive, near, sequence_distances


def f1(*shape):
    return torch.sin(0.37 * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)).view(shape)


def f2(*shape):
    return torch.cos(0.53 * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) + 0.2).view(shape)


REGIONS = near(grid_distances(7, 7), threshold=0.5, smoothing=1.0)
UNIFORM = near(grid_distances(7, 7), threshold=0.5, smoothing=None)
SENTENCES = near(sequence_distances(5), threshold=0.0, smoothing=None)
VALID = torch.tensor([[True] * 5, [True, True, True, False, False]])


def means(losses):
    return [float(loss.mean()) for loss in losses]


def test_the_global_loss_equals_the_published_one():
    u, w = f1(4, 8), f2(4, 8)
    a2b, b2a = directed_info_nce(u, w)
    assert means((a2b, b2a)) == pytest.approx([8.065966, 7.547244], abs=1e-6)
    assert float(0.75 * a2b + 0.25 * b2a) == pytest.approx(7.936286, abs=1e-6)
    assert means(directed_info_nce(u, w, same_modality=True)) == pytest.approx(
        [10.002439, 8.066895], abs=1e-6
    )


def test_its_directions_average_to_the_symmetric_loss():
    u, w = f1(6, 5), f2(6, 5)
    a2b, b2a = directed_info_nce(u, w, temperature=0.07)
    both = info_nce(u, w, torch.tensor(math.log(1 / 0.07), dtype=torch.float64))
    torch.testing.assert_close((a2b + b2a) / 2, both)


@pytest.mark.parametrize(
    ("positives", "weighted", "values"),
    [
        (REGIONS, False, (5.588016, 5.600582)),
        (REGIONS, True, (5.496649, 5.604632)),
        (UNIFORM, False, (5.588593, 5.601321)),
    ],
)
def test_the_region_loss_equals_the_published_one(positives, weighted, values):
    weights = f1(2, 49).softmax(-1) if weighted else None
    losses = local_contrastive(f1(2, 49, 8), f2(2, 49, 8), positives, weights=weights)
    assert means(losses) == pytest.approx(values, abs=2e-6)


def test_the_sentence_loss_equals_the_published_one():
    z, attended = f1(2, 5, 8), f2(2, 5, 8)
    losses = local_contrastive(z, attended, SENTENCES, mask=VALID)
    assert means(losses) == pytest.approx([3.475664, 3.451601], abs=1e-6)
    weights = f1(2, 5).masked_fill(~VALID, -torch.inf).softmax(-1)
    losses = local_contrastive(z, attended, SENTENCES, mask=VALID, weights=weights)
    assert means(losses) == pytest.approx([3.515050, 3.518025], abs=1e-6)


def test_the_defaults_of_the_release_read_38_where_the_loss_is_4():
    # Threshold .3, no smoothing, the constant added 49 times: 49 log 2 = 33.96 above.
    positives = near(grid_distances(7, 7), threshold=0.3, smoothing=None)
    plain = local_contrastive(f1(2, 49, 8), f2(2, 49, 8), positives)
    shifted = local_contrastive(f1(2, 49, 8), f2(2, 49, 8), positives, normalize_by_num_negatives=True)
    for a, b in zip(plain, shifted, strict=True):
        torch.testing.assert_close(b - a, torch.full_like(a, 49 * math.log(2)))


def loop(z, attended, positives, mask, weights, temperature, same_modality):
    """The definition, one item at a time."""
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    attended = attended / np.linalg.norm(attended, axis=-1, keepdims=True)
    out = []
    for one, other in ((z, attended), (attended, z)):
        losses = []
        for b in range(len(z)):
            valid = np.flatnonzero(mask[b])
            total = 0.0
            for k in valid:
                r = np.array([positives[k, j] for j in valid])
                c = np.array([one[b, k] @ other[b, j] for j in valid]) / temperature
                bottom = np.exp(c).sum()
                if same_modality:
                    bottom += sum(
                        np.exp(one[b, k] @ one[b, j] / temperature) for j in valid if positives[k, j] == 0
                    )
                total += weights[b, k] * (np.log(bottom) - (r / r.sum()) @ c)
            losses.append(total / weights[b, valid].sum())
        out.append(losses)
    return np.array(out)


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_it_equals_a_loop(seed, same_modality, smooth):
    random = np.random.default_rng(seed)
    z, attended = random.standard_normal((2, 3, 6, 4))
    mask = random.random((3, 6)) < 0.7
    mask[:, 0] = True
    weights = random.random((3, 6)) + 0.1
    positives = near(grid_distances(2, 3), threshold=0.4, smoothing=2.0 if smooth else None)
    losses = local_contrastive(
        torch.from_numpy(z), torch.from_numpy(attended), positives, temperature=0.5,
        mask=torch.from_numpy(mask), weights=torch.from_numpy(weights), same_modality=same_modality,
    )  # fmt: skip
    wanted = loop(z, attended, positives.numpy(), mask, weights, 0.5, same_modality)
    np.testing.assert_allclose(torch.stack(losses).numpy(), wanted, rtol=1e-9)


def test_positives_are_most_of_the_image():
    # With threshold .5 a corner has 22 positives and the centre all 49, 35.0 on average.
    counts = (REGIONS > 0).sum(1)
    assert (int(counts[0]), int(counts[24]), float(counts.double().mean())) == (
        22,
        49,
        pytest.approx(35.0, abs=0.05),
    )
    share = REGIONS.diagonal() / REGIONS.sum(1)
    assert (float(share.min()), float(share.max())) == (
        pytest.approx(0.027, abs=5e-4),
        pytest.approx(0.060, abs=5e-4),
    )


def test_a_report_of_one_sentence_has_no_loss_and_a_finite_gradient():
    z, attended = f1(2, 5, 8).requires_grad_(), f2(2, 5, 8).requires_grad_()
    mask = torch.tensor([[True] + [False] * 4, [True] * 5])
    first, second = local_contrastive(z, attended, SENTENCES, mask=mask)
    assert first[0].item() == pytest.approx(0, abs=1e-12)
    (first.sum() + second.sum()).backward()
    for tensor in (z, attended):
        assert torch.isfinite(tensor.grad).all()
        assert not tensor.grad[0, 1:].any()


def test_padding_changes_nothing():
    z, attended = f1(1, 3, 8), f2(1, 3, 8)
    three = local_contrastive(z, attended, SENTENCES[:3, :3])
    padded = [torch.nn.functional.pad(x, (0, 0, 0, 2), value=3.0) for x in (z, attended)]
    five = local_contrastive(*padded, SENTENCES, mask=VALID[1:])
    for a, b in zip(three, five, strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    z, attended = (x.requires_grad_() for x in (f1(2, 4, 3), f2(2, 4, 3)))
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    positives = near(sequence_distances(4), threshold=1.0, smoothing=0.5)

    def function(a, b):
        return torch.stack(local_contrastive(a, b, positives, mask=mask, same_modality=True))

    assert torch.autograd.gradcheck(function, (z, attended))


def test_shapes_that_differ_are_named():
    with pytest.raises((ValueError, TypeError)) as error:
        local_contrastive(f1(2, 5, 8), f2(2, 5, 8), SENTENCES[:4, :4])
    assert "4, 4" in str(error.value) or "4,4" in str(error.value)
