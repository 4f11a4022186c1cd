"""Losses of maps: soft Dice for segmentation, and the three-scale YOLO loss for detection.

Shapes: B images, C classes, A anchors of a scale, H x W cells or pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from radlearn.losses._precision import at_least_float32, no_autocast

_EPS = 1e-7
# Weights of the YOLO loss: place and size of a box, and the confidence where there is none.
_COORDINATES, _NO_OBJECT = 2.5, 0.5
# An anchor that overlaps a box by more is no negative in the box's cell, even if another one is the best.
_IGNORE_ABOVE = 0.5


def dice_loss(
    logits: Float[Tensor, "batch classes height width"],
    target: Float[Tensor, "batch classes height width"],
    *,
    per_class: bool = False,
) -> Float[Tensor, ""]:
    """Soft Dice over the whole batch, without smoothing.

        loss = 1 - 2 sum(p t) / (sum p + sum t),   p = sigmoid(logits)

    Args:
        logits: (B, C, H, W).
        target: (B, C, H, W) in {0, 1}.
        per_class: a Dice for each class, averaged over those the batch has; otherwise all classes are merged
            into one, so that a frequent class outweighs a rare one.

    Returns:
        A scalar; 0 and without gradient where the batch has no positive pixel.

    Raises:
        ValueError: on shapes that differ.
    Source: LoVT's segmentation tasks (Müller et al. 2022, arXiv:2112.02889); `binary` Dice of
        segmentation_models_pytorch.
    """
    if logits.shape != target.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} differ in shape")
    with no_autocast(logits.device):
        p = at_least_float32(logits).sigmoid()
        t = target.to(p)
        # (images, classes), then classes or one sum: a dot product needs no third map.
        p, t = p.flatten(2), t.flatten(2)
        both, said, positive = torch.linalg.vecdot(p, t).sum(0), p.sum((0, 2)), t.sum((0, 2))
        if not per_class:
            both, said, positive = (each.sum().unsqueeze(0) for each in (both, said, positive))
        score = 2 * both / (said + positive).clamp_min(_EPS)
        present = (positive > 0).to(p)
        loss: Tensor = ((1 - score) * present).sum() / present.sum().clamp_min(1)
        return loss


@dataclass(frozen=True)
class YoloTargets:
    """What one scale should say, as tensors (B, A, H, W); `classes` is (B, A, H, W, C).

    Attributes:
        present: where an anchor has a box; absent: where its confidence should be 0. An anchor of a box whose
            overlap is small is both: the published loss asks it for 1 and, with half the weight, for 0.
        x, y: place of the box's centre in its cell, 0 to 1; w, h: ln of its size over the anchor's.
        classes: one or more ones where several boxes share a slot.
    """

    present: Tensor
    absent: Tensor
    x: Tensor
    y: Tensor
    w: Tensor
    h: Tensor
    classes: Tensor

    def to(self, device: torch.device) -> YoloTargets:
        """Move every tensor to a device."""
        return YoloTargets(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def yolo_targets(
    boxes: Sequence[np.ndarray],
    classes: Sequence[np.ndarray],
    anchors: Sequence[tuple[float, float]],
    *,
    grid: tuple[int, int],
    stride: float | int,
    num_classes: int = 1,
) -> YoloTargets:
    """Assign every box to the best anchor of a scale, in the cell of its centre.

    Anchors are compared by size alone, in cells, with the convention that a box from 0 to n is n + 1 long. A
    later box takes a slot over, but adds its class.

    Args:
        boxes: for each image (M, 4) x, y, w, h in pixels of the image the network sees.
        classes: for each image (M,) class numbers.
        anchors: (width, height) in pixels.
        grid: cells, (H, W); stride: pixels a cell.
        num_classes: C.
    Source: LoVT's detection tasks (Müller et al. 2022, arXiv:2112.02889), after YOLOv3 (Redmon and Farhadi
        2018, arXiv:1804.02767).
    """
    height, width = grid
    shape = (len(boxes), len(anchors), height, width)
    present, absent = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    x, y, w, h = np.zeros((4, *shape), np.float32)
    of_class = np.zeros((*shape, num_classes), np.float32)
    image = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    box = np.concatenate([np.asarray(each, np.float64).reshape(-1, 4) for each in boxes]) / stride
    kind = np.concatenate([np.asarray(each, np.int64).ravel() for each in classes])
    centre, size = box[:, :2] + box[:, 2:] / 2, box[:, 2:]
    cell = np.floor(centre).astype(np.int64)
    inside = ((cell >= 0) & (cell < [width, height])).all(1) & (size > 0).all(1)
    image, kind = image[inside], kind[inside]
    centre, size, cell = centre[inside], size[inside], cell[inside]
    column, row = cell.T
    shapes = np.asarray(anchors, np.float64) / stride
    common = (np.minimum(size[:, None], shapes) + 1).prod(-1)
    overlap = common / ((size + 1).prod(-1)[:, None] + (shapes + 1).prod(-1) - common)
    for place, anchor in zip(*np.nonzero(overlap > _IGNORE_ABOVE), strict=True):
        absent[image[place], anchor, row[place], column[place]] = 0
    best = overlap.argmax(1) if len(overlap) else np.zeros(0, np.int64)
    slot = (image, best, row, column)
    present[slot] = 1
    x[slot], y[slot] = (centre - cell).T
    w[slot], h[slot] = np.log(size / shapes[best]).T
    of_class[(*slot, kind)] = 1
    return YoloTargets(*(torch.from_numpy(each) for each in (present, absent, x, y, w, h, of_class)))


def yolo_loss(
    logits: Float[Tensor, "batch channels height width"], targets: YoloTargets
) -> dict[str, Float[Tensor, ""]]:
    """The YOLO loss of one scale, part by part; the total is the sum over scales.

        2.5 [BCE(x) + BCE(y)] + 2.5 [MSE(w) + MSE(h)] + BCE(conf | present) + .5 BCE(conf | absent)
        + [C > 1] BCE(class | present)

    All are means over every slot, present or not, so that few boxes weigh little.

    Args:
        logits: (B, A (5 + C), H, W), for each anchor x, y, w, h, confidence, classes.
        targets: of the same scale.

    Returns:
        `total`, and unweighted `x`, `y`, `w`, `h`, `confidence`, `classes`.
    """
    num_images, num_anchors, height, width = targets.present.shape
    num_classes = targets.classes.shape[-1]
    wanted = (num_images, num_anchors * (5 + num_classes), height, width)
    if logits.shape != wanted:
        raise ValueError(f"logits of these targets are {wanted}: got {tuple(logits.shape)}")
    with no_autocast(logits.device):
        out = at_least_float32(logits).reshape(num_images, num_anchors, -1, height, width)
        present, absent = targets.present.to(out), targets.absent.to(out)

        def masked_bce(given: Tensor, target: Tensor) -> Tensor:
            return (
                binary_cross_entropy_with_logits(given, target.to(out), reduction="none") * present
            ).mean()

        def masked_mse(given: Tensor, target: Tensor) -> Tensor:
            return ((given - target.to(out)).square() * present).mean()

        confidence = out[:, :, 4]
        parts = {
            "x": masked_bce(out[:, :, 0], targets.x),
            "y": masked_bce(out[:, :, 1], targets.y),
            "w": masked_mse(out[:, :, 2], targets.w),
            "h": masked_mse(out[:, :, 3], targets.h),
            "confidence": (softplus(-confidence) * present).mean()
            + _NO_OBJECT * (softplus(confidence) * absent).mean(),
            "classes": out.new_zeros(()),
        }
        if num_classes > 1:
            of_class = out[:, :, 5:].movedim(2, -1)
            each = binary_cross_entropy_with_logits(of_class, targets.classes.to(out), reduction="none")
            parts["classes"] = (each * present.unsqueeze(-1)).mean()
        placed = sum((parts[key] for key in ("x", "y", "w", "h")), out.new_zeros(()))
        return {"total": _COORDINATES * placed + parts["confidence"] + parts["classes"], **parts}
