"""Small modules between an encoder and a loss: MLPs, text standardisation, batch norm across ranks."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radlearn.ranks import sum_across_ranks, world_size

_ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


def mlp(width: int, hidden: int, out: int, *, depth: int, activation: str = "gelu") -> nn.Sequential:
    """`depth` times Linear - BatchNorm - activation, then Linear; no norm after the last layer.

    Source: torchvision's MLP as LeJEPA uses it; a depth of 2 is NOVA's three-layer predictor.
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"no activation '{activation}': there is {', '.join(_ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, hidden), BatchNorm1d(hidden), _ACTIVATIONS[activation]()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, out))


class Standardise(nn.Module):
    """Subtract the mean and divide by the standard deviation of each dimension, fitted once on the training
    texts.

    Mean-pooled sentence embeddings share a large common component that hides topic. Fixed buffers, saved with
    the weights; the identity until it is fitted.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, features: Tensor) -> None:
        """Take mean and standard deviation of features (N, width)."""
        if features.ndim != 2 or features.shape[0] < 2:
            raise ValueError(f"needs features of at least two texts (N, width): got {tuple(features.shape)}")
        features = features.double()
        std = features.std(0, correction=0)
        self.mean.copy_(features.mean(0))
        # A dimension that the training texts hardly use would blow up any prompt that does.
        self.std.copy_(std.clamp_min(0.1 * float(std.square().mean().sqrt())).clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        return (features - self.mean) / self.std


class TextHead(nn.Module):
    """Features of the frozen text encoder (B, width) -> shared space (B, dim).

    Args:
        width: width of the text features.
        dim: width of the shared space.
        kind: `linear`, or `mlp` (one hidden layer with batch norm).
        hidden: hidden width of `mlp`.
        standardise: whiten the features' mean and scale with statistics of the training texts first.
    """

    def __init__(
        self, width: int, dim: int, *, kind: str = "linear", hidden: int = 2048, standardise: bool = False
    ) -> None:
        super().__init__()
        if kind not in ("linear", "mlp"):
            raise ValueError(f"text.head is linear or mlp: got '{kind}'")
        self.standardise = Standardise(width) if standardise else None
        self.project = nn.Linear(width, dim) if kind == "linear" else mlp(width, hidden, dim, depth=1)

    def fit(self, features: Tensor) -> None:
        """Fit the standardisation, if there is one, on the features of the training texts (N, width)."""
        if self.standardise is not None:
            self.standardise.fit(features)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) -> (B, dim)."""
        features = features.to(self.weight_dtype)
        return self.project(features if self.standardise is None else self.standardise(features))  # type: ignore[no-any-return]

    @property
    def weight_dtype(self) -> torch.dtype:
        """The dtype that features are cast to; caches may hold half precision."""
        return next(self.project.parameters()).dtype


class _CrossRank(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the rows of all ranks; plain batch norm at world size 1, with the same state_dict keys.

    `nn.SyncBatchNorm` refuses CPU tensors. Count, sum and square sum are reduced with gradient, so unequal
    shares weigh by their rows.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        return self._across_ranks(input)

    def _across_ranks(self, x: Tensor) -> Tensor:
        reduced = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        # Shifted by the running mean, which all ranks share: the square sum then loses no digits to a large
        # mean.
        shift = self.running_mean.float().view(shape) if self.running_mean is not None else x.new_zeros(())
        centred = x.float() - shift
        count = centred.new_full((1,), x.numel() / x.shape[1])
        sums = sum_across_ranks(torch.cat([count, centred.sum(reduced), centred.square().sum(reduced)]))
        total, sums = sums[0].detach(), sums[1:] / sums[0].detach()
        mean, square = sums.chunk(2)
        # Rounding may take the difference of two large squares below zero.
        variance = (square - mean.square()).clamp_min(0)
        self._update_running(mean.detach() + shift.flatten(), variance.detach(), total)
        y = (centred - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * total / (total - 1).clamp_min(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class BatchNorm1d(_CrossRank, nn.BatchNorm1d):
    """Batch norm of (N, C) or (N, C, L) over all ranks."""


class BatchNorm2d(_CrossRank, nn.BatchNorm2d):
    """Batch norm of (N, C, H, W) over all ranks."""


class BatchNorm3d(_CrossRank, nn.BatchNorm3d):
    """Batch norm of (N, C, D, H, W) over all ranks."""


_PLAIN: dict[type, type] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
}


@cache
def _with_activation(kind: type) -> type:
    """A cross-rank twin of timm's BatchNormAct2d and its like: norm, then its own drop and activation."""

    class CrossRankAct(_CrossRank, kind):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            if not self.training or world_size() == 1:
                return kind.forward(self, x)  # type: ignore[attr-defined, no-any-return]
            this: Any = self
            activated: Tensor = this.act(this.drop(self._across_ranks(x)))
            return activated

    CrossRankAct.__name__ = f"CrossRank{kind.__name__}"
    return CrossRankAct


def cross_rank_batch_norm(module: nn.Module) -> nn.Module:
    """Make every batch norm below `module` see all ranks; weights, buffers and state_dict keys stay as they
    are.
    """
    for child in module.modules():
        kind: Any = type(child)
        if kind in _PLAIN:
            child.__class__ = _PLAIN[kind]
        elif isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, _CrossRank):
            if not (hasattr(child, "act") and hasattr(child, "drop")):
                raise TypeError(f"no cross-rank form of {kind.__name__}: use nn.BatchNorm1d, 2d or 3d")
            child.__class__ = _with_activation(kind)
    return module


def normalise(x: Tensor) -> Tensor:
    """Rows (..., D) to unit length, in float32 (bf16 rounds cosines to 8 bits)."""
    return F.normalize(x.float(), dim=-1)
