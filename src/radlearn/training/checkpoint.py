"""A checkpoint is one folder that loads from its path alone.

`weights.safetensors` (the objective's), `config.yaml` (resolved), `about.json` (step, data fingerprint, text
encoder, preprocessing, versions), `text/` (what builds a text encoder that learns again) and, for resuming,
`state.pt` (tensors and plain values only). Written to a
temporary folder and renamed, so a checkpoint that exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radlearn import config as configuration
from radlearn.encoders import _token_model
from radlearn.encoders.base import TokenEncoder
from radlearn.errors import ConfigurationError, DataError

WEIGHTS, CONFIG, ABOUT, STATE = "weights.safetensors", "config.yaml", "about.json", "state.pt"
_PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds; the resume state is read on demand."""

    folder: Path
    config: dict[str, Any]
    about: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return int(self.about["step"])

    def state(self) -> dict[str, Any]:
        """Optimiser and callback state.

        Raises:
            DataError: if the checkpoint is an export without it.
        """
        path = self.folder / STATE
        if not path.exists():
            raise DataError(
                f"{self.folder} has no {STATE}, so training cannot go on from it; use init={self.folder}"
            )
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state


def save(
    folder: Path,
    objective: nn.Module,
    *,
    config: Mapping[str, Any],
    about: Mapping[str, Any],
    state: Mapping[str, Any] | None,
) -> Path:
    """Write a checkpoint folder atomically; an existing one of the same name is replaced.

    Raises:
        DataError: if the disk is full or read-only; nothing existing is touched.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        weights = {key: value.detach().cpu().contiguous() for key, value in objective.state_dict().items()}
        save_file(weights, temporary / WEIGHTS)
        text_encoder = getattr(objective, "text_encoder", None)
        if isinstance(text_encoder, TokenEncoder):
            text_encoder.save(temporary / _token_model.FOLDER)
        configuration.save(dict(config), temporary / CONFIG)
        (temporary / ABOUT).write_text(json.dumps({**about, "versions": versions()}, indent=1))
        if state is not None:
            torch.save(dict(state), temporary / STATE)
        for path in temporary.iterdir():
            _sync(path)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(
            f"cannot write the checkpoint {folder}: {error.strerror or error}. Free space or set "
            "output_dir to a "
            "writable folder; the run resumes from its last checkpoint"
        ) from error
    return folder


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint folder, or the last checkpoint of a run folder.

    Raises:
        DataError: if there is none; says where it looked.
    """
    folder = path if (path / WEIGHTS).exists() else latest(path)
    if folder is None:
        raise DataError(f"no checkpoint in {path}: wanted {WEIGHTS}, or checkpoints/{_PREFIX}* with it")
    return Checkpoint(
        folder=folder,
        config=configuration.load(folder / CONFIG),
        about=json.loads((folder / ABOUT).read_text()),
        weights=load_file(folder / WEIGHTS),
    )


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step belongs."""
    return run / "checkpoints" / f"{_PREFIX}{step:08d}"


def saved(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob(f"{_PREFIX}*") if (path / WEIGHTS).exists())


def latest(run: Path) -> Path | None:
    """The run's last checkpoint, or None."""
    return next(reversed(saved(run)), None)


def choose(run: Path, which: str = "auto") -> Path | None:
    """The checkpoint of a run that is evaluated, or None where there is none yet.

    Args:
        run: the run's folder.
        which: `last`; `best`, by what the run's key `best` says; `auto`: the best of a run that selects by
            its validation loss, as LoVT's do, and else the last.

    Raises:
        DataError: if the best is asked for and the run has none, or it is gone.
    """
    last = latest(run)
    if last is None or which == "last":
        return last
    best = json.loads((last / ABOUT).read_text()).get("best") or {}
    if which == "auto" and best.get("measure") != "val_loss":
        return last
    step = best.get("step")
    if step is None:
        if which == "auto":
            return last
        raise DataError(f"{run} has no best checkpoint: nothing was validated or scored while it trained")
    found = folder_of(run, step)
    if not (found / WEIGHTS).exists():
        raise DataError(f"{run}: its best checkpoint {found.name} is gone; take checkpoint=last")
    return found


def prune(run: Path, keep_last: int, best: int | None) -> None:
    """Remove all checkpoints but the last `keep_last` and the best, and leftovers of killed processes."""
    for path in saved(run)[:-keep_last] if keep_last else []:
        if best is None or path != folder_of(run, best):
            shutil.rmtree(path)
    for leftover in (run / "checkpoints").glob(f".{_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, where: str, strict: bool = True
) -> list[str]:
    """Load weights into a module; returns the module's keys that were not there.

    `position_ids` buffers of older libraries are ignored.

    Raises:
        ConfigurationError: on unexpected keys or shapes, and on missing ones if strict.
    """
    given = {key: value for key, value in weights.items() if not key.endswith("position_ids")}
    own = module.state_dict()
    missing = sorted(set(own) - set(given))
    unexpected = sorted(set(given) - set(own))
    wrong = sorted(k for k in set(own) & set(given) if own[k].shape != given[k].shape)
    if unexpected or wrong or (missing and strict):
        raise ConfigurationError(
            f"the weights of {where} do not fit this model: missing {missing[:3]}, unexpected "
            f"{unexpected[:3]}, other "
            f"shape {[(k, tuple(given[k].shape), tuple(own[k].shape)) for k in wrong[:3]]}; "
            "encoder, embed_dim and text settings must be those of that run"
        )
    module.load_state_dict(given, strict=False)
    return missing


def file_hash(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    packages = (
        "radlearn",
        "torch",
        "torchvision",
        "timm",
        "lightning",
        "transformers",
        "numpy",
        "opencv-python-headless",
    )
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
