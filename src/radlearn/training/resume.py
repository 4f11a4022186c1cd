"""Whether and from where a run goes on: it has one configuration, one data set and one text side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radlearn import config as configuration
from radlearn.datasets import Dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.training import checkpoint
from radlearn.training.text import TextSide, TokenSide

# Keys that a resumed run may change: where it runs and what it writes, not what it learns. The number of
# devices is not among them: it is a factor of the batch.
_FREE_TO_CHANGE = {
    "accelerator", "ckpt_path", "dry_run", "eval_every_n_steps", "evals", "keep_last",
    "metrics_every_n_steps", "num_workers", "output_dir", "paths", "run_name", "save_every_n_steps",
    "strategy", "tracker", "trainer", "trust", "wandb_enabled", "wandb_project",
}  # fmt: skip


def checkpoint_to_resume(run: Path, config: Mapping[str, Any]) -> checkpoint.Checkpoint | None:
    """The run's last checkpoint, or the one `ckpt_path` names; None for a new run."""
    last = checkpoint.latest(run)
    if not config.get("ckpt_path"):
        return None if last is None else checkpoint.load(last)
    found = checkpoint.load(Path(config["ckpt_path"]))
    if last is not None and checkpoint.load(last).step > found.step:
        raise ConfigurationError(
            f"{run} has later checkpoints than ckpt_path={config['ckpt_path']}: choose another run_name to "
            "branch off, or remove the later ones"
        )
    return found


def check_same_inputs(
    found: checkpoint.Checkpoint, config: Mapping[str, Any], data: Dataset, text: TextSide | TokenSide | None
) -> None:
    """A run goes on with the data and the text side it began with."""
    before, now = found.about["data"]["fingerprint"], data.card.fingerprint
    if before != now:
        raise DataError(
            f"{data.card.name} has changed since the run began (fingerprint {before[:12]}, now {now[:12]}): "
            "restore it, or choose another run_name"
        )
    settings = {k: (v, config["text"].get(k)) for k, v in found.config["text"].items()}
    changed = {k: pair for k, pair in settings.items() if pair[0] != pair[1]}
    if changed or found.about["text_encoder"] != (None if text is None else text.encoder.identity):
        raise ConfigurationError(
            f"the run began with another text side (then, now): {changed or 'other weights'}; choose another "
            "run_name"
        )


def check_same_settings(before: Mapping[str, Any], now: Mapping[str, Any], run: Path) -> None:
    """A run has one configuration: going on with another would make its saved one a lie."""

    def flat(value: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(value, Mapping):
            return {prefix[:-1]: value}
        parts: dict[str, Any] = {}
        for key, item in value.items():
            parts |= flat(item, f"{prefix}{key}.")
        return parts

    old = flat({k: v for k, v in before.items() if k not in _FREE_TO_CHANGE})
    new = flat({k: v for k, v in configuration.merge_defaults(now).items() if k not in _FREE_TO_CHANGE})
    # `auto` and `dataset` were replaced by what was found when the run began.
    changed = {
        key: (old.get(key), new.get(key))
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
        and new.get(key) not in ("auto", "dataset")
        and not key.startswith("text.")
    }
    if changed:
        shown = ", ".join(f"{key}: {was} -> {wants}" for key, (was, wants) in list(changed.items())[:5])
        raise ConfigurationError(
            f"the run {run} exists with other settings ({shown}): choose another run_name, give the same "
            "settings to "
            "resume it, or remove its folder to start anew"
        )
