"""Gradient caching: a contrastive batch larger than the memory, with the gradient of the whole.

    1. encode the batch in parts, keeping no graph
    2. the loss of the whole batch, and its gradient at what the encoders gave
    3. encode each part again, with graph, and propagate its share of that gradient

Loss and gradient are those of the whole batch, dropout included: each part starts from the same random state
in both passes. Batch norm inside an encoder sees a part (of all ranks); whatever comes after the encoders,
batch norm in the heads included, sees the whole batch.

Source: Gao, Zhang, Han, Callan 2021, arXiv:2101.06983.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from radlearn import registry
from radlearn.errors import ConfigurationError
from radlearn.ranks import sum_across_ranks, world_size
from radlearn.records import Batch, Output


@runtime_checkable
class EncodesApart(Protocol):
    """An objective whose encoders see each study alone; all that compares studies comes after them."""

    def encode(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the encoders give, each tensor (B, ...)."""
        ...

    def compare(self, encoded: tuple[Tensor, ...], batch: Batch, step: int) -> Output:
        """The loss of what the encoders gave."""
        ...


def require_parts(objective: object, method: str) -> EncodesApart:
    """The objective, if it can be given a batch in parts.

    Raises:
        ConfigurationError: otherwise; names the methods that can.
    """
    if isinstance(objective, EncodesApart):
        return objective
    known = [n for n in registry.names("objectives") if _encodes_apart(registry.find("objectives", n))]
    raise ConfigurationError(
        f"method={method} does not part its encoders from its loss, which micro_batch needs: remove "
        f"micro_batch, or choose one of {', '.join(known)}"
    )


def _encodes_apart(objective: type) -> bool:
    return hasattr(objective, "encode") and hasattr(objective, "compare")


def cut(num_studies: int, num_parts: int) -> list[slice]:
    """The batch in parts whose sizes differ by one at most."""
    edges = [num_studies * part // num_parts for part in range(num_parts + 1)]
    return [slice(first, last) for first, last in pairwise(edges) if last > first]


def encode_in_parts(
    objective: EncodesApart, batch: Batch, parts: Sequence[slice], before: Callable[[int], object]
) -> tuple[Tensor, ...]:
    """What the encoders give for the batch, encoded part by part without a graph.

    Args:
        objective: whose encoders.
        batch: of B studies.
        parts: of `cut`.
        before: called with the number of each part before it is encoded.
    """
    encoded = []
    with torch.no_grad():
        for number, rows in enumerate(parts):
            before(number)
            encoded.append(objective.encode(batch.studies(rows)))
    return tuple(torch.cat(tensors) for tensors in zip(*encoded, strict=True))


class GradientCache:
    """The forward and backward pass of one batch in parts.

    Args:
        objective: what is learned.
        parts: of `cut`.
        reseed: sets the random state of a part from its number.
    """

    def __init__(
        self, objective: EncodesApart, parts: Sequence[slice], reseed: Callable[[int], None]
    ) -> None:
        self.objective, self.parts, self.reseed = objective, parts, reseed
        self.batch: Batch | None = None
        self.encoded: tuple[Tensor, ...] = ()

    def forward(self, batch: Batch, step: int) -> Output:
        """The loss of the whole batch; its graph ends at what the encoders gave."""
        assert isinstance(self.objective, nn.Module)
        # The second pass moves the running statistics, once a part as any other forward pass.
        with _kept_statistics(self.objective):
            encoded = encode_in_parts(self.objective, batch, self.parts, self.reseed)
        # Autocast would hand out weights that it cast while there was no graph.
        torch.clear_autocast_cache()
        self.batch = batch
        self.encoded = tuple(t.requires_grad_() if t.is_floating_point() else t for t in encoded)
        self.reseed(len(self.parts))
        return self.objective.compare(self.encoded, batch, step)

    def backward(self, context: Callable[[], AbstractContextManager[object]]) -> None:
        """Propagate through the encoders what the loss's backward pass left at their output.

        Args:
            context: the precision's context of a forward pass.
        """
        assert self.batch is not None
        for number, rows in enumerate(self.parts):
            self.reseed(number)
            with context():
                again = self.objective.encode(self.batch.studies(rows))
            pairs = [
                (tensor, whole.grad[rows])
                for tensor, whole in zip(again, self.encoded, strict=True)
                if tensor.requires_grad and whole.grad is not None
            ]
            if pairs:
                tensors, gradients = zip(*pairs, strict=True)
                torch.autograd.backward(tensors, gradients)
        self.batch, self.encoded = None, ()


@contextmanager
def _kept_statistics(module: nn.Module) -> Iterator[None]:
    """Put the running statistics of batch norms back at the end."""
    buffers = [
        buffer
        for child in module.modules()
        if isinstance(child, nn.modules.batchnorm._BatchNorm)
        for buffer in child.buffers(recurse=False)
    ]
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, kept in zip(buffers, before, strict=True):
        buffer.copy_(kept)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """The mean of the gradients over ranks, as data-parallel training takes it after a backward pass.

    Its own reduction expects one backward pass a step, so with several it is switched off and done here.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        some = [gradient for gradient in gradients if gradient.dtype == dtype]
        with torch.no_grad():
            whole = sum_across_ranks(torch.cat([gradient.flatten() for gradient in some])) / world_size()
        for gradient, mean in zip(some, torch.split(whole, [g.numel() for g in some]), strict=True):
            gradient.copy_(mean.view_as(gradient))
