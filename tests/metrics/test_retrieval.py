"""Ranks and chance levels against hand-made matrices, a brute loop and simulation."""

import itertools

import numpy as np
import pytest
import torch

from radlearn.metrics.retrieval import chance_median_rank, chance_recall, num_matches, ranks


def unit(angles):
    radians = torch.deg2rad(torch.tensor(angles, dtype=torch.float64))
    return torch.stack([radians.cos(), radians.sin()], 1)


def brute(queries, gallery, query_ids, gallery_ids):
    """Rank of the best match: one loop a query."""
    queries, gallery = (x / x.norm(dim=1, keepdim=True) for x in (queries.double(), gallery.double()))
    found = []
    for query, wanted in zip(queries, query_ids, strict=True):
        similarity = (gallery @ query).tolist()
        best = max(s for s, g in zip(similarity, gallery_ids, strict=True) if g == wanted)
        others = [s for s, g in zip(similarity, gallery_ids, strict=True) if g != wanted]
        found.append(1 + sum(s > best for s in others) + 0.5 * sum(s == best for s in others))
    return found


def test_ranks_of_a_matrix_made_by_hand():
    # The gallery's angles from the first query are 10, 40 and 40; from the second 50, 20 and 20.
    queries, gallery = unit([0.0, 60.0]), unit([10.0, 40.0, 40.0])
    own = np.array([0, 1, 2])
    np.testing.assert_array_equal(ranks(queries, gallery, np.array([0, 1]), own), [1, 1.5])
    np.testing.assert_array_equal(ranks(queries, gallery, np.array([2, 0]), own), [2.5, 3])


def test_the_best_of_several_matches_counts_and_the_others_push_nothing_down():
    queries, gallery = unit([0.0]), unit([5.0, 10.0, 20.0, 30.0])
    assert ranks(queries, gallery, np.array([7]), np.array([1, 7, 7, 7])) == [2]
    assert ranks(queries, gallery, np.array([7]), np.array([7, 7, 7, 1])) == [1]


def test_a_collapsed_model_finds_nothing_at_the_top():
    same = torch.ones(40, 3)
    found = ranks(same, same, np.arange(40), np.arange(40))
    np.testing.assert_array_equal(found, np.full(40, 1 + 39 / 2))


def test_blocks_change_nothing_and_agree_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (torch.randn(n, 6, generator=generator) for n in (31, 57))
    random = np.random.default_rng(0)
    gallery_ids = np.concatenate([np.arange(20), random.integers(0, 20, 37)])
    query_ids = random.integers(0, 20, 31)
    whole = ranks(queries, gallery, query_ids, gallery_ids)
    np.testing.assert_array_equal(whole, ranks(queries, gallery, query_ids, gallery_ids, block_cells=200))
    np.testing.assert_array_equal(whole, brute(queries, gallery, query_ids, gallery_ids))


def test_the_scores_are_those_of_zero_shot():
    generator = torch.Generator().manual_seed(1)
    queries, gallery = (torch.randn(n, 4, generator=generator) for n in (12, 15))
    ids = np.arange(12), np.arange(15)
    distance = torch.cdist(queries.double(), gallery.double())
    own = distance[torch.arange(12), torch.arange(12), None]
    expected = 1 + (distance < own).sum(1).numpy()
    np.testing.assert_array_equal(ranks(queries, gallery, *ids, score="neg_mse"), expected)
    dot = queries @ gallery.T
    expected = 1 + (dot > dot[torch.arange(12), torch.arange(12), None]).sum(1).numpy()
    np.testing.assert_array_equal(ranks(queries, gallery, *ids, score="dot"), expected)
    with pytest.raises(ValueError, match="cosine, dot, neg_mse"):
        ranks(queries, gallery, *ids, score="l2")
    with pytest.raises(ValueError, match="one id a row: got 12 queries with 3 ids"):
        ranks(queries, gallery, np.arange(3), np.arange(15))


def test_a_query_without_a_match_has_no_rank():
    assert np.isnan(ranks(unit([0.0]), unit([1.0]), np.array([0]), np.array([1]))).all()


def test_chance_is_the_share_of_orders_that_hit():
    # Every order of 5 items of which 2 match, counted.
    for k in range(1, 6):
        orders = list(itertools.permutations([1, 1, 0, 0, 0]))
        hits = sum(any(order[:k]) for order in orders) / len(orders)
        assert chance_recall(k, [2], 5) == pytest.approx(hits)
    assert chance_recall(3, [1, 1], 10) == pytest.approx(0.3)
    assert chance_recall(20, [1], 10) == 1


def test_the_median_rank_of_chance_is_that_of_random_orders():
    random = np.random.default_rng(0)
    matches = np.array([1, 1, 4])
    drawn = np.concatenate([[random.permutation(50)[:m].min() + 1 for _ in range(4000)] for m in matches])
    assert chance_median_rank(matches, 50) == pytest.approx(np.median(drawn), abs=1)
    assert chance_median_rank([1], 9) == 5


def test_random_embeddings_score_chance():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(900, 16, generator=generator), torch.randn(300, 16, generator=generator)
    text = np.arange(900) % 300
    one_way = ranks(images, texts, text, np.arange(300))
    assert np.mean(one_way <= 10) == pytest.approx(chance_recall(10, np.ones(900), 300), abs=0.02)
    other_way = ranks(texts, images, np.arange(300), text)
    assert np.mean(other_way <= 10) == pytest.approx(chance_recall(10, np.full(300, 3), 900), abs=0.03)


def test_matches_are_counted():
    np.testing.assert_array_equal(num_matches([3, 1, 9], [1, 3, 3, 5]), [2, 1, 0])
