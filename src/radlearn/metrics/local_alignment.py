"""How well local features find their attended partners, and how far attention chooses, sample by sample.

Everything returns one value a sample, (B,), in float64; padded items have no part in any of them. Shapes: B
samples, N items (regions or sentences), M items of the other modality, D dimensions. A mask is (B, N) bool,
true where valid; None takes all.

Source: the validation metrics of LoVT (Müller et al. 2022, arXiv:2112.02889).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

_TOP = (1, 5)


def partner_ranks(
    items: Float[Tensor, "batch items dim"],
    partners: Float[Tensor, "batch items dim"],
    mask: Bool[Tensor, "batch items"] | None = None,
) -> Float[Tensor, "batch items"]:
    """Rank of each item's own partner among all partners of its sample, by cosine; 1 is the most similar.

    Equal similarities share their mean rank, so that a collapsed space ranks as chance does.

    Args:
        items: (B, N, D), the queries.
        partners: (B, N, D); partner k belongs to item k.
        mask: which are valid.
    """
    unit = [normalize(x.double(), dim=-1) for x in (items, partners)]
    similarity = unit[0] @ unit[1].mT  # (B, N, N)
    own = similarity.diagonal(dim1=1, dim2=2).unsqueeze(-1)
    candidates = _valid(items, mask)[:, None, :]
    above, equal = ((similarity > own) & candidates).sum(-1), ((similarity == own) & candidates).sum(-1)
    return above + (equal + 1.0) / 2


def retrieval_in_sample(
    items: Float[Tensor, "batch items dim"],
    partners: Float[Tensor, "batch items dim"],
    mask: Bool[Tensor, "batch items"] | None = None,
    weights: Float[Tensor, "batch items"] | None = None,
) -> dict[str, Tensor]:
    """Does each item find its partner among those of its own sample?

    Args:
        items, partners, mask: see `partner_ranks`.
        weights: (B, N) of the items, such as attention; None leaves the weighted means out.

    Returns:
        `top1`, `top5`: share of the items whose partner ranks so high; `mean_rank`; `size`: number of items;
        and `top1_weighted` and so on.
    """
    ranks = partner_ranks(items, partners, mask)
    valid = _valid(items, mask).to(ranks)
    values = {f"top{k}": (ranks <= k).to(ranks) for k in _TOP} | {"mean_rank": ranks}
    found = {name: _mean(value, valid) for name, value in values.items()} | {"size": valid.sum(-1)}
    if weights is not None:
        share = valid * weights.to(ranks)
        found |= {f"{name}_weighted": _mean(value, share) for name, value in values.items()}
    return found


def attention_statistics(
    attention: Float[Tensor, "batch items others"], mask: Bool[Tensor, "batch items"] | None = None
) -> dict[str, Tensor]:
    """How sharply each item attends, and whether items attend to different things.

    Args:
        attention: (B, N, M), rows that sum to 1; zero where the attended item is padding.
        mask: which rows are valid.

    Returns:
        `entropy` and `entropy_std`: mean and standard deviation over the rows of their entropy, in nats;
        `row_distance`: mean Euclidean distance of a row to the mean row; `mean_entropy`: entropy of the mean
        row. Items that attend alike have a row distance of 0 and both entropies equal. The deviation is that
        of a sample (divided by N - 1), and 0 for a single row.
    """
    rows = attention.double()
    valid = _valid(rows, mask).to(rows)
    entropy = _entropy(rows)
    mean = _mean(entropy, valid)
    spread = (valid * (entropy - mean[:, None]).square()).sum(-1) / (valid.sum(-1) - 1).clamp_min(1)
    mean_row = (rows * valid.unsqueeze(-1)).sum(1) / valid.sum(-1, keepdim=True).clamp_min(1)
    return {
        "entropy": mean,
        "entropy_std": spread.sqrt(),
        "row_distance": _mean((rows - mean_row[:, None]).norm(dim=-1), valid),
        "mean_entropy": _entropy(mean_row),
    }


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities).sum(-1)
    return entropy


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean (B,) over the items (B, N)."""
    return (values * weights).sum(-1) / weights.sum(-1).clamp_min(torch.finfo(weights.dtype).tiny)


def _valid(x: Tensor, mask: Tensor | None) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
