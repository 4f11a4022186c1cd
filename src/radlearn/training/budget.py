"""What a run costs, so that a comparison of unequal runs can be marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from radlearn.objectives.base import Objective
from radlearn.training.inference import evaluating
from radlearn.training.module import Optimisation


def budget(
    config: Mapping[str, Any], objective: Objective, optimisation: Optimisation, size: int, world: int
) -> dict[str, float]:
    """What the run costs: samples, views and image tokens, so that unequal runs can be marked."""
    samples = optimisation.num_steps * optimisation.accumulate * size * world
    views = [
        (config["global_crops_number"], config["global_size"]),
        (config["local_crops_number"], config["local_size"]),
    ]
    encoder = objective.image_encoder
    flops = sum(count * forward_flops(objective, side) for count, side in views if count)
    return {
        "samples_seen": samples,
        "num_views": sum(count for count, _ in views),
        "image_tokens": samples * sum(count * encoder.num_tokens(side) for count, side in views),
        "forward_flops": samples * flops,
    }


def forward_flops(objective: Objective, side: int) -> float:
    """Floating-point operations of embedding one square image of this side."""
    image = torch.zeros(1, 1, side, side, device=next(objective.parameters()).device)
    with evaluating(objective), FlopCounterMode(display=False) as counter:
        objective.embed_image(image)
    return float(counter.get_total_flops())
