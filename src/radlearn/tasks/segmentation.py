"""Segmentation: a head on the encoder's maps marks findings pixel by pixel; Dice over the whole split.

What is kept of each image are its true and false positives and misses, so that Dice, IoU, precision and
recall of any draw of patients can be computed again. What chance scores is the Dice of calling every pixel
positive, which a head that learns nothing reaches.

Source: LoVT's segmentation tasks (Müller et al. 2022, arXiv:2112.02889).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from radlearn import run_lengths
from radlearn.data import masks
from radlearn.data.views import EvaluationView
from radlearn.dense_heads import DenseHead, LinearHead, UNetHead
from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError, nearest
from radlearn.losses.dense import dice_loss
from radlearn.metrics import per_case
from radlearn.metrics import segmentation as metrics
from radlearn.stats import FloatArray, drawn_patients
from radlearn.tasks._dense import MACRO, DenseTask, Measured, learn
from radlearn.tasks._dense_cases import Arrays, Problem, merged_boxes
from radlearn.tasks._dense_training import Trained
from radlearn.tasks.base import DenseSplit, Evaluation, Inputs, Values

logger = logging.getLogger("radlearn")

HEADS: Mapping[str, type[DenseHead]] = {"linear": LinearHead, "unet": UNetHead}
_COLLAPSED = 0.99
# Candidates where none are given; LoVT's grids lie within.
_RATES = {"linear": (3e-1, 1e-1, 3e-2, 1e-2), "unet": (1e-3, 3e-4, 1e-4), "finetune": (3e-4, 1e-4, 3e-5)}


class Masks(Problem):
    """What a segmentation head learns: Dice.

    Args:
        classes: (C,) names; head: of `HEADS`; per_class: see `losses.dice_loss`.
        from_boxes: whether boxes are filled, where a data set has no masks.
    """

    metric = "dice"

    def __init__(self, classes: Sequence[str], *, head: str, per_class: bool, from_boxes: bool) -> None:
        self.classes, self.kind, self.per_class = list(classes), head, per_class
        self.from_boxes = from_boxes

    def head(self, encoder: Encoder, size: int) -> DenseHead:
        """A fresh head."""
        return HEADS[self.kind](encoder, len(self.classes), size)

    def targets(self, split: DenseSplit, view: EvaluationView) -> list[np.ndarray]:
        """Masks (C, S, S) of each image as bits: a byte holds eight pixels."""
        return [self._packed(split, row, view) for row in range(len(split))]

    def _packed(self, split: DenseSplit, row: int, view: EvaluationView) -> np.ndarray:
        height, width = (int(side) for side in split.sizes[row])
        found = np.zeros((len(self.classes), view.size, view.size), bool)
        for place, name in enumerate(self.classes):
            if self.from_boxes:
                if name in split.boxes[row]:
                    found[place] = view.mask(masks.from_boxes(split.boxes[row][name], height, width))
            elif name in split.masks[row]:
                found[place] = view.mask(run_lengths.decode(split.masks[row][name], height, width))
        return np.packbits(found)

    def collate(self, targets: Sequence[np.ndarray], size: int) -> Tensor:
        """(B, C, S, S) float."""
        count = len(self.classes) * size * size
        bits = np.unpackbits(np.stack(targets), axis=1, count=count)
        return torch.from_numpy(bits).view(-1, len(self.classes), size, size).float()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Soft Dice."""
        return dice_loss(outputs.float(), targets, per_class=self.per_class)

    def predict(self, outputs: Tensor, targets: Tensor) -> list[Arrays]:
        """Counts (C, 3) of each image at a probability of one half."""
        # Sums of 0 and 1 in floats are exact up to 2^24 pixels, and far faster than sums of booleans.
        said, there = (outputs > 0).flatten(2).float(), targets.flatten(2)
        with torch.autocast(outputs.device.type, enabled=False):
            both, all_said, all_there = torch.linalg.vecdot(said, there), said.sum(2), there.sum(2)
        counts = torch.stack([both, all_said - both, all_there - both], dim=-1)
        return [{"counts": each} for each in counts.long().cpu().numpy()]

    def score(self, predicted: Sequence[Arrays]) -> float:
        """Mean Dice of the classes; one that is absent counts 0."""
        return float(metrics.ratios(np.sum([each["counts"] for each in predicted], axis=0))["dice"].mean())


