"""Geometry of local and pooled embedding spaces: spread within and between samples, uniformity, covariance,
and how two spaces lie to each other.

Every vector is normalised to length 1 first. A batch is measured by `of_batch`, a split by `summarise` of its
batches, in float64; padding has no part in anything. What is said of the inside of a sample leaves out
samples of a single item, which have no spread and no pairs. Shapes: B samples, N items (regions or
sentences), D dimensions.

Source: the embedding metrics of LoVT (Müller et al. 2022, arXiv:2112.02889). Two things the release gets
wrong with padded sentences, the nearest neighbour and the deviation of distances, are measured on the valid
items; distances are between different items, and carry no 1e-6 a coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

# Wang and Isola 2020, arXiv:2005.10242: exp(-2 d^2).
_UNIFORMITY_SCALE = 2.0
# Of these the deviation over the samples is told as well.
_WITH_STD = (
    "ch_std_per_sample",
    "per_sample_uniformity",
    "cov_offdiagonal_per_sample",
    "dist",
    "sample_rmse",
)


@dataclass(frozen=True)
class LocalSpace:
    """Items (B, N, D) of each sample, which are valid (B, N; None: all), and their weights (B, N), if any."""

    items: Tensor
    mask: Tensor | None = None
    weights: Tensor | None = None


@dataclass(frozen=True)
class Spaces:
    """What a model gives for a batch of samples.

    Attributes:
        local, pooled: spaces by name; a pooled one is (B, D).
        paired: name -> two pooled spaces of one width whose rows belong together.
        attended: name -> a local space, and the attended partner (B, N, D) of each of its items.
        modalities: name -> two local spaces of one width that should be one.
    """

    local: Mapping[str, LocalSpace] = field(default_factory=dict)
    pooled: Mapping[str, Tensor] = field(default_factory=dict)
    paired: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    attended: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)
    modalities: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchStatistics:
    """A measured batch.

    Attributes:
        samples: `space/metric` -> (B,), NaN where a sample has none.
        batch: `space/metric` -> a value of the batch as a whole; absent for a batch of one sample.
        vectors: space -> (B, D), each sample's vector or the centroid of its items.
        variances: local space -> (D,), the sum over the samples of the variance of their items; `variances`
            of samples of a single item are left out, `num_spread` counts the others.
    """

    samples: Mapping[str, np.ndarray]
    batch: Mapping[str, float]
    vectors: Mapping[str, np.ndarray]
    variances: Mapping[str, np.ndarray]
    num_spread: Mapping[str, int]


def together(*spaces: LocalSpace) -> LocalSpace:
    """The items of several local spaces as one, each weighing as much as the others."""
    masks = [_valid(s.items, s.mask) for s in spaces]
    weights = [m.to(s.items) if s.weights is None else s.weights for s, m in zip(spaces, masks, strict=True)]
    return LocalSpace(
        torch.cat([s.items for s in spaces], 1),
        torch.cat(masks, 1),
        torch.cat([_share(w) for w in weights], 1),
    )


def mean_item(space: LocalSpace) -> Float[Tensor, "batch dim"]:
    """The mean (B, D) of the valid items."""
    valid = _valid(space.items, space.mask).to(space.items)
    return (space.items * valid.unsqueeze(-1)).sum(1) / valid.sum(1, keepdim=True)


@torch.no_grad()
def of_batch(spaces: Spaces) -> BatchStatistics:
    """Measure a batch."""
    local = {name: _Items.of(space) for name, space in spaces.local.items()}
    pooled = {name: _unit(rows) for name, rows in spaces.pooled.items()}
    samples: dict[str, Tensor] = {}
    batch: dict[str, Tensor] = {}
    for name, items in local.items():
        samples |= {f"{name}/{key}": value for key, value in _within(items).items()}
        if len(items.centroid) > 1:
            batch[f"{name}/dist_cent2cent__batch_estimate"] = _mean_distance(items.centroid)
            batch[f"{name}/cov_offdiagonal__batch_estimate"] = _total_covariance(items)
    for name, rows in pooled.items():
        # Pairs of a row with itself belong to the published definition.
        batch[f"{name}/uniformity"] = _kernel(rows).mean()
        if len(rows) > 1:
            batch[f"{name}/dist_emb2emb__batch_estimate"] = _mean_distance(rows)
    for name, (first, second) in spaces.paired.items():
        samples[f"{name}/dist"] = (pooled[first] - pooled[second]).norm(dim=-1)
    for name, (first, partners) in spaces.attended.items():
        of_items = _to_partners(local[first], _unit(partners))
        samples |= {f"{name}/{key}": value for key, value in of_items.items()}
    for name, (first, second) in spaces.modalities.items():
        of_both = _between(local[first], local[second])
        samples |= {f"{name}/{key}": value for key, value in of_both.items()}
    vectors = pooled | {name: items.centroid for name, items in local.items()}
    return BatchStatistics(
        samples={key: value.cpu().numpy() for key, value in samples.items()},
        batch={key: float(value) for key, value in batch.items()},
        vectors={name: value.float().cpu().numpy() for name, value in vectors.items()},
        variances={
            name: items.variance[items.count > 1].sum(0).cpu().numpy() for name, items in local.items()
        },
        num_spread={name: int((items.count > 1).sum()) for name, items in local.items()},
    )


def summarise(batches: Sequence[BatchStatistics]) -> dict[str, float]:
    """`space/metric` -> its value over all samples of the batches; what no sample has is left out.

    In a pooled space, of the N samples:
        `ch_std`: mean over channels of the standard deviation over samples; `cov_offdiagonal`: sum of the
        squared off-diagonal entries of the covariance / D; `uniformity`: ln of the mean over batches of the
        mean over pairs of exp(-2 d^2); `dist_emb2emb__batch_estimate`: mean distance within a batch.
    In a local space, with the mean mu_i and the variance var_i of the items of sample i, channel by channel:
        `ch_std`: mean_c sqrt(var over i of mu_i + mean over i of var_i); `ch_std_per_sample`: mean over i of
        mean_c sqrt(var_i); `ch_std_sample_centroids`: mean_c sqrt(var over i of mu_i);
        `per_sample_uniformity`; `dist_emb2cent`, `dist_emb2emb` (and weighted), `dist_cent2cent__...`,
        `dist_cent2dataset`: mean distances of items, centroids, and the mean centroid; `cov_offdiagonal_...`.
    Between spaces: `dist`, `rmse` of paired vectors; `sample_rmse`, `sample_min_dist`, `sample_max_dist`,
        `sample_std_dist` of the distances of items to their partners; `assignment_1to1`, `assignment_2to2`:
        mean of d_other^2 / (d_own^2 + d_other^2) for the centroids of both modalities, 0.5 where they cannot
        be told apart; `1NN_emb2emb_1to2`, `1NN_emb2emb_2to1`: mean distance to the nearest item of the other;
        `dist_emb2emb` (and weighted).
    A key that ends in `__std` is the deviation over the samples.
    """
    values: dict[str, float] = {}
    for key in batches[0].samples:
        found = np.concatenate([b.samples[key] for b in batches])
        found = found[~np.isnan(found)]
        if not len(found):
            continue
        values[key] = float(found.mean())
        metric = key.rpartition("/")[2]
        if metric in _WITH_STD and len(found) > 1:
            values[f"{key}__std"] = float(found.std(ddof=1))
        if metric == "dist":
            values[f"{key.rpartition('/')[0]}/rmse"] = float(np.sqrt(np.square(found).mean()))
    for key in dict.fromkeys(key for b in batches for key in b.batch):
        mean = float(np.mean([b.batch[key] for b in batches if key in b.batch]))
        values[key] = float(np.log(mean)) if key.endswith("/uniformity") else mean
    for name in batches[0].vectors:
        vectors = np.concatenate([b.vectors[name] for b in batches]).astype(np.float64)
        num_spread = sum(b.num_spread.get(name, 0) for b in batches)
        within = None
        if name in batches[0].variances:
            within = np.sum([b.variances[name] for b in batches], axis=0) / max(num_spread, 1)
        values |= {f"{name}/{key}": value for key, value in _over_samples(vectors, within).items()}
    return values


def _over_samples(vectors: np.ndarray, within: np.ndarray | None) -> dict[str, float]:
    """What all samples together say of a space (N, D): pooled, or the centroids of a local one.

    Args:
        vectors: the samples' vectors, or the centroids of their items.
        within: (D,) mean variance of the items of a sample, for a local space.
    """
    if len(vectors) < 2:
        return {}
    centred = vectors - vectors.mean(0)
    variance = vectors.var(0, ddof=1)
    spread = float(np.sqrt(variance).mean())
    offdiagonal = float(_offdiagonal(torch.from_numpy(centred / np.sqrt(len(vectors) - 1))))
    if within is None:
        return {"ch_std": spread, "cov_offdiagonal": offdiagonal}
    return {
        "ch_std": float(np.sqrt(variance + within).mean()),
        "ch_std_sample_centroids": spread,
        "cov_offdiagonal_sample_centroids": offdiagonal,
        "dist_cent2dataset": float(np.linalg.norm(centred, axis=1).mean()),
    }


# --- inside a batch


@dataclass(frozen=True)
class _Items:
    """Unit items (B, N, D), zero where padded; valid (B, N), share (B, N) of each item's weight, count (B,),
    centroid (B, D) and unbiased variance (B, D) of the valid items.
    """

    x: Tensor
    valid: Tensor
    share: Tensor
    count: Tensor
    centroid: Tensor
    variance: Tensor

    @classmethod
    def of(cls, space: LocalSpace) -> _Items:
        mask = _valid(space.items, space.mask)
        x = _unit(space.items) * mask.unsqueeze(-1)
        valid = mask.to(x)
        count = valid.sum(1)
        centroid = x.sum(1) / count.clamp_min(1).unsqueeze(-1)
        squares = ((x - centroid.unsqueeze(1)).square() * valid.unsqueeze(-1)).sum(1)
        weights = valid if space.weights is None else valid * space.weights.to(x)
        variance = squares / (count - 1).clamp_min(1).unsqueeze(-1)
        return cls(x, valid, _share(weights), count, centroid, variance)

    def mean(self, values: Tensor) -> Tensor:
        """Mean (B,) over the valid items (B, N)."""
        return (values * self.valid).sum(1) / self.count


def _within(items: _Items) -> dict[str, Tensor]:
    """What the inside of each sample says: (B,) each, NaN for a sample of a single item."""
    distances = torch.cdist(items.x, items.x)
    apart = 1 - torch.eye(items.x.shape[1]).to(items.x)
    pairs = items.valid.unsqueeze(1) * items.valid.unsqueeze(2)
    centred = (items.x - items.centroid.unsqueeze(1)) * items.valid.unsqueeze(-1)
    scaled = centred / (items.count - 1).clamp_min(1).sqrt()[:, None, None]
    found = {
        "ch_std_per_sample": items.variance.sqrt().mean(-1),
        "per_sample_uniformity": _average(_kernel(items.x), pairs).log(),
        "dist_emb2cent": items.mean(centred.norm(dim=-1)),
        "dist_emb2emb": _average(distances, pairs * apart),
        "dist_emb2emb__weighted": _average(
            distances, items.share.unsqueeze(1) * items.share.unsqueeze(2) * apart
        ),
        "cov_offdiagonal_per_sample": _offdiagonal(scaled),
    }
    return {key: value.where(items.count > 1, torch.nan) for key, value in found.items()}


def _to_partners(items: _Items, partners: Tensor) -> dict[str, Tensor]:
    """Distances (B, N) of items to their partners, sample by sample."""
    distances = (items.x - partners).norm(dim=-1)
    mean = items.mean(distances)
    spread = items.mean((distances - mean.unsqueeze(1)).square()) * items.count
    present = items.valid.bool()
    return {
        "sample_rmse": items.mean(distances.square()).sqrt(),
        "sample_rmse__weighted": (distances.square() * items.share).sum(1).sqrt(),
        "sample_min_dist": distances.masked_fill(~present, torch.inf).amin(1),
        "sample_max_dist": distances.masked_fill(~present, -torch.inf).amax(1),
        "sample_std_dist": (spread / (items.count - 1)).sqrt().where(items.count > 1, torch.nan),
    }


def _between(first: _Items, second: _Items) -> dict[str, Tensor]:
    """How far two modalities of the same samples lie apart."""
    distances = torch.cdist(first.x, second.x)  # (B, N, M)
    missing = (first.valid.unsqueeze(2) * second.valid.unsqueeze(1)) == 0
    nearest = distances.masked_fill(missing, torch.inf)
    return {
        "assignment_1to1": _assigned(first, second),
        "assignment_2to2": _assigned(second, first),
        "1NN_emb2emb_1to2": first.mean(nearest.amin(2).where(first.valid.bool(), 0.0)),
        "1NN_emb2emb_2to1": second.mean(nearest.amin(1).where(second.valid.bool(), 0.0)),
        "dist_emb2emb": _average(distances, first.valid.unsqueeze(2) * second.valid.unsqueeze(1)),
        "dist_emb2emb__weighted": _average(distances, first.share.unsqueeze(2) * second.share.unsqueeze(1)),
    }


def _assigned(own: _Items, other: _Items) -> Tensor:
    """Mean (B,) over the items of how much nearer they are to their own centroid than to the other's."""
    near, far = ((own.x - c.unsqueeze(1)).square().sum(-1) for c in (own.centroid, other.centroid))
    both = near + far
    return own.mean(torch.where(both > 0, far / both.clamp_min(torch.finfo(both.dtype).tiny), 0.5))


