"""Embeddings of a whole data set, outside training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from radlearn.data.dataset import EvaluationDataset
from radlearn.data.loading import evaluation_loader
from radlearn.data.store import ImageSource
from radlearn.data.views import EvaluationView
from radlearn.objectives.base import Objective


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; every submodule's mode and the random state are put back exactly."""
    modes = {child: child.training for child in module.modules()}
    state = torch.get_rng_state()
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for child, mode in modes.items():
            child.training = mode
        torch.set_rng_state(state)


def embed_images(
    objective: Objective,
    source: ImageSource,
    rows: np.ndarray,
    *,
    view: EvaluationView,
    batch_size: int = 256,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, np.ndarray]:
    """Embeddings of these source rows, on the CPU.

    Returns:
        (N, D) float32, and the positions (N,) in `rows` they belong to: unreadable images are left out.
    """
    device = next(objective.parameters()).device
    loader = evaluation_loader(
        EvaluationDataset(source, rows, view), batch_size=batch_size, num_workers=num_workers
    )
    embeddings, positions = [], []
    with evaluating(objective):
        for images, where in loader:
            if len(images):
                embeddings.append(objective.embed_image(images.to(device)).float().cpu())
                positions.append(where.numpy())
            if progress is not None:
                progress(int(where[-1]) + 1 if len(where) else 0, len(rows))
    if not embeddings:
        return torch.empty(0, 0), np.empty(0, dtype=np.int64)
    return torch.cat(embeddings).clone(), np.concatenate(positions)
