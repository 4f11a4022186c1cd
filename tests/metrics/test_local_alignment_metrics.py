"""Retrieval inside a sample and attention statistics, against loops over the valid items alone."""

import numpy as np
import pytest
import torch

from radlearn.metrics.local_alignment import attention_statistics, partner_ranks, retrieval_in_sample

LENGTHS = (7, 3, 1)


@pytest.fixture
def padded():
    """Items and partners of three samples; what lies behind their lengths is noise."""
    random = torch.Generator().manual_seed(0)
    items, partners = torch.randn(2, 3, 7, 4, generator=random)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    return items, items + partners, mask


def test_ranks_are_places_in_the_sorted_similarities(padded):
    items, partners, mask = padded
    ranks = partner_ranks(items, partners, mask)
    for sample, length in enumerate(LENGTHS):
        x, y = (t[sample, :length].double().numpy() for t in (items, partners))
        x, y = (t / np.linalg.norm(t, axis=1, keepdims=True) for t in (x, y))
        for k in range(length):
            order = np.argsort(-(y @ x[k]))
            assert ranks[sample, k] == 1 + order.tolist().index(k)


def test_means_are_over_the_valid_items(padded):
    items, partners, mask = padded
    weights = torch.rand(3, 7, generator=torch.Generator().manual_seed(1))
    found = retrieval_in_sample(items, partners, mask, weights)
    for sample, length in enumerate(LENGTHS):
        alone = items[sample : sample + 1, :length], partners[sample : sample + 1, :length]
        ranks = partner_ranks(*alone)[0].numpy()
        w = weights[sample, :length].double().numpy()
        assert found["size"][sample] == length
        assert found["top1"][sample] == pytest.approx((ranks <= 1).mean())
        assert found["top5"][sample] == pytest.approx((ranks <= 5).mean())
        assert found["mean_rank"][sample] == pytest.approx(ranks.mean())
        assert found["mean_rank_weighted"][sample] == pytest.approx((ranks * w).sum() / w.sum())
        assert found["top5_weighted"][sample] == pytest.approx(np.average(ranks <= 5, weights=w))
    assert not any("weighted" in name for name in retrieval_in_sample(items, partners, mask))


def test_a_collapsed_space_ranks_as_chance():
    same = torch.ones(1, 9, 4)
    found = retrieval_in_sample(same, same)
    assert found["mean_rank"].item() == 5
    assert found["top1"].item() == 0


def test_padding_changes_nothing(padded):
    """Padded zeros inside a variance made the published standard deviation wrong."""
    items, partners, mask = padded
    short = {k: v[1] for k, v in retrieval_in_sample(items[:, :3], partners[:, :3], mask[:, :3]).items()}
    assert short == {k: v[1] for k, v in retrieval_in_sample(items, partners, mask).items()}
    attention = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(2))
    attention = attention / attention.sum(-1, keepdim=True)
    whole = attention_statistics(attention, mask)
    for sample, length in enumerate(LENGTHS):
        alone = attention_statistics(attention[sample : sample + 1, :length])
        for name, value in whole.items():
            torch.testing.assert_close(value[sample], alone[name][0])


def test_attention_statistics_are_those_of_scipy(padded):
    from scipy.stats import entropy

    attention = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(3)).double()
    attention[0, :, 3:] = 0  # two padded items
    attention = attention / attention.sum(-1, keepdim=True)
    found = attention_statistics(attention)
    for sample in range(2):
        rows = attention[sample].numpy()
        each = entropy(rows, axis=1)
        assert found["entropy"][sample] == pytest.approx(each.mean())
        assert found["entropy_std"][sample] == pytest.approx(each.std(ddof=1))
        distances = np.linalg.norm(rows - rows.mean(0), axis=1)
        assert found["row_distance"][sample] == pytest.approx(distances.mean())
        assert found["mean_entropy"][sample] == pytest.approx(entropy(rows.mean(0)))


def test_known_attention():
    uniform, sharp = torch.full((1, 4, 4), 0.25), torch.eye(4)[None]
    found = attention_statistics(uniform)
    assert found["entropy"].item() == pytest.approx(np.log(4))
    assert found["mean_entropy"].item() == pytest.approx(np.log(4))
    assert found["row_distance"].item() == found["entropy_std"].item() == 0
    found = attention_statistics(sharp)
    assert found["entropy"].item() == 0
    assert found["mean_entropy"].item() == pytest.approx(np.log(4))
    assert found["row_distance"].item() == pytest.approx(np.sqrt(0.75**2 + 3 * 0.25**2))
