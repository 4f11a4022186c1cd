"""What 16 x 16 pixels give away: a logistic regression that a pre-trained model has to beat.

It says how much of a task is gross brightness and position. It sees labels, which zero-shot scoring never
does.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from radlearn.errors import ConfigurationError
from radlearn.tasks.base import ClassificationTask, Inputs


class PixelProbe(ClassificationTask):
    """L2-regularised logistic regression on thumbnails, each normalised to mean 0 and standard deviation 1.

    Args:
        inverse_penalty: scikit-learn's C.
    """

    name: ClassVar[str] = "pixel_probe"
    needs: ClassVar[tuple[str, ...]] = ("pixels", "train_pixels")

    def __init__(self, *, inverse_penalty: float = 0.01) -> None:
        self.inverse_penalty = inverse_penalty

    def scores(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Decision values; a label with one class in the training split scores 0 everywhere."""
        from sklearn.linear_model import LogisticRegression

        if inputs.pixels is None or inputs.train_pixels is None or inputs.train_labels is None:
            raise ConfigurationError("pixel_probe needs thumbnails of the training split")
        train, test = _flat(inputs.train_pixels), _flat(inputs.pixels)
        scores = np.zeros((len(test), len(inputs.label_names)))
        for i in range(scores.shape[1]):
            known = ~np.isnan(inputs.train_labels[:, i])
            labels = inputs.train_labels[known, i]
            if len(np.unique(labels)) == 2:
                probe = LogisticRegression(C=self.inverse_penalty, max_iter=500, random_state=inputs.seed)
                scores[:, i] = probe.fit(train[known], labels).decision_function(test)
        return {"": scores}


def _flat(pixels: np.ndarray) -> np.ndarray:
    rows = pixels.reshape(len(pixels), -1).astype(np.float64)
    rows -= rows.mean(1, keepdims=True)
    normalised: np.ndarray = rows / np.maximum(rows.std(1, keepdims=True), 1e-6)
    return normalised
