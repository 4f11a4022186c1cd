"""`evaluate` on a run: what it writes, and that an untrained network scores chance."""

from __future__ import annotations

import json

import polars as pl
import pytest

from radlearn import composition, results
from radlearn.errors import ConfigurationError, DataError
from radlearn.evaluate import evaluate
from radlearn.paired import compare
from radlearn.training.pretrain import pretrain


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    return [f"paths.runs={root / 'runs'}", f"paths.cache={root / 'cache'}"]


@pytest.fixture(scope="module")
def run(folders):
    """A run whose learning rate is next to nothing: an untrained network with everything a run has."""
    settings = [
        "data=phantom_cxr",
        "data.num_train=16",
        "data.num_validate=4",
        "data.num_test=150",
        "data.image_size=32",
        "data.num_workers=1",
        "data.size=32",
        "encoder=small_cnn",
        "encoder.image_size=32",
        "text.model=hashed",
        "batch_size=8",
        "max_steps=1",
        "lr=1e-12",
        "eta_min=0",
        "precision=32-true",
        "accelerator=cpu",
        "num_workers=0",
        "global_crops_number=1",
        "global_size=32",
        "local_crops_number=0",
        "run_name=untrained",
    ]
    return pretrain(composition.compose("pretrain", [*settings, *folders]))


def configuration(folders, *overrides):
    return composition.compose("evaluate", ["num_workers=0", "device=cpu", *overrides, *folders])


def test_an_untrained_network_scores_chance_within_its_interval(run, folders):
    rows = evaluate(configuration(folders, "run=untrained", "num_bootstrap=500"))
    (macro,) = [r for r in rows if (r.metric, r.label, r.variant) == ("auc", "macro", "")]
    assert macro.low < 0.5 < macro.high
    assert macro.chance == 0.5
    assert macro.num_cases == 150
    assert macro.num_patients < 150  # several studies a patient


def test_it_leaves_results_predictions_embeddings_and_cases(run, folders):
    rows = evaluate(configuration(folders, "run=untrained", "num_bootstrap=50"))
    kept = results.read(run.folder / "results.parquet")
    assert len(kept) == len(rows)  # a repeated evaluation replaces its rows
    first = kept[0]
    card = json.loads((run.folder / "card.json").read_text())
    assert first.data_hash == card["fingerprint"]
    assert first.synthetic
    assert first.text_model == "hashed_text"
    assert first.samples_seen == 8
    predictions = results.read_predictions(run.folder / "predictions" / "zero_shot-phantom_cxr.parquet")
    assert predictions.scores.shape == (150, 8)
    assert pl.read_parquet(run.folder / "embeddings" / "phantom_cxr.parquet").height == 150
    cases = pl.read_parquet(run.folder / "cases" / "phantom_cxr.parquet")
    assert cases.height == 8
    assert cases["synthetic"].all()


def test_the_interval_can_be_recomputed_from_the_predictions(run, folders):
    from radlearn.stats import patient_bootstrap

    rows = evaluate(configuration(folders, "run=untrained", "num_bootstrap=80", "seed=3"))
    kept = results.read_predictions(run.folder / "predictions" / "zero_shot-phantom_cxr.parquet")
    found = patient_bootstrap(kept.scores, kept.labels, kept.patient_id, draws=80, seed=3)["auroc"].macro
    (macro,) = [r for r in rows if (r.metric, r.label, r.variant) == ("auc", "macro", "")]
    assert (macro.value, macro.low, macro.high) == (found.value, found.low, found.high)


def test_prompts_of_the_command_line_replace_the_data_set_s(run, folders):
    prompts = "[" + ",".join(f"finding {i}" for i in range(8)) + "]"
    negative = "[" + ",".join("[normal,clear]" for _ in range(8)) + "]"
    rows = evaluate(
        configuration(
            folders,
            "run=untrained",
            f"positive_prompts={prompts}",
            f"negative_prompts={negative}",
            "num_bootstrap=10",
        )
    )
    assert rows
    with pytest.raises(ConfigurationError, match="has 1 entries for 8 labels"):
        evaluate(configuration(folders, "run=untrained", "positive_prompts=[one]"))


def test_a_run_that_is_not_there_lists_what_there_is(run, folders):
    with pytest.raises(ConfigurationError, match=r"no run 'nope'.*there is untrained"):
        evaluate(configuration(folders, "run=nope"))
    with pytest.raises(ConfigurationError, match="say which run"):
        evaluate(configuration(folders))


def test_an_empty_split_says_what_there_is(run, folders):
    with pytest.raises(DataError, match=r"no rows in split=validate.*'test': 150"):
        evaluate(configuration(folders, "run=untrained", "split=validate", "data.num_validate=0"))


def test_another_score_stands_beside_the_headline_and_never_replaces_it(run, folders):
    evaluate(configuration(folders, "run=untrained", "num_bootstrap=10"))
    evaluate(configuration(folders, "run=untrained", "num_bootstrap=10", "score=neg_mse"))
    rows = results.read(run.folder / "results.parquet")
    macro = {r.variant: r.value for r in rows if (r.metric, r.label) == ("auc", "macro")}
    assert {"", "score=neg_mse"} <= set(macro)


def test_other_settings_of_a_task_and_other_checkpoints_are_rows_of_their_own(run, folders):
    common = ["run=untrained", "task=knn", "num_bootstrap=20"]
    plain = evaluate(configuration(folders, *common))
    near = evaluate(configuration(folders, *common, "task.k=3"))
    last = evaluate(configuration(folders, *common, "task.k=3", "checkpoint=last"))
    assert {row.variant for row in plain} == {""}
    assert {row.variant for row in near} == {"k=3"}
    assert {row.variant for row in last} == {"k=3 checkpoint=last"}
    kept = [row for row in results.read(run.folder / "results.parquet") if row.task == "knn"]
    assert len(kept) == len(plain) + len(near) + len(last)


def test_a_head_is_trained_on_the_run_s_maps(run, folders, capsys):
    """Masks of eight findings; what it leaves, and that a second call trains nothing."""
    settings = ["run=untrained", "task=segmentation", "num_bootstrap=50", "task.lr=0.01", "task.max_epochs=2"]
    rows = evaluate(configuration(folders, *settings))
    dice = {r.label: r for r in rows if r.metric == "dice"}
    assert {"macro", "cardiomegaly", "nodule"} <= set(dice)
    assert dice["macro"].variant == "lr=0.01 max_epochs=2"
    assert 0 < dice["cardiomegaly"].chance < 0.2
    (kept,) = (run.folder / "trainings").rglob("*.npz")
    written = kept.stat().st_mtime_ns
    assert evaluate(configuration(folders, *settings))[0].value == rows[0].value
    assert kept.stat().st_mtime_ns == written
    name = results.predictions_stem("segmentation", "phantom_cxr", variant="lr=0.01 max_epochs=2")
    predictions = results.read_predictions(run.folder / "predictions" / f"{name}.parquet")
    assert predictions.scores.shape == (150, 3 * (len(dice) - 1))
    same = compare(run.folder, run.folder, task="segmentation", variant="lr=0.01 max_epochs=2", draws=20)
    macro = next(row for row in same if (row.metric, row.label) == ("dice", "macro"))
    assert (macro.first, macro.difference.value) == (pytest.approx(dice["macro"].value), 0)
