"""L2-regularised logistic regressions of many labels on the same features, along a path of penalties.

    minimise over w, b:   C sum_i log(1 + exp(-y_i (x_i w + b))) + ||w||^2 / 2,    y in {-1, 1}

which is scikit-learn's. One eigendecomposition of the features serves every label and every C: in the rotated
space the penalty is unchanged and the Hessian nearly diagonal, so a truncated Newton method with a diagonal
preconditioner takes a few products with the whole feature matrix, each for all labels at once. A label's
unknown cases have weight 0. Each C starts from the last one's solution.

Source: truncated Newton for logistic regression: Lin, Weng, Keerthi 2008, JMLR 9, 627-650.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NEWTON_STEPS, _CG_STEPS, _HALVINGS = 100, 60, 30
_ARMIJO = 1e-4
_BLOCK_ROWS = 8192
# How far the gradient must fall, as a share of what it is at w = 0, by the precision of the features.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


@dataclass(frozen=True)
class Rotated:
    """Standardised features in the coordinates of their eigenvectors.

    Attributes:
        z: (N, R + 1), R <= W being their rank, the last column being 1 for the intercept.
        scale: (R + 1,) sum of squares of each column.
        mean, deviation: (W,) of the features; vectors: (W, R) the rotation; all float64.
    """

    z: Tensor
    scale: Tensor
    mean: Tensor
    deviation: Tensor
    vectors: Tensor

    def of(self, x: Tensor) -> Tensor:
        """Other features (M, W) in the same coordinates: (M, R + 1)."""
        blocks = [
            (((block.to(self.mean) - self.mean) / self.deviation) @ self.vectors).to(self.scale.dtype)
            for block in torch.split(x, _BLOCK_ROWS)
        ]
        return _with_ones(torch.cat(blocks))


def rotate(x: Tensor) -> Rotated:
    """Standardise features (N, W) and rotate them; directions without spread are left out.

    No solution has a part in them: a weight there costs penalty and moves no score. Sums and products are in
    double precision whatever the features are, block by block: directions of little spread matter where C is
    large, and single precision loses them.
    """
    blocks = torch.split(x, _BLOCK_ROWS)
    mean = x.mean(0, dtype=torch.float64)
    squares = torch.stack([(block.double() - mean).square().sum(0) for block in blocks]).sum(0)
    deviation = (squares / len(x)).sqrt()
    deviation = torch.where(deviation > 0, deviation, 1.0)
    standard = ((block.double() - mean) / deviation for block in blocks)
    gram = mean.new_zeros(len(mean), len(mean))
    for block in standard:
        gram += block.T @ block
    values, vectors = torch.linalg.eigh(gram)
    spread = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    values, vectors = values[spread], vectors[:, spread]
    scale = torch.cat([values, values.new_tensor([float(len(x))])]).to(x.dtype)
    rotated = Rotated(x.new_empty(0), scale, mean, deviation, vectors)
    return dataclasses.replace(rotated, z=rotated.of(x))


def _with_ones(z: Tensor) -> Tensor:
    return torch.cat([z, z.new_ones(len(z), 1)], dim=1)


def path(
    features: Rotated, labels: Tensor, inverse_penalties: Sequence[float], *, tolerance: float | None = None
) -> Iterator[Tensor]:
    """Solutions along a path.

    Args:
        features: of N cases.
        labels: (N, L) in {1, 0, NaN}; each label has both classes.
        inverse_penalties: scikit-learn's C, best from small to large.
        tolerance: see `TOLERANCE`.

    Yields:
        (R + 1, L) weights for each C, the last row being the intercepts; scores are `features.of(x) @` them.
    """
    z = features.z
    known = (~torch.isnan(labels)).to(z.dtype)
    sign = torch.where(known.bool(), 2 * labels.to(z.dtype) - 1, 0.0)
    weights = z.new_zeros(z.shape[1], labels.shape[1])
    for c in inverse_penalties:
        weights = _solve(features, sign, known, float(c), weights, tolerance=tolerance or TOLERANCE[z.dtype])
        yield weights


def _solve(
    features: Rotated, sign: Tensor, known: Tensor, c: float, start: Tensor, *, tolerance: float
) -> Tensor:
    """Minimise for one C from a start; labels drop out as they converge."""
    z = features.z
    penalty = torch.ones_like(features.scale)
    penalty[-1] = 0
    theta = start.clone()
    logits = z @ theta
    goal = tolerance * (c * (z.T @ (0.5 * sign))).norm(dim=0)
    active = torch.arange(theta.shape[1], device=z.device)
    for _ in range(_NEWTON_STEPS):
        s, m, logit, w = sign[:, active], known[:, active], logits[:, active], theta[:, active]
        wrong = m * torch.sigmoid(-s * logit)
        gradient = c * (z.T @ (-s * wrong)) + penalty[:, None] * w
        left = gradient.norm(dim=0) > goal[active]
        if not left.any():
            break
        active, s, m, logit, w = active[left], s[:, left], m[:, left], logit[:, left], w[:, left]
        gradient, wrong = gradient[:, left], wrong[:, left]
        curvature = c * wrong * (1 - wrong)
        step = _direction(features, curvature, penalty, gradient)
        moved = z @ step
        length = _line_search(c, s, m, logit, moved, w, step, gradient, penalty)
        theta[:, active] = w + length * step
        logits[:, active] = logit + length * moved
        # A step too short to matter: the precision of the features is reached.
        active = active[length > 0]
        if not len(active):
            break
    return theta


def _direction(features: Rotated, curvature: Tensor, penalty: Tensor, gradient: Tensor) -> Tensor:
    """The Newton step of each label, by preconditioned conjugate gradients.

    Args:
        features: the features.
        curvature: (N, L) C p (1 - p) of each case.
        penalty: (R + 1,) of each weight.
        gradient: (R + 1, L).
    """
    z = features.z
    diagonal = curvature.mean(0) * features.scale[:, None] + penalty[:, None]
    tiny = torch.finfo(z.dtype).tiny
    diagonal = diagonal.clamp_min(tiny)
    step = torch.zeros_like(gradient)
    residual = -gradient
    size = gradient.norm(dim=0)
    preconditioned = residual / diagonal
    search = preconditioned
    product = (residual * preconditioned).sum(0)
    for _ in range(_CG_STEPS):
        # The residual may fall by a tenth only: the next Newton step corrects the rest.
        going = residual.norm(dim=0) > 0.1 * size
        if not going.any():
            break
        curved = z.T @ (curvature * (z @ search)) + penalty[:, None] * search
        length = torch.where(going, product / (search * curved).sum(0), 0.0)
        step = step + length * search
        residual = residual - length * curved
        preconditioned = residual / diagonal
        new = (residual * preconditioned).sum(0)
        search = preconditioned + new / product.clamp_min(tiny) * search
        product = new
    return step


def _line_search(
    c: float,
    sign: Tensor,
    known: Tensor,
    logits: Tensor,
    moved: Tensor,
    weights: Tensor,
    step: Tensor,
    gradient: Tensor,
    penalty: Tensor,
) -> Tensor:
    """(L,) how far to go along each label's step: 1, halved until the loss falls; 0 if it never does."""

    def loss(length: Tensor) -> Tensor:
        margin = sign * (logits + length * moved)
        data = (known * torch.nn.functional.softplus(-margin)).sum(0, dtype=torch.float64)
        squares = (penalty[:, None] * (weights + length * step).square()).sum(0, dtype=torch.float64)
        return c * data + squares / 2

    length = torch.ones(weights.shape[1], dtype=weights.dtype, device=weights.device)
    before, slope = loss(torch.zeros_like(length)), (gradient * step).sum(0).double()
    # Sums of that many terms are exact to about this only, which a step near the optimum does not exceed.
    noise = torch.finfo(weights.dtype).eps * before.abs()
    for _ in range(_HALVINGS):
        bad = loss(length) > before + _ARMIJO * length.double() * slope + noise
        if not bad.any():
            return length
        length = torch.where(bad, length / 2, length)
    return torch.where(bad, 0.0, length)
