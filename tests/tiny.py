"""Tiny encoders, objectives and batches, built as a configuration would build them."""

from __future__ import annotations

import numpy as np
import torch

from radlearn import registry
from radlearn.encoders.small_cnn import SmallCNN
from radlearn.objectives.base import build
from radlearn.records import Batch

TEXT_WIDTH = 12
# What each objective is given beside its defaults, so that it is small.
SMALL = {"embed_dim": 8, "predictor_width": 16}


def objective(name: str, *, seed: int = 0, **arguments):
    """An objective with seeded weights."""
    torch.manual_seed(seed)
    known = registry.signature("objectives", name) or {}
    small = {key: value for key, value in SMALL.items() if key in known}
    if "sigreg" in known:
        small["sigreg"] = {"slices": 32}
    return build(name, SmallCNN(image_size=32, multiplier=0.25), TEXT_WIDTH, {**small, **arguments})


def batch(num_studies: int = 8, *, seed: int = 0, local: bool = True) -> Batch:
    """Two global views of 32 px and, with `local`, one of 16 px; some texts repeat."""
    random = np.random.default_rng(seed)
    groups = [random.integers(0, 256, (2, num_studies, 1, 32, 32), dtype=np.uint8)]
    if local:
        groups.append(random.integers(0, 256, (1, num_studies, 1, 16, 16), dtype=np.uint8))
    text_id = torch.from_numpy(random.integers(0, max(num_studies - 2, 1), num_studies))
    features = torch.from_numpy(random.standard_normal((num_studies, TEXT_WIDTH)).astype(np.float32))
    labels = random.choice([0, 1, -1, np.nan], (num_studies, 5), p=[0.5, 0.3, 0.1, 0.1]).astype(np.float32)
    return Batch(
        views=tuple(torch.from_numpy(group) for group in groups),
        index=torch.arange(num_studies),
        text=features[text_id],
        text_id=text_id,
        labels=torch.from_numpy(labels),
    )


def share(whole: Batch, rows: slice) -> Batch:
    """Some studies of a batch."""
    return Batch(
        views=tuple(view[:, rows] for view in whole.views),
        index=whole.index[rows],
        text=whole.text[rows],
        text_id=whole.text_id[rows],
        labels=whole.labels[rows],
    )


def curve(name: str, *, lr: float = 1e-3) -> list[float]:
    """Losses of ten AdamW steps of an objective on one batch."""
    learner = objective(name).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=lr)
    losses = []
    for step in range(10):
        loss = learner(batch(), step).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.after_step(step + 1, 10)
        losses.append(float(loss.detach()))
    return losses