class Segmentation(DenseTask):
    """Dice of a head trained on a frozen encoder, or together with it.

    Args:
        head: `linear`, a 1 x 1 convolution of the last map, or `unet`.
        per_class: the loss is the mean of the classes' Dice; false merges all pixels of all classes, as
            published, so that rare classes are given up.
        lr: see `DenseTask`; None takes candidates that suit what learns: high rates for a linear head, low
            ones for an encoder.
        finetune: the encoder learns too.
        shared: of `DenseTask`.
    """

    name: ClassVar[str] = "segmentation"
    headline: ClassVar[tuple[str, str]] = ("dice", MACRO)
    merged: ClassVar[str] = "foreground"

    def __init__(
        self,
        *,
        head: str = "linear",
        per_class: bool = True,
        lr: float | Sequence[float] | None = None,
        finetune: bool = False,
        **shared: Any,
    ) -> None:
        if head not in HEADS:
            known = f"{', '.join(HEADS)}: got '{head}'{nearest(head, HEADS)}"
            raise ConfigurationError(f"task.head is one of {known}")
        rates = _RATES["finetune" if finetune else head] if lr is None else lr
        super().__init__(lr=rates, finetune=finetune, **shared)
        self.head, self.per_class = head, per_class

    def run(self, inputs: Inputs) -> Evaluation:
        """Train, predict, count."""
        dense, size = self.opened(inputs)
        from_boxes = not any(cell for s in (dense.train, dense.validate, dense.test) for cell in s.masks)
        dense, classes = self.wanted(
            dense,
            "mask",
            lambda split: split.boxes if from_boxes else split.masks,
            lambda split, names: merged(split, names, self.merged, from_boxes),
        )
        problem = Masks(classes, head=self.head, per_class=self.per_class, from_boxes=from_boxes)
        heads = learn(problem, dense, self.recipe, image_size=size, seed=inputs.seed)

        def measure(head: Trained, patients: Sequence[str]) -> Measured:
            counts = np.stack([predicted["counts"] for predicted in head.predicted])
            _tell_of_collapse(counts, classes, size**2, head)
            positive = (counts[..., 0] + counts[..., 2] > 0).sum(0)
            draws = _draws(counts, patients, size**2, inputs)
            return Measured(draws, _chances(counts, size**2), positive)

        rows = self.rows(inputs, dense.test, classes, heads, measure)
        return Evaluation(rows, values=self.kept(heads, lambda head: _values(head, dense.test, classes)))


def _values(head: Trained, test: DenseSplit, classes: Sequence[str]) -> Values:
    """The counts of each image, flat."""
    scored = test.take(head.places)
    counts = np.stack([predicted["counts"].ravel() for predicted in head.predicted]).astype(np.float64)
    return Values(scored.image_ids, scored.patient_ids, metrics.columns_of(classes), counts)


def merged(split: DenseSplit, classes: Sequence[str], name: str, from_boxes: bool) -> DenseSplit:
    """The split with these classes as one of this name."""
    if from_boxes:
        return merged_boxes(split, classes, name)
    # Runs may overlap: a text of several masks' runs is their union.
    texts = [" ".join(c[n] for n in classes if n in c) for c in split.masks]
    return dataclasses.replace(split, masks=[{name: text} if text else {} for text in texts])


def _draws(counts: np.ndarray, patients: Sequence[str], pixels: int, inputs: Inputs) -> dict[str, FloatArray]:
    """Metric -> (1 + draws, C)."""
    multiplicities, index = drawn_patients(patients, inputs.num_bootstrap, inputs.seed)
    found = metrics.ratios_of_draws(counts, index, multiplicities)
    shares = {
        "positive_dice": metrics.positive_dice(counts),
        "foreground": (counts[..., 0] + counts[..., 1]) / pixels,
    }
    for name, values in shares.items():
        columns = [per_case.summary_of_draws(v, index, multiplicities, "mean") for v in values.T]
        found[name] = np.stack(columns, axis=1)
    return found


def _chances(counts: np.ndarray, pixels: int) -> dict[str, FloatArray]:
    """What calling every pixel positive scores, by metric, (C,) each."""
    everything = counts.copy()
    everything[..., 0] = counts[..., 0] + counts[..., 2]
    everything[..., 1], everything[..., 2] = pixels - everything[..., 0], 0
    found = metrics.ratios(everything.sum(0))
    with np.errstate(invalid="ignore"):
        shares = np.where(everything[..., 0] > 0, metrics.ratios(everything)["dice"], np.nan)
        found["positive_dice"] = np.array([np.nanmean(v) if (v >= 0).any() else np.nan for v in shares.T])
    found["foreground"] = everything[..., 0].sum(0) / (len(counts) * pixels)
    del found["recall"]  # 1, which says nothing
    return found


def _tell_of_collapse(counts: np.ndarray, classes: Sequence[str], pixels: int, trained: Trained) -> None:
    """Say so where a head calls everything, or nothing, positive: its Dice is then no measure of it."""
    share = (counts[..., 0] + counts[..., 1]).sum(0) / (len(counts) * pixels)
    for name, value in zip(classes, share.tolist(), strict=True):
        if value > _COLLAPSED or value == 0:
            what = "every pixel" if value > _COLLAPSED else "no pixel"
            logger.warning("segmentation of %s has collapsed: %s is positive (lr=%g)", name, what, trained.lr)
