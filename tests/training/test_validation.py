"""The validation loss, and what it decides."""

from __future__ import annotations

import logging
import math

import numpy as np
import polars as pl
import pytest
import torch
from small_runs import LOVT

from radlearn.data.dataset import FixedBatches
from radlearn.data.views import EvaluationView
from radlearn.datasets import open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.metrics.embedding_spaces import of_batch, summarise
from radlearn.training import checkpoint
from radlearn.training.inference import evaluating
from radlearn.training.model import load
from radlearn.training.module import Optimisation
from radlearn.training.pretrain import pretrain
from radlearn.training.studies import open_studies
from radlearn.training.text import TokenSide
from radlearn.training.validation import Validation, Waiting

# A rate at which nothing learns.
STILL = ["lr=1e-12", "eta_min=0", "warmup_steps=0"]


def validation_batches(config, objective, size, view):
    """The validation split as a run reads it."""
    data = open_dataset(config["data"], config["paths"])
    side = TokenSide(config["text"], objective.text_encoder)
    return FixedBatches(open_studies(config, data, side, objective, view, split="validate"), size)


def test_the_loss_is_that_of_the_saved_weights_on_fixed_batches(configure):
    """Twelve studies in batches of 8 and 4: means over the studies, in eval mode, whole images."""
    config = configure(*LOVT, "text.augment=one", "max_steps=3", "validate_every_n_steps=3", "num_workers=1")
    run = pretrain(config)
    logged = pl.read_parquet(run.folder / "metrics.parquet")
    assert logged["val/total_loss"].is_null().to_list() == [True, True, False]
    objective = load(run.folder).objective
    batches = validation_batches(config, objective, 8, EvaluationView(32, fit="pad_square"))
    parts = [batches[i] for i in range(len(batches))]
    assert [len(batch.index) for batch in parts] == [8, 4]
    assert all(batch.tokens.sentence.max() > 0 for batch in parts)  # whole reports, not one sentence
    with evaluating(objective):
        outputs = [objective(batch, 0) for batch in parts]
        more = [objective.validation_metrics(objective.encode(batch), batch) for batch in parts]
    for found, wanted in (
        (logged["val/total_loss"][-1], [o.loss for o in outputs]),
        (logged["val/local_b_att2l"][-1], [o.metrics["local_b_att2l"] for o in outputs]),
        (logged["val/attention_b2a_entropy"][-1], [m["attention_b2a_entropy"] for m in more]),
        (logged["val/local_a_l2att_top5"][-1], [m["local_a_l2att_top5"] for m in more]),
    ):
        assert found == pytest.approx(np.average([float(v) for v in wanted], weights=[8, 4]), rel=1e-5)
    with evaluating(objective):
        spaces = [of_batch(objective.embedding_spaces(objective.encode(b), b)) for b in parts]
    wanted = {f"val/emb/{key}": value for key, value in summarise(spaces).items()}
    assert {"val/emb/zl_a-zl_b2a/sample_rmse", "val/emb/yg_b/uniformity"} <= set(wanted)
    assert {k: v for k, v in logged.to_dicts()[-1].items() if "/emb/" in k} == pytest.approx(wanted, rel=1e-3)


def test_nothing_is_drawn_and_a_study_shows_its_first_image(configure):
    config = configure(*LOVT, "max_steps=1", "sample=study", "validate_every_n_steps=1")
    objective = load(pretrain(config).folder).objective
    view = EvaluationView(32, fit="pad_square")
    batches = validation_batches(config, objective, 5, view)
    studies = batches.studies
    first, again = batches[0], batches[0]
    assert torch.equal(first.views[0], again.views[0])
    assert first.index.tolist() == studies.studies[:5].tolist()
    image = studies.source.gather([int(studies.rows[first.index[1]])])[0]
    np.testing.assert_array_equal(first.views[0][0, 1, 0].numpy(), view(image))


def test_validation_leaves_training_as_it_is(configure):
    runs = [
        pretrain(configure(*LOVT, "max_steps=4", *settings, run=f"run{i}"))
        for i, settings in enumerate(([], ["validate_every_n_steps=1"]))
    ]
    weights = [checkpoint.load(run.folder).weights for run in runs]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"every_steps": 4, "every_epochs": None}, [4, 8, 12]),
        ({"every_steps": None, "every_epochs": 1}, [3, 5, 8, 10, 13]),
        ({"every_steps": None, "every_epochs": 2}, [5, 10]),
    ],
)
def test_a_validation_is_due_when_an_epoch_ends(settings, steps):
    """Five batches an epoch, two a step: epochs end at steps 2.5, 5, 7.5, ..."""
    optimisation = Optimisation(13, batches_per_epoch=5, accumulate=2)
    common = {"patience": None, "waiting": Waiting(), "online": None, "num_workers": 0}
    validation = Validation(None, None, **settings, **common)
    assert [step for step in range(1, 14) if validation.due(step, optimisation)] == steps


