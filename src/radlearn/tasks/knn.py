"""k nearest neighbours on frozen features: nothing is trained, so nothing can be tuned away.

    score = sum_j exp(cos(x, x_j) / T) y_j / sum_j exp(cos(x, x_j) / T)     over the k nearest training cases

Source: Wu et al. 2018, arXiv:1805.01978; k = 20 and T = 0.07 as in DINO (Caron et al. 2021,
arXiv:2104.14294). Here each label has a vote of its own, among the nearest cases for which it is
known.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from radlearn.errors import ConfigurationError
from radlearn.tasks.base import FewShotTask, Inputs

_BLOCK_CELLS = 2**24


class KNN(FewShotTask):
    """Cosine k-nearest-neighbour votes.

    Args:
        k: neighbours, 20 in DINO; all training cases where there are fewer.
        temperature: of the votes' weights, 0.07 in DINO.
        fraction, draw: see `FewShotTask`.
    """

    name: ClassVar[str] = "knn"

    def __init__(
        self, *, k: int = 20, temperature: float = 0.07, fraction: float = 1.0, draw: int = 0
    ) -> None:
        super().__init__(fraction=fraction, draw=draw)
        if k < 1 or temperature <= 0:
            raise ConfigurationError(
                f"task.k is at least 1 and task.temperature above 0: got {k} and {temperature}"
            )
        self.k, self.temperature = int(k), float(temperature)

    def scores(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """The weighted share of positive neighbours; a label that no training case knows scores 0."""
        test, train = self.learnable(inputs)
        found = votes(test, train.features, train.labels, k=self.k, temperature=self.temperature)
        return {"": found}


def votes(
    queries: Tensor,
    known: Tensor,
    labels: np.ndarray,
    *,
    k: int,
    temperature: float,
    block_cells: int = _BLOCK_CELLS,
) -> np.ndarray:
    """(Q, L) weighted mean label of each query's nearest cases.

    Args:
        queries: (Q, W) features.
        known: (M, W) features of the training cases.
        labels: (M, L) theirs, 1, 0 or NaN.
        k, temperature: see `KNN`.
        block_cells: similarities held at once.
    """
    queries, known = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (queries, known))
    masks, mask_of = np.unique(~np.isnan(labels), axis=1, return_inverse=True)
    targets = torch.from_numpy(np.nan_to_num(labels)).double()
    scores = np.zeros((len(queries), labels.shape[1]))
    block = max(block_cells // max(len(known), 1), 1)
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        similarity = queries[rows] @ known.T
        # Labels that are known for the same cases share their neighbours.
        for number, mask in enumerate(masks.T):
            columns = np.flatnonzero(mask_of.ravel() == number)
            count = min(k, int(mask.sum()))
            if not count:
                continue
            unknown = torch.from_numpy(~mask)
            near = similarity.masked_fill(unknown, -torch.inf) if unknown.any() else similarity
            values, places = near.topk(count, dim=1)
            weights = (values.double() / temperature).softmax(1)
            scores[rows, columns] = torch.einsum("qk,qkl->ql", weights, targets[places][..., columns]).numpy()
    return scores
