"""What the contrastive losses take from the (N, M) matrix of all pairs, a chunk of its rows at a time.

The forward pass keeps sums only and the backward pass computes each chunk again. All chunks share two
workspaces, filled in place: with new ones for each chunk the heap grew by several times their size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

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
        for part, logits, spare in _chunks(rows, columns, chunk_rows):
            top = logits.amax(dim=1, keepdim=True)
            by_row[part] = torch.sub(logits, top, out=spare).exp_().sum(dim=1).log_().add_(top.squeeze(1))
            top = logits.amax(dim=0)
            by_column = torch.logaddexp(by_column, logits.sub_(top).exp_().sum(dim=0).log_().add_(top))
        ctx.save_for_backward(rows, columns, by_row, by_column)
        ctx.chunk_rows = chunk_rows
        return by_row, by_column

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_gradient: Tensor, column_gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, columns, by_row, by_column = ctx.saved_tensors
        rows_gradient, columns_gradient = torch.zeros_like(rows), torch.zeros_like(columns)
        with no_autocast(rows.device):
            for part, logits, spare in _chunks(rows, columns, ctx.chunk_rows):
                weights = (
                    torch.sub(logits, by_row[part, None], out=spare).exp_().mul_(row_gradient[part, None])
                )
                weights += logits.sub_(by_column).exp_().mul_(column_gradient)
                torch.mm(weights, columns, out=rows_gradient[part])
                columns_gradient.addmm_(weights.T, rows[part])
        return rows_gradient, columns_gradient, None


class _SoftplusSum(torch.autograd.Function):
    """dL/dl_ij = g sigmoid(l_ij + bias)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, bias: Tensor, chunk_rows: int) -> Tensor:
        ctx.save_for_backward(rows, columns, bias)
        ctx.chunk_rows = chunk_rows
        total = torch.zeros_like(bias)
        for _, logits, spare in _chunks(rows, columns, chunk_rows):
            # softplus(z) = max(z, 0) + log(1 + e^-|z|)
            total += torch.clamp_min(logits.add_(bias), 0, out=spare).sum()
            total += logits.abs_().neg_().exp_().log1p_().sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, columns, bias = ctx.saved_tensors
        rows_gradient, columns_gradient = torch.zeros_like(rows), torch.zeros_like(columns)
        bias_gradient = torch.zeros_like(bias)
        with no_autocast(rows.device):
            for part, logits, _ in _chunks(rows, columns, ctx.chunk_rows):
                weights = logits.add_(bias).sigmoid_().mul_(gradient)
                torch.mm(weights, columns, out=rows_gradient[part])
                columns_gradient.addmm_(weights.T, rows[part])
                bias_gradient += weights.sum()
        return rows_gradient, columns_gradient, bias_gradient, None


def _chunks(rows: Tensor, columns: Tensor, chunk_rows: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Slices of the rows, their products with all columns, spare room; the next step overwrites both."""
    workspace = rows.new_empty(2, min(chunk_rows, len(rows)), len(columns))
    for first in range(0, len(rows), chunk_rows):
        part = slice(first, first + chunk_rows)
        chunk = rows[part]
        products, spare = workspace[:, : len(chunk)]
        yield part, torch.mm(chunk, columns.T, out=products), spare
