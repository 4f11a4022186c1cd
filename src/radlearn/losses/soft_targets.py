"""Soft targets: two studies attract each other as much as their labels agree."""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from radlearn.losses._precision import at_least_float32, no_autocast

Similarity = Literal["dot", "cosine"]


def semantic_matching(
    u: Float[Tensor, "batch dim"],
    w: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
    image_labels: Float[Tensor, "batch classes"],
    text_labels: Float[Tensor, "batch classes"],
    *,
    similarity: Similarity = "dot",
    target_temperature: float = 1.0,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Semantic matching, the loss of MedCLIP: cross-entropy to targets made from label similarity.

        sigma_ij = <l_i, m_j>  ("dot", the released code)  or the cosine of l_i and m_j  ("cosine", the paper)
        p_ij = softmax_j(sigma_ij / temperature),  q_ij = softmax_i(sigma_ij / temperature)
        loss = -(1 / 2B) sum_ij [p_ij log softmax_j(s <u_i, w_j>) + q_ij log softmax_i(s <u_i, w_j>)]

    The targets flatten as the batch grows (at B = 256 and realistic labels their entropy nears ln B), so that
    the loss cannot fall below that entropy: watch the divergence instead.

    Args:
        u: (B, D) image embeddings, normalised here.
        w: (B, D) text embeddings, normalised here.
        logit_scale: logarithm of s.
        image_labels: (B, C) coded 1 positive, -1 negative, 0 uncertain or not mentioned (or 0 / 1). This is
            not the coding of manifests, where 0 is negative and -1 uncertain. NaN counts as not mentioned.
            A study without findings should carry a "No Finding" class of its own, so that two such studies
            agree: an all-zero vector has similarity 0 with everything, also under "cosine".
        text_labels: (B, C), coded alike.
        similarity: form of sigma.
        target_temperature: below 1 sharpens the targets.

    Returns:
        loss: scalar, float32 (float64 for float64 input).
        metrics: detached scalars `target_entropy` (mean over both directions, nats) and
            `kl` = loss - target_entropy, which is 0 when the softmax equals its target.

    Raises:
        ValueError: on shapes that do not belong together or an unknown option.
    Source: Wang et al. 2022, "MedCLIP", arXiv:2210.10163, equations 3 to 7.
    """
    _check(u, w, image_labels, text_labels, similarity, target_temperature)
    with no_autocast(u.device):
        u, w = (functional.normalize(at_least_float32(side), dim=1) for side in (u, w))
        logits = at_least_float32(logit_scale).exp() * u @ w.T
        agreement = _label_similarity(image_labels, text_labels, similarity) / target_temperature
        agreement = agreement.detach().to(logits.dtype)
        loss = _symmetric_cross_entropy(agreement, logits)
        entropy = _symmetric_cross_entropy(agreement, agreement)
    return loss, {"target_entropy": entropy, "kl": loss.detach() - entropy}


def _symmetric_cross_entropy(target_logits: Tensor, logits: Tensor) -> Tensor:
    """Mean of the cross-entropy over rows and over columns, both arguments being softmaxed along them."""
    by_row = -(target_logits.softmax(1) * logits.log_softmax(1)).sum(1)
    by_column = -(target_logits.softmax(0) * logits.log_softmax(0)).sum(0)
    return (by_row + by_column).mean() / 2


def _label_similarity(image_labels: Tensor, text_labels: Tensor, similarity: Similarity) -> Tensor:
    images, texts = (at_least_float32(labels).nan_to_num(nan=0.0) for labels in (image_labels, text_labels))
    if similarity == "cosine":
        # normalize leaves an all-zero row all zero: similarity 0, not 0 / 0.
        images, texts = (functional.normalize(labels, dim=1) for labels in (images, texts))
    return images @ texts.T


def _check(
    u: Tensor,
    w: Tensor,
    image_labels: Tensor,
    text_labels: Tensor,
    similarity: Similarity,
    target_temperature: float,
) -> None:
    if u.ndim != 2 or u.shape != w.shape or len(u) == 0:
        raise ValueError(
            f"semantic_matching takes u and w (batch, dim) of equal shape; "
            f"got {tuple(u.shape)} and {tuple(w.shape)}"
        )
    if image_labels.ndim != 2 or image_labels.shape != text_labels.shape or len(image_labels) != len(u):
        raise ValueError(
            f"labels are ({len(u)}, classes) on both sides, one row a study; "
            f"got {tuple(image_labels.shape)} and {tuple(text_labels.shape)}"
        )
    if similarity not in get_args(Similarity):
        raise ValueError(f"similarity must be one of {', '.join(get_args(Similarity))}; got {similarity!r}")
    if not target_temperature > 0:
        raise ValueError(f"target_temperature must be positive, got {target_temperature}")
