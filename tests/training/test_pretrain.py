"""A run, from the configuration to its folder."""

from __future__ import annotations

import json
import logging
import math

import polars as pl
import pytest
import torch

from radlearn.errors import ConfigurationError, DataError, TrainingError
from radlearn.training import checkpoint
from radlearn.training.model import load
from radlearn.training.pretrain import pretrain


@pytest.mark.parametrize("method", ["nova", "infonce", "siglip", "medclip"])
def test_each_method_trains_and_leaves_a_whole_folder(method, configure):
    run = pretrain(configure(f"method={method}", "max_steps=3", "eval_every_n_steps=2"))
    metrics = pl.read_parquet(run.folder / "metrics.parquet")
    assert metrics["step"].to_list() == [1, 2, 3]
    assert metrics["loss"].is_finite().all()
    assert {"grad_norm", "lr", "images_per_second", "data_wait"} <= set(metrics.columns)
    assert "eval/macro_auc" in metrics.columns
    assert "diagnostics/collapse/text_std_mean" in metrics.columns
    assert (run.folder / "config.yaml").exists()
    card = json.loads((run.folder / "card.json").read_text())
    assert card["access"] == "synthetic"
    found = checkpoint.load(run.folder)
    assert found.step == 3
    assert found.about["data"]["fingerprint"] == card["fingerprint"]
    assert found.about["budget"]["samples_seen"] == 24


def test_the_live_objects_follow_the_published_recipe(configure, monkeypatch):
    """NOVA's published defaults, read back after steps were taken (reference settings, section 3.2)."""
    from radlearn.training.module import RunModule

    seen = []
    step = RunModule.optimizer_step

    def spy(module, *args, **kwargs):
        step(module, *args, **kwargs)
        seen.append(module)

    monkeypatch.setattr(RunModule, "optimizer_step", spy)
    from radlearn import composition

    small = configure()
    kept = {key: small[key] for key in ("data", "encoder", "paths", "output_dir", "run_name", "text")}
    published = composition.compose("pretrain", ["data=phantom_cxr", "encoder=small_cnn", "accelerator=cpu"])
    changes = {"batch_size": 8, "max_steps": 2, "global_size": 32, "local_size": 16, "num_workers": 0}
    pretrain({**published, **kept, **changes})
    module = seen[-1]
    (optimizer,) = [module.optimizers().optimizer]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01]
    assert module.optimisation.max_grad_norm == 1.0
    assert module.optimisation.lr == 1e-4
    assert module.optimisation.eta_min == 1e-5
    objective = module.objective
    assert objective.lambda_sigreg == 0.02
    assert objective.sigreg["num_slices"] == 1024
    assert objective.text_head.project.out_features == 64
    assert len([m for m in objective.predictor if isinstance(m, torch.nn.Linear)]) == 3
    views = module.trainer.train_dataloader.dataset.views.specs
    assert [(v.count, v.scale, v.flip) for v in views] == [(2, (0.4, 1.0), 0.0), (6, (0.05, 0.4), 0.0)]
    assert module.trainer.precision == "bf16-mixed"


def test_a_finished_run_is_left_alone(configure, caplog):
    pretrain(configure("max_steps=2"))
    before = checkpoint.load(pretrain(configure("max_steps=2")).folder)
    assert before.step == 2


def test_other_settings_do_not_resume_a_run(configure):
    pretrain(configure("max_steps=2"))
    with pytest.raises(ConfigurationError, match=r"exists with other settings \(lr: 0.001 -> 0.002"):
        pretrain(configure("max_steps=2", "lr=2e-3"))


