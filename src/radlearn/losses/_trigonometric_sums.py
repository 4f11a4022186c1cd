"""Sums over rows of cos(f a) and sin(f a), a = <row, direction>, for f = 1..F, in memory that does not grow.

The plain form stores N * K * F values. Here rows and directions are taken in blocks that fit the L2 cache,
only the sums leave a block, and the backward pass computes the angles again. Two forms give the same sums:

* blocked: with f = r j + k, angle addition makes every cos(f a) and sin(f a) a sum of products of a "low"
  plane (cos k a, sin k a; k = 1..r) and a "high" plane (1, cos r j a, sin r j a; j = 1..m-1). About 2 sqrt(F)
  pairs of planes take the place of F, and the sums over rows of all products are one small matrix product a
  direction.
* compiled: from f to f + 1 by angle addition, forward, and Horner's rule in e^{ia}, backward, fused by a
  compiler.

Both take one sine and one cosine of every angle.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from radlearn.losses._precision import full_precision

# Angles a block. Measured on a core with 2 MiB of L2: 2**14 to 2**16 are within noise, 2**17 is 1.4x slower.
_CPU_BLOCK = 2**15
_CPU_BLOCK_ROWS = 1024
# On other devices a block is a few launches: enough to fill the device, 13 planes of 8 MiB at 16 frequencies.
_DEVICE_BLOCK = 2**21
# One compiled kernel serves every number of directions.
_COMPILED_DIRECTIONS = 256


def trigonometric_sums(
    rows: Float[Tensor, "rows dim"],
    directions: Float[Tensor, "directions dim"],
    *,
    num_frequencies: int,
    compile: bool = False,
) -> Float[Tensor, "2 directions {num_frequencies}"]:
    """Sum cos(f <row, direction>) (first) and sin (second) over all rows, for f = 1..num_frequencies.

    Differentiable once with respect to `rows`; the directions are constants. Runs outside autocast.

    Args:
        rows: (N, D) float32 or float64.
        directions: (K, D), same dtype and device.
        num_frequencies: F, the largest whole multiple of the angle.
        compile: use the fused form, compiled at the first call (takes up to minutes; needs a C++ compiler, or
            Triton on a GPU).
    """
    sums: Tensor = _TrigonometricSums.apply(rows, directions, num_frequencies, compile)
    return sums


class _TrigonometricSums(torch.autograd.Function):
    """d/da sum_f (g_f cos(f a) + h_f sin(f a)) = sum_f f (h_f cos(f a) - g_f sin(f a))."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, directions: Tensor, num_frequencies: int, compile: bool) -> Tensor:
        ctx.save_for_backward(rows, directions)
        ctx.compile = compile
        sums = _compiled_sums if compile else _blocked_sums
        with full_precision(rows.device):
            return sums(rows, directions, num_frequencies)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, sums_gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        rows, directions = ctx.saved_tensors
        cos_gradient, sin_gradient = sums_gradient.unbind()
        frequencies = torch.arange(1, cos_gradient.shape[1] + 1, dtype=rows.dtype, device=rows.device)
        cos_weights, sin_weights = frequencies * sin_gradient, -frequencies * cos_gradient
        gradient = _compiled_gradient if ctx.compile else _blocked_gradient
        with full_precision(rows.device):
            return gradient(rows, directions, cos_weights, sin_weights), None, None, None


# --- blocked ---


def _radix(num_frequencies: int) -> tuple[int, int]:
    """(r, m) with r m >= F: r low frequencies, m multiples of r from 0."""
    radix = math.ceil(math.sqrt(num_frequencies))
    return radix, math.ceil(num_frequencies / radix)


