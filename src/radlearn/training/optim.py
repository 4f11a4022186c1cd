"""Parameter groups, AdamW and the warm-up and cosine schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from radlearn.errors import ConfigurationError


def learning_rate(step: int, *, peak: float, final: float, warmup_steps: int, num_steps: int) -> float:
    """Linear warm-up to `peak`, then cosine to `final` at the last step.

    A function of the step alone, so that a resumed run needs no scheduler state.

    Args:
        step: from 0; the first step already has (1 / warmup_steps) of the peak.
        num_steps: optimiser steps in all.
    Source: reference settings of NOVA, section 3.2.
    """
    warmup_steps = min(warmup_steps, max(num_steps - 1, 0))
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(num_steps - 1 - warmup_steps, 1)
    return final + (peak - final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def parameter_groups(
    module: nn.Module, *, weight_decay: float, no_decay_norm_bias: bool, never: Iterable[str] = ()
) -> list[dict[str, object]]:
    """Trainable parameters in two groups, decayed and not.

    Args:
        module: whose parameters.
        weight_decay: of the first group.
        no_decay_norm_bias: leave norms, biases and other vectors undecayed.
        never: names that are undecayed whatever the setting (temperatures).
    """
    never = set(never)
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            undecayed = name in never or (no_decay_norm_bias and parameter.ndim <= 1)
            (plain if undecayed else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def freeze(module: nn.Module, prefixes: Iterable[str]) -> list[str]:
    """Stop the gradient of every parameter whose name starts with a prefix; returns the frozen names.

    Raises:
        ConfigurationError: if a prefix matches nothing.
    """
    names = [name for name, _ in module.named_parameters()]
    frozen: list[str] = []
    for prefix in prefixes:
        matching = [name for name in names if name == prefix or name.startswith(f"{prefix}.")]
        if not matching:
            top = sorted({name.split(".")[0] for name in names})
            raise ConfigurationError(
                f"freeze={prefix} matches no parameter: they start with {', '.join(top)}"
            )
        frozen += matching
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    return frozen


def adamw(groups: list[dict[str, object]], lr: float) -> torch.optim.AdamW:
    """AdamW with PyTorch's defaults (betas 0.9 and 0.999, eps 1e-8), fused: one kernel for all parameters."""
    return torch.optim.AdamW(groups, lr=lr, fused=True)
