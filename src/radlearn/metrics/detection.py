"""Average precision and free-response ROC of boxes, from what each image's predictions hit.

Boxes are (x, y, w, h) in pixels. Where boxes are compared, a box from 0 to n is n + 1 pixels long (`+1`), as
in the published numbers. What an image's predictions hit is kept, so that any draw of patients can be scored
again. Shapes: P predictions, T thresholds, M boxes, N images.

Source: LoVT (Müller et al. 2022, arXiv:2112.02889), evaluation; mAP of the RSNA challenge with 101 recall
points as in COCO; fROC of the Object-CXR challenge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radlearn.stats import FloatArray, IntArray

THRESHOLDS = tuple(round(0.4 + 0.05 * i, 2) for i in range(8))
FALSE_POSITIVES_AN_IMAGE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Detections:
    """Predictions of one class on a split, the most confident first, and what they hit.

    Attributes:
        image: (P,) image of each prediction.
        score: (P,) confidence.
        matched: (P, T) whether it is matched to a box at each threshold of the overlap.
        hits: (P,) boxes that its centre is the first to hit, predictions of an image in descending order.
        idle: (P,) whether its centre lies in boxes that are all hit already: neither hit nor false.
        num_boxes: (N,) boxes of each image.
    """

    image: IntArray
    score: FloatArray
    matched: NDArray[np.bool_]
    hits: IntArray
    idle: NDArray[np.bool_]
    num_boxes: IntArray


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Overlap (P, M) of boxes (P, 4) and (M, 4), with the `+1` convention."""
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    common = np.clip(high - low + 1, 0, None).prod(-1)
    areas = [(boxes[:, 2:] + 1).prod(-1) for boxes in (a, b)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None] - common), np.float64)


