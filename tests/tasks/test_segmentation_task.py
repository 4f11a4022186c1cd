"""Segmentation heads on squares: what they learn, what is kept, and what must not change."""

from __future__ import annotations

import dataclasses

import dense_cases
import numpy as np
import pytest
import torch

from radlearn.data.views import EvaluationView
from radlearn.dense_heads import LinearHead, Trunk
from radlearn.encoders.small_cnn import SmallCNN
from radlearn.errors import ConfigurationError, DataError, TrainingError
from radlearn.metrics import segmentation as metrics
from radlearn.tasks import _dense_cases, _dense_training
from radlearn.tasks._dense_training import HeadModule, Recipe, Trained
from radlearn.tasks.segmentation import Masks, Segmentation, _tell_of_collapse

QUICK = {"lr": 0.3, "batch_size": 16, "max_epochs": 25, "patience": 25}


def run(of=None, **settings):
    of = of or dense_cases.dense()
    return Segmentation(**{**QUICK, **settings}).run(dense_cases.inputs(of))


def row(evaluation, metric="dice", label="macro", variant=""):
    (found,) = [r for r in evaluation.results if (r.metric, r.label, r.variant) == (metric, label, variant)]
    return found


@pytest.fixture(scope="module")
def learnt():
    return run()


def test_a_linear_head_finds_what_the_map_shows(learnt):
    """Squares lie on the grid of the map; enlarging the logits rounds their corners."""
    for label in ("bright", "striped", "macro"):
        found = row(learnt, label=label)
        assert found.value > 0.75
        assert found.low <= found.value <= found.high
        assert found.chance < 0.2
    shuffled = run(dense_cases.dense(shuffled=True))
    assert row(shuffled).value < row(shuffled).chance + 0.1


def test_chance_is_calling_everything_positive(learnt):
    test = dense_cases.dense().test
    view = EvaluationView(dense_cases.SIDE, fit="pad_square")
    problem = Masks(["bright", "striped"], head="linear", per_class=True, from_boxes=False)
    target = problem.collate(problem.targets(test, view), view.size).numpy().astype(bool)
    everything = metrics.count(np.ones_like(target), target)
    wanted = metrics.ratios(everything.sum(0))
    for metric in ("dice", "iou", "precision"):
        for c, label in enumerate(("bright", "striped")):
            assert row(learnt, metric, label).chance == pytest.approx(wanted[metric][c])
    assert row(learnt, "foreground", "striped").chance == pytest.approx(target[:, 1].mean())
    each = metrics.positive_dice(everything)
    assert row(learnt, "positive_dice", "striped").chance == pytest.approx(np.nanmean(each[:, 1]))


def test_masks_and_boxes_lie_where_the_image_does():
    """A bright square is bright in the view exactly where its mask and box are, padded above and below."""
    test = dense_cases.split(12, 3)
    view = EvaluationView(dense_cases.SIDE, fit="pad_square")
    problem = {
        boxes: Masks(["bright"], head="linear", per_class=True, from_boxes=boxes) for boxes in (False, True)
    }
    seen = view.batch(test.source.images) > 240
    for boxes in (False, True):
        found = problem[boxes].collate(problem[boxes].targets(test, view), view.size)[:, 0].numpy() > 0
        covered = np.array(["striped" in cell for cell in test.boxes])
        np.testing.assert_array_equal(found[~covered], seen[~covered])
    np.testing.assert_array_equal(
        view.boxes(np.array([[8, 0, 16, 16]]), dense_cases.HEIGHT, dense_cases.WIDTH), [[8, 8, 16, 16]]
    )


def test_what_is_kept_of_each_image_gives_the_numbers_again(learnt):
    values = learnt.values[""]
    assert len(values.case_ids) == 40
    counts = values.values.reshape(40, 2, 3)
    assert metrics.classes_of(values.names) == ["bright", "striped"]
    again = metrics.ratios(counts.sum(0))
    for metric in ("dice", "iou", "precision", "recall"):
        for c, label in enumerate(("bright", "striped")):
            assert row(learnt, metric, label).value == pytest.approx(again[metric][c])
        assert row(learnt, metric).value == pytest.approx(again[metric].mean())
    assert row(learnt).lr == 0.3
    assert row(learnt).tuning_trials == 1
    assert row(learnt, label="striped").num_positive == (counts[:, 1, [0, 2]].sum(1) > 0).sum()


