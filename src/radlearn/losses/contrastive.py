"""Contrastive losses between two sets of embeddings whose rows belong together.

Both take raw embeddings and normalise them, both need one product of all rows with all rows, and both split
into a part over all pairs and a part over the positive pairs. Only the first needs (B, B) memory, and
`chunk_rows` bounds that to (chunk_rows, B). Shapes: B pairs, D dimensions; u_i and w_i of unit length.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from radlearn.losses._pair_chunks import log_partitions, softplus_sum
from radlearn.losses._precision import at_least_float32, no_autocast

SameText = Literal["negative", "positive"]


def info_nce(
    u: Float[Tensor, "batch dim"],
    w: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
    *,
    text_id: Integer[Tensor, " batch"] | None = None,
    same_text: SameText = "negative",
    chunk_rows: int | None = None,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE, the loss of CLIP: cross-entropy of the rows and of the columns of the similarities.

        s = exp(logit_scale);  l_ij = s <u_i, w_j>
        loss = (1 / 2B) [sum_i (log sum_j e^{l_ij} - l_ii) + sum_j (log sum_i e^{l_ij} - l_jj)]

    same_text="positive" spreads each target evenly over all rows with the same text (in both directions):
    l_ii becomes the mean of l_ij over the j with text_id_j = text_id_i.

    Args:
        u: (B, D) image embeddings, normalised here.
        w: (B, D) text embeddings, normalised here.
        logit_scale: logarithm of the scale; ln(1 / 0.07) = 2.6593 at the start of CLIP. Keeping it in
            [0, ln 100] is the caller's step.
        text_id: (B,) equal where the text is equal; needed for same_text="positive" only.
        same_text: whether other rows with the same text count as "negative" (as published) or "positive".
        chunk_rows: rows of the similarity matrix held at a time; computed again in the backward pass.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ValueError: on shapes that differ, or options that do not fit together.
    Source: Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    _check_pairs(u, w, text_id, same_text, chunk_rows)
    with no_autocast(u.device):
        scaled, w = at_least_float32(logit_scale).exp() * _unit_rows(u), _unit_rows(w)
        positives = (scaled * _mean_positive(w, text_id, same_text)).sum(dim=1)
        if chunk_rows is None:
            logits = scaled @ w.T
            by_row, by_column = logits.logsumexp(dim=1), logits.logsumexp(dim=0)
        else:
            by_row, by_column = log_partitions(scaled, w, chunk_rows)
        return (by_row + by_column).mean() / 2 - positives.mean()


def directed_info_nce(
    u: Float[Tensor, "batch dim"],
    w: Float[Tensor, "batch dim"],
    *,
    temperature: float | Float[Tensor, ""] = 0.1,
    same_modality: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """InfoNCE from images to texts, and from texts to images, apart: the global loss of LoVT and ConVIRT.

        s_ij = <u_i, w_j> / temperature;   loss = mean_i [log sum_j exp(s_ij) - s_ii], and the same of s^T

    Args:
        u, w: (B, D), normalised here.
        temperature: 0.1 in LoVT and ConVIRT.
        same_modality: the other rows of the anchor's own side are negatives as well (NT-Xent).

    Returns:
        Scalars, float32 (float64 for float64 input).

    Raises:
        ValueError: on shapes that differ.
    Source: Zhang et al. 2020 (ConVIRT), arXiv:2010.00747, equations 2 and 3.
    """
    _check_pairs(u, w, None, "negative", None)
    with no_autocast(u.device):
        u, w = _unit_rows(u), _unit_rows(w)
        logits = u @ w.T / temperature
        matched = logits.diagonal()

        def direction(cross: Tensor, own: Tensor) -> Tensor:
            if same_modality:
                beside = own @ own.T / temperature
                itself = torch.eye(len(own), dtype=torch.bool, device=own.device)
                cross = torch.cat([cross, beside.masked_fill(itself, -torch.inf)], dim=1)
            return (cross.logsumexp(1) - matched).mean()

        return direction(logits, u), direction(logits.T, w)


def sigmoid_pairwise(
    u: Float[Tensor, "batch dim"],
    w: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
    *,
    text_id: Integer[Tensor, " batch"] | None = None,
    same_text: SameText = "negative",
    chunk_rows: int | None = None,
) -> Float[Tensor, ""]:
    """Pairwise sigmoid loss, the loss of SigLIP: every pair is a binary question of its own.

        z_ij = exp(logit_scale) <u_i, w_j> + logit_bias;  y_ij = 1 for positive pairs, else -1
        loss = (1 / B) sum_ij softplus(-y_ij z_ij) = (1 / B) [sum_ij softplus(z_ij) - sum_{positive} z_ij]

    Divided by the number of images, not of pairs. Positive pairs are the diagonal, and with
    same_text="positive" all (i, j) with text_id_i = text_id_j.

    Args:
        u: (B, D) image embeddings, normalised here.
        w: (B, D) text embeddings, normalised here.
        logit_scale: logarithm of the scale; ln 10 at the start of SigLIP.
        logit_bias: -10 at the start of SigLIP.
        text_id: as in `info_nce`.
        same_text: as in `info_nce`.
        chunk_rows: as in `info_nce`.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ValueError: on shapes that differ, or options that do not fit together.
    Source: Zhai et al. 2023, arXiv:2303.15343, algorithm 1.
    """
    _check_pairs(u, w, text_id, same_text, chunk_rows)
    with no_autocast(u.device):
        scaled, w = at_least_float32(logit_scale).exp() * _unit_rows(u), _unit_rows(w)
        bias = at_least_float32(logit_bias)
        num_positives = _num_positives(w, text_id, same_text)
        positives = (scaled * _mean_positive(w, text_id, same_text)).sum(dim=1) + bias
        if chunk_rows is None:
            everything = functional.softplus(scaled @ w.T + bias).sum()
        else:
            everything = softplus_sum(scaled, w, bias, chunk_rows)
        return (everything - (num_positives * positives).sum()) / len(w)


def _unit_rows(embeddings: Tensor) -> Tensor:
    return functional.normalize(at_least_float32(embeddings), dim=1)


def _mean_positive(w: Tensor, text_id: Tensor | None, same_text: SameText) -> Tensor:
    """(B, D): for each row, the mean of the rows of w that are its positives."""
    if text_id is None or same_text == "negative":
        return w
    group = _groups(text_id)
    sums = torch.zeros_like(w).index_add(0, group, w)
    return sums[group] / _num_positives(w, text_id, same_text).unsqueeze(1)


def _num_positives(w: Tensor, text_id: Tensor | None, same_text: SameText) -> Tensor:
    """(B,): how many rows of w are positives of each row."""
    ones = w.new_ones(len(w))
    if text_id is None or same_text == "negative":
        return ones
    group = _groups(text_id)
    return torch.zeros_like(ones).index_add(0, group, ones)[group]


def _groups(text_id: Tensor) -> Tensor:
    """(B,) numbers below B, equal where the ids are equal. Unlike torch.unique it never waits for a GPU."""
    ordered, order = text_id.sort()
    starts = torch.zeros_like(order)
    starts[1:] = (ordered[1:] != ordered[:-1]).cumsum(0)
    return torch.empty_like(order).scatter(0, order, starts)


def _check_pairs(
    u: Tensor, w: Tensor, text_id: Tensor | None, same_text: SameText, chunk_rows: int | None
) -> None:
    if u.ndim != 2 or u.shape != w.shape or len(u) == 0:
        raise ValueError(
            f"the two sides of a contrastive loss are both (batch, dim) with equal shape; "
            f"got {tuple(u.shape)} and {tuple(w.shape)}"
        )
    if same_text not in get_args(SameText):
        raise ValueError(f"same_text must be one of {', '.join(get_args(SameText))}; got {same_text!r}")
    if same_text == "positive" and (text_id is None or text_id.shape != u.shape[:1]):
        got = None if text_id is None else tuple(text_id.shape)
        raise ValueError(f"same_text='positive' needs text_id, one a row ({len(u)},); got {got}")
    if chunk_rows is not None and chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, or None for all at once; got {chunk_rows}")
