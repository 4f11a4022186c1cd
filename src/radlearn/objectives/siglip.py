"""SigLIP: every image-report pair is its own yes-or-no question.

    loss = (1 / B) sum_ij softplus(-y_ij (s <u_i, w_j> + b)),    y = 1 on the diagonal, -1 elsewhere

Source: Zhai et al. 2023, arXiv:2303.15343.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from radlearn.encoders.base import Encoder
from radlearn.losses.contrastive import SameText, sigmoid_pairwise
from radlearn.objectives.base import ContrastiveDualEncoder
from radlearn.records import Batch


class SigLIP(ContrastiveDualEncoder):
    """Pairwise sigmoid loss against the frozen text encoder's projected features.

    Args:
        image_encoder, text_width, **shared: see `ContrastiveDualEncoder`; SigLIP starts at temperature 0.1.
        initial_bias: of the learned logits.
        same_text: studies with the identical text are `negative` (SigLIP) or `positive` pairs.
        chunk_rows: rows of logits held at once; None holds them all.
    """

    def __init__(
        self,
        image_encoder: Encoder,
        text_width: int | None,
        *,
        temperature: float = 0.1,
        initial_bias: float = -10.0,
        same_text: SameText = "negative",
        chunk_rows: int | None = 256,
        **shared: Any,
    ) -> None:
        super().__init__(image_encoder, text_width, temperature=temperature, **shared)
        self.logit_bias = nn.Parameter(torch.tensor(initial_bias))
        self.same_text, self.chunk_rows = same_text, chunk_rows

    def pair_loss(self, u: Tensor, w: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sigmoid loss of the gathered rows (N, D)."""
        loss = sigmoid_pairwise(
            u,
            w,
            self.logit_scale,
            self.logit_bias,
            text_id=self.gather_text_id(batch) if self.same_text == "positive" else None,
            same_text=self.same_text,
            chunk_rows=self.chunk_rows,
        )
        return loss, {"sigmoid": loss, "logit_bias": self.logit_bias}

    def no_weight_decay(self) -> set[str]:
        """Scale and bias."""
        return {"logit_scale", "logit_bias"}
