"""Where the ranks of a distributed run meet: one autograd-aware sum, and what is built from it.

The convention all objectives rely on: every rank computes the *same* loss of the whole batch from tensors
that went through `sum_across_ranks` or `gather_rows`. The backward pass of the sum is again a sum over ranks,
so each rank's gradient is world size times that of one process, and the mean that DistributedDataParallel
takes over ranks makes the parameter gradient exactly that of one process with the whole batch, for unequal
shares too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from radlearn.terminal import is_first_process

_cpu_group: Any = None


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process speaks and writes for the run, also before the process group exists."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return is_first_process()


class _SumAcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def sum_across_ranks(x: Tensor) -> Tensor:
    """Sum a tensor over ranks, with gradient; the tensor itself at world size 1."""
    if world_size() == 1:
        return x
    return _SumAcrossRanks.apply(x)  # type: ignore[no-any-return]


def row_counts(count: int) -> list[int]:
    """How many rows each rank holds.

    Exchanged through the CPU: asking the accelerator would stall its queue once a step.
    """
    if world_size() == 1:
        return [count]
    global _cpu_group
    if _cpu_group is None:
        _cpu_group = dist.new_group(backend="gloo")
    counts = torch.zeros(world_size(), dtype=torch.int64)
    counts[rank()] = count
    dist.all_reduce(counts, group=_cpu_group)
    return [int(c) for c in counts]


def gather_rows(x: Tensor, dim: int = 0) -> Tensor:
    """Join the ranks' rows in rank order, with gradient; ranks may hold different numbers of rows."""
    if world_size() == 1:
        return x
    rows = x.movedim(dim, 0)
    counts = row_counts(rows.shape[0])
    start = sum(counts[: rank()])
    whole = rows.new_zeros(sum(counts), *rows.shape[1:])
    whole = torch.cat([whole[:start], rows, whole[start + rows.shape[0] :]])
    return sum_across_ranks(whole).movedim(0, dim)


def reset() -> None:
    """Forget the CPU group: call after the process group is destroyed."""
    global _cpu_group
    _cpu_group = None
