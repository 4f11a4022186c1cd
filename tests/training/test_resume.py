"""A killed run ends as an uninterrupted one, to the last bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from small_runs import LOVT

from radlearn.errors import RadlearnError
from radlearn.training import checkpoint
from radlearn.training.pretrain import pretrain

# The child trains with the given configuration and kills itself within a step.
_CHILD = """
import json, os, signal, sys
from radlearn.training.module import RunModule
from radlearn.training.pretrain import pretrain

config, step = json.load(open(sys.argv[1])), int(sys.argv[2])
taken = RunModule.optimizer_step


def die(module, *args, **kwargs):
    taken(module, *args, **kwargs)
    if module.step == step:
        os.kill(os.getpid(), signal.SIGKILL)


RunModule.optimizer_step = die
pretrain(config)
"""
# Six steps an epoch; warm-up runs to step 9; saved at 4, 8, 12: killed within the second epoch, and not at a
# save.
_STEPS, _SAVE = 12, 4
_SAVING = [f"max_steps={_STEPS}", f"save_every_n_steps={_SAVE}", "keep_last=9"]
# Everything that has a state besides the weights: the rate lowered by a validation before and after the kill,
# waiting, the best loss, three classifiers; and text augmentation, accumulation, parts.
_STATEFUL = [
    *LOVT,
    "text.augment=swaps",
    "optimizer=adam",
    "schedule=plateau",
    "plateau_patience=0",
    "lr=0.05",
    "validate_every_n_steps=1",
    "early_stop_patience=99",
    "best=val_loss",
    "online_evaluators=[image,report,joint]",
    "micro_batch=3",
    "accumulate=2",
    "num_workers=0",
]


@pytest.mark.parametrize("more", [["warmup_steps=9", "num_workers=2"], _STATEFUL])
def test_kill_and_resume_equals_an_uninterrupted_run(more, configure, tmp_path):
    settings = [*_SAVING, *more]
    whole = pretrain(configure(*settings, run="whole"))
    config = configure(*settings, run="killed")
    step = random.choice([5, 7, 9, 10, 11])
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "config.json"), str(step)]
    child = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert child.returncode == -signal.SIGKILL, child.stderr

    run = Path(config["output_dir"])
    reached = checkpoint.load(run).step
    assert reached == step // _SAVE * _SAVE < step
    resumed = pretrain(config)
    first, second = checkpoint.load(whole.folder), checkpoint.load(resumed.folder)
    assert first.step == second.step == _STEPS
    for key, value in first.weights.items():
        assert torch.equal(value, second.weights[key]), (key, step)
    assert _flat(first.state()) == _flat(second.state())
    if more is _STATEFUL:
        assert first.state()["plateau"]["scale"] < 0.5

    metrics = [pl.read_parquet(r.folder / "metrics.parquet") for r in (whole, resumed)]
    assert all(table["step"].to_list() == list(range(1, _STEPS + 1)) for table in metrics)
    same = [c for c in metrics[0].columns if c not in ("images_per_second", "data_wait")]
    assert metrics[0].select(same).equals(metrics[1].select(same))


def _flat(value):
    """Nested state with tensors as bytes, so that equality is equality of bits."""
    if isinstance(value, torch.Tensor):
        return value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _flat(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_flat(item) for item in value]
    return value


def test_leftovers_of_a_killed_save_are_ignored_and_removed(configure):
    run = pretrain(configure("max_steps=2"))
    leftover = run.folder / "checkpoints" / ".step-00000009.123"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    assert checkpoint.load(run.folder).step == 2
    checkpoint.prune(run.folder, keep_last=2, best=None)
    assert not leftover.exists()


def test_last_checkpoints_and_the_best_are_kept(configure):
    run = pretrain(configure("max_steps=6", "save_every_n_steps=1", "keep_last=2"))
    assert [p.name for p in checkpoint.saved(run.folder)] == ["step-00000005", "step-00000006"]


def test_a_run_does_not_go_on_with_other_data_or_another_text_side(configure):
    config = configure("max_steps=6", "save_every_n_steps=2")
    run = pretrain(config)
    for later in checkpoint.saved(run.folder)[1:]:
        shutil.rmtree(later)
    about = checkpoint.saved(run.folder)[0] / "about.json"
    before = about.read_text()
    for key, match in (("data", "has changed since the run began"), ("text_encoder", "another text side")):
        content = json.loads(before)
        content[key]["fingerprint" if key == "data" else "version"] = "0"
        about.write_text(json.dumps(content))
        with pytest.raises(RadlearnError, match=match):
            pretrain(config)
    about.write_text(before)
    with pytest.raises(RadlearnError, match="another text side"):
        pretrain({**config, "text": {**config["text"], "max_length": 7}})
    assert pretrain(config).steps == 6


def test_a_size_found_by_auto_is_kept(configure, monkeypatch):
    from radlearn.training import batch_size

    monkeypatch.setattr(batch_size, "_free_memory", lambda device: 4e6)
    config = configure("batch_size=auto", "max_steps=4", "save_every_n_steps=2")
    run = pretrain(config)
    size = checkpoint.load(run.folder).about["batch_size"]
    shutil.rmtree(checkpoint.latest(run.folder))
    monkeypatch.setattr(batch_size, "_free_memory", lambda device: 1e12)
    pretrain(config)
    assert checkpoint.load(run.folder).about["batch_size"] == size


def test_branching_off_an_earlier_checkpoint_needs_another_name(configure):
    run = pretrain(configure("max_steps=4", "save_every_n_steps=2", "keep_last=9"))
    first = checkpoint.saved(run.folder)[0]
    with pytest.raises(RadlearnError, match="later checkpoints"):
        pretrain(configure("max_steps=4", "save_every_n_steps=2", "keep_last=9", f"ckpt_path={first}"))


def test_an_unfinished_run_states_what_it_has_spent(configure):
    run = pretrain(configure("max_steps=4", "save_every_n_steps=2", "keep_last=9"))
    spent = [checkpoint.load(path).about["budget"]["samples_seen"] for path in checkpoint.saved(run.folder)]
    assert spent == [16, 32]