def test_repeats_have_seeds_of_their_own():
    evaluation = run(repeats=3, max_epochs=2)
    values = [row(evaluation, variant=f"repeat={k}").value for k in (1, 2, 3)]
    assert len(set(values)) == 3
    assert row(evaluation).value == pytest.approx(np.mean(values))
    assert set(evaluation.values) == {"repeat=1", "repeat=2", "repeat=3"}
    assert run(repeats=3, max_epochs=2).results == evaluation.results


def test_the_rate_is_chosen_by_the_validation_split(caplog):
    import logging

    logging.getLogger("radlearn").propagate = True
    with caplog.at_level(logging.INFO, logger="radlearn"):
        evaluation = run(lr=[1e-6, 0.3, 1e-5], max_epochs=6)
    assert row(evaluation).lr == 0.3
    assert row(evaluation).tuning_trials == 3
    assert "lr=0.3 has the best validation dice" in caplog.text
    assert "is at the end of the candidates" in caplog.text


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch):
    settings = {"lr": [0.1, 0.3], "repeats": 2, "max_epochs": 3}
    whole = run(dense_cases.dense(folder=tmp_path), **settings)
    kept = sorted(p.name for p in tmp_path.rglob("*.npz"))
    assert len(kept) == 4
    of = dense_cases.dense(folder=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(_dense_training, "train", None)
        assert run(of, **settings).results == whole.results
    assert of.encoder.passes == 0
    # A killed evaluation lost one; other settings, weights and images share nothing.
    next(tmp_path.rglob("*seed=0.npz")).unlink()
    trained = []
    original = _dense_training.train
    monkeypatch.setattr(_dense_training, "train", lambda *a, **k: trained.append(1) or original(*a, **k))
    assert run(dense_cases.dense(folder=tmp_path), **settings).results == whole.results
    assert len(trained) == 1
    run(dense_cases.dense(folder=tmp_path, num=32), **settings)
    run(dataclasses.replace(of, identity={"weights": "1"}), **settings)
    assert len(trained) == 9


def test_classes_merged_another_way_are_another_training(tmp_path):
    """Images and class name are the same, the targets are not."""
    both = run(dense_cases.dense(folder=tmp_path), merge=True, max_epochs=3)
    one = run(dense_cases.dense(folder=tmp_path), merge=True, classes=["striped"], max_epochs=3)
    assert row(one, label="foreground").chance < row(both, label="foreground").chance
    assert one.results == run(merge=True, classes=["striped"], max_epochs=3).results


def test_maps_are_computed_once_where_they_fit():
    """Three splits in six batches, and one pass to see how large maps are; otherwise in every epoch."""
    fits, large = dense_cases.dense(), dense_cases.dense()
    results = [run(fits, max_epochs=4), run(large, max_epochs=4, cache_gib=0)]
    assert fits.encoder.passes == 4
    assert large.encoder.passes > 4 * 5
    # Kept maps have half precision.
    assert row(results[0]).value == pytest.approx(row(results[1]).value, abs=0.02)


@pytest.mark.parametrize("settings", [{}, {"cache_gib": 0}, {"finetune": True, "warmup_steps": 1}])
def test_the_encoder_that_is_given_stays_as_it_is(settings):
    of = dense_cases.dense()
    before = of.encoder.gain.detach().clone()
    run(of, max_epochs=2, **settings)
    assert torch.equal(of.encoder.gain, before)
    assert of.encoder.gain.grad is None


@pytest.mark.parametrize(
    ("settings", "moves"),
    [
        ({"finetune": False}, False),
        ({"finetune": True, "warmup_steps": 99}, False),
        ({"finetune": True, "warmup_steps": 2}, True),
    ],
)
def test_batch_norms_of_an_encoder_that_does_not_learn_stand_still(settings, moves):
    """Also of one that is handed over in training mode."""
    encoder = SmallCNN(image_size=dense_cases.SIDE, multiplier=0.25).train()
    recipe = Recipe(lr=(0.01,), batch_size=16, max_epochs=2, **settings)
    _, module, cases, of = modules(recipe, encoder=encoder)
    before = encoder.blocks[0][1].running_mean.clone()
    _dense_training.fit(module, *cases, recipe, 0, of, "")
    assert torch.equal(encoder.blocks[0][1].running_mean, before) != moves


def modules(recipe, lr=0.1, encoder=None):
    encoder = encoder or dense_cases.Patches()
    problem = Masks(["bright"], head="linear", per_class=True, from_boxes=False)
    head = LinearHead(encoder, 1, dense_cases.SIDE)
    module = HeadModule(head, Trunk(encoder, head.names), problem, recipe, lr)
    view = EvaluationView(dense_cases.SIDE, fit="pad_square")
    of = dense_cases.dense()
    cases = [_dense_cases.Cases(s, problem, view, None, of, "") for s in (of.train, of.validate)]
    return encoder, module, cases, of


@pytest.mark.parametrize(("warmup", "moves"), [(2, True), (1000, False)])
def test_the_encoder_learns_after_the_head(warmup, moves):
    recipe = Recipe(lr=(0.1,), finetune=True, warmup_steps=warmup, batch_size=16, max_epochs=2, patience=5)
    encoder, module, cases, of = modules(recipe)
    before, head = encoder.gain.detach().clone(), module.head.classify.weight.detach().clone()
    _dense_training.fit(module, *cases, recipe, 0, of, "")
    assert torch.equal(encoder.gain, before) != moves
    assert not torch.equal(module.head.classify.weight, head)


@pytest.mark.parametrize(("lr_reset", "wanted"), [(False, 0.05), (True, 0.1)])
def test_a_plateau_lowers_the_rate_unless_it_is_reset(lr_reset, wanted):
    """The published code set a fine-tuned model's rate before every batch, which undid its plateaus."""
    recipe = Recipe(lr=(0.1,), finetune=True, warmup_steps=0, batch_size=16, max_epochs=1, lr_reset=lr_reset)
    _, module, cases, of = modules(recipe)
    module.plateau.scale = 0.5
    _dense_training.fit(module, *cases, recipe, 0, of, "")
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(wanted)
    assert type(module.trainer.optimizers[0]) is torch.optim.Adam
    assert module.trainer.optimizers[0].param_groups[0]["weight_decay"] == 1e-6


def test_the_warm_up_has_a_rate_of_its_own():
    recipe = Recipe(lr=(0.1,), finetune=True, warmup_steps=99, batch_size=16, max_epochs=1)
    _, module, cases, of = modules(recipe)
    _dense_training.fit(module, *cases, recipe, 0, of, "")
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == 1e-3


def test_training_ends_when_the_metric_stands_still_and_keeps_the_best_weights(monkeypatch):
    """The metric is best after the second epoch; three more are none better."""
    recipe = Recipe(lr=(0.1,), batch_size=16, max_epochs=40, patience=3)
    _, module, cases, of = modules(recipe)
    values, weights = iter([0.3, 0.5, 0.5, 0.4, 0.49]), []

    def score(predicted):
        weights.append(module.head.classify.weight.detach().clone())
        return next(values)

    monkeypatch.setattr(module.problem, "score", score)
    _dense_training.fit(module, *cases, recipe, 0, of, "")
    assert (module.epochs, module.best_epoch, module.best) == (5, 2, 0.5)
    assert not torch.equal(weights[1], weights[4])
    module.restore_best()
    assert torch.equal(module.head.classify.weight, weights[1])


def test_a_rate_that_diverges_is_not_taken(tmp_path, caplog):
    import logging

    with pytest.raises(TrainingError, match=r"lr=1e\+30: take lower rates"):
        run(lr=1e30, max_epochs=3)
    with pytest.raises(TrainingError, match="not finite with any of lr"):
        run(lr=[1e30, 1e31], max_epochs=3)
    logging.getLogger("radlearn").propagate = True
    with caplog.at_level(logging.WARNING, logger="radlearn"):
        found = run(dense_cases.dense(folder=tmp_path), lr=[1e30, 0.3], max_epochs=3)
    assert "the other rates are tried" in caplog.text
    assert row(found).lr == 0.3
    # It is not tried a second time either.
    of = dense_cases.dense(folder=tmp_path)
    assert run(of, lr=[1e30, 0.3], max_epochs=3).results == found.results
    assert of.encoder.passes == 0


def test_a_unet_learns_too():
    evaluation = run(head="unet", lr=3e-3, max_epochs=30)
    assert row(evaluation).value > 0.8


def test_one_class_of_several_and_all_as_one():
    one = run(classes=["striped"], max_epochs=3)
    assert {r.label for r in one.results} == {"macro", "striped"}
    merged = run(merge=True, max_epochs=20)
    assert {r.label for r in merged.results} == {"foreground"}
    striped, both = (
        row(e, "foreground", label).chance for e, label in ((one, "striped"), (merged, "foreground"))
    )
    assert both > 1.5 * striped
    with pytest.raises(DataError, match="no image has a mask of grey: there is bright, striped"):
        run(classes=["grey"])


def test_boxes_are_filled_where_there_are_no_masks():
    of = dense_cases.dense()
    without = of.with_splits(lambda split: dataclasses.replace(split, masks=[{}] * len(split)))
    assert row(run(without, max_epochs=10)).value > 0.6
    merged = run(without, max_epochs=3, merge=True)
    assert {r.label for r in merged.results} == {"foreground"}
    nothing = without.with_splits(lambda split: dataclasses.replace(split, boxes=[{}] * len(split)))
    with pytest.raises(DataError, match="no image has a mask: segmentation has nothing to learn"):
        run(nothing)


def test_images_that_cannot_be_read_are_left_out():
    for cache_gib in (4.0, 0.0):
        evaluation = run(dense_cases.dense(broken=[0, 7]), max_epochs=2, cache_gib=cache_gib)
        assert row(evaluation).num_cases == 38
        assert "image-7" not in evaluation.values[""].case_ids
    for cache_gib in (4.0, 0.0):
        with pytest.raises(DataError, match="no image of the train split could be read"):
            run(dense_cases.dense(broken=range(48)), max_epochs=2, cache_gib=cache_gib)
    of = dense_cases.dense()
    for name in ("validate", "test"):
        broken = dataclasses.replace(
            getattr(of, name), source=dense_cases.dense(broken=range(48)).test.source
        )
        with pytest.raises(DataError, match=f"no image of the {name} split could be read"):
            run(dataclasses.replace(of, **{name: broken}), max_epochs=2, cache_gib=0.0)


def test_a_share_of_the_training_patients():
    evaluation = run(fraction=0.25, draw=1, max_epochs=2)
    assert row(evaluation).fraction == 0.25
    # Other cases learnt from: predictions of their own, as few-shot tasks have.
    assert list(evaluation.values) == ["fraction=0.25, draw=1"]
    assert row(evaluation).draw == 1
    train = dense_cases.dense().train
    some, more = (_dense_cases.few_shot(train, f, 0, 1) for f in (0.25, 0.5))
    assert len(set(some.patient_ids)) == 6
    assert set(some.image_ids) < set(more.image_ids)
    assert [some.masks[0], some.rows[0]] == [
        train.masks[some.rows[0]],
        train.image_ids.index(some.image_ids[0]),
    ]


@pytest.mark.parametrize("name", ["train", "validate", "test"])
def test_a_split_on_which_nothing_is_drawn_is_refused(name):
    """Without annotations the validation split would choose weights and rates by chance."""
    of = dense_cases.dense()
    bare = dataclasses.replace(getattr(of, name), masks=[{}] * len(getattr(of, name)))
    with pytest.raises(DataError, match=f"nothing is drawn on any of the .* images of the {name} split"):
        run(dataclasses.replace(of, **{name: bare}))


def test_a_class_that_the_scored_split_lacks_counts_zero_in_dice_and_nowhere_else():
    of = dense_cases.dense()
    only = [{k: v for k, v in m.items() if k == "bright"} for m in of.test.masks]
    found = run(dataclasses.replace(of, test=dataclasses.replace(of.test, masks=only)), max_epochs=4)
    assert row(found).value == pytest.approx(row(found, label="bright").value / 2)
    assert row(found, "positive_dice").value == row(found, "positive_dice", "bright").value
    assert np.isnan(row(found, "positive_dice", "striped").value)


def test_images_are_normalised_by_the_data_if_asked():
    of = dataclasses.replace(dense_cases.dense(), statistics=(0.45, 0.2))
    own, data = (run(of, max_epochs=2, normalise=how) for how in ("encoder", "data"))
    assert row(own).value != row(data).value
    assert of.encoder.normalise.std.item() == 0.5
    with pytest.raises(ConfigurationError, match="no pixel statistics; prepare it"):
        run(normalise="data")
    with pytest.raises(ConfigurationError, match=r"task\.normalise is encoder or data"):
        Segmentation(normalise="dat")


def test_more_pixels_than_are_stored_are_refused():
    of = dataclasses.replace(dense_cases.dense(), short_side=48)
    with pytest.raises(ConfigurationError, match=r"data\.size=64"):
        run(of)


def test_maps_too_large_for_half_precision_are_kept_in_another():
    of = dense_cases.dense()
    of.encoder.gain.data *= 1e6
    problem = Masks(["bright"], head="linear", per_class=True, from_boxes=False)
    view, trunk = EvaluationView(dense_cases.SIDE, fit="pad_square"), Trunk(of.encoder, ("local",))
    (kept,) = _dense_cases.Cases(of.test, problem, view, trunk, of, "test").maps.values()
    images = torch.from_numpy(view.batch(of.test.source.images)).unsqueeze(1)
    torch.testing.assert_close(kept.float(), trunk(images)["local"], rtol=0.01, atol=1e3)
    assert kept.abs().max() > 65_504
    of.encoder.gain.data.fill_(torch.nan)
    with pytest.raises(TrainingError, match="values that are not finite"):
        run(of)


@pytest.mark.parametrize(
    ("settings", "highest"), [({}, 0.3), ({"head": "unet"}, 1e-3), ({"finetune": True}, 3e-4)]
)
def test_rates_suit_what_learns(settings, highest):
    assert max(Segmentation(**settings).recipe.rates) == highest


def test_counts_are_exact_in_reduced_precision():
    problem = Masks(["a"], head="linear", per_class=True, from_boxes=False)
    logits = torch.ones(1, 1, 101, 101)
    target = torch.zeros(1, 1, 101, 101)
    target[..., :50] = 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = problem.predict(logits, target)
    assert found["counts"].tolist() == [[5050, 101 * 51, 0]]


@pytest.mark.parametrize(("counts", "words"), [([0, 0, 9], "no pixel"), ([9, 91, 0], "every pixel")])
def test_collapse_is_told(caplog, counts, words):
    import logging

    trained = Trained(0.1, 0, 0.0, 1, 1, 0.0, np.arange(1), [])
    logging.getLogger("radlearn").propagate = True
    with caplog.at_level(logging.WARNING, logger="radlearn"):
        _tell_of_collapse(np.array([[counts, [5, 1, 1]]]), ["a", "b"], 100, trained)
    assert caplog.messages == [f"segmentation of a has collapsed: {words} is positive (lr=0.1)"]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigurationError, match="did you mean 'unet'"):
        Segmentation(head="unett")
    with pytest.raises(ConfigurationError, match=r"task\.lr is a learning rate above 0"):
        Segmentation(lr=[])
    with pytest.raises(ConfigurationError, match=r"task\.repeats is at least 1: got 0"):
        Segmentation(repeats=0)
    with pytest.raises(ConfigurationError, match="segmentation needs images with masks"):
        Segmentation().run(dataclasses.replace(dense_cases.inputs(dense_cases.dense()), dense=None))
    of = dense_cases.dense()
    with pytest.raises(ConfigurationError, match="needs a validate split"):
        run(dataclasses.replace(of, validate=of.validate.take(np.zeros(0, np.int64))))
