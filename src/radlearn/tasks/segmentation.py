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
from radlearn.errors import ConfigurationError, DataError, nearest
from radlearn.losses.dense import dice_loss
from radlearn.metrics import per_case
from radlearn.metrics import segmentation as metrics
from radlearn.records import Result
from radlearn.stats import FloatArray, drawn_patients, interval_of_draws
from radlearn.tasks._dense import learn
from radlearn.tasks._dense_cases import Arrays, Problem, check_splits, few_shot
from radlearn.tasks._dense_training import Recipe, Trained
from radlearn.tasks.base import Dense, DenseSplit, Evaluation, Inputs, Task, Values

logger = logging.getLogger("radlearn")

HEADS: Mapping[str, type[DenseHead]] = {"linear": LinearHead, "unet": UNetHead}
_COLLAPSED = 0.99


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


class Segmentation(Task):
    """Dice of a head trained on a frozen encoder, or together with it.

    Args:
        head: `linear`, a 1 x 1 convolution of the last map, or `unet`.
        finetune: the encoder learns too.
        lr: learning rate, or several to choose from by the validation split.
        repeats: heads that are trained, each from its own seed; the headline is their mean.
        classes: names, from the data set's masks; None takes all of them.
        merge: one class, whatever is drawn.
        per_class: the loss is the mean of the classes' Dice; false merges all pixels of all classes, as
            published, so that rare classes are given up.
        batch_size, max_epochs, patience, warmup_steps, warmup_lr, lr_reset, cache_gib: see
            `_dense_training.Recipe`.
        image_size: side of the images; None takes the encoder's.
        fraction, draw: share of the training patients in (0, 1], and which subset.
    """

    name: ClassVar[str] = "segmentation"
    needs: ClassVar[tuple[str, ...]] = ("dense",)
    labelled: ClassVar[bool] = False
    headline: ClassVar[tuple[str, str]] = ("dice", "macro")

    def __init__(
        self,
        *,
        head: str = "linear",
        finetune: bool = False,
        lr: float | Sequence[float] = (1e-1, 3e-2, 1e-2, 3e-3),
        repeats: int = 1,
        classes: Sequence[str] | None = None,
        merge: bool = False,
        per_class: bool = True,
        batch_size: int = 64,
        max_epochs: int = 50,
        patience: int = 10,
        warmup_steps: int = 100,
        warmup_lr: float = 1e-3,
        lr_reset: bool = False,
        cache_gib: float = 4.0,
        image_size: int | None = None,
        fraction: float = 1.0,
        draw: int = 0,
    ) -> None:
        if head not in HEADS:
            raise ConfigurationError(
                f"task.head is one of {', '.join(HEADS)}: got '{head}'{nearest(head, HEADS)}"
            )
        if not 0 < fraction <= 1:
            raise ConfigurationError(f"task.fraction is a share above 0 and at most 1: got {fraction}")
        rates = (lr,) if isinstance(lr, int | float) else tuple(lr)
        self.recipe = Recipe(
            lr=tuple(float(rate) for rate in rates), repeats=repeats, batch_size=batch_size,
            max_epochs=max_epochs, patience=patience, finetune=finetune, warmup_steps=warmup_steps,
            warmup_lr=warmup_lr, lr_reset=lr_reset, cache_gib=cache_gib,
        )  # fmt: skip
        self.head, self.per_class, self.merge = head, per_class, merge
        self.classes = None if classes is None else list(classes)
        self.image_size, self.fraction, self.draw = image_size, float(fraction), int(draw)

    def run(self, inputs: Inputs) -> Evaluation:
        """Train, predict, count."""
        dense = check_splits(self.name, inputs.dense)
        from_boxes = not any(cell for split in _splits(dense) for cell in split.masks)
        dense, classes = self._drawn(dense, from_boxes)
        dense = dataclasses.replace(dense, train=few_shot(dense.train, self.fraction, inputs.seed, self.draw))
        problem = Masks(classes, head=self.head, per_class=self.per_class, from_boxes=from_boxes)
        size = self.image_size or dense.encoder.image_size
        trained = learn(problem, dense, self.recipe, image_size=size, seed=inputs.seed)
        return self._evaluated(inputs, dense, classes, trained, size * size)

    def _drawn(self, dense: Dense, from_boxes: bool) -> tuple[Dense, list[str]]:
        """The classes, and the inputs with one class where they are merged.

        Raises:
            DataError: if nothing is drawn, or a class that is asked for never is.
        """
        cells = [c for split in _splits(dense) for c in (split.boxes if from_boxes else split.masks)]
        there = sorted({name for cell in cells for name in cell})
        if not there:
            raise DataError("no image has a mask or a box: there is nothing to segment")
        wanted = there if self.classes is None else self.classes
        absent = [name for name in wanted if name not in there]
        if absent:
            raise DataError(f"no image has a mask of {', '.join(absent)}: there is {', '.join(there)}")
        if not self.merge:
            return dense, wanted
        return dense.with_splits(lambda split: merged_classes(split, wanted, from_boxes)), [MERGED]

    def _evaluated(
        self, inputs: Inputs, dense: Dense, classes: Sequence[str], trained: Sequence[Trained], pixels: int
    ) -> Evaluation:
        rows: list[Result] = []
        values: dict[str, Values] = {}
        of_heads: list[dict[str, FloatArray]] = []
        for number, each in enumerate(trained, 1):
            counts = np.stack([predicted["counts"] for predicted in each.predicted])
            ids, patients = (
                [names[i] for i in each.places.tolist()]
                for names in (dense.test.image_ids, dense.test.patient_ids)
            )
            _tell_of_collapse(counts, classes, pixels, each)
            of_heads.append(_draws(counts, patients, pixels, inputs))
            variant = f"repeat={number}" if len(trained) > 1 else ""
            flat = counts.reshape(len(counts), -1).astype(np.float64)
            values[variant] = Values(ids, patients, metrics.columns_of(classes), flat)
            if variant:
                rows += self._rows(inputs, classes, of_heads[-1], counts, patients, pixels, each.lr, variant)
        # The same draws of patients for every head: the mean's interval is that of new patients alone.
        mean = {name: np.mean([found[name] for found in of_heads], axis=0) for name in of_heads[0]}
        rows += self._rows(inputs, classes, mean, counts, patients, pixels, trained[0].lr, "")
        return Evaluation(rows, values=values)

    def _rows(
        self,
        inputs: Inputs,
        classes: Sequence[str],
        draws: Mapping[str, FloatArray],
        counts: np.ndarray,
        patients: Sequence[str],
        pixels: int,
        lr: float,
        variant: str,
    ) -> list[Result]:
        """A row for each metric and class, and for the mean over classes.

        Args:
            draws: metric -> (1 + draws, C).
        """
        chances = _chances(counts, pixels)
        positive = (counts[..., 0] + counts[..., 2] > 0).sum(0)
        labels = [(name, [i]) for i, name in enumerate(classes)]
        if len(classes) > 1 or self.merge is False:
            labels.insert(0, ("macro", list(range(len(classes)))))
        found = []
        for metric, values in draws.items():
            for label, columns in labels:
                interval = interval_of_draws(values[:, columns].mean(1), 0.95)
                row = Result(
                    run="", task=self.name, data="", data_hash="", split="", metric=metric, label=label,
                    value=interval.value, low=interval.low, high=interval.high,
                    chance=float(chances[metric][columns].mean()) if metric in chances else None,
                    num_cases=len(counts), num_patients=len(set(patients)),
                    num_positive=int(positive[columns[0]]) if label != "macro" else None,
                    variant=variant,
                )  # fmt: skip
                changes: dict[str, Any] = {"lr": lr, "fraction": self.fraction}
                changes["draw"] = self.draw if self.fraction < 1 else None
                changes["tuning_trials"] = len(self.recipe.lr)
                found.append(dataclasses.replace(row, **{**inputs.provenance, **changes}))
        return found


MERGED = "foreground"


def merged_classes(split: DenseSplit, classes: Sequence[str], from_boxes: bool) -> DenseSplit:
    """The split with these classes as one."""
    if from_boxes:
        boxes = [[c[n] for n in classes if n in c] for c in split.boxes]
        return dataclasses.replace(
            split, boxes=[{MERGED: np.concatenate(each)} if each else {} for each in boxes]
        )
    # Runs may overlap: a text of several masks' runs is their union.
    texts = [" ".join(c[n] for n in classes if n in c) for c in split.masks]
    return dataclasses.replace(split, masks=[{MERGED: text} if text else {} for text in texts])


def _splits(dense: Dense) -> tuple[DenseSplit, ...]:
    return dense.train, dense.validate, dense.test


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
