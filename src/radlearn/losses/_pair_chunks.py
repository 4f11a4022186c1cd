"""What the contrastive losses take from the (N, M) matrix of all pairs, holding a chunk of its rows at a time.

The forward pass keeps sums only and the backward pass computes each chunk again, in one workspace for all chunks.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from radlearn.losses._precision import no_autocast


def log_partitions(
    rows: Float[Tensor, "rows dim"], columns: Float[Tensor, "columns dim"], chunk_rows: int
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " columns"]]:
    """Log-sum-exp of l = rows columns^T over the columns, and over the rows."""
    partitions: tuple[Tensor, Tensor] = _LogPartitions.apply(rows, columns, chunk_rows)
    return partitions


def softplus_sum(
    rows: Float[Tensor, "rows dim"],
    columns: Float[Tensor, "columns dim"],
    bias: Float[Tensor, ""],
    chunk_rows: int,
) -> Float[Tensor, ""]:
    """Sum of softplus(l + bias) over all pairs, l = rows columns^T."""
    total: Tensor = _SoftplusSum.apply(rows, columns, bias, chunk_rows)
    return total


class _LogPartitions(torch.autograd.Function):
    """With row log-sums a and column log-sums b: dL/dl_ij = g_i e^{l_ij - a_i} + h_j e^{l_ij - b_j}."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, chunk_rows: int) -> tuple[Tensor, Tensor]:
        by_row = rows.new_empty(len(rows))
        by_column = rows.new_full((len(columns),), -torch.inf)
        for part, logits in _chunks(rows, columns, chunk_rows):
            by_row[part] = logits.logsumexp(dim=1)
            by_column = torch.logaddexp(by_column, logits.logsumexp(dim=0))
        ctx.save_for_backward(rows, columns, by_row, by_column)
        ctx.chunk_rows = chunk_rows
        return by_row, by_column

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_gradient: Tensor, column_gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, columns, by_row, by_column = ctx.saved_tensors
        rows_gradient, columns_gradient = torch.zeros_like(rows), torch.zeros_like(columns)
        with no_autocast(rows.device):
            for part, logits in _chunks(rows, columns, ctx.chunk_rows):
                weights = (logits - by_row[part, None]).exp_().mul_(row_gradient[part, None])
                weights += logits.sub_(by_column).exp_().mul_(column_gradient)
                rows_gradient[part] = weights @ columns
                columns_gradient.addmm_(weights.T, rows[part])
        return rows_gradient, columns_gradient, None


class _SoftplusSum(torch.autograd.Function):
    """dL/dl_ij = g sigmoid(l_ij + bias)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, bias: Tensor, chunk_rows: int) -> Tensor:
        ctx.save_for_backward(rows, columns, bias)
        ctx.chunk_rows = chunk_rows
        chunks = _chunks(rows, columns, chunk_rows)
        return torch.stack([functional.softplus(logits.add_(bias)).sum() for _, logits in chunks]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, columns, bias = ctx.saved_tensors
        rows_gradient, columns_gradient = torch.zeros_like(rows), torch.zeros_like(columns)
        bias_gradient = torch.zeros_like(bias)
        with no_autocast(rows.device):
            for part, logits in _chunks(rows, columns, ctx.chunk_rows):
                weights = logits.add_(bias).sigmoid_().mul_(gradient)
                rows_gradient[part] = weights @ columns
                columns_gradient.addmm_(weights.T, rows[part])
                bias_gradient += weights.sum()
        return rows_gradient, columns_gradient, bias_gradient, None


def _chunks(rows: Tensor, columns: Tensor, chunk_rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows with their products with all columns; the next product overwrites the last."""
    workspace = rows.new_empty(min(chunk_rows, len(rows)), len(columns))
    for first in range(0, len(rows), chunk_rows):
        part = slice(first, first + chunk_rows)
        chunk = rows[part]
        yield part, torch.mm(chunk, columns.T, out=workspace[: len(chunk)])
