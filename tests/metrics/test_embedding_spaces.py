"""Statistics of embedding spaces, against loops over the valid items of each sample alone."""

import itertools

import numpy as np
import pytest
import torch

from radlearn.metrics.embedding_spaces import (
    LocalSpace,
    Spaces,
    mean_item,
    of_batch,
    summarise,
    together,
)

LENGTHS_A, LENGTHS_B = (6, 6, 6, 6, 6), (4, 1, 3, 2, 2)
CUT = 3  # the first batch has so many samples, the second the rest


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Case:
    """Five samples: six items of one modality, one to four of the other; padding is noise."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.a, self.b = (random.standard_normal((5, n, 5)) + 0.7 for n in (6, 4))
        self.b2a, self.a2b = (random.standard_normal(x.shape) + 0.5 for x in (self.a, self.b))
        self.w_a, self.w_b = (random.random(x.shape[:2]) for x in (self.a, self.b))
        self.g_a, self.g_b = random.standard_normal((2, 5, 5)) + 0.3

    def spaces(self, rows):
        at = lambda x: torch.from_numpy(x[rows])  # noqa: E731
        mask = torch.arange(4) < torch.tensor(LENGTHS_B)[rows, None]
        a = LocalSpace(at(self.a), None, at(self.w_a))
        b = LocalSpace(at(self.b), mask, at(self.w_b) * mask)
        return Spaces(
            local={"a": a, "b": b, "ab": together(a, b)},
            pooled={"g_a": at(self.g_a), "g_b": at(self.g_b), "mean_b": mean_item(b)},
            paired={"g_a-g_b": ("g_a", "g_b")},
            attended={"a-b2a": ("a", at(self.b2a)), "b-a2b": ("b", at(self.a2b))},
            modalities={"a-b": ("a", "b")},
        )

    def valid(self, key):
        """Unit items of each sample, without padding; weights that sum to 1."""
        lengths = LENGTHS_A if key.startswith("a") else LENGTHS_B
        weights = self.w_a if key.startswith("a") else self.w_b
        items = [unit(getattr(self, key)[i, :n]) for i, n in enumerate(lengths)]
        return items, [weights[i, :n] / weights[i, :n].sum() for i, n in enumerate(lengths)]


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture(scope="module")
def found(case):
    return summarise([of_batch(case.spaces(slice(0, CUT))), of_batch(case.spaces(slice(CUT, 5)))])


def distances(x, y):
    return np.array([[np.linalg.norm(p - q) for q in y] for p in x])


def different(d):
    return [d[i, j] for i, j in itertools.product(*map(range, d.shape)) if i != j]


def offdiagonal(covariance):
    return (np.square(covariance).sum() - np.square(np.diag(covariance)).sum()) / len(covariance)


def test_the_inside_of_samples(case, found):
    for key in "ab":
        items, weights = case.valid(key)
        spread = [(x, w) for x, w in zip(items, weights, strict=True) if len(x) > 1]
        deviations = [x.std(0, ddof=1).mean() for x, _ in spread]
        uniformities = [np.log(np.exp(-2 * distances(x, x) ** 2).mean()) for x, _ in spread]
        energies = [offdiagonal(np.cov(x.T)) for x, _ in spread]
        weighted = []
        for x, w in spread:
            d, share = distances(x, x), np.outer(w, w)
            weighted.append(np.average(different(d), weights=different(share)))
        wanted = {
            "ch_std_per_sample": np.mean(deviations),
            "ch_std_per_sample__std": np.std(deviations, ddof=1),
            "per_sample_uniformity": np.mean(uniformities),
            "per_sample_uniformity__std": np.std(uniformities, ddof=1),
            "cov_offdiagonal_per_sample": np.mean(energies),
            "cov_offdiagonal_per_sample__std": np.std(energies, ddof=1),
            "dist_emb2cent": np.mean([distances(x, [x.mean(0)]).mean() for x, _ in spread]),
            "dist_emb2emb": np.mean([np.mean(different(distances(x, x))) for x, _ in spread]),
            "dist_emb2emb__weighted": np.mean(weighted),
        }
        for metric, value in wanted.items():
            assert found[f"{key}/{metric}"] == pytest.approx(value, rel=1e-6), metric


def test_samples_against_each_other(case, found):
    for key in "ab":
        items, _ = case.valid(key)
        centroids = np.array([x.mean(0) for x in items])
        within = np.mean([x.var(0, ddof=1) for x in items if len(x) > 1], axis=0)
        parts = centroids[:CUT], centroids[CUT:]
        totals = []
        for rows in (items[:CUT], items[CUT:]):
            inside = np.mean([np.cov(x.T) for x in rows if len(x) > 1], axis=0)
            totals.append(offdiagonal(inside + np.cov(np.array([x.mean(0) for x in rows]).T)))
        wanted = {
            "ch_std": np.sqrt(centroids.var(0, ddof=1) + within).mean(),
            "ch_std_sample_centroids": centroids.std(0, ddof=1).mean(),
            "cov_offdiagonal_sample_centroids": offdiagonal(np.cov(centroids.T)),
            "cov_offdiagonal__batch_estimate": np.mean(totals),
            "dist_cent2dataset": distances(centroids, [centroids.mean(0)]).mean(),
            "dist_cent2cent__batch_estimate": np.mean([np.mean(different(distances(c, c))) for c in parts]),
        }
        for metric, value in wanted.items():
            # Centroids are kept in single precision.
            assert found[f"{key}/{metric}"] == pytest.approx(value, rel=1e-5), metric


def test_pooled_spaces(case, found):
    for key in ("g_a", "g_b"):
        x = unit(getattr(case, key))
        parts = x[:CUT], x[CUT:]
        wanted = {
            "ch_std": x.std(0, ddof=1).mean(),
            "uniformity": np.log(np.mean([np.exp(-2 * distances(p, p) ** 2).mean() for p in parts])),
            "dist_emb2emb__batch_estimate": np.mean([np.mean(different(distances(p, p))) for p in parts]),
            "cov_offdiagonal": offdiagonal(np.cov(x.T)),
        }
        for metric, value in wanted.items():
            assert found[f"{key}/{metric}"] == pytest.approx(value, rel=1e-5), metric
    apart = np.linalg.norm(unit(case.g_a) - unit(case.g_b), axis=1)
    assert found["g_a-g_b/dist"] == pytest.approx(apart.mean())
    assert found["g_a-g_b/dist__std"] == pytest.approx(apart.std(ddof=1))
    assert found["g_a-g_b/rmse"] == pytest.approx(np.sqrt((apart**2).mean()))


def test_the_mean_item_leaves_padding_out(case):
    means = mean_item(case.spaces(slice(0, 5)).local["b"]).numpy()
    np.testing.assert_allclose(means, [case.b[i, :n].mean(0) for i, n in enumerate(LENGTHS_B)])


def test_items_and_their_partners(case, found):
    for key, partner in (("a", "b2a"), ("b", "a2b")):
        items, weights = case.valid(key)
        partners = [unit(getattr(case, partner)[i, : len(x)]) for i, x in enumerate(items)]
        each = [np.linalg.norm(x - y, axis=1) for x, y in zip(items, partners, strict=True)]
        rmse = [np.sqrt((d**2).mean()) for d in each]
        wanted = {
            "sample_rmse": np.mean(rmse),
            "sample_rmse__std": np.std(rmse, ddof=1),
            "sample_rmse__weighted": np.mean(
                [np.sqrt((d**2 * w).sum()) for d, w in zip(each, weights, strict=True)]
            ),
            "sample_min_dist": np.mean([d.min() for d in each]),
            "sample_max_dist": np.mean([d.max() for d in each]),
            "sample_std_dist": np.mean([d.std(ddof=1) for d in each if len(d) > 1]),
        }
        for metric, value in wanted.items():
            assert found[f"{key}-{partner}/{metric}"] == pytest.approx(value), metric


@pytest.mark.filterwarnings("ignore:divide by zero")  # a single item is its own centroid
def test_modalities(case, found):
    (a, w_a), (b, w_b) = case.valid("a"), case.valid("b")

    def assigned(own, other):
        near, far = (1 / np.square(own - c.mean(0)).sum(1) for c in (own, other))
        return np.mean(near / (near + far)) if len(own) > 1 else 1.0

    pairs = [distances(x, y) for x, y in zip(a, b, strict=True)]
    wanted = {
        "assignment_1to1": np.mean([assigned(x, y) for x, y in zip(a, b, strict=True)]),
        "assignment_2to2": np.mean([assigned(y, x) for x, y in zip(a, b, strict=True)]),
        "1NN_emb2emb_1to2": np.mean([d.min(1).mean() for d in pairs]),
        "1NN_emb2emb_2to1": np.mean([d.min(0).mean() for d in pairs]),
        "dist_emb2emb": np.mean([d.mean() for d in pairs]),
        "dist_emb2emb__weighted": np.mean([w @ d @ v for w, d, v in zip(w_a, pairs, w_b, strict=True)]),
    }
    for metric, value in wanted.items():
        assert found[f"a-b/{metric}"] == pytest.approx(value), metric


def test_two_modalities_together_weigh_alike(case):
    both = case.spaces(slice(0, 5)).local["ab"]
    assert both.items.shape == (5, 10, 5)
    weights = both.weights / both.weights.sum(1, keepdim=True)
    torch.testing.assert_close(weights[:, :6].sum(1), torch.full((5,), 0.5, dtype=torch.float64))
    alike = together(LocalSpace(both.items[:, :6]), LocalSpace(both.items[:, 6:], both.mask[:, 6:]))
    torch.testing.assert_close(alike.weights[1], torch.tensor([1 / 6] * 6 + [1, 0, 0, 0]).double())


def test_limits():
    """A point has no spread; modalities that lie on each other cannot be told apart."""
    same = torch.ones(3, 4, 5)
    spaces = Spaces(
        local={"a": LocalSpace(same), "b": LocalSpace(same.clone())},
        pooled={"g": same[:, 0]},
        modalities={"a-b": ("a", "b")},
        attended={"a-a": ("a", same)},
    )
    found = summarise([of_batch(spaces)])
    assert found["a-b/assignment_1to1"] == found["a-b/assignment_2to2"] == 0.5
    for key in ("a/ch_std", "a/dist_emb2emb", "g/cov_offdiagonal", "g/uniformity", "a-a/sample_rmse"):
        assert found[key] == pytest.approx(0, abs=1e-6), key
    assert found["a/per_sample_uniformity"] == pytest.approx(0, abs=1e-12)


def test_what_no_sample_has_is_left_out():
    """One sample of one item: no pairs, no batch, no spread."""
    spaces = Spaces(local={"a": LocalSpace(torch.ones(1, 1, 4))}, pooled={"g": torch.ones(1, 4)})
    assert summarise([of_batch(spaces)]) == {"g/uniformity": 0.0}
