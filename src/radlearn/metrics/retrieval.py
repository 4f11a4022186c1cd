"""Retrieval over a whole set: the rank of the best match of each query, and what a random ranking scores.

Ties take the mid-rank: an item that scores as the best match counts half, so a collapsed model, to which all
items look alike, does not find everything. The similarities are computed in blocks; memory does not grow with
the number of pairs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from torch import Tensor

from radlearn.metrics.zero_shot import SCORES

FloatArray = NDArray[np.float64]
_BLOCK_CELLS = 2**24


def ranks(
    queries: Tensor,
    gallery: Tensor,
    query_ids: NDArray[np.integer],
    gallery_ids: NDArray[np.integer],
    *,
    score: str = "cosine",
    block_cells: int = _BLOCK_CELLS,
) -> FloatArray:
    """Rank of the best match of each query among the whole gallery, 1 being the first.

    Items that match beside the best one do not push it down; items that do not match and score the same count
    one half.

    Args:
        queries: (Q, D) embeddings.
        gallery: (G, D) embeddings.
        query_ids, gallery_ids: (Q,) and (G,); an item matches a query where they are equal.
        score: `cosine`, `dot` or `neg_mse`, see `metrics.zero_shot`.
        block_cells: similarities held at once.

    Returns:
        (Q,) ranks; NaN for a query without a match.

    Raises:
        ValueError: on an unknown score or ids that do not fit.
    """
    if score not in SCORES:
        raise ValueError(f"score is one of {', '.join(SCORES)}: got '{score}'")
    if len(queries) != len(query_ids) or len(gallery) != len(gallery_ids):
        raise ValueError(
            f"one id a row: got {len(queries)} queries with {len(query_ids)} ids and {len(gallery)} items "
            f"with {len(gallery_ids)}"
        )
    queries, gallery = queries.float(), gallery.float()
    if score == "cosine":
        queries, gallery = (torch.nn.functional.normalize(x, dim=-1) for x in (queries, gallery))
    # -||q - g||^2 / 2 without ||q||^2, which is the same for all items of a query.
    offset = -gallery.square().sum(1) / 2 if score == "neg_mse" else None
    wanted, there = torch.from_numpy(np.asarray(query_ids)), torch.from_numpy(np.asarray(gallery_ids))
    wanted, there = wanted.to(queries.device), there.to(queries.device)
    block = max(block_cells // max(len(gallery), 1), 1)
    found = []
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        similarity = queries[rows] @ gallery.T
        if offset is not None:
            similarity += offset
        matches = wanted[rows, None] == there
        best = similarity.masked_fill(~matches, -torch.inf).amax(1, keepdim=True)
        similarity.masked_fill_(matches, -torch.inf)
        above, equal = ((similarity > best).sum(1), (similarity == best).sum(1))
        rank = 1 + above + 0.5 * equal.double()
        found.append(torch.where(matches.any(1), rank, torch.nan).cpu())
    return torch.cat(found).numpy() if found else np.empty(0)


def num_matches(query_ids: ArrayLike, gallery_ids: ArrayLike) -> NDArray[np.int64]:
    """How many items of the gallery match each query: (Q,)."""
    distinct, counts = np.unique(np.asarray(gallery_ids), return_counts=True)
    wanted = np.asarray(query_ids)
    place = np.clip(np.searchsorted(distinct, wanted), 0, max(len(distinct) - 1, 0))
    return np.where(distinct[place] == wanted, counts[place], 0)


def chance_recall(k: int, matches: ArrayLike, num_items: int) -> float:
    """Expected recall@k of a random order of the gallery, the mean over queries.

        1 - C(G - m, k) / C(G, k)     for a query with m matches among G items

    Args:
        k: how many of the first items count.
        matches: (Q,) matches of each query, at least 1.
        num_items: G.
    """
    return float(_random_hit(k, np.asarray(matches, np.float64), num_items).mean())


def chance_median_rank(matches: ArrayLike, num_items: int) -> float:
    """The smallest rank at which a random order has found a match for half of the queries, in expectation."""
    counts, weight = np.unique(np.asarray(matches, np.float64), return_counts=True)
    low, high = 1, num_items
    while low < high:
        middle = (low + high) // 2
        hit = _random_hit(middle, counts, num_items) @ weight / weight.sum()
        low, high = (low, middle) if hit >= 0.5 else (middle + 1, high)
    return float(low)


def _random_hit(k: int, matches: FloatArray, num_items: int) -> FloatArray:
    """Chance that the first k of G randomly ordered items hold one of m matches."""
    rest = num_items - matches - k
    possible = np.maximum(rest, 0)
    # Logarithms: the binomial coefficients themselves overflow.
    log_miss = (gammaln(num_items - matches + 1) - gammaln(possible + 1) - gammaln(num_items + 1)) + gammaln(
        max(num_items - k, 0) + 1
    )
    return np.where(rest < 0, 1.0, 1 - np.exp(log_miss))
