"""Every task on a trained run: what `evaluate` gathers, writes and refuses."""

from __future__ import annotations

import dataclasses

import dense_cases
import numpy as np
import pytest

from radlearn import composition, gather, registry, results
from radlearn.datasets import open_dataset
from radlearn.encoders.small_cnn import SmallCNN
from radlearn.errors import ConfigurationError, DataError
from radlearn.evaluate import evaluate
from radlearn.tasks.base import Dense, Inputs
from radlearn.tasks.detection import Detection
from radlearn.tasks.segmentation import Segmentation
from radlearn.training.pretrain import pretrain

SETTINGS = [
    "data=phantom_cxr", "data.num_train=60", "data.num_validate=30", "data.num_test=60", "data.image_size=32",
    "data.num_workers=1", "data.size=32", "encoder=small_cnn", "encoder.image_size=32",
    "encoder.multiplier=0.25", "batch_size=8", "max_steps=2", "precision=32-true", "accelerator=cpu",
    "num_workers=0", "global_crops_number=1", "global_size=32", "local_crops_number=0", "predictor_width=16",
    "embed_dim=8",
]  # fmt: skip
METHODS = {
    "frozen_text": ["method=infonce", "text.model=hashed"],
    "tokens": ["method=lovt", "text.model=tiny", "text.column=sentences"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("gather")
    return [f"paths.runs={root / 'runs'}", f"paths.cache={root / 'cache'}"]


@pytest.fixture(scope="module")
def runs(folders):
    return {
        name: pretrain(composition.compose("pretrain", [*SETTINGS, *method, f"run_name={name}", *folders]))
        for name, method in METHODS.items()
    }


def scored(folders, run, task, *overrides):
    given = [f"run={run}", f"task={task}", "num_bootstrap=50", "num_workers=0", "device=cpu"]
    return evaluate(composition.compose("evaluate", [*given, *folders, *overrides]))


DENSE = [name for name in registry.names("tasks") if "dense" in registry.find("tasks", name).needs]


@pytest.mark.parametrize("run", METHODS)
@pytest.mark.parametrize("task", [name for name in registry.names("tasks") if name not in DENSE])
def test_every_task_runs_on_every_kind_of_run(runs, folders, run, task):
    rows = scored(folders, run, task)
    metric, label = registry.find("tasks", task).headline
    headline = [row for row in rows if (row.metric, row.label) == (metric, label)]
    assert headline
    for row in headline:
        assert row.run == run
        assert row.synthetic
        assert row.low <= row.value <= row.high
    kept = [path.stem for path in (runs[run].folder / "predictions").glob(f"{task}-*.parquet")]
    assert f"{task}-phantom_cxr" in kept
    assert {row.task for row in results.read(runs[run].folder / "results.parquet")} >= {task}


def test_a_method_with_local_heads_is_scored_on_these_and_on_the_global_ones(runs, folders):
    assert {row.variant for row in scored(folders, "tokens", "localisation")} == {"", "global"}
    assert {row.variant for row in scored(folders, "frozen_text", "localisation")} == {""}


def test_few_shot_stands_beside_the_whole(runs, folders):
    scored(folders, "frozen_text", "knn")
    scored(folders, "frozen_text", "knn", "task.fraction=0.5", "task.draw=2")
    kept = [r for r in results.read(runs["frozen_text"].folder / "results.parquet") if r.task == "knn"]
    assert {(r.fraction, r.draw) for r in kept} == {(1.0, None), (0.5, 2)}
    from radlearn.report import run_folder
    from radlearn.report.scores import of_subject, variants

    folder = run_folder.read(runs["frozen_text"].folder)
    subject = ("knn", "phantom_cxr", "test")
    assert variants(of_subject(folder.results, subject)) == ["", "fraction=0.5, draw=2"]
    assert all(folder.predictions_of(*subject, v) for v in ("", "fraction=0.5, draw=2"))


def test_reports_of_another_column_are_other_queries(runs, folders):
    def chance(*overrides):
        rows = scored(folders, "frozen_text", "retrieval", *overrides)
        (row,) = [r for r in rows if (r.metric, r.label) == ("recall@10", "image_to_report")]
        return row.chance

    # Findings are all different; impressions repeat.
    assert chance("task.column=findings") == pytest.approx(10 / 60)
    assert chance() > 10 / 60


def test_a_task_that_learns_is_not_scored_on_what_it_learns_from(runs, folders):
    with pytest.raises(ConfigurationError, match="learns from the training split is not scored on it"):
        scored(folders, "frozen_text", "linear_probe", "split=train")
    rows = scored(folders, "frozen_text", "linear_probe", "split=validate")
    assert {row.split for row in rows} == {"validate"}
    with pytest.raises(DataError, match="no training rows"):
        scored(folders, "frozen_text", "knn", "data.num_train=0")


def test_two_runs_are_compared_case_by_case(runs, folders):
    import radlearn

    for run in runs:
        for task in ("knn", "retrieval"):
            scored(folders, run, task)
    first, second = (run.folder for run in runs.values())
    rows = {(row.metric, row.label): row for row in radlearn.compare(first, second, task="knn", draws=100)}
    own = {(r.metric, r.label): r.value for r in results.read(first / "results.parquet")
           if r.task == "knn" and r.fraction == 1}  # fmt: skip
    for key in (("auc", "macro"), ("average_precision", "effusion")):
        assert rows[key].first == pytest.approx(own[key])
        assert rows[key].difference.value == pytest.approx(rows[key].first - rows[key].second)
        assert rows[key].num_cases == 60
    ranks = {
        (row.metric, row.label): row for row in radlearn.compare(first, second, task="retrieval", draws=50)
    }
    assert ("recall@5", "report_to_image") in ranks
    assert np.isfinite(ranks["median_rank", "image_to_report"].difference.p_value)


# --- masks and boxes

DRAWN = [
    "covid_rural", "ct_folders", "deeplesion", "nih_boxes", "object_cxr", "phantom_ct", "phantom_cxr",
    "rsna_pneumonia", "siim_pneumothorax",
]  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_heads_learn_on_every_data_set_with_masks_or_boxes(name, tmp_path):
    """Its miniature release, one epoch: every image is found and everything drawn is in the view."""
    data = open_dataset(
        {"name": name, "size": 64}, {"cache": str(tmp_path), "data": str(tmp_path)}, smoke=True
    )
    splits = {split: gather.dense_split(data, data.split(split)) for split in ("train", "validate", "test")}
    # SIIM's made-up masks are thinner than a pixel of 64.
    side = 224 if name == "siim_pneumothorax" else 64
    dense = Dense(encoder=SmallCNN(image_size=side, multiplier=0.25), **splits)
    # Not every split of a miniature release has something to find.
    drawn = [bool(m) or bool(b) for m, b in zip(dense.train.masks, dense.train.boxes, strict=True)]
    some = dense.train.take(np.flatnonzero(drawn))
    dense = dataclasses.replace(dense, validate=some, test=some)
    inputs = Inputs(
        image_ids=dense.test.image_ids, patient_ids=dense.test.patient_ids, labels=np.zeros((0, 0)),
        label_names=(), dense=dense, num_bootstrap=5,
    )  # fmt: skip
    has_boxes = any(dense.train.boxes)
    for task in (Segmentation(lr=0.1, max_epochs=1), Detection(lr=1e-3, max_epochs=1, head_width=16)):
        if isinstance(task, Detection) and not has_boxes:
            with pytest.raises(DataError, match="no image has a box"):
                task.run(inputs)
            continue
        evaluation = task.run(inputs)
        assert evaluation.results[0].num_cases == len(dense.test)
        kept = next(iter((evaluation.boxes or evaluation.values).values()))
        if isinstance(task, Segmentation):
            counts = kept.values.reshape(len(dense.test), -1, 3)
            assert (counts[:, :, [0, 2]].sum((1, 2)) > 0).all()
        else:
            assert sum(map(len, kept.truth)) == sum(len(b) for c in dense.test.boxes for b in c.values())


def test_a_data_set_without_masks_and_boxes_is_refused(runs, folders, tmp_path):
    registry.find("manifests", "openi").fake(tmp_path)
    of = ["data=openi", f"data.root={tmp_path}", "data.size=32"]
    with pytest.raises(DataError, match="openi has neither masks nor boxes"):
        scored(folders, "tokens", "segmentation", *of)


def test_nothing_to_find_is_refused():
    dense = dense_cases.dense()
    bare = dataclasses.replace(dense.test, masks=[{}] * len(dense.test), boxes=[{}] * len(dense.test))
    for task in (Segmentation(lr=0.1, max_epochs=1), Detection(lr=1e-3, max_epochs=1, head_width=16)):
        with pytest.raises(DataError, match="nothing is drawn on any of the 40 images of the test split"):
            task.run(dense_cases.inputs(dataclasses.replace(dense, test=bare)))


@pytest.mark.parametrize("split", ["train", "validate"])
def test_heads_are_not_scored_on_what_they_learn_from_or_are_chosen_by(runs, folders, split):
    with pytest.raises(ConfigurationError, match="is not scored on it"):
        scored(folders, "tokens", "segmentation", f"split={split}")


def test_several_masks_of_a_class_are_their_union():
    found = gather._masks(
        [{"class": "a", "rle": "0 2"}, {"class": "b", "rle": "9 1"}, {"class": "a", "rle": "4 3"}]
    )
    assert found == {"a": "0 2 4 3", "b": "9 1"}
