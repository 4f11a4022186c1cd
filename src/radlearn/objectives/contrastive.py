"""InfoNCE between images and reports; `infonce` and `clip` are configurations of it.

    loss = (CE(s U W^T, i) + CE(s W U^T, i)) / 2,    U, W rows of unit length, s = exp(logit_scale)

Source: Radford et al. 2021, arXiv:2103.00020.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from radlearn.encoders.base import Encoder
from radlearn.losses.contrastive import SameText, info_nce
from radlearn.objectives.base import ContrastiveDualEncoder
from radlearn.records import Batch


class Contrastive(ContrastiveDualEncoder):
    """Symmetric InfoNCE against the frozen text encoder's projected features.

    Args:
        image_encoder, text_width, **shared: see `ContrastiveDualEncoder`; its scale is kept in [1, 100].
        same_text: studies with the identical text are `negative` (CLIP), or share the target as `positive`.
        chunk_rows: rows of logits held at once; None holds them all.
    """

    def __init__(
        self,
        image_encoder: Encoder,
        text_width: int | None,
        *,
        same_text: SameText = "negative",
        chunk_rows: int | None = 256,
        **shared: Any,
    ) -> None:
        super().__init__(image_encoder, text_width, **shared)
        self.same_text, self.chunk_rows = same_text, chunk_rows

    def pair_loss(self, u: Tensor, w: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE of the gathered rows (N, D)."""
        text_id = self.gather_text_id(batch) if self.same_text == "positive" else None
        loss = info_nce(
            u, w, self.logit_scale, text_id=text_id, same_text=self.same_text, chunk_rows=self.chunk_rows
        )
        return loss, {"info_nce": loss}

    def after_step(self, step: int, num_steps: int) -> None:
        """Keep the scale in [1, 100], as CLIP does."""
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))
