"""SIGReg: how far embeddings are from a standard normal distribution, by one-dimensional slices.

    a_j    random unit vectors, new at every step                             j = 1..K
    C_jk = mean_n cos(t_k <x_n, a_j>),   S_jk = mean_n sin(t_k <x_n, a_j>)    t_k = k t_max / (knots - 1)
    EP_j = sum_k w_k [(C_jk - phi_k)^2 + S_jk^2]                              phi_k = exp(-t_k^2 / 2)
    SIGReg(x) = scale * mean_j EP_j

EP is the Epps-Pulley statistic: the squared distance of the empirical characteristic function from that of
N(0, 1), integrated over [-t_max, t_max] with window phi. Trapezoid rule; both halves are equal, so
w_k = 2 dt phi_k, and dt phi_k at the two ends. Source: Balestriero, LeCun 2025, "LeJEPA", arXiv:2511.08544.
Shapes: V views, B studies, D dimensions, K slices.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal, TypeVar, cast, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from radlearn.losses._precision import at_least_float32, full_precision
from radlearn.losses._trigonometric_sums import trigonometric_sums

Pool = Literal["joint", "per_view"]
Scale = Literal["rows", "batch", "none"]
Count = Literal["global", "local"]
SliceSampling = Literal["iid", "orthogonal"]

_IID_BLOCK = 256

Function = TypeVar("Function", bound=Callable[..., object])


def _untraced(function: Function) -> Function:
    """Keep a surrounding torch.compile out: slices come from NumPy, and the kernel is compiled by itself."""
    return cast(Function, torch.compiler.disable(function))  # type: ignore[no-untyped-call]


@_untraced
def sigreg(
    x: Float[Tensor, "*views batch dim"],
    *,
    step: int,
    seed: int = 0,
    num_slices: int = 1024,
    knots: int = 17,
    t_max: float = 3.0,
    pool: Pool = "joint",
    scale: Scale = "rows",
    count: Count = "global",
    slice_sampling: SliceSampling = "iid",
    distributed: bool = True,
    all_reduce: Callable[[Tensor], Tensor] | None = None,
    compile: bool = False,
) -> Float[Tensor, ""]:
    """Sketched isotropic Gaussian regularisation: low for N(0, I) rows, high for collapsed or skewed ones.

    With `all_reduce`, ranks that hold shares of a batch, equal or not, get the value of one process with all
    rows and `world_size` times its gradient, which data-parallel averaging turns into exactly that gradient.
    The arithmetic is float32 (float64 for float64 input), also under autocast.

    Args:
        x: (V, B, D) embeddings by view, or (N, D) rows.
        step: global optimiser step. With `seed` it fixes the slices: equal on every rank and device, whatever
            the global random state, and again after a resume.
        seed: the run's seed.
        num_slices: K. More slices, less noise in the gradient; the expectation stays.
        knots: points of the trapezoid on [0, t_max].
        t_max: largest frequency.
        pool: "joint" tests all V * B rows as one sample; "per_view" tests each view and averages.
        scale: factor of the statistic: "rows" of one test (V * B joint, B per view), "batch" (B), "none" (1).
        count: whether `scale` counts the rows of all ranks ("global") or of this one ("local"). Matters with
            `all_reduce` only.
        slice_sampling: "iid" directions, or "orthogonal" within each block of D (less noise for equal K).
        distributed: sum cosines and sines over ranks (False: each rank tests its own rows). Matters with
            `all_reduce` only.
        all_reduce: sum over ranks of a 1-d tensor, in the forward and the backward pass. None: one process.
        compile: use the compiled kernel (needs a C++ compiler, or Triton on a GPU; the first call compiles).

    Returns:
        Scalar. Its expectation for N(0, I) rows, scale "rows", is `SIGREG_FLOOR`, for any N.

    Raises:
        ValueError: on a bad shape, fewer than 2 rows a test (1 with `all_reduce`), or a bad option.
        FloatingPointError: on NaN or infinity in a CPU tensor. On other devices the check would wait for the
            device: there non-finite input gives a NaN loss, and watching for that is the caller's duty.
    """
    _check_option("pool", pool, Pool)
    _check_option("scale", scale, Scale)
    _check_option("count", count, Count)
    _check_input(x, pool=pool, minimum_rows=2 if all_reduce is None else 1)
    with full_precision(x.device):
        tests, views_per_test = _arrange(at_least_float32(x), pool)
        directions = sample_slices(x.shape[-1], num_slices, seed=seed, step=step, sampling=slice_sampling)
        target, weights = _quadrature_tensors(knots, t_max, tests.dtype, tests.device)
        angle_step = t_max / (knots - 1)
        directions = (angle_step * directions).to(tests.dtype)
        if tests.is_cuda:
            # From pageable memory the copy would hold up the step.
            directions = directions.pin_memory().to(tests.device, non_blocking=True)
        else:
            directions = directions.to(tests.device)
        sum_rows = functools.partial(
            trigonometric_sums, directions=directions, num_frequencies=knots - 1, compile=compile
        )
        sums = torch.stack([sum_rows(rows) for rows in tests])
        local_rows = sums.new_full((1,), tests.shape[1])
        sums, tested_rows, global_rows = _reduce(sums, local_rows, all_reduce, distributed)
        cos_mean, sin_mean = (sums / tested_rows).unbind(dim=1)
        statistic = (((cos_mean - target).square() + sin_mean.square()) @ weights).mean()
        counted_rows = (global_rows if count == "global" else local_rows).squeeze()
        if scale == "none":
            return statistic
        return statistic * (counted_rows if scale == "rows" else counted_rows / views_per_test)


def sample_slices(
    dim: int, num_slices: int, *, seed: int, step: int, sampling: SliceSampling = "iid"
) -> Float[Tensor, "{num_slices} {dim}"]:
    """Unit vectors drawn from (seed, step, block) alone: float64, on the CPU, no global random state.

    Asking for more slices extends the list; those before stay. "orthogonal" draws blocks of D orthonormal
    vectors, uniform over rotations (QR of a Gaussian matrix, signs fixed by R).

    Raises:
        ValueError: on no slices, a negative seed or step, or another sampling.
    """
    _check_option("slice_sampling", sampling, SliceSampling)
    if num_slices < 1:
        raise ValueError(f"num_slices must be at least 1, got {num_slices}")
    if seed < 0 or step < 0:
        raise ValueError(f"seed and step must not be negative, got seed={seed}, step={step}")
    block = dim if sampling == "orthogonal" else _IID_BLOCK
    seeds = (np.random.SeedSequence([seed, step, index]) for index in range(math.ceil(num_slices / block)))
    gaussians = np.stack(
        [np.random.Generator(np.random.PCG64(s)).standard_normal((block, dim)) for s in seeds]
    )
    if sampling == "orthogonal":
        columns, triangle = np.linalg.qr(gaussians.swapaxes(1, 2))
        signs = np.sign(np.diagonal(triangle, axis1=1, axis2=2))
        gaussians = (columns * signs[:, None, :]).swapaxes(1, 2)
    slices = gaussians.reshape(-1, dim)[:num_slices]
    return torch.from_numpy(slices / np.linalg.norm(slices, axis=1, keepdims=True))


def sigreg_floor(*, knots: int = 17, t_max: float = 3.0) -> float:
    """Expectation of SIGReg, scale "rows", over independent N(0, I) rows, any N: sum_k w_k (1 - phi_k^2)."""
    return sum(w * (1 - phi**2) for phi, w in zip(*_quadrature(knots, t_max), strict=True))


@functools.lru_cache(maxsize=16)
def _quadrature(knots: int, t_max: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Target phi_k and weight w_k for k = 1..knots-1; knot 0 adds nothing, as C = phi = 1 and S = 0 there."""
    if knots < 2:
        raise ValueError(f"knots must be at least 2, got {knots}")
    if not (math.isfinite(t_max) and t_max > 0):
        raise ValueError(f"t_max must be positive, got {t_max}")
    step = t_max / (knots - 1)
    target = tuple(math.exp(-((k * step) ** 2) / 2) for k in range(1, knots))
    ends = [2.0] * (knots - 2) + [1.0]
    return target, tuple(end * step * phi for end, phi in zip(ends, target, strict=True))


