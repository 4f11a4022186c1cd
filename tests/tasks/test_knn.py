"""Nearest-neighbour votes against a loop over cases and labels."""

import numpy as np
import pytest
import torch

from radlearn.errors import ConfigurationError
from radlearn.tasks.knn import KNN, votes


def made_up(num_queries=23, num_known=61, num_labels=4):
    random = np.random.default_rng(0)
    queries, known = (
        torch.from_numpy(random.standard_normal((n, 7))).float() for n in (num_queries, num_known)
    )
    labels = (random.random((num_known, num_labels)) < 0.4).astype(float)
    return queries, known, labels


def loop(queries, known, labels, k, temperature):
    scores = np.zeros((len(queries), labels.shape[1]))
    for row, query in enumerate(queries.double().numpy()):
        for label in range(labels.shape[1]):
            votes_of = []
            for case, target in zip(known.double().numpy(), labels[:, label], strict=True):
                if not np.isnan(target):
                    cosine = query @ case / np.linalg.norm(query) / np.linalg.norm(case)
                    votes_of.append((cosine, target))
            nearest = sorted(votes_of, reverse=True)[:k]
            weights = np.exp([cosine / temperature for cosine, _ in nearest])
            if len(nearest):
                scores[row, label] = weights @ [target for _, target in nearest] / weights.sum()
    return scores


@pytest.mark.parametrize("unknown", [0, 0.3])
def test_votes_are_those_of_a_loop(unknown):
    queries, known, labels = made_up()
    labels[np.random.default_rng(1).random(labels.shape) < unknown] = np.nan
    expected = loop(queries, known, labels, 5, 0.07)
    for cells in (2**24, 100):
        found = votes(queries, known, labels, k=5, temperature=0.07, block_cells=cells)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_more_neighbours_than_cases_and_labels_that_nobody_knows():
    queries, known, labels = made_up()
    labels[:, 1] = np.nan
    labels[3:, 2] = np.nan
    found = votes(queries, known, labels, k=500, temperature=0.07)
    np.testing.assert_allclose(found, loop(queries, known, labels, 500, 0.07), atol=1e-4)
    assert (found[:, 1] == 0).all()


def test_a_high_temperature_counts_heads():
    queries, known, labels = made_up()
    found = votes(queries, known, labels, k=len(known), temperature=1e6)
    np.testing.assert_allclose(found, np.tile(labels.mean(0), (len(queries), 1)), atol=1e-5)


def test_defaults_are_those_of_dino():
    assert (KNN().k, KNN().temperature) == (20, 0.07)
    with pytest.raises(ConfigurationError, match="got 0"):
        KNN(k=0)
