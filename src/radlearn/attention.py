"""Attention over and between local features: pooling of regions or sentences, and from ones to the others.

Shapes: B samples, N regions or sentences, D dimensions, H heads. A mask is (B, N) bool, true where valid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from radlearn.heads import BatchNorm1d


def masked_mean(x: Tensor, mask: Tensor | None, *, padded_length: bool = False) -> Tensor:
    """Mean (B, D) of the valid items of (B, N, D).

    Args:
        x: items.
        mask: which are valid.
        padded_length: divide by N instead, as LoVT's release does, so that the mean depends on the padding.
    """
    if mask is None:
        return x.mean(1)
    count = mask.shape[1] if padded_length else mask.sum(1, keepdim=True).clamp_min(1)
    return (x * mask.unsqueeze(-1)).sum(1) / count


class AttentionPool(nn.Module):
    """Pool local features with their mean as the query of multi-head attention.

    Args:
        width: D, a multiple of `num_heads`.
        num_heads: 8 in LoVT.
        padded_length: see `masked_mean`.
    Source: LoVT (Müller et al. 2022, arXiv:2112.02889), after CLIP's attention pooling.
    """

    def __init__(self, width: int, *, num_heads: int = 8, padded_length: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.padded_length = padded_length

    def forward(self, local: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> the pooled feature (B, D), and the attention (B, N), which sums to 1."""
        query = masked_mean(local, mask, padded_length=self.padded_length).unsqueeze(1)
        ignored = None if mask is None else ~mask
        pooled, weights = self.attention(query, local, local, key_padding_mask=ignored)
        return pooled.squeeze(1), weights.squeeze(1)


class MeanPool(nn.Module):
    """The mean of the valid local features; all weigh alike."""

    def __init__(self, *, padded_length: bool = False) -> None:
        super().__init__()
        self.padded_length = padded_length

    def forward(self, local: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> (B, D), and the weights (B, N)."""
        valid = local.new_ones(local.shape[:2]) if mask is None else mask.to(local.dtype)
        pooled = masked_mean(local, mask, padded_length=self.padded_length)
        return pooled, valid / valid.sum(1, keepdim=True).clamp_min(1)


def sentence_max(states: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value of each channel over the tokens of each sentence.

    Args:
        states: (B, L, D) token features.
        sentence: (B, L) sentence of each token, -1 for none.

    Returns:
        (B, S, D) sentence features, zero where there is no sentence; (B, S) which there are. S is the
        largest number of sentences of a text.
    """
    num_samples, _, width = states.shape
    count = int(sentence.max()) + 1
    # Tokens of no sentence go to one more place, which is cut off.
    place = torch.where(sentence < 0, count, sentence).unsqueeze(-1).expand(-1, -1, width)
    pooled = states.new_full((num_samples, count + 1, width), -torch.inf)
    pooled = pooled.scatter_reduce(1, place, states, "amax")[:, :count]
    numbers = torch.arange(count, device=sentence.device)
    mask = numbers <= sentence.amax(1, keepdim=True)
    return torch.where(mask.unsqueeze(-1), pooled, 0.0), mask


def token_max(states: Tensor, sentence: Tensor) -> Tensor:
    """The largest value (B, D) of each channel over a text's tokens, those that begin and end it aside."""
    return states.masked_fill((sentence < 0).unsqueeze(-1), -torch.inf).amax(1)


class CrossAttention(nn.Module):
    """What the sentences say of each region, and the regions show of each sentence, by one shared map.

        S = K(a) K(b)^T / sqrt(D)
        b2a = norm(O(softmax over sentences (S) V(b)))     (B, N_a, D)
        a2b = norm(O(softmax over regions (S^T) V(a)))     (B, N_b, D)

    Args:
        width: D of the projected local features.
        norm: `batch`, one batch norm for both directions, or `none`.
        padded_rows: let padded sentences enter the batch norm, as LoVT's release does, so that a report's
            loss depends on its batch mates.
    Source: LoVT (Müller et al. 2022, arXiv:2112.02889).
    """

    def __init__(self, width: int, *, norm: str = "batch", padded_rows: bool = False) -> None:
        super().__init__()
        self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        for layer in (self.key, self.value, self.out):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="linear")
            nn.init.zeros_(layer.bias)
        self.norm = BatchNorm1d(width) if norm == "batch" else None
        self.padded_rows = padded_rows

    def forward(self, a: Tensor, b: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Regions (B, N_a, D) and sentences (B, N_b, D) -> b2a, a2b, and the attention (B, N_a, N_b)."""
        scores = self.key(a) @ self.key(b).mT / math.sqrt(a.shape[-1])
        over_b = scores.masked_fill(~mask_b.unsqueeze(1), -torch.inf).softmax(-1)
        b2a = self.out(over_b @ self.value(b))
        a2b = self.out((scores.mT.softmax(-1) @ self.value(a)) * mask_b.unsqueeze(-1))
        return normalised(self.norm, b2a, None), self._of_sentences(a2b, mask_b), over_b

    def _of_sentences(self, a2b: Tensor, mask: Tensor) -> Tensor:
        return normalised(self.norm, a2b, None if self.padded_rows else mask)


def normalised(norm: nn.Module | None, x: Tensor, mask: Tensor | None) -> Tensor:
    """Batch norm over the valid items (B, N, D) of all samples together; the others become zero."""
    if norm is None:
        return x if mask is None else x * mask.unsqueeze(-1)
    if mask is None:
        return norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # type: ignore[no-any-return]
    # Packed: padding has no part in the statistics.
    out = torch.zeros_like(x)
    out[mask] = norm(x[mask]).to(x.dtype)
    return out


class LocalProjector(nn.Module):
    """Linear - norm - ReLU - linear on each item, or on one vector a sample.

    Args:
        width, hidden, out: widths.
        norm: `batch` or `none`.
        padded_rows: see `CrossAttention`.
    Source: LoVT (Müller et al. 2022, arXiv:2112.02889); no norm in ConVIRT.
    """

    def __init__(
        self, width: int, hidden: int, out: int, *, norm: str = "batch", padded_rows: bool = False
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, hidden), nn.Linear(hidden, out)
        nn.init.kaiming_normal_(self.first.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.last.weight, mode="fan_out", nonlinearity="linear")
        for layer in (self.first, self.last):
            nn.init.zeros_(layer.bias)
        self.norm = BatchNorm1d(hidden) if norm == "batch" else None
        self.padded_rows = padded_rows

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, width) or (B, N, width) -> (B, out) or (B, N, out)."""
        if x.ndim == 2:
            hidden = self.first(x)
            return self.last((hidden if self.norm is None else self.norm(hidden)).relu())  # type: ignore[no-any-return]
        hidden = normalised(self.norm, self.first(x), None if self.padded_rows else mask)
        return self.last(hidden.relu())  # type: ignore[no-any-return]