def _total_covariance(items: _Items) -> Tensor:
    """Off-diagonal energy of the covariance within samples (their mean) plus that of their centroids."""
    spread = items.count > 1
    centred = (items.x - items.centroid.unsqueeze(1)) * items.valid.unsqueeze(-1)
    within = centred[spread] / ((items.count[spread] - 1) * spread.sum()).sqrt()[:, None, None]
    centroids = items.centroid - items.centroid.mean(0)
    rows = torch.cat([within.flatten(0, 1), centroids / (len(centroids) - 1) ** 0.5])
    return _offdiagonal(rows)


def _offdiagonal(rows: Tensor) -> Tensor:
    """Sum of the squared off-diagonal entries of A^T A, over D, for rows A (..., N, D).

    ||A^T A|| = ||A A^T||, so the smaller of both is formed: a covariance of 2,048 channels never is.
    """
    product = rows @ rows.mT if rows.shape[-2] < rows.shape[-1] else rows.mT @ rows
    diagonal = rows.square().sum(-2)
    energy = product.square().sum((-2, -1)) - diagonal.square().sum(-1)
    return energy.clamp_min(0) / rows.shape[-1]


def _kernel(rows: Tensor) -> Tensor:
    """exp(-2 d^2) of all pairs of (..., N, D) unit rows."""
    return torch.exp(2 * _UNIFORMITY_SCALE * (rows @ rows.mT - 1))


def _mean_distance(rows: Tensor) -> Tensor:
    """Mean distance of different rows (N, D)."""
    return torch.cdist(rows, rows).sum() / (len(rows) * (len(rows) - 1))


def _average(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean (B,) over (B, N, M); NaN where nothing weighs."""
    return (values * weights).sum((1, 2)) / weights.sum((1, 2))


def _share(weights: Tensor) -> Tensor:
    """Weights (B, N) that sum to 1."""
    return weights / weights.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def _unit(x: Tensor) -> Tensor:
    return normalize(x.double(), dim=-1)


def _valid(x: Tensor, mask: Bool[Tensor, "batch items"] | None) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
