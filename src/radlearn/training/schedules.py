"""Learning rates as functions of the step, so that a resumed run needs no scheduler: only `plateau` has a
state, which lies in the checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# ReduceLROnPlateau of PyTorch: an improvement is one by more than this share.
_IMPROVEMENT = 1e-4


def learning_rate(
    step: int,
    *,
    schedule: str = "cosine",
    peak: float,
    final: float,
    warmup_steps: int,
    num_steps: int,
    steps_per_epoch: float = 1.0,
    scale: float = 1.0,
) -> float:
    """The learning rate of a step, after a linear warm-up.

    Args:
        step: from 0; the first step of a warm-up already has (1 / warmup_steps) of the rate.
        schedule: `cosine`: one half-wave from the end of the warm-up to the last step; `cosine_restarts`: one
            each epoch, from `peak` again; `cosine_epoch`: the wave of one an epoch that is never restarted,
            so that the rate falls in the first epoch and rises in the second, as LoVT's release does;
            `plateau`: `peak` times `scale`; `constant`.
        peak, final: highest and lowest rate.
        warmup_steps: its length.
        num_steps: optimiser steps in all.
        steps_per_epoch: optimiser steps of one pass over the data, which gradient accumulation may make a
            fraction.
        scale: what plateaus have made of the rate, see `Plateau`.
    Source: NOVA (Kuhn et al. 2026, arXiv:2602.00653) for `cosine`; LoVT (Müller et al. 2022,
    arXiv:2112.02889) for `cosine_epoch` and `plateau`; Loshchilov and Hutter 2017, arXiv:1608.03983, for
    `cosine_restarts`.
    """
    warmup_steps = min(warmup_steps, max(num_steps - 1, 0))
    if schedule == "cosine":
        if step < warmup_steps:
            return peak * (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(num_steps - 1 - warmup_steps, 1)
        return _wave(min(progress, 1.0), peak, final)
    epochs = step / max(steps_per_epoch, 1.0)
    # With a fraction of a step an epoch, whole epochs may come out a rounding error short.
    since_restart = max(epochs - math.floor(epochs + 1e-9), 0.0)
    rates = {
        "cosine_restarts": _wave(since_restart, peak, final),
        "cosine_epoch": _wave(epochs, peak, final),
        "plateau": max(peak * scale, final),
        "constant": peak,
    }
    # Epochs are counted from the start of the run: restarts fall on their boundaries, warm-up or not.
    warm = min((step + 1) / warmup_steps, 1.0) if warmup_steps else 1.0
    return warm * rates[schedule]


def _wave(progress: float, peak: float, final: float) -> float:
    """`peak` at 0, `final` at 1, `peak` again at 2."""
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


@dataclass
class Plateau:
    """Lowers the rate when the validation loss stops falling, as PyTorch's ReduceLROnPlateau does.

    Attributes:
        patience: validations without an improvement that are borne; factor: of the rate after one more.
        best: lowest loss so far; waited: validations since, or since the rate was lowered.
        scale: what the rate is multiplied by.
    """

    patience: int = 12
    factor: float = 0.5
    best: float = math.inf
    waited: int = 0
    scale: float = 1.0

    def read(self, loss: float) -> None:
        """Take the loss of a validation."""
        if loss < self.best * (1 - _IMPROVEMENT):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = self.scale * self.factor, 0
