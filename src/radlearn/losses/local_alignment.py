"""Local alignment of LoVT: the regions of an image with what its report says of them, and the reverse.

All candidates lie in the same sample: a region is contrasted with the other regions of its image, a sentence
with the other sentences of its report. Shapes: B samples, N regions or sentences, D dimensions.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from radlearn.losses._precision import at_least_float32, no_autocast


def grid_distances(height: int, width: int) -> Float[Tensor, "regions regions"]:
    """Euclidean distances between the cells of a grid, row by row, over the grid's diagonal; float64."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([rows.flatten(), columns.flatten()], dim=1).double()
    return torch.cdist(cells, cells, compute_mode="donot_use_mm_for_euclid_dist") / math.hypot(height, width)


def sequence_distances(count: int) -> Float[Tensor, "sentences sentences"]:
    """Absolute differences of positions; float64."""
    positions = torch.arange(count).double()
    return (positions[:, None] - positions[None]).abs()


def near(
    distances: Float[Tensor, "items items"], *, threshold: float, smoothing: float | None
) -> Float[Tensor, "items items"]:
    """How much each item counts as a positive of each other, before they are normalised.

        r_kl = [d_kl <= threshold] exp(-smoothing d_kl)

    Args:
        distances: (N, N).
        threshold: largest distance of a positive; 0 leaves an item its own only positive.
        smoothing: decay over the distance; None counts all within the threshold alike.
    Source: LoVT (Müller et al. 2022, arXiv:2112.02889), local losses.
    """
    weight = torch.ones_like(distances) if smoothing is None else torch.exp(-smoothing * distances)
    return torch.where(distances <= threshold, weight, 0.0)


def local_contrastive(
    z: Float[Tensor, "batch items dim"],
    attended: Float[Tensor, "batch items dim"],
    positives: Float[Tensor, "items items"],
    *,
    temperature: float | Float[Tensor, ""] = 0.3,
    mask: Bool[Tensor, "batch items"] | None = None,
    weights: Float[Tensor, "batch items"] | None = None,
    same_modality: bool = False,
    normalize_by_num_negatives: bool = False,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Contrast each item with its attended counterpart, both ways, within each sample.

        c_kl = cos(z_k, z'_l) / temperature;   p_kl = r_kl m_l / sum_l r_kl m_l
        e_k  = log sum_{l valid} exp(c_kl) - sum_l p_kl c_kl          z against z'
        e'_k = log sum_{l valid} exp(c_lk) - sum_l p_kl c_lk          z' against z
        loss = sum_k v_k e_k,   v_k = m_k w_k / sum_k m_k w_k

    Args:
        z: (B, N, D) projected items.
        attended: (B, N, D) what the other modality says of each of them.
        positives: (N, N) r, of `near`.
        temperature: 0.3 in LoVT.
        mask: (B, N) which items are valid; None takes all.
        weights: (B, N) w, such as attention over the items; None weighs valid items alike.
        same_modality: count the items of the anchor's own side as negatives too, those that are positives
            aside.
        normalize_by_num_negatives: subtract log(negatives / (2 N)) once a position, a constant of the
            release's defaults that its published configurations switch off.

    Returns:
        The loss of each sample in both directions, (B,) each: from z to z', from z' to z. A sample of one
        item has the loss 0.

    Raises:
        ValueError: on shapes that differ.
    Source: LoVT (Müller et al. 2022, arXiv:2112.02889), L_local.
    """
    if z.shape != attended.shape or positives.shape != (z.shape[1], z.shape[1]):
        raise ValueError(
            f"items {tuple(z.shape)}, their counterparts {tuple(attended.shape)} and the positives "
            f"{tuple(positives.shape)} do not go together"
        )
    with no_autocast(z.device):
        z, attended = (functional.normalize(at_least_float32(x), dim=-1) for x in (z, attended))
        num_samples, num_items = z.shape[:2]
        valid = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device) if mask is None else mask
        share = positives.to(z) * valid[:, None, :]
        share = share / share.sum(-1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
        item = valid.to(z) if weights is None else valid * at_least_float32(weights)
        item = item / item.sum(-1, keepdim=True)
        c = z @ attended.mT / temperature  # (B, N, N)
        # A pair within the threshold is no negative of its own side.
        apart = valid[:, None, :] & (positives.to(z.device) == 0)
        shift = z.new_zeros(num_samples)
        if normalize_by_num_negatives:
            negatives = valid.sum(-1).to(z) * (2 if same_modality else 1)
            shift = num_items * (negatives / (2 * num_items)).log()

        def direction(logits: Tensor, own: Tensor) -> Tensor:
            candidates = logits.masked_fill(~valid[:, None, :], -torch.inf)
            if same_modality:
                beside = (own @ own.mT / temperature).masked_fill(~apart, -torch.inf)
                candidates = torch.cat([candidates, beside], dim=-1)
            # An item that does not count still has a finite log-sum, so that its gradient is 0 and not NaN.
            e = candidates.logsumexp(-1) - (share * logits).sum(-1)
            return (item * e).sum(-1) - shift

        return direction(c, z), direction(c.mT, attended)
