"""Images with masks or boxes as heads of dense tasks take them: batches of maps, or of pixels.

A frozen encoder's maps are computed once and kept in memory where they fit, so that a head learns in seconds
and many learning rates cost little; otherwise, and where the encoder learns too, images are read every epoch.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radlearn.data.dataset import EvaluationDataset
from radlearn.data.loading import evaluation_loader
from radlearn.data.views import EvaluationView
from radlearn.dense_heads import DenseHead, Trunk
from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError, TrainingError
from radlearn.tasks.base import Dense, DenseSplit, few_shot_rows
from radlearn.training.inference import evaluating

_IMAGES_A_BATCH = 64
Arrays = dict[str, np.ndarray]


class Problem(ABC):
    """What a dense task asks of a head.

    Attributes:
        metric: name of what chooses weights and learning rates on the validation split; higher is better.
    """

    metric: str

    @abstractmethod
    def head(self, encoder: Encoder, size: int) -> DenseHead:
        """An untrained head on an encoder, for images of this side."""

    @abstractmethod
    def targets(self, split: DenseSplit, view: EvaluationView) -> Sequence[Any]:
        """What is drawn on each image, in pixels of the view, in whatever form `collate` takes."""

    @abstractmethod
    def collate(self, targets: Sequence[Any], size: int) -> Any:
        """The targets of a batch."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of a batch."""

    @abstractmethod
    def predict(self, outputs: Any, targets: Any) -> list[Arrays]:
        """What is kept of each image: enough for every metric."""

    @abstractmethod
    def score(self, predicted: Sequence[Arrays]) -> float:
        """The metric of a split."""


class Cases:
    """The images of a split as a head needs them.

    Args:
        split: the images.
        problem: says what is drawn on them.
        view: of each image.
        trunk: a frozen one whose maps are computed now and kept; None reads images in every pass.
        dense: device and processes.
        what: name of the split, for the progress.
    """

    def __init__(
        self,
        split: DenseSplit,
        problem: Problem,
        view: EvaluationView,
        trunk: Trunk | None,
        dense: Dense,
        what: str,
    ) -> None:
        self.problem, self.view, self.num_workers = problem, view, dense.num_workers
        self.targets = problem.targets(split, view)
        self.images = EvaluationDataset(split.source, split.rows, view)
        self.places = np.arange(len(split))
        self.maps: dict[str, Tensor] | None = None
        if trunk is not None:
            self._compute(trunk, dense, what)

    def _compute(self, trunk: Trunk, dense: Dense, what: str) -> None:
        parts: dict[str, list[Tensor]] = {name: [] for name in trunk.names}
        places = []
        loader = evaluation_loader(self.images, batch_size=_IMAGES_A_BATCH, num_workers=self.num_workers)
        with evaluating(trunk):
            for images, positions in loader:
                places.append(positions.numpy())
                for name, value in trunk(images.to(dense.device)).items() if len(images) else ():
                    parts[name].append(_narrowed(value, name).cpu())
                dense.progress(sum(map(len, places)), len(self.images), f"maps of {what}")
        self.places = np.concatenate(places)
        if len(self.places):
            # Out of inference mode: heads take gradients through them.
            self.maps = {name: torch.cat(values).clone() for name, values in parts.items()}

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, order: np.ndarray, size: int) -> Iterator[tuple[Any, Any, np.ndarray]]:
        """(maps in half precision or images, targets, places) of these cases, `size` at a time."""
        starts = range(0, len(order), size)
        if self.maps is not None:
            for start in starts:
                some = torch.from_numpy(order[start : start + size])
                inputs = {name: value[some] for name, value in self.maps.items()}
                yield self._with_targets(inputs, self.places[some.numpy()])
            return
        wanted = [self.places[order[start : start + size]].tolist() for start in starts]
        loader = evaluation_loader(self.images, batch_size=1, num_workers=self.num_workers, batches=wanted)
        for images, positions in loader:
            if len(images):
                yield self._with_targets(images, positions.numpy())

    def _with_targets(self, inputs: Any, places: np.ndarray) -> tuple[Any, Any, np.ndarray]:
        targets = self.problem.collate([self.targets[i] for i in places.tolist()], self.view.size)
        return inputs, targets, places


def _narrowed(value: Tensor, name: str) -> Tensor:
    """In half precision, or where that overflows in bfloat16; joined, the two become single precision.

    Raises:
        TrainingError: if the encoder's own values are not finite.
    """
    if not value.isfinite().all():
        raise TrainingError(f"the encoder gives values that are not finite ({name}): has its run diverged?")
    half = value.half()
    return half if half.isfinite().all() else value.bfloat16()


class Epochs:
    """Passes over cases, each in a new order if it is shuffled; what Lightning takes for a loader."""

    def __init__(self, cases: Cases, size: int, *, seed: int | None) -> None:
        self.cases, self.seed, self.epoch = cases, seed, 0
        # A training split smaller than a batch is a batch.
        self.size = min(size, len(cases))

    def __len__(self) -> int:
        whole, rest = divmod(len(self.cases), self.size)
        return whole if self.seed is not None else whole + bool(rest)

    def __iter__(self) -> Iterator[tuple[Any, Any, np.ndarray]]:
        order = np.arange(len(self.cases))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
            order = order[: len(self) * self.size]
        self.epoch += 1
        return self.cases.batches(order, self.size)


def size_of_maps(trunk: Trunk, dense: Dense, view: EvaluationView) -> int:
    """Bytes of the maps of all images, from one that is black."""
    with evaluating(trunk):
        maps: dict[str, Tensor] = trunk(
            torch.zeros(1, 1, view.size, view.size, dtype=torch.uint8, device=dense.device)
        )
    of_one = sum(2 * value.numel() for value in maps.values())
    return of_one * sum(len(split) for split in (dense.train, dense.validate, dense.test))


def few_shot(split: DenseSplit, fraction: float, seed: int, draw: int) -> DenseSplit:
    """A share of the patients, nested, stratified by the rarest class drawn on their images."""
    if fraction >= 1:
        return split
    classes = sorted({name for cells in (split.masks, split.boxes) for cell in cells for name in cell})
    drawn = [
        [name in m or name in b for name in classes] for m, b in zip(split.masks, split.boxes, strict=True)
    ]
    labels = np.array(drawn, np.float64).reshape(len(split), len(classes))
    return split.take(few_shot_rows(split.patient_ids, labels, fraction, seed, draw))


def merged_boxes(split: DenseSplit, classes: Sequence[str], name: str) -> DenseSplit:
    """The split with the boxes of these classes as one class of this name."""
    parts = [[cell[each] for each in classes if each in cell] for cell in split.boxes]
    boxes = [{name: np.concatenate(each)} if each else {} for each in parts]
    return dataclasses.replace(split, boxes=boxes)


def check_splits(task: str, dense: Dense | None) -> Dense:
    """The inputs, if all three splits are there.

    Raises:
        ConfigurationError: otherwise.
    """
    if dense is None:
        raise ConfigurationError(f"{task} needs images with masks or boxes, and an image encoder")
    for name in ("train", "validate"):
        if not len(getattr(dense, name)):
            raise ConfigurationError(f"{task} needs a {name} split: the data set has none")
    return dense
