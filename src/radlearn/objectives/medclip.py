"""MedCLIP's semantic matching: pairs count as similar as their findings are.

    sigma_ij = <l_i, m_j>,  p = softmax_j(sigma),  q = softmax_i(sigma)
    loss = (CE(p, s U W^T) + CE(q, s W U^T)) / 2

Source: Wang et al. 2022, arXiv:2210.10163; where the released code and the paper differ, both are options.
Here both label vectors are the study's own, and the text encoder is frozen.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError
from radlearn.losses.soft_targets import Similarity, semantic_matching
from radlearn.objectives.base import ContrastiveDualEncoder
from radlearn.records import Batch, Output


class MedCLIP(ContrastiveDualEncoder):
    """Soft image-report targets from the study's labels.

    Args:
        image_encoder, text_width, **shared: see `ContrastiveDualEncoder`; its scale is kept in [1, 100].
        similarity: of two label vectors: `dot` (the released code) or `cosine` (the paper).
        target_temperature: divides the similarities; with 1, targets flatten as the batch grows.
        label_coding: `binary` (1 positive, else 0) or `signed` (1, 0 uncertain or not mentioned, -1
            negative); for a table, `signed` needs data.uncertain=keep and data.blank=ignore.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "text", "labels")

    def __init__(
        self,
        image_encoder: Encoder,
        text_width: int | None,
        *,
        similarity: Similarity = "dot",
        target_temperature: float = 1.0,
        label_coding: str = "binary",
        **shared: Any,
    ) -> None:
        super().__init__(image_encoder, text_width, **shared)
        if label_coding not in ("binary", "signed"):
            raise ConfigurationError(f"method.label_coding is binary or signed: got '{label_coding}'")
        self.similarity, self.target_temperature, self.label_coding = (
            similarity,
            target_temperature,
            label_coding,
        )

    def label_vectors(self, labels: Tensor) -> Tensor:
        """Labels (B, L) in {1, 0, -1, NaN} -> similarity vectors (B, L + 1); the last is 1 where nothing is
        found.

        Without that column a normal study would be the zero vector, similar to nothing.
        """
        positive = (labels == 1).float()
        normal = 1 - positive.amax(dim=1, keepdim=True)
        vectors = positive - (labels == 0).float() if self.label_coding == "signed" else positive
        return torch.cat([vectors, normal], dim=1)

    def compare(self, encoded: tuple[Tensor, ...], batch: Batch, step: int) -> Output:
        """As its base class; the released model clamps inside the forward and takes the gradient there."""
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))
        return super().compare(encoded, batch, step)

    def pair_loss(self, u: Tensor, w: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy to the soft targets of the gathered rows (N, D)."""
        assert batch.labels is not None
        labels = self.gather(self.label_vectors(batch.labels))
        loss, metrics = semantic_matching(
            u,
            w,
            self.logit_scale,
            labels,
            labels,
            similarity=self.similarity,
            target_temperature=self.target_temperature,
        )
        return loss, {"semantic_matching": loss, **metrics}
