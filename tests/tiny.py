"""Tiny encoders, objectives and batches, built as a configuration would build them."""

from __future__ import annotations

import numpy as np
import torch

from radlearn import registry
from radlearn.encoders.small_cnn import SmallCNN
from radlearn.encoders.tiny_text import TinyText
from radlearn.objectives.base import build
from radlearn.records import Batch

TEXT_WIDTH = 12
TEXTS = (
    "Mild edema. Small left effusion. No pneumothorax.",
    "Normal heart.",
    "Large heart. No edema.",
    "Clear lungs. No effusion. The heart is normal. No edema.",
    "Right effusion.",
    "Left lower consolidation. No effusion.",
)
# What each objective is given beside its defaults, so that it is small.
SMALL = {"embed_dim": 8, "predictor_width": 16}


def objective(name: str, *, seed: int = 0, **arguments):
    """An objective with seeded weights."""
    torch.manual_seed(seed)
    known = registry.signature("objectives", name) or {}
    small = {key: value for key, value in SMALL.items() if key in known}
    if "sigreg" in known:
        small["sigreg"] = {"slices": 32}
    trains_text = "tokens" in registry.find("objectives", name).needs
    text = text_encoder() if trains_text else TEXT_WIDTH
    return build(name, SmallCNN(image_size=32, multiplier=0.25), text, {**small, **arguments})


def text_encoder() -> TinyText:
    """A text encoder that learns, of the words of `TEXTS`."""
    return TinyText(vocabulary=TinyText.words_of(TEXTS), width=16, num_layers=1, num_heads=2, max_length=24)


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
        tokens=text_encoder().tokens([TEXTS[i % len(TEXTS)] for i in text_id.tolist()]),
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
