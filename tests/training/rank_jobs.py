"""What the two ranks are asked to do; each function runs on both."""

from __future__ import annotations

import tiny
import torch
from two_rank_jobs import SHARES

from radlearn import registry
from radlearn.encoders.timm_image import TimmImage
from radlearn.objectives.base import build
from radlearn.ranks import row_counts
from radlearn.training.gradient_cache import GradientCache, average_gradients, cut
from radlearn.training.online_evaluators import OnlineEvaluators


def vit_objective(name: str, *, seed: int = 0, dropout: float = 0.0, **arguments):
    """An objective whose encoders have no batch norm."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
    images = TimmImage(arch="vit_tiny_patch16_224", image_size=32, drop_path=dropout, **shape)
    text = tiny.TEXT_WIDTH
    if "tokens" in registry.find("objectives", name).needs:
        text = tiny.text_encoder()
        for module in text.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
    small = {k: v for k, v in tiny.SMALL.items() if k in (registry.signature("objectives", name) or {})}
    return build(name, images, text, {**small, **arguments})


def vit_batch():
    """Eight studies of two views of 32 pixels."""
    return tiny.batch(local=False)


def in_parts(objective, batch, num_parts: int, step: int = 3):
    """Loss and gradients by gradient caching."""
    cache = GradientCache(objective, cut(len(batch.index), num_parts), torch.manual_seed)
    output = cache.forward(batch, step)
    output.loss.backward()
    cache.backward(torch.enable_grad)
    average_gradients(list(objective.parameters()))
    return output, {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}


def cached_gradients(rank: int, name: str) -> dict:
    """Loss and mean gradients of this rank's share, encoded in two parts."""
    share = vit_batch().studies(SHARES[rank])
    output, gradients = in_parts(vit_objective(name).train(), share, min(2, *row_counts(len(share.index))))
    return {"loss": output.loss.detach(), "gradients": gradients}


def online_steps(rank: int, features: torch.Tensor, target: torch.Tensor) -> dict:
    """Three steps of an online evaluator on this rank's share."""
    online = OnlineEvaluators(["image"], ["a", "b", "c"], seed=0, dropout=0.0)
    losses = [online.update("image", features[SHARES[rank]], target[SHARES[rank]]) for _ in range(3)]
    return {"losses": torch.stack(losses), "head": online.heads["image"].state_dict()}
