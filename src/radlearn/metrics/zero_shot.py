"""Zero-shot scores from embeddings: how much closer an image lies to the positive than to the negative
prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SCORES = ("cosine", "dot", "neg_mse")


def prompt_anchor(embeddings: Tensor) -> Tensor:
    """One anchor (D,) of several prompts (P, D): each to unit length, mean, again to unit length.

    Source: CheXzero's prompt ensemble (Tiu et al. 2022).
    """
    unit = torch.nn.functional.normalize(embeddings.double(), dim=-1)
    return torch.nn.functional.normalize(unit.mean(0), dim=-1)


def zero_shot_scores(
    images: Tensor, positive: Sequence[Tensor], negative: Sequence[Tensor], *, score: str = "cosine"
) -> Tensor:
    """Scores (N, L) float64 of images (N, D) for L labels; higher is more positive.

    Args:
        images: embeddings of the images.
        positive, negative: for each label the embeddings (P, D) of its prompts; several are averaged.
        score: `cosine` difference of the unit vectors; `dot` of the raw vectors; `neg_mse`, the difference of
            the squared distances, which ranks the images of one label as `dot` does.

    Raises:
        ValueError: on an unknown score or numbers of prompts that do not match.
    """
    if score not in SCORES:
        raise ValueError(f"score is one of {', '.join(SCORES)}: got '{score}'")
    if len(positive) != len(negative):
        raise ValueError(
            f"each label needs a positive and a negative prompt: got {len(positive)} and {len(negative)}"
        )
    images = images.double()
    if score == "cosine":
        images = torch.nn.functional.normalize(images, dim=-1)
        up, down = (torch.stack([prompt_anchor(p) for p in side]) for side in (positive, negative))
        return images @ (up - down).T
    up, down = (torch.stack([p.double().mean(0) for p in side]) for side in (positive, negative))
    if score == "dot":
        return images @ (up - down).T
    return torch.cdist(images, down).square() - torch.cdist(images, up).square()
