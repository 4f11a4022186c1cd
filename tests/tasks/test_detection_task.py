"""Detection heads on squares, decoding by hand, and what is kept."""

from __future__ import annotations

import dataclasses

import dense_cases
import numpy as np
import pytest
import torch

from radlearn import results
from radlearn.data.views import EvaluationView
from radlearn.dense_heads import anchors_of
from radlearn.errors import ConfigurationError, DataError
from radlearn.metrics import detection as metrics
from radlearn.paired import compare
from radlearn.stats import drawn_patients
from radlearn.tasks.detection import Boxes, Detection, decode

QUICK = {"lr": 1e-2, "batch_size": 16, "max_epochs": 60, "patience": 60, "head_width": 32}


def run(of=None, *, num_bootstrap=30, **settings):
    of = of or dense_cases.dense()
    return Detection(**{**QUICK, **settings}).run(dense_cases.inputs(of, num_bootstrap=num_bootstrap))


def row(evaluation, metric="map", label="macro", variant=""):
    (found,) = [r for r in evaluation.results if (r.metric, r.label, r.variant) == (metric, label, variant)]
    return found


@pytest.fixture(scope="module")
def learnt():
    return run()


def test_a_head_finds_the_squares(learnt):
    for label in ("bright", "striped", "macro"):
        found = row(learnt, label=label)
        assert found.value > 0.3
        assert found.low <= found.value <= found.high
    assert row(learnt, "map@0.5").value >= row(learnt, "map@0.75").value
    assert row(learnt, "froc").value > 0.4
    assert row(learnt, "positive_map", "striped").value >= row(learnt, "map", "striped").value
    shuffled = run(dense_cases.dense(shuffled=True))
    assert row(shuffled).value < 0.1


def blank(size=64, num_images=1, num_classes=2):
    """Logits that say nothing, for three scales."""
    outputs = []
    for stride in (32, 16, 8):
        cells = size // stride
        out = torch.zeros(num_images, 3, 5 + num_classes, cells, cells)
        out[:, :, 4] = -20
        outputs.append(out)
    return outputs


def flat(outputs):
    return [out.flatten(1, 2) for out in outputs]


def test_decoding_by_hand():
    """One box in the second image: stride 16, second anchor, row 1, column 2."""
    outputs = blank(num_images=2)
    outputs[1][1, 1, :, 1, 2] = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, 0.0, 3.0])
    none, found = decode(flat(outputs), 2)
    assert len(none["scores"]) == 0
    width, height = anchors_of(64)[1][1]
    x, y = (1 / (1 + np.exp(-1.0)) + 2) * 16, (1 / (1 + np.exp(1.0)) + 1) * 16
    w, h = np.exp(0.5) * width, np.exp(-0.5) * height
    np.testing.assert_allclose(found["boxes"], [[x - w / 2, y - h / 2, w, h]], rtol=1e-5)
    np.testing.assert_allclose(found["scores"], [1 / (1 + np.exp(-2.0))], rtol=1e-5)
    assert found["classes"].tolist() == [1]


def test_confidence_ranks_and_better_boxes_of_a_class_cover_others():
    outputs = blank()
    for column, confidence, kind in ((0, 1.0, 0), (1, 3.0, 0), (1, 2.0, 1), (3, -1.3, 0), (2, -1.5, 0)):
        anchor = 0 if kind == 0 else 1
        # Wide boxes about the same place: neighbours overlap by more than 0.4.
        outputs[2][0, anchor, :5, 4, column] = torch.tensor([0.0, 0.0, 3.0, 3.0, confidence])
        outputs[2][0, anchor, 5 + kind, 4, column] = 5.0
    (found,) = decode(flat(outputs), 2)
    said = list(zip(found["scores"].round(3).tolist(), found["classes"].tolist(), strict=True))
    sigmoid = lambda v: round(1 / (1 + np.exp(-v)), 3)  # noqa: E731
    # The first is covered by the second, the last lies below 0.2.
    assert said == [(sigmoid(3.0), 0), (sigmoid(2.0), 1), (sigmoid(-1.3), 0)]


def test_overlap_is_that_of_boxes_one_pixel_longer():
    """Two boxes of 20 pixels, 8.8 apart: they overlap by 0.41 as counted, by 0.39 as areas."""
    outputs = blank(num_classes=1)
    width, height = anchors_of(64)[2][0]
    for column, place in ((3, 0.5), (4, 0.6)):
        outputs[2][0, 0, :5, 3, column] = torch.tensor(
            [np.log(place / (1 - place)), 0.0, np.log(20 / width), np.log(20 / height), float(column)]
        )
    (found,) = decode(flat(outputs), 1)
    assert (20 - 8.8) / (20 + 8.8) < 0.4 < (21 - 8.8) / (21 + 8.8)
    assert len(found["scores"]) == 1