@functools.lru_cache(maxsize=16)
def _angle_addition_table(num_frequencies: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2r (2m - 1), 2F) with entries -1, 0, 1: products of low and high planes -> cos(f a), then sin(f a)."""
    radix, groups = _radix(num_frequencies)
    table = torch.zeros(2 * radix, 2 * groups - 1, 2, num_frequencies)
    for frequency in range(1, num_frequencies + 1):
        group, low = divmod(frequency - 1, radix)
        cos_low, sin_low, f = 2 * low, 2 * low + 1, frequency - 1
        # The plane of ones stands last among the high planes.
        cos_high = 2 * (group - 1) if group else -1
        table[cos_low, cos_high, 0, f] = 1
        table[sin_low, cos_high, 1, f] = 1
        if group:
            table[sin_low, cos_high + 1, 0, f] = -1
            table[cos_low, cos_high + 1, 1, f] = 1
    return table.flatten(2).flatten(0, 1).to(device, dtype)


class _Planes:
    """Workspace for the planes of one block, allocated once and refilled.

    Order: cos and sin of a, 2a, ..., ra, 2ra, ..., (m-1)ra, then ones, so that low and high planes are
        slices.
    """

    def __init__(self, like: Tensor, num_frequencies: int, block: int) -> None:
        self.radix, self.groups = _radix(num_frequencies)
        self.num_planes = 2 * self.radix + 2 * max(self.groups - 2, 0) + 1
        self.storage = like.new_empty(self.num_planes * block)

    def fill(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """(k, n) angles -> low planes (k, 2r, n) and high planes (k, 2m - 1, n)."""
        planes = self.storage[: self.num_planes * angles.numel()].view(self.num_planes, *angles.shape)
        torch.cos(angles, out=planes[0])
        torch.sin(angles, out=planes[1])
        for low in range(2, 2 * self.radix, 2):
            _add_angles(planes, low - 2, 0, out=low)
        step = 2 * self.radix - 2
        for high in range(2 * self.radix, self.num_planes - 1, 2):
            _add_angles(planes, high - 2, step, out=high)
        planes[-1] = 1
        by_direction = planes.transpose(0, 1)
        return by_direction[:, : 2 * self.radix], by_direction[:, self.num_planes - (2 * self.groups - 1) :]


def _add_angles(planes: Tensor, first: int, second: int, *, out: int) -> None:
    """Fill planes out, out + 1 with cos and sin of the sum of two angles (cosines: `first`, `second`)."""
    cos_first, sin_first, cos_second, sin_second = (planes[i] for i in (first, first + 1, second, second + 1))
    torch.mul(cos_first, cos_second, out=planes[out]).addcmul_(sin_first, sin_second, value=-1)
    torch.mul(sin_first, cos_second, out=planes[out + 1]).addcmul_(cos_first, sin_second)


def _blocks(rows: Tensor, directions: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of rows and of directions that cover all pairs, `_block_size` pairs at most in each."""
    block = _block_size(rows)
    on_cpu = rows.device.type == "cpu"
    row_step = min(len(rows), _CPU_BLOCK_ROWS if on_cpu else block)
    direction_step = max(1, block // row_step)
    for first_direction in range(0, len(directions), direction_step):
        slices = slice(first_direction, first_direction + direction_step)
        for first_row in range(0, len(rows), row_step):
            yield slice(first_row, first_row + row_step), slices


def _block_size(rows: Tensor) -> int:
    return _CPU_BLOCK if rows.device.type == "cpu" else _DEVICE_BLOCK


def _blocked_sums(rows: Tensor, directions: Tensor, num_frequencies: int) -> Tensor:
    planes = _Planes(rows, num_frequencies, _block_size(rows))
    products = rows.new_zeros(len(directions), 2 * planes.radix, 2 * planes.groups - 1)
    for part, slices in _blocks(rows, directions):
        low, high = planes.fill(directions[slices] @ rows[part].T)
        products[slices].baddbmm_(low, high.transpose(1, 2))
    sums = products.flatten(1) @ _angle_addition_table(num_frequencies, rows.dtype, rows.device)
    return sums.view(len(directions), 2, num_frequencies).transpose(0, 1).contiguous()


def _blocked_gradient(rows: Tensor, directions: Tensor, cos_weights: Tensor, sin_weights: Tensor) -> Tensor:
    num_frequencies = cos_weights.shape[1]
    planes = _Planes(rows, num_frequencies, _block_size(rows))
    table = _angle_addition_table(num_frequencies, rows.dtype, rows.device)
    by_product = torch.cat([cos_weights, sin_weights], dim=1) @ table.T
    by_product = by_product.view(len(directions), 2 * planes.radix, 2 * planes.groups - 1)
    # Contiguous: the batched product is six times slower on a transposed view.
    by_product = by_product.transpose(1, 2).contiguous()
    gradient = torch.zeros_like(rows)
    for part, slices in _blocks(rows, directions):
        low, high = planes.fill(directions[slices] @ rows[part].T)
        angle_gradient = torch.bmm(by_product[slices], low).mul_(high).sum(dim=1)
        gradient[part].addmm_(angle_gradient.T, directions[slices])
    return gradient


# --- compiled ---


def _compiled_sums(rows: Tensor, directions: Tensor, num_frequencies: int) -> Tensor:
    kernel = _compiled(_recurrence_sums)
    parts = [kernel(rows, part, num_frequencies) for part in torch.split(directions, _COMPILED_DIRECTIONS)]
    return torch.cat(parts, dim=1)


def _compiled_gradient(rows: Tensor, directions: Tensor, cos_weights: Tensor, sin_weights: Tensor) -> Tensor:
    kernel = _compiled(_horner_gradient)
    gradient = torch.zeros_like(rows)
    pieces = (torch.split(tensor, _COMPILED_DIRECTIONS) for tensor in (directions, cos_weights, sin_weights))
    for part, cos_part, sin_part in zip(*pieces, strict=True):
        gradient += kernel(rows, part, cos_part, sin_part)
    return gradient


@functools.cache
def _compiled(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(kernel)


@no_type_check  # the run-time checks of shapes would be traced with the arithmetic
def _recurrence_sums(rows: Tensor, directions: Tensor, num_frequencies: int) -> Tensor:
    """(2, k, F) sums over all rows."""
    angles = directions @ rows.T
    cos_step, sin_step = torch.cos(angles), torch.sin(angles)
    cos, sin = cos_step, sin_step
    cos_sums, sin_sums = [cos.sum(dim=1)], [sin.sum(dim=1)]
    for _ in range(num_frequencies - 1):
        cos, sin = cos * cos_step - sin * sin_step, sin * cos_step + cos * sin_step
        cos_sums.append(cos.sum(dim=1))
        sin_sums.append(sin.sum(dim=1))
    return torch.stack([torch.stack(cos_sums, dim=1), torch.stack(sin_sums, dim=1)])


@no_type_check
def _horner_gradient(rows: Tensor, directions: Tensor, cos_weights: Tensor, sin_weights: Tensor) -> Tensor:
    """(n, D): Re sum_f (cos_weight_f - i sin_weight_f) e^{ifa} for every angle a, times the directions."""
    angles = directions @ rows.T
    cos_step, sin_step = torch.cos(angles), torch.sin(angles)
    real, imaginary = cos_weights[:, -1:], -sin_weights[:, -1:]
    for f in range(cos_weights.shape[1] - 2, -1, -1):
        real, imaginary = (
            real * cos_step - imaginary * sin_step + cos_weights[:, f : f + 1],
            real * sin_step + imaginary * cos_step - sin_weights[:, f : f + 1],
        )
    return (real * cos_step - imaginary * sin_step).T @ directions
