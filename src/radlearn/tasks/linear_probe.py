"""Linear probe: a logistic regression on frozen features for every label.

It says how much of a label can be read off the features along one direction. C is chosen for each label by
the AUC on the validation split, on patients that the probe never saw; the chosen probe is not fitted again
with these patients, so that a few-shot number rests on its share of the training labels. Without a validation
split a fifth of the training patients is held out for the choice.

The validation split that chooses C is whole whatever `fraction` is, as in the published few-shot protocols:
a few-shot number is one with a well-chosen penalty.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from radlearn.data import splits
from radlearn.errors import ConfigurationError
from radlearn.metrics.classification import auroc
from radlearn.tasks import _logistic
from radlearn.tasks.base import FewShotTask, Inputs, Labelled

logger = logging.getLogger("radlearn")

# Half decades; C multiplies a sum over cases, so large training sets want small ones.
GRID = tuple(float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-12, 5))
_HELD_OUT = 0.2


class LinearProbe(FewShotTask):
    """L2-regularised logistic regression on standardised features, all labels at once.

    Args:
        inverse_penalties: candidates for scikit-learn's C; None takes half decades from 1e-6 to 100.
        precision: `float32`, or `float64`.
        fraction, draw: see `FewShotTask`.
    """

    name: ClassVar[str] = "linear_probe"

    def __init__(
        self,
        *,
        inverse_penalties: Sequence[float] | None = None,
        precision: str = "float32",
        fraction: float = 1.0,
        draw: int = 0,
    ) -> None:
        super().__init__(fraction=fraction, draw=draw)
        if precision not in ("float32", "float64"):
            raise ConfigurationError(f"task.precision is float32 or float64: got '{precision}'")
        given = GRID if inverse_penalties is None else inverse_penalties
        self.grid = sorted(float(c) for c in given)
        if not self.grid or self.grid[0] <= 0:
            raise ConfigurationError(f"task.inverse_penalties are numbers above 0: got {list(given)}")
        self.dtype = torch.float32 if precision == "float32" else torch.float64
        self.tuning_trials = len(self.grid)

    def scores(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Decision values; a label with one class in the training cases scores 0 everywhere."""
        test, train = self.learnable(inputs)
        validate = inputs.validate
        if validate is None or not len(validate):
            train, validate = held_out(train, inputs.seed)
        scores = np.zeros((len(test), len(inputs.label_names)))
        fits = np.flatnonzero([len(np.unique(c[~np.isnan(c)])) == 2 for c in train.labels.T])
        if len(fits):
            weights, chosen, features = fit(train, validate, fits, self.grid, self.dtype)
            scores[:, fits] = (features.of(test) @ weights).double().numpy()
            self._tell([inputs.label_names[i] for i in fits.tolist()], chosen)
        return {"": scores}

    def _tell(self, names: Sequence[str], chosen: Sequence[float]) -> None:
        told = ", ".join(f"{name} {c:g}" for name, c in zip(names, chosen, strict=True))
        logger.info("linear_probe chose C by validation AUC: %s", told)
        edge = sum(c in (self.grid[0], self.grid[-1]) for c in chosen)
        if len(self.grid) > 2 and 2 * edge > len(chosen):
            logger.warning(
                "linear_probe chose a C at the end of its candidates for %d of %d labels: give wider "
                "task.inverse_penalties",
                edge,
                len(chosen),
            )


def held_out(cases: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """A fifth of the patients set aside to choose by."""
    rows = pl.DataFrame({"patient_id": [str(p) for p in cases.patient_ids], "split": ""})
    drawn = splits.assign(rows, {"train": 1 - _HELD_OUT, "validate": _HELD_OUT}, seed)["split"].to_numpy()
    train, validate = (cases.take(np.flatnonzero(drawn == split)) for split in ("train", "validate"))
    return train, validate


def fit(
    train: Labelled, validate: Labelled, labels: np.ndarray, grid: Sequence[float], dtype: torch.dtype
) -> tuple[Tensor, list[float], _logistic.Rotated]:
    """Fit the path and choose for each label.

    Args:
        train, validate: cases.
        labels: (K,) which columns to fit; each has both classes in `train`.
        grid: candidates for C, ascending.
        dtype: precision.

    Returns:
        (R + 1, K) weights, the K chosen C, and the coordinates the weights are in. Of equal AUCs the smaller
        C wins; a label without both classes in `validate` takes the C with the best mean of the others.
    """
    features = _logistic.rotate(train.features.to(dtype))
    targets = torch.from_numpy(train.labels[:, labels]).to(dtype)
    seen = features.of(validate.features)
    paths = torch.stack(list(_logistic.path(features, targets, grid)))
    reached = np.stack([auroc((seen @ w).double().numpy(), validate.labels[:, labels]) for w in paths])
    choices = _choose(reached)
    weights = paths[torch.from_numpy(choices), :, torch.arange(len(labels))].T
    return weights, [grid[choice] for choice in choices.tolist()], features


def _choose(reached: np.ndarray) -> np.ndarray:
    """(G, K) AUCs -> (K,) the first best of each label."""
    known = ~np.isnan(reached).any(0)
    if not known.any():
        return np.full(reached.shape[1], len(reached) // 2)
    best = np.full(reached.shape[1], reached[:, known].mean(1).argmax())
    best[known] = reached[:, known].argmax(0)
    return best
