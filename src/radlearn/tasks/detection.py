"""Detection: a YOLO head on the encoder's maps draws boxes; average precision and free-response ROC.

The boxes of each image, predicted and true, are kept, so that every number can be computed again for any draw
of patients. What chance scores is next to 0.

Source: LoVT's detection tasks (Müller et al. 2022, arXiv:2112.02889), after YOLOv3 (Redmon and Farhadi 2018,
arXiv:1804.02767).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from radlearn.data.views import EvaluationView
from radlearn.dense_heads import ANCHORS, YOLO_STRIDES, DenseHead, YoloHead, anchors_of
from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError
from radlearn.losses.dense import YoloTargets, yolo_loss, yolo_targets
from radlearn.metrics import detection as metrics
from radlearn.results import BoxPredictions
from radlearn.stats import drawn_patients
from radlearn.tasks._dense import MACRO, DenseTask, Measured, learn
from radlearn.tasks._dense_cases import Arrays, Problem, merged_boxes
from radlearn.tasks._dense_training import Trained
from radlearn.tasks.base import DenseSplit, Evaluation, Inputs

_CONFIDENT, _OVERLAPPING = 0.2, 0.4
_KEPT = ("boxes", "scores", "classes", "truth", "truth_classes")


@dataclass(frozen=True)
class Drawn:
    """What is drawn on a batch: boxes (M, 4) and classes (M,) of each image, the targets of each scale."""

    boxes: Sequence[np.ndarray]
    kinds: Sequence[np.ndarray]
    scales: Sequence[YoloTargets]

    def to(self, device: torch.device) -> Drawn:
        """Targets move to a device."""
        return Drawn(self.boxes, self.kinds, [targets.to(device) for targets in self.scales])


class Boxes(Problem):
    """What a detection head learns: the YOLO loss over three scales.

    Args:
        classes: (C,) names; metric: `map` or `froc`; width: see `YoloHead`.
    """

    def __init__(self, classes: Sequence[str], *, metric: str, width: int) -> None:
        self.classes, self.metric, self.width = list(classes), metric, width

    def head(self, encoder: Encoder, size: int) -> DenseHead:
        """A fresh head."""
        return YoloHead(encoder, len(self.classes), size, width=self.width)

    def targets(self, split: DenseSplit, view: EvaluationView) -> list[tuple[np.ndarray, np.ndarray]]:
        """Boxes (M, 4) in pixels of the view, and their classes (M,)."""
        found = []
        for cell, (height, width) in zip(split.boxes, split.sizes.tolist(), strict=True):
            parts = [view.boxes(cell[name], height, width) for name in self.classes if name in cell]
            counts = [len(cell.get(name, ())) for name in self.classes]
            kinds = np.repeat(np.arange(len(self.classes)), counts)
            found.append((np.concatenate([np.zeros((0, 4)), *parts]), kinds))
        return found

    def collate(self, targets: Sequence[tuple[np.ndarray, np.ndarray]], size: int) -> Drawn:
        """Boxes and targets."""
        boxes, kinds = [box for box, _ in targets], [kind for _, kind in targets]
        scales = []
        for stride, anchors in zip(YOLO_STRIDES, anchors_of(size), strict=True):
            cells = math.ceil(size / stride)
            scales.append(
                yolo_targets(
                    boxes, kinds, anchors, grid=(cells, cells), stride=stride, num_classes=len(self.classes)
                )
            )
        return Drawn(boxes, kinds, scales)

    def loss(self, outputs: Sequence[Tensor], targets: Drawn) -> Tensor:
        """The sum over scales."""
        losses = [yolo_loss(out.float(), t)["total"] for out, t in zip(outputs, targets.scales, strict=True)]
        return torch.stack(losses).sum()

    def predict(self, outputs: Sequence[Tensor], targets: Drawn) -> list[Arrays]:
        """Boxes above the confidence that no better one of their class covers."""
        found = decode(outputs, len(self.classes))
        return [
            {**said, "truth": boxes, "truth_classes": kinds}
            for said, boxes, kinds in zip(found, targets.boxes, targets.kinds, strict=True)
        ]

    def score(self, predicted: Sequence[Arrays]) -> float:
        """Mean over the classes; one without any box in the split is left out."""
        found = metrics.scores_of(_detections(predicted, len(self.classes)))[self.metric]
        return float(np.nan_to_num(np.nanmean(found))) if not np.isnan(found).all() else 0.0


@torch.no_grad()
def decode(outputs: Sequence[Tensor], num_classes: int) -> list[Arrays]:
    """Logits of three scales -> for each image `boxes` (P, 4) x, y, w, h, `scores` and `classes` (P,).

    Boxes may reach beyond the image. They are ranked by confidence alone; of two of a class that overlap by
    more than 0.4 (`+1`) the more confident stays.

    Args:
        outputs: for strides 32, 16, 8 (B, A (5 + C), H, W).
        num_classes: C.
    """
    size = outputs[-1].shape[-1] * YOLO_STRIDES[-1]
    parts: list[Tensor] = []
    images: list[Tensor] = []
    for logits, stride, anchors in zip(outputs, YOLO_STRIDES, anchors_of(size), strict=True):
        batch, _, height, width = logits.shape
        out = logits.float().reshape(batch, len(ANCHORS[0]), 5 + num_classes, height, width)
        out = out.permute(0, 1, 3, 4, 2)
        confident = out[..., 4].sigmoid() >= _CONFIDENT
        image, anchor, row, column = confident.nonzero(as_tuple=True)
        kept = out[confident]
        shape = torch.tensor(anchors, device=out.device)[anchor]
        centre = (kept[:, :2].sigmoid() + torch.stack([column, row], 1)) * stride
        side = kept[:, 2:4].exp() * shape
        kind = kept[:, 5:].argmax(1) if num_classes > 1 else torch.zeros_like(image)
        parts.append(torch.cat([centre - side / 2, side, kept[:, 4:5].sigmoid(), kind.unsqueeze(1)], dim=1))
        images.append(image)
    every, image = torch.cat(parts).double().cpu(), torch.cat(images).cpu()
    # One pixel longer, a box overlaps as the `+1` convention says.
    corners = torch.cat([every[:, :2], every[:, :2] + every[:, 2:4] + 1], dim=1)
    finite = corners.isfinite().all(1)
    every, image, corners = every[finite], image[finite], corners[finite]
    # Images are apart as classes are.
    group = image * num_classes + every[:, 5].long()
    kept = batched_nms(corners, every[:, 4], group, _OVERLAPPING)
    found = []
    for number in range(len(outputs[0])):
        mine = every[kept[image[kept] == number]].numpy()
        found.append({"boxes": mine[:, :4], "scores": mine[:, 4], "classes": mine[:, 5].astype(np.int64)})
    return found


def _detections(predicted: Sequence[Arrays], num_classes: int) -> list[metrics.Detections]:
    boxes, scores, classes, truth, truth_classes = ([each[name] for each in predicted] for name in _KEPT)
    return metrics.of_classes(boxes, scores, classes, truth, truth_classes, num_classes)


class Detection(DenseTask):
    """Average precision and fROC of a YOLO head trained on a frozen encoder, or together with it.

    Args:
        metric: `map` or `froc`: what chooses weights and rates on the validation split.
        head_width: of the head's first scale.
        lr, max_epochs: see `DenseTask`.
        shared: of `DenseTask`; `merge` is the published way, `image_size` a multiple of 32.
    """

    name: ClassVar[str] = "detection"
    headline: ClassVar[tuple[str, str]] = ("map", MACRO)
    merged: ClassVar[str] = "object"

    def __init__(
        self,
        *,
        metric: str = "map",
        head_width: int = 512,
        lr: float | Sequence[float] = (1e-3, 3e-4),
        max_epochs: int = 100,
        **shared: Any,
    ) -> None:
        if metric not in ("map", "froc"):
            raise ConfigurationError(f"task.metric is map or froc: got '{metric}'")
        super().__init__(lr=lr, max_epochs=max_epochs, **shared)
        self.metric, self.head_width = metric, int(head_width)

    def run(self, inputs: Inputs) -> Evaluation:
        """Train, predict, match.

        Raises:
            ConfigurationError: if the images' side is no multiple of the largest stride.
        """
        dense, size = self.opened(inputs)
        if size % YOLO_STRIDES[0]:
            raise ConfigurationError(
                f"detection needs sides of a multiple of {YOLO_STRIDES[0]} pixels: task.image_size is {size}"
            )
        dense, classes = self.wanted(
            dense,
            "box",
            lambda split: split.boxes,
            lambda split, names: merged_boxes(split, names, self.merged),
        )
        problem = Boxes(classes, metric=self.metric, width=self.head_width)
        heads = learn(problem, dense, self.recipe, image_size=size, seed=inputs.seed)

        def measure(head: Trained, patients: Sequence[str]) -> Measured:
            detections = _detections(head.predicted, len(classes))
            multiplicities, index = drawn_patients(patients, inputs.num_bootstrap, inputs.seed)
            draws = metrics.scores_of_draws(detections, index, multiplicities)
            positive = np.array([(found.num_boxes > 0).sum() for found in detections])
            nothing = {name: np.zeros(len(classes)) for name in draws}
            return Measured(draws, nothing, positive)

        rows = self.rows(inputs, dense.test, classes, heads, measure)
        return Evaluation(rows, boxes=self.kept(heads, lambda head: _boxes(head, dense.test, classes)))


def _boxes(head: Trained, test: DenseSplit, classes: Sequence[str]) -> BoxPredictions:
    scored = test.take(head.places)
    columns: dict[str, Any] = {name: [each[name] for each in head.predicted] for name in _KEPT}
    return BoxPredictions(scored.image_ids, scored.patient_ids, list(classes), **columns)