SIGREG_FLOOR: float = sigreg_floor()
"""`sigreg_floor` at the default knots: the value a perfect embedding reaches; log SIGReg divided by it."""


@functools.lru_cache(maxsize=16)
def _quadrature_tensors(
    knots: int, t_max: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Target and weights on a device, copied once: a copy each step would wait for the device."""
    with torch.inference_mode(False):
        target, weights = (
            torch.tensor(values, dtype=dtype, device=device) for values in _quadrature(knots, t_max)
        )
    return target, weights


def _arrange(x: Tensor, pool: Pool) -> tuple[Tensor, int]:
    """(tests, rows, D), and how many views the rows of one test come from."""
    views = x if x.ndim == 3 else x.unsqueeze(0)
    if pool == "per_view":
        return views, 1
    return views.flatten(0, 1).unsqueeze(0), len(views)


def _reduce(
    sums: Tensor, rows: Tensor, all_reduce: Callable[[Tensor], Tensor] | None, distributed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums to test, the rows they are over, the rows of all ranks. Sums and count travel as one tensor."""
    if all_reduce is None:
        return sums, rows, rows
    if not distributed:
        return sums, rows, all_reduce(rows)
    reduced = all_reduce(torch.cat([sums.flatten(), rows]))
    return reduced[:-1].view_as(sums), reduced[-1:].detach(), reduced[-1:].detach()


def _check_option(name: str, value: str, options: object) -> None:
    if value not in get_args(options):
        raise ValueError(f"{name} must be one of {', '.join(get_args(options))}; got {value!r}")


def _check_input(x: Tensor, *, pool: Pool, minimum_rows: int) -> None:
    if x.ndim not in (2, 3) or not x.is_floating_point():
        raise ValueError(
            f"sigreg takes floating-point embeddings (views, batch, dim) or (rows, dim); "
            f"got shape {tuple(x.shape)}, {x.dtype}"
        )
    rows = x.shape[-2] if pool == "per_view" else x.shape[:-1].numel()
    if rows < minimum_rows or x.shape[-1] < 1 or x.shape[0] < 1:
        raise ValueError(
            f"sigreg compares a distribution and needs at least {minimum_rows} rows a test, got shape "
            f"{tuple(x.shape)} with pool={pool!r}; use a larger batch"
        )
    if x.device.type == "cpu" and not bool(torch.isfinite(x).all()):
        raise FloatingPointError(f"sigreg got NaN or infinity in {_name_rows(x)}")


def _name_rows(x: Tensor) -> str:
    bad = ~torch.isfinite(x.detach()).all(dim=-1)
    if x.ndim == 2:
        return f"{int(bad.sum())} of {bad.numel()} rows, the first is row {int(bad.nonzero()[0])}"
    view, row = bad.nonzero()[0].tolist()
    views = bad.any(dim=1).nonzero().flatten().tolist()
    return f"{int(bad.sum())} of {bad.numel()} rows, in views {views}; the first is row {row} of view {view}"