def test_statistics_of_embeddings_look_at_evenly_spaced_batches(configure, monkeypatch):
    """Of twelve studies in batches of four at most eight: the first batch and the third."""
    monkeypatch.setattr("radlearn.training.validation._MAX_SPACE_STUDIES", 8)
    config = configure(*LOVT, "batch_size=4", "max_steps=1", "validate_every_n_steps=1")
    run = pretrain(config)
    objective = load(run.folder).objective
    batches = validation_batches(config, objective, 4, EvaluationView(32, fit="pad_square"))
    with evaluating(objective):
        spaces = [
            of_batch(objective.embedding_spaces(objective.encode(b), b)) for b in (batches[0], batches[2])
        ]
    found = pl.read_parquet(run.folder / "metrics.parquet")["val/emb/yl_b/dist_emb2emb"][-1]
    assert found == pytest.approx(summarise(spaces)["yl_b/dist_emb2emb"], rel=1e-4)


def test_waiting_counts_validations_without_an_improvement():
    waiting = Waiting()
    counts = []
    for loss in (3.0, 2.0, 2.0 - 0.9e-5, 2.1, 2.0 - 1.1e-5, math.nan):
        waiting.read(loss)
        counts.append(waiting.validations)
    assert counts == [0, 0, 1, 2, 0, 1]


def test_a_run_that_stops_early_is_complete(configure, caplog):
    settings = [*STILL, "max_steps=20", "validate_every_n_steps=2", "early_stop_patience=3", "best=val_loss"]
    run = pretrain(configure(*settings, "eval_every_n_steps=10"))
    # The first validation is an improvement on none; three more are none.
    assert run.steps == 8
    table = pl.read_parquet(run.folder / "metrics.parquet")
    assert table["step"].to_list() == list(range(1, 9))
    assert table["eval/macro_auc"].is_not_null().to_list() == [False] * 7 + [True]
    found = checkpoint.load(run.folder)
    assert found.step == 8
    assert found.about["stopped"]
    assert found.about["budget"]["samples_seen"] == 64
    logging.getLogger("radlearn").propagate = True
    with caplog.at_level(logging.INFO, logger="radlearn"):
        assert pretrain(configure(*settings, "eval_every_n_steps=10")).steps == 8
    assert "is complete: 8 steps, stopped early by its validation loss" in caplog.text


def test_the_best_checkpoint_has_the_lowest_loss(configure):
    settings = ["max_steps=8", "validate_every_n_steps=1", "best=val_loss", "keep_last=1"]
    run = pretrain(configure(*LOVT, *settings, "lr=0.05", "save_every_n_steps=null"))
    losses = pl.read_parquet(run.folder / "metrics.parquet")["val/total_loss"].to_list()
    best = checkpoint.load(run.folder).about["best"]
    assert best["measure"] == "val_loss"
    assert best["step"] == int(np.argmin(losses)) + 1
    assert best["value"] == min(losses)
    assert {best["step"], 8} == {int(p.name.removeprefix("step-")) for p in checkpoint.saved(run.folder)}


def test_a_plateau_lowers_the_rate(configure):
    settings = ["schedule=plateau", "plateau_patience=1", "validate_every_n_steps=1", "max_steps=7"]
    run = pretrain(configure(*STILL, *settings))
    rates = pl.read_parquet(run.folder / "metrics.parquet")["lr"].to_list()
    # After one improvement on none, every second validation halves it.
    np.testing.assert_allclose(np.array(rates) / 1e-12, [1, 1, 1, 0.5, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["schedule=plateau"], "schedule=plateau reads the validation loss"),
        (["early_stop_patience=3"], "early_stop_patience=3 reads the validation loss"),
        (["best=val_loss"], "set validate_every_n_epochs=1"),
        (["validate_every_n_epochs=1", "validate_every_n_steps=9"], "set one of"),
    ],
)
def test_settings_that_nothing_measures_are_refused(configure, settings, words):
    with pytest.raises(ConfigurationError, match=words):
        pretrain(configure(*settings))


def test_a_batch_whose_images_cannot_be_read_is_left_out(configure):
    config = configure(*LOVT, "max_steps=1", "validate_every_n_steps=1")
    objective = load(pretrain(config).folder).objective
    batches = validation_batches(config, objective, 5, EvaluationView(32, fit="pad_square"))
    source, broken = batches.studies.source, set(batches.studies.rows[[3, 10, 11]].tolist())

    class Damaged:
        def gather(self, rows):
            if broken & set(rows):
                raise DataError("damaged")
            return source.gather(rows)

    batches.studies.source = Damaged()
    assert len(batches[0].index) == 4
    assert batches[2] is None


def test_smoke_validates_too(configure):
    run = pretrain(configure("smoke=true", "validate_every_n_epochs=1", run="smoke"))
    assert pl.read_parquet(run.folder / "metrics.parquet")["val/total_loss"].drop_nulls().len() >= 1


def test_what_lovts_release_does_is_set_by_one_key(configure):
    from radlearn.training.shortcuts import apply

    settings = [*LOVT, "schedule=cosine_restarts"]
    assert apply(configure(*settings))["schedule"] == "cosine_restarts"
    released = apply(configure(*settings, "legacy=true"))
    assert released["schedule"] == "cosine_epoch"
    assert released["method"]["padded_numerics"] is True
    assert released["views"]["global"]["flip"] == 0.5
    assert apply(configure("schedule=cosine_restarts", "legacy=true"))["schedule"] == "cosine_restarts"