def test_targets_are_where_the_boxes_are():
    """What the loss asks for decodes to the boxes themselves."""
    test = dense_cases.dense().test
    # Two boxes whose centres share a cell share a slot: the later one has it.
    test = test.take(np.flatnonzero([len(cell) == 1 for cell in test.boxes]))
    problem = Boxes(["bright", "striped"], metric="map", width=16)
    drawn = problem.targets(test, EvaluationView(64, fit="pad_square"))
    batch = problem.collate(drawn, 64)
    outputs = []
    for targets in batch.scales:
        confidence = torch.where(targets.present > 0, 20.0, -20.0)
        place = [torch.logit(v.clamp(1e-6, 1 - 1e-6)) for v in (targets.x, targets.y)]
        parts = [*place, targets.w, targets.h, confidence, *(40 * c for c in targets.classes.unbind(-1))]
        outputs.append(torch.stack(list(map(torch.Tensor.double, parts)), dim=2).flatten(1, 2))
    assert problem.score(problem.predict(outputs, batch)) > 0.99


def test_what_is_kept_gives_the_numbers_again(learnt, tmp_path):
    boxes = learnt.boxes[""]
    assert list(boxes.label_names) == ["bright", "striped"]
    path = results.write_boxes(tmp_path / "run", boxes, task="detection", data="squares")
    again = results.read_boxes(path)
    columns = (again.boxes, again.scores, again.classes, again.truth, again.truth_classes)
    found = metrics.scores_of(metrics.of_classes(*columns, 2))
    for metric in metrics.METRICS:
        for c, label in enumerate(("bright", "striped")):
            assert row(learnt, metric, label).value == pytest.approx(found[metric][c])
        assert row(learnt, metric).value == pytest.approx(found[metric].mean())
    assert row(learnt, label="striped").num_positive == sum(
        "striped" in c for c in dense_cases.dense().test.boxes
    )


def test_draws_weigh_the_images_of_patients(learnt):
    boxes = learnt.boxes[""]
    columns = (boxes.boxes, boxes.scores, boxes.classes, boxes.truth, boxes.truth_classes)
    detections = metrics.of_classes(*columns, 2)
    multiplicities, index = drawn_patients(boxes.patient_id, 5, 0)
    found = metrics.scores_of_draws(detections, index, multiplicities)
    assert found["map"].shape == (6, 2)
    times = multiplicities[index, 3].astype(float)
    np.testing.assert_allclose(found["map"][4, 0], metrics.average_precision(detections[0], times).mean())
    np.testing.assert_allclose(found["froc"][4, 1], metrics.froc(detections[1], times))


def test_two_runs_are_compared_on_the_same_draws(learnt, tmp_path):
    worse = dataclasses.replace(
        learnt.boxes[""], boxes=[b + 4.0 for b in learnt.boxes[""].boxes], data_hash=""
    )
    folders = []
    for name, boxes in (("a", learnt.boxes[""]), ("b", worse)):
        results.write_boxes(tmp_path / name, boxes, task="detection", data="squares")
        folders.append(tmp_path / name)
    found = {(r.metric, r.label): r for r in compare(*folders, task="detection", draws=40)}
    assert {label for _, label in found} == {"bright", "striped", "macro"}
    macro = found["map", "macro"]
    assert macro.first == pytest.approx(row(learnt).value)
    assert macro.difference.low > 0
    assert macro.difference.value == pytest.approx(macro.first - macro.second)
    other = dataclasses.replace(worse, image_id=[f"x{i}" for i in worse.image_id])
    results.write_boxes(tmp_path / "c", other, task="detection", data="squares")
    with pytest.raises(DataError, match="scored by one of"):
        compare(tmp_path / "a", tmp_path / "c", task="detection")


def test_repeats_and_kept_trainings(tmp_path):
    settings = {"repeats": 2, "max_epochs": 3, "lr": [1e-2, 1e-3]}
    first = run(dense_cases.dense(folder=tmp_path), **settings)
    of = dense_cases.dense(folder=tmp_path)
    again = run(of, **settings)
    assert of.encoder.passes == 0
    assert again.results == first.results
    assert set(first.boxes) == {"repeat=1", "repeat=2"}
    assert len(list(tmp_path.rglob("*.npz"))) == 4


def test_fine_tuning_and_one_class():
    evaluation = run(finetune=True, warmup_steps=2, max_epochs=2, merge=True, metric="froc", fraction=0.5)
    assert {r.label for r in evaluation.results} == {"object"}
    assert row(evaluation, "froc", "object").fraction == 0.5


def test_what_cannot_be_detected_is_refused():
    with pytest.raises(ConfigurationError, match="multiple of 32 pixels"):
        run(image_size=48)
    with pytest.raises(ConfigurationError, match="map or froc"):
        Detection(metric="auc")
    of = dense_cases.dense()
    without = of.with_splits(lambda split: dataclasses.replace(split, boxes=[{}] * len(split)))
    with pytest.raises(DataError, match="no image has a box: detection has nothing to learn"):
        run(without)
    with pytest.raises(DataError, match="no image has a box of mass: there is bright, striped"):
        run(classes=["mass"])
