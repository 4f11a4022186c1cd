"""Parameter groups and the optimisers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from radlearn.errors import ConfigurationError


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


def build_optimizer(name: str, groups: list[dict[str, object]], lr: float) -> torch.optim.Optimizer:
    """`adamw` decays the weights apart from the gradient, `adam` adds the decay to it (L2).

    PyTorch's defaults (betas 0.9 and 0.999, eps 1e-8), fused: one kernel for all parameters.
    """
    kinds: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    return kinds[name](groups, lr=lr, fused=True)
