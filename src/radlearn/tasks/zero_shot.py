"""Zero-shot classification: which of two prompts does an image lie closer to?

Scored over the whole set, never per batch. The number says how well the findings' names separate images in
the shared space; it says nothing about calibration.
"""

from __future__ import annotations

import logging
from typing import ClassVar

import numpy as np

from radlearn.errors import ConfigurationError
from radlearn.metrics.classification import auroc
from radlearn.metrics.zero_shot import zero_shot_scores
from radlearn.tasks.base import ClassificationTask, Inputs

logger = logging.getLogger("radlearn")

# An AUC this far below chance on this many positives is a swapped label or prompt rather than a bad model.
_SUSPICIOUS_AUC, _ENOUGH = 0.35, 20


class ZeroShot(ClassificationTask):
    """Cosine to the positive prompt minus cosine to the negative one, for each label."""

    name: ClassVar[str] = "zero_shot"
    needs: ClassVar[tuple[str, ...]] = ("embeddings", "prompts")

    def scores(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """One variant for each set of prompts."""
        if inputs.embeddings is None or not inputs.prompts:
            raise ConfigurationError(
                "zero_shot needs a model with a text side: set text.model when pre-training"
            )
        scores = {
            variant: zero_shot_scores(inputs.embeddings, p.positive, p.negative, score=inputs.score).numpy()
            for variant, p in inputs.prompts.items()
        }
        if "" in scores:
            _warn_of_polarity(inputs, scores[""])
        return scores


def _warn_of_polarity(inputs: Inputs, scores: np.ndarray) -> None:
    values = auroc(scores, inputs.labels)
    for name, value, positives in zip(inputs.label_names, values, (inputs.labels == 1).sum(0), strict=True):
        if value < _SUSPICIOUS_AUC and positives >= _ENOUGH:
            logger.warning(
                "%s scores AUC %.2f, far below chance, on %d positives: are its labels or prompts swapped?",
                name, value, positives,
            )  # fmt: skip
