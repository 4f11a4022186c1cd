"""Average precision and fROC against the published modules' values and loops."""

import numpy as np
import pytest

from radlearn.metrics.detection import THRESHOLDS, average_precision, box_iou, froc, match


def corners(*boxes):
    """x1, y1, x2, y2 -> x, y, w, h."""
    array = np.array(boxes, float).reshape(-1, 4)
    return np.concatenate([array[:, :2], array[:, 2:] - array[:, :2]], axis=1)


@pytest.fixture
def toy():
    """Three images: two boxes, none, one; four predictions."""
    boxes = [corners((10, 10, 60, 60), (100, 100, 150, 160)), corners(), corners((40, 40, 120, 110))]
    predicted = [
        corners((12, 8, 62, 58), (90, 105, 140, 165), (0, 0, 30, 30)),
        corners((20, 20, 80, 80)),
        corners(),
    ]
    scores = [np.array([0.9, 0.6, 0.5]), np.array([0.7]), np.zeros(0)]
    return predicted, scores, boxes


def test_overlap_of_the_published_module():
    """LoVT's release executed; by hand 36 / (121 + 121 - 36)."""
    found = box_iou(corners((0, 0, 10, 10)), corners((5, 5, 15, 15), (40, 40, 50, 50)))
    assert found[0, 0] == pytest.approx(0.174757, abs=1e-6)
    assert found[0, 1] == 0


def test_the_published_toy(toy):
    """LoVT's release executed on the same boxes."""
    detections = match(*toy)
    found = average_precision(detections)
    np.testing.assert_allclose(found[:4], 0.55446, atol=1e-5)
    np.testing.assert_allclose(found[4:], 0.33663, atol=1e-5)
    assert found.mean() == pytest.approx(0.445545, abs=1e-6)
    assert froc(detections) == pytest.approx(13 / 21)
    assert THRESHOLDS == (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)


def made_up(seed, num_images=12):
    """Boxes, and predictions that lie near them or anywhere."""
    random = np.random.default_rng(seed)
    boxes, predicted, scores = [], [], []
    for _ in range(num_images):
        truth = np.concatenate([random.uniform(0, 150, (k := random.integers(0, 4), 2)),
                                random.uniform(20, 70, (k, 2))], axis=1)  # fmt: skip
        near = truth[random.random(k) < 0.8] + random.normal(0, 6, 4)
        other = np.concatenate([random.uniform(0, 150, (2, 2)), random.uniform(20, 70, (2, 2))], axis=1)
        boxes.append(truth)
        predicted.append(np.concatenate([near, near + 1.0, other]))
        scores.append(random.uniform(0.2, 1, len(predicted[-1])))
    return predicted, scores, boxes


def looped(predicted, scores, boxes, threshold):
    """AP by the definition, a prediction at a time."""
    everything = sorted(
        ((s, i, j) for i, each in enumerate(scores) for j, s in enumerate(each)), key=lambda t: -t[0]
    )
    used, true, points = set(), 0, []
    total = sum(map(len, boxes))
    for said, (_, i, j) in enumerate(everything, 1):
        overlaps = [
            (box_iou(predicted[i][j : j + 1], boxes[i][k : k + 1])[0, 0], k)
            for k in range(len(boxes[i]))
            if (i, k) not in used
        ]
        if overlaps and max(overlaps)[0] > threshold:
            used.add((i, max(overlaps)[1]))
            true += 1
        points.append((true / total, true / said))
    # In hundredths, so that 0.29 is not a little more than 29 of 100.
    return np.mean(
        [max((p for r, p in points if round(r * total) * 100 >= k * total), default=0) for k in range(101)]
    )


def looped_froc(predicted, scores, boxes):
    everything = sorted(
        ((s, i, j) for i, each in enumerate(scores) for j, s in enumerate(each)), key=lambda t: -t[0]
    )
    points, noted, hit, false = [0.125, 0.25, 0.5, 1, 2, 4, 8], [], set(), 0
    total = sum(map(len, boxes))
    for _, i, j in everything:
        x, y, w, h = predicted[i][j]
        inside = {
            (i, k)
            for k, (bx, by, bw, bh) in enumerate(boxes[i])
            if bx <= x + w / 2 <= bx + bw and by <= y + h / 2 <= by + bh
        }
        false += not inside
        hit |= inside
        if len(noted) < 7 and false / len(boxes) >= points[len(noted)]:
            noted.append(len(hit) / total)
    if not noted:
        return len(hit) / total
    return np.mean(noted + [noted[-1]] * (7 - len(noted)))


@pytest.mark.parametrize("seed", range(4))
def test_definitions_by_loops(seed):
    case = made_up(seed)
    detections = match(*case)
    wanted = [looped(*case, threshold) for threshold in THRESHOLDS]
    assert 0.05 < np.mean(wanted) < 0.95
    np.testing.assert_allclose(average_precision(detections), wanted)
    assert froc(detections) == pytest.approx(looped_froc(*case))


def test_weights_repeat_images():
    """An image of weight 2 is the image twice, and one of weight 0 is not there."""
    case = made_up(7)
    times = np.array([2, 0, 1, 3, 1, 1, 0, 1, 1, 2, 0, 1])
    repeated = [[each for each, n in zip(part, times, strict=True) for _ in range(n)] for part in case]
    found, wanted = average_precision(match(*case), times), average_precision(match(*repeated))
    # Equal confidences of an image and its copy are one step here and two there.
    np.testing.assert_allclose(found, wanted, atol=0.02)
    only = [[each for each, n in zip(part, times, strict=True) if n] for part in case]
    np.testing.assert_allclose(
        average_precision(match(*case), (times > 0).astype(float)), average_precision(match(*only))
    )
    assert froc(match(*case), (times > 0).astype(float)) == pytest.approx(froc(match(*only)))


def test_perfect_and_empty():
    _, _, boxes = made_up(3)
    perfect = match(boxes, [np.full(len(b), 0.9) for b in boxes], boxes)
    assert average_precision(perfect).min() == 1
    assert froc(perfect) == 1
    nothing = match([corners()] * len(boxes), [np.zeros(0)] * len(boxes), boxes)
    assert average_precision(nothing).max() == froc(nothing) == 0
    no_boxes = match([corners((0, 0, 5, 5))], [np.ones(1)], [corners()])
    assert np.isnan(average_precision(no_boxes)).all()
    assert np.isnan(froc(no_boxes))
