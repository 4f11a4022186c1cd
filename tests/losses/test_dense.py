"""Dice and YOLO losses against the published modules' values and formulas in NumPy."""

import numpy as np
import pytest
import torch

from radlearn.losses.dense import dice_loss, yolo_loss, yolo_targets

LARGE = ((64.64, 48.6), (84.24, 106.92), (201.42, 176.04))
MIDDLE = ((16.2, 32.94), (33.48, 24.3), (31.86, 64.26))


def waves(*shape, rate=0.37, of=np.sin):
    n = np.arange(1, np.prod(shape) + 1, dtype=np.float64)
    return torch.from_numpy(of(rate * n).reshape(shape))


def test_dice_of_the_published_module():
    """LoVT's release executed: sin(0.37 n) against cos(0.53 n) > 0.6, float32."""
    logits = waves(2, 8, 6, 6).float()
    target = (waves(2, 8, 6, 6, rate=0.53, of=np.cos) > 0.6).float()
    assert float(dice_loss(logits, target)) == pytest.approx(0.635720, abs=2e-6)
    assert float(dice_loss(logits[:, :1], target[:, :1])) == pytest.approx(0.618129, abs=2e-6)


def test_dice_without_a_positive_pixel_teaches_nothing():
    logits = waves(2, 2, 3, 3).requires_grad_()
    loss = dice_loss(logits, torch.zeros(2, 2, 3, 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()


def test_dice_per_class_is_the_mean_over_classes_that_are_there():
    logits, target = waves(3, 3, 4, 4), (waves(3, 3, 4, 4, rate=0.53) > 0.3).double()
    target[:, 1] = 0
    each = [float(dice_loss(logits[:, c : c + 1], target[:, c : c + 1])) for c in (0, 2)]
    found = dice_loss(logits, target, per_class=True)
    assert float(found) == pytest.approx(np.mean(each))
    p, t = torch.sigmoid(logits[:, 0]).numpy(), target[:, 0].numpy()
    assert each[0] == pytest.approx(1 - 2 * (p * t).sum() / (p.sum() + t.sum()))


def test_dice_is_computed_in_float32():
    logits, target = waves(2, 1, 8, 8).float(), (waves(2, 1, 8, 8, rate=0.53) > 0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = dice_loss(logits, target)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(dice_loss(logits.double(), target.double())), rel=1e-6)
    with pytest.raises((ValueError, TypeError)):
        dice_loss(logits, target[:, :, :4])


@pytest.mark.parametrize(
    ("anchors", "cells", "wanted"),
    [
        (LARGE, 7, {"total": 0.405436, "x": 0.002487, "y": 0.001740, "w": 0.002748, "h": 0.003962,
                    "confidence": 0.378095}),
        (MIDDLE, 14, {"total": 0.381220, "confidence": 0.375706}),
    ],
)  # fmt: skip
def test_yolo_loss_of_the_published_module(anchors, cells, wanted):
    """LoVT's release executed: one box of 60 x 80 at (20, 30) in the first of two images of 224 pixels."""
    boxes = [np.array([[20, 30, 60, 80]]), np.zeros((0, 4))]
    kinds = [np.zeros(1), np.zeros(0)]
    targets = yolo_targets(boxes, kinds, anchors, grid=(cells, cells), stride=224 / cells)
    found = yolo_loss(waves(2, 18, cells, cells).float(), targets)
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(value, abs=2e-6), name


def test_yolo_targets_of_three_boxes():
    """By hand, cells of 32 pixels."""
    boxes = [np.array([[40.0, 72.0, 64.64, 48.6], [0, 0, 6, 4], [150, 150, 74, 75]])]
    targets = yolo_targets(boxes, [np.array([0, 1, 0])], LARGE, grid=(7, 7), stride=32, num_classes=2)
    assert targets.present.sum() == 3
    # Centre (72.32, 96.3): column 2, row 3; it has the first anchor's size.
    assert targets.present[0, 0, 3, 2] == targets.classes[0, 0, 3, 2, 0] == 1
    assert float(targets.x[0, 0, 3, 2]) == pytest.approx(72.32 / 32 - 2)
    assert float(targets.y[0, 0, 3, 2]) == pytest.approx(96.3 / 32 - 3)
    assert float(targets.w[0, 0, 3, 2]) == pytest.approx(0, abs=1e-6)
    # The second overlaps no anchor by half: it is asked for a confidence of 1 and of 0.
    assert targets.present[0, 0, 0, 0] == targets.absent[0, 0, 0, 0] == 1
    assert targets.classes[0, 0, 0, 0].tolist() == [0, 1]
    assert float(targets.h[0, 0, 0, 0]) == pytest.approx(np.log(4 / 48.6))
    # The third, 2.31 x 2.34 cells, overlaps the first anchor by 7.61 / 11.06 and the second by 11.06 / 15.75.
    assert targets.present[0, :, 5, 5].tolist() == [0, 1, 0]
    assert targets.absent[0, :, 5, 5].tolist() == [0, 0, 1]
    assert targets.absent.sum() == targets.absent.numel() - 3


def test_a_later_box_takes_a_slot_over_and_adds_its_class():
    boxes = [np.array([[40.0, 72.0, 60, 50], [42.0, 72.0, 62, 52], [300, 300, 20, 20], [5, 5, 0, 9]])]
    targets = yolo_targets(boxes, [np.arange(4)], LARGE, grid=(7, 7), stride=32, num_classes=4)
    # Boxes outside the image, and without an area, have no cell.
    assert targets.present.sum() == 1
    assert float(targets.x[0, 0, 3, 2]) == pytest.approx((42 + 31) / 32 - 2)
    assert targets.classes[0, 0, 3, 2].tolist() == [1, 1, 0, 0]


def test_yolo_loss_of_several_classes_in_numpy():
    boxes = [np.array([[40.0, 72.0, 60, 50]]), np.array([[100.0, 10, 90, 110], [0, 0, 6, 4]])]
    kinds = [np.array([2]), np.array([0, 1])]
    targets = yolo_targets(boxes, kinds, LARGE, grid=(7, 7), stride=32, num_classes=3)
    logits = waves(2, 24, 7, 7)
    found = yolo_loss(logits, targets)
    out = logits.numpy().reshape(2, 3, 8, 7, 7)
    m, n = targets.present.numpy(), targets.absent.numpy()
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731

    def bce(p, t):
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(t > 0, -t * np.log(p), 0) + np.where(t < 1, -(1 - t) * np.log(1 - p), 0)
        return terms.mean()

    x, y, conf = (sigmoid(out[:, :, i]) for i in (0, 1, 4))
    total = 2.5 * (bce(x * m, targets.x.numpy() * m) + bce(y * m, targets.y.numpy() * m))
    total += 2.5 * sum(
        np.square(out[:, :, i] * m - t.numpy() * m).mean() for i, t in ((2, targets.w), (3, targets.h))
    )
    total += bce(conf * m, m) + 0.5 * bce(conf * n, np.zeros_like(n))
    of_class = sigmoid(np.moveaxis(out[:, :, 5:], 2, -1)) * m[..., None]
    total += bce(of_class, targets.classes.numpy())
    assert float(found["total"]) == pytest.approx(total, rel=1e-6)
    with pytest.raises(ValueError, match=r"logits of these targets are \(2, 24, 7, 7\)"):
        yolo_loss(logits[:, :18], targets)
