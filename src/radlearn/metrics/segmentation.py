"""Dice and its relatives, from counts of pixels: a mask of a whole split is one mask.

Counts are kept image by image, so that any draw of patients can be scored again. Shapes: N images, C
classes.

Source: LoVT (Müller et al. 2022, arXiv:2112.02889), evaluation: true and false positives and negatives are
summed over all pixels of the split; the Dice is not averaged over images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radlearn.stats import FloatArray, IntArray

COUNTS = ("tp", "fp", "fn")
# Metric -> weights of (tp, fp, fn) in its numerator and in its denominator.
RATIOS = {
    "dice": ((2, 0, 0), (2, 1, 1)),
    "iou": ((1, 0, 0), (1, 1, 1)),
    "precision": ((1, 0, 0), (1, 1, 0)),
    "recall": ((1, 0, 0), (1, 0, 1)),
}


def columns_of(classes: Sequence[str]) -> list[str]:
    """Names of the counts (C, 3), flat, in a file of predictions."""
    return [f"{count} {name}" for name in classes for count in COUNTS]


def classes_of(columns: Sequence[str]) -> list[str]:
    """The classes of `columns_of`."""
    return [column.partition(" ")[2] for column in columns[:: len(COUNTS)]]


def is_counts(columns: Sequence[str]) -> bool:
    """Whether these are the columns of `columns_of`."""
    return list(columns) == columns_of(classes_of(columns))


def count(predicted: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels by (image, class, count): (N, C, H, W) masks -> (N, C, 3), true and false positives, misses."""
    if predicted.shape != target.shape:
        raise ValueError(f"masks differ in shape: {predicted.shape} and {target.shape}")
    both, said, there = (m.sum((2, 3)) for m in (predicted & target, predicted, target))
    return np.stack([both, said - both, there - both], axis=-1).astype(np.int64)


def ratios(counts: NDArray[np.integer] | FloatArray) -> dict[str, FloatArray]:
    """Metric -> its value for counts (..., 3); 0 where nothing is there and nothing is said."""
    found = {}
    for name, (above, below) in RATIOS.items():
        numerator, denominator = counts @ np.array(above), counts @ np.array(below)
        found[name] = np.asarray(numerator / np.maximum(denominator, 1), np.float64)
    return found


def positive_dice(counts: NDArray[np.integer]) -> FloatArray:
    """Dice of each image and class (N, C), NaN where the image has none of the class."""
    there = counts[..., 0] + counts[..., 2] > 0
    return np.where(there, ratios(counts)["dice"], np.nan)


def dice_of_everything(counts: NDArray[np.integer], num_pixels: int) -> FloatArray:
    """The Dice (C,) of calling every pixel positive: what a head that learnt nothing but the rate can reach.

    Args:
        counts: (N, C, 3).
        num_pixels: of an image.
    """
    there = (counts[..., 0] + counts[..., 2]).sum(0)
    return np.asarray(2 * there / (len(counts) * num_pixels + there), np.float64)


def ratios_of_draws(
    counts: NDArray[np.integer], patients: IntArray, multiplicities: NDArray[np.integer]
) -> dict[str, FloatArray]:
    """Metric -> (1 + draws, C): on the data as they are, then on every draw of patients.

    A class that vanishes in a draw is NaN there; one that the data do not have is 0, as published.

    Args:
        counts: (N, C, 3).
        patients: (N,) row of `multiplicities` that belongs to each image.
        multiplicities: (P, draws) how often each patient was drawn.
    """
    of_patients = np.zeros((len(multiplicities), *counts.shape[1:]), np.int64)
    np.add.at(of_patients, patients, counts)
    weights = np.concatenate([np.ones((len(multiplicities), 1), np.int64), multiplicities], axis=1)
    of_draws = np.einsum("pd,pck->dck", weights, of_patients)
    there = of_draws[..., 0] + of_draws[..., 2] > 0
    vanished = there[:1] & ~there
    return {name: np.where(vanished, np.nan, values) for name, values in ratios(of_draws).items()}
