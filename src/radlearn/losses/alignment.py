"""Alignment: every view predicts the embedding of its report."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from radlearn.losses._precision import at_least_float32, no_autocast


def prediction_mse(
    predictions: Float[Tensor, "views batch dim"],
    target: Float[Tensor, "batch dim"],
    *,
    all_reduce: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, ""]:
    """Mean over views, studies and dimensions of the squared difference to the target of the study.

        (1 / (V B D)) sum_{v,i,d} (z_vid - t_id)^2

    The gradient reaches both sides; detach the target to stop it there.

    Args:
        predictions: (V, B, D).
        target: (B, D), shared by all views.
        all_reduce: sum over ranks of a 1-d tensor, forward and backward. With it, ranks with shares of a
            batch, equal or not, get the value of the whole batch and `world_size` times its gradient. None:
            one process.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ValueError: if the shapes do not belong together or hold nothing.
    """
    if predictions.ndim != 3 or predictions.shape[1:] != target.shape or predictions.numel() == 0:
        raise ValueError(
            f"prediction_mse takes predictions (views, batch, dim) and target (batch, dim); "
            f"got {tuple(predictions.shape)} and {tuple(target.shape)}"
        )
    with no_autocast(predictions.device):
        errors = (at_least_float32(predictions) - at_least_float32(target)).square()
        if all_reduce is None:
            return errors.mean()
        # Counted in studies: float32 holds every whole number only up to 2^24.
        studies, values_per_study = errors.shape[1], errors.shape[0] * errors.shape[2]
        total = errors.sum() / values_per_study
        total, count = all_reduce(torch.stack([total, total.new_full((), studies)])).unbind()
        return total / count.detach()