def match(
    predicted: Sequence[FloatArray],
    scores: Sequence[FloatArray],
    boxes: Sequence[FloatArray],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Detections:
    """Match the predictions of each image with its boxes.

    In descending order of confidence each prediction takes the box that it overlaps most among those still
    free, if by more than the threshold.

    Args:
        predicted, scores: for each image (P_i, 4) and (P_i,).
        boxes: for each image (M_i, 4).
        thresholds: (T,).
    """
    image, score, matched, hits, idle = [], [], [], [], []
    for number, (given, confidence, truth) in enumerate(zip(predicted, scores, boxes, strict=True)):
        order = np.argsort(-np.asarray(confidence), kind="stable")
        given = np.asarray(given, np.float64).reshape(-1, 4)[order]
        truth = np.asarray(truth, np.float64).reshape(-1, 4)
        image.append(np.full(len(order), number))
        score.append(np.asarray(confidence, np.float64)[order])
        matched.append(_matched(box_iou(given, truth), thresholds))
        first, none_left = _centres(given, truth)
        hits.append(first)
        idle.append(none_left)
    confidence = np.concatenate(score)
    order = np.argsort(-confidence, kind="stable")
    return Detections(
        image=np.concatenate(image)[order],
        score=confidence[order],
        matched=np.concatenate(matched)[order],
        hits=np.concatenate(hits)[order],
        idle=np.concatenate(idle)[order],
        num_boxes=np.array([len(np.asarray(truth).reshape(-1, 4)) for truth in boxes]),
    )


def _matched(overlap: FloatArray, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """(P, M) overlaps, predictions in descending order -> (P, T)."""
    found = np.zeros((len(overlap), len(thresholds)), bool)
    if not overlap.size:
        return found
    for column, threshold in enumerate(thresholds):
        free = overlap.copy()
        for row in np.flatnonzero(overlap.max(1) > threshold).tolist():
            box = int(free[row].argmax())
            if free[row, box] > threshold:
                found[row, column] = True
                free[:, box] = -1
    return found


def _centres(given: FloatArray, truth: FloatArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """How many boxes each prediction's centre is the first to hit, and whether it only hits taken ones."""
    centre = given[:, None, :2] + given[:, None, 2:] / 2
    inside = np.logical_and(centre >= truth[:, :2], centre <= truth[:, :2] + truth[:, 2:]).all(axis=-1)
    taken = np.logical_or.accumulate(inside, axis=0)
    before = np.zeros_like(taken)
    before[1:] = taken[:-1]
    first = (inside & ~before).sum(1)
    return first, (inside.sum(1) > 0) & (first == 0)


def average_precision(detections: Detections, weights: FloatArray | None = None) -> FloatArray:
    """AP (T,) at each threshold: mean over 101 recall points of the best precision at that recall or more.

    Args:
        detections: of one class.
        weights: (N,) how often each image counts; None counts each once.

    Returns:
        (T,); NaN without any box.
    """
    order, weight, total = _ranked(detections, weights)
    found = np.full(detections.matched.shape[1], np.nan)
    if total == 0:
        return found
    said = np.cumsum(weight)
    # Recall is compared with 101 points: a rounding error must not lose one.
    needed = _RECALL_POINTS * total * (1 - 1e-12)
    for column, hit in enumerate(detections.matched[order].T):
        true = np.cumsum(weight * hit)
        best = np.maximum.accumulate((true / np.maximum(said, 1e-300))[::-1])[::-1]
        place = np.searchsorted(true, needed, side="left")
        found[column] = np.append(best, 0.0)[place].mean()
    return found


def froc(detections: Detections, weights: FloatArray | None = None) -> float:
    """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives an image; NaN without any box.

    A prediction hits every box that its centre lies in; later ones in the same boxes are neither hits nor
    false. Going down the confidences, each time the false positives an image reach the next point, the
    sensitivity so far is noted, at most once a prediction; points that are never reached repeat the last
    noted one. A curve that reaches none scores its sensitivity.

    Args:
        detections, weights: as for `average_precision`; predictions of images without weight are skipped.
    """
    order, weight, total = _ranked(detections, weights)
    if total == 0:
        return float("nan")
    images = float(len(detections.num_boxes) if weights is None else np.sum(weights))
    hits, idle = detections.hits[order], detections.idle[order]
    sensitivity = np.cumsum(weight * hits) / total
    false = np.cumsum(weight * ((hits == 0) & ~idle)) / images
    noted: list[float] = []
    after = 0
    for point in FALSE_POSITIVES_AN_IMAGE:
        place = max(int(np.searchsorted(false, point, side="left")), after)
        if place >= len(false):
            break
        noted.append(float(sensitivity[place]))
        after = place + 1
    if not noted:
        return float(sensitivity[-1]) if len(sensitivity) else 0.0
    return float(np.mean(noted + [noted[-1]] * (len(FALSE_POSITIVES_AN_IMAGE) - len(noted))))


def _ranked(detections: Detections, weights: FloatArray | None) -> tuple[IntArray, FloatArray, float]:
    """Predictions that count in descending order, their weights, and the weight of all boxes."""
    of_image = np.ones(len(detections.num_boxes)) if weights is None else np.asarray(weights, np.float64)
    weight = of_image[detections.image]
    order = np.flatnonzero(weight)
    return order, weight[order], float(of_image @ detections.num_boxes)


# --- a whole split, several classes

METRICS = ("map", "map@0.5", "map@0.75", "positive_map", "froc")


def of_classes(
    predicted: Sequence[FloatArray],
    scores: Sequence[FloatArray],
    kinds: Sequence[IntArray],
    boxes: Sequence[FloatArray],
    box_kinds: Sequence[IntArray],
    num_classes: int,
) -> list[Detections]:
    """What is matched, class by class; arguments as for `match`, with the class of each box."""
    found = []
    for number in range(num_classes):
        said = [np.asarray(k) == number for k in kinds]
        there = [np.asarray(k) == number for k in box_kinds]
        found.append(
            match(
                [np.asarray(b).reshape(-1, 4)[m] for b, m in zip(predicted, said, strict=True)],
                [np.asarray(s)[m] for s, m in zip(scores, said, strict=True)],
                [np.asarray(b).reshape(-1, 4)[m] for b, m in zip(boxes, there, strict=True)],
            )
        )
    return found


def scores_of(detections: Sequence[Detections], weights: FloatArray | None = None) -> dict[str, FloatArray]:
    """Metric -> its value for each class (C,), NaN for a class without any box.

    `map` is the mean over the thresholds 0.40 to 0.75, `map@0.5` and `map@0.75` are at one of them,
    `positive_map` is that of images with boxes of the class alone.
    """
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for each in detections:
        precision = average_precision(each, weights)
        of_images = np.ones(len(each.num_boxes)) if weights is None else np.asarray(weights, np.float64)
        positive = np.where(each.num_boxes > 0, of_images, 0.0)
        values = {
            "map": precision.mean(),
            "map@0.5": precision[THRESHOLDS.index(0.5)],
            "map@0.75": precision[THRESHOLDS.index(0.75)],
            "positive_map": average_precision(each, positive).mean(),
            "froc": froc(each, weights),
        }
        for name, value in values.items():
            found[name].append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def scores_of_draws(
    detections: Sequence[Detections], patients: IntArray, multiplicities: NDArray[np.integer]
) -> dict[str, FloatArray]:
    """Metric -> (1 + draws, C): on the data as they are, then on every draw of patients.

    Args:
        detections: of each class.
        patients: (N,) row of `multiplicities` that belongs to each image.
        multiplicities: (P, draws) how often each patient was drawn.
    """
    rows = [scores_of(detections)]
    rows += [scores_of(detections, times[patients].astype(np.float64)) for times in multiplicities.T]
    return {name: np.stack([row[name] for row in rows]) for name in METRICS}