def test_a_longer_schedule_is_another_run(configure):
    pretrain(configure("max_steps=2"))
    with pytest.raises(ConfigurationError, match="max_steps: 2 -> 4"):
        pretrain(configure("max_steps=4"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(configure):
    weights = [
        checkpoint.load(pretrain(configure("max_steps=2", f"seed={seed}", run=name)).folder).weights
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not all(torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def test_accumulation_counts_optimiser_steps(configure):
    run = pretrain(configure("max_steps=2", "accumulate=3", "batch_size=4"))
    assert pl.read_parquet(run.folder / "metrics.parquet")["step"].to_list() == [1, 2]
    assert checkpoint.load(run.folder).about["budget"]["samples_seen"] == 24


def test_without_sigreg_the_space_collapses_and_the_alarm_rings(configure):
    settings = ["max_steps=150", "warmup_steps=5", "metrics_every_n_steps=10", "lr=1e-2", "batch_size=16"]
    collapsed = pretrain(configure("lambda_sigreg=0", "save_every_n_steps=null", *settings, run="collapsed"))
    assert any("scale" in alarm for alarm in collapsed.alarms)
    table = pl.read_parquet(collapsed.folder / "metrics.parquet")
    assert table["diagnostics/collapse/text_std_mean"].drop_nulls()[-1] < 0.1
    healthy = pretrain(configure("lambda_sigreg=0.05", "save_every_n_steps=null", *settings, run="healthy"))
    assert not any("scale" in alarm for alarm in healthy.alarms)
    table = pl.read_parquet(healthy.folder / "metrics.parquet")
    assert table["diagnostics/collapse/image_global_std_mean"].drop_nulls()[-1] > 0.3


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_checkpoint(configure, monkeypatch):
    from radlearn.objectives.nova import NOVA

    forward = NOVA.forward

    def breaks(self, batch, step):
        output = forward(self, batch, step)
        return type(output)(output.loss * math.nan, output.metrics, output.tensors) if step == 4 else output

    monkeypatch.setattr(NOVA, "forward", breaks)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 5 .* lower lr"):
        pretrain(configure())
    runs = configure()["output_dir"]
    from pathlib import Path

    found = checkpoint.load(Path(runs))
    assert found.step == 3
    assert all(torch.isfinite(value.float()).all() for value in found.weights.values())


def test_out_of_memory_says_which_keys_to_lower(configure, monkeypatch):
    from radlearn.objectives.nova import NOVA

    def breaks(self, batch, step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(NOVA, "forward", breaks)
    with pytest.raises(TrainingError, match=r"batch_size=8: set batch_size=auto, or lower batch_size"):
        pretrain(configure())


def test_batch_size_auto_finds_one_that_fits(configure, caplog, monkeypatch):
    from radlearn.training import batch_size

    monkeypatch.setattr(batch_size, "_free_memory", lambda device: 4e6)
    small = pretrain(configure("batch_size=auto", "max_steps=1", run="small"))
    monkeypatch.setattr(batch_size, "_free_memory", lambda device: 1e12)
    large = pretrain(configure("batch_size=auto", "max_steps=1", run="large"))
    samples = [checkpoint.load(r.folder).about["budget"]["samples_seen"] for r in (small, large)]
    assert 2 <= samples[0] < samples[1] == 32  # the largest power of two below 48 rows
    monkeypatch.setattr(batch_size, "_free_memory", lambda device: 1e3)
    with pytest.raises(TrainingError, match="lower local_crops_number"):
        pretrain(configure("batch_size=auto", "max_steps=1", run="none"))


def test_a_batch_larger_than_the_data_and_a_row_too_few(configure):
    with pytest.raises(ConfigurationError, match="batch_size is 64, but there are only 48 training rows"):
        pretrain(configure("batch_size=64"))
    with pytest.raises(ConfigurationError, match="needs more than one"):
        pretrain(configure("max_samples=1"))


def test_a_read_only_output_folder_is_named(configure, tmp_path, monkeypatch):
    from pathlib import Path

    # Root may write anywhere, so the refusal is simulated where the operating system would make it.
    mkdir = Path.mkdir

    def refuse(self, *args, **kwargs):
        if "step-" in self.name:
            raise OSError(30, "Read-only file system")
        return mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"cannot write the checkpoint .* Read-only file system"):
        pretrain(configure("max_steps=3"))


def test_init_starts_from_another_run_and_names_file_and_hash(configure, caplog):
    first = pretrain(configure("max_steps=2", run="first"))
    logger = logging.getLogger("radlearn")
    logger.propagate = True
    with caplog.at_level(logging.INFO, logger="radlearn"):
        settings = ["max_steps=1", "init=first", "freeze=[image_encoder]", "lr=1e-9", "eta_min=0"]
        config = configure(*settings, run="next")
        second = pretrain(config)
    path = checkpoint.latest(first.folder) / "weights.safetensors"
    assert f"starts from {path} (sha256 {checkpoint.file_hash(path)})" in caplog.text
    before, after = (checkpoint.load(run.folder).weights for run in (first, second))
    # Weights and batch statistics alike.
    frozen = [k for k in before if k.startswith("image_encoder")]
    assert frozen
    assert all(torch.equal(before[k], after[k]) for k in frozen)


def test_init_takes_only_the_image_encoder_of_another_method(configure):
    pretrain(configure("max_steps=1", run="first"))
    pretrain(configure("max_steps=1", "method=infonce", "init=first", "local_crops_number=0", run="second"))
    with pytest.raises(ConfigurationError, match="neither a file or folder nor a run"):
        pretrain(configure("init=no_such_run", run="third"))


def test_smoke_runs_two_steps_on_the_fake_release(configure):
    run = pretrain(configure("smoke=true", run="smoke"))
    assert run.steps == 2


def test_dry_run_writes_nothing(configure):
    run = pretrain(configure("dry_run=true", run="dry"))
    assert run.steps == 0
    assert not (run.folder / "config.yaml").exists()


def test_a_loaded_model_embeds_files_arrays_and_text_and_scores(configure):
    from radlearn.data.store import Store

    config = configure("max_steps=2")
    run = pretrain(config)
    model = load(run.folder)
    from radlearn.prepare import prepared_folder

    store = Store(prepared_folder(config["data"], config["paths"]))
    images = store.gather([0, 1, 2])
    embeddings = model.embed_image(images)
    assert embeddings.shape == (3, 8)
    texts = model.embed_text(["pleural effusion", "No acute cardiopulmonary process."])
    assert texts.shape == (2, 8)
    scores = model.zero_shot(images, ["pleural effusion", "edema"])
    unit = torch.nn.functional.normalize
    expected = unit(embeddings.double()) @ (unit(texts[0].double(), dim=0) - unit(texts[1].double(), dim=0))
    torch.testing.assert_close(scores[:, 0], expected)


def test_a_checkpoint_that_names_foreign_code_is_not_run(configure):
    run = pretrain(configure("max_steps=1", "method.name=radlearn.objectives.nova.NOVA"))
    with pytest.raises(ConfigurationError, match=r"trust=\[radlearn.objectives.nova\]"):
        load(run.folder)
    assert load(run.folder, trust=["radlearn.objectives.nova"]).objective is not None


def test_another_text_encoder_than_the_trained_one_is_refused(configure):
    run = pretrain(configure("max_steps=1"))
    about = checkpoint.latest(run.folder) / "about.json"
    content = json.loads(about.read_text())
    content["text_encoder"]["version"] = 0
    about.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="text encoder differs"):
        load(run.folder).embed_text(["edema"])


def test_trackers_are_given_numbers_only(configure, monkeypatch):
    from radlearn.training import pretrain as module

    sent = []
    monkeypatch.setattr(
        module, "open_trackers", lambda config, run: [lambda step, values: sent.append((step, values))]
    )
    pretrain(configure("max_steps=2"))
    assert {step for step, _ in sent} == {1, 2}
    assert all(isinstance(value, float) for _, values in sent for value in values.values())


def test_an_unknown_tracker_and_a_missing_extra_are_named(configure):
    with pytest.raises(ConfigurationError, match="no tracker 'paper': there is tensorboard, mlflow, wandb"):
        pretrain(configure("tracker=[paper]"))
    with pytest.raises(ConfigurationError, match=r"pip install 'radlearn\[mlflow\]'"):
        pretrain(configure("tracker=[mlflow]"))
