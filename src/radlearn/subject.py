"""What is embedded or evaluated: a run or checkpoint, found by name and loaded."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from radlearn.errors import ConfigurationError
from radlearn.records import Card, card_from
from radlearn.training import checkpoint
from radlearn.training import model as models

logger = logging.getLogger("radlearn")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A loaded run.

    Attributes:
        name: of the run.
        folder: of the run, where results belong.
        model: the trained model.
        weights: the file it was loaded from.
    """

    name: str
    folder: Path
    model: models.Model
    weights: Path

    def trained_on(self) -> Card | None:
        """The card of the training data, where the run keeps one."""
        path = self.folder / "card.json"
        return card_from(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def open_run(config: Mapping[str, Any]) -> Subject:
    """The run that `run` names: in `paths.runs`, or a folder.

    Raises:
        ConfigurationError: if there is none; lists what there is.
    """
    run = config.get("run")
    runs = Path(config["paths"]["runs"])
    if not run:
        raise ConfigurationError(f"say which run: run=NAME. {_there_is(runs)}")
    folder = next((path for path in (runs / run, Path(run)) if path.is_dir()), None)
    if folder is None:
        raise ConfigurationError(
            f"no run '{run}': neither {runs / run} nor {run} is a folder. {_there_is(runs)}"
        )
    cache = Path(config["paths"]["cache"]) / "text"
    # The folder itself, so that a run that trains on meanwhile is not seen at two steps.
    is_checkpoint = (folder / checkpoint.WEIGHTS).exists()
    chosen = folder if is_checkpoint else checkpoint.choose(folder, config["checkpoint"]) or folder
    model = models.load(chosen, device=device(config["device"]), cache=cache, trust=config["trust"])
    _warn_of_choice(chosen, model, config)
    home = chosen.parent.parent if chosen.parent.name == "checkpoints" else chosen
    return Subject(home.name, home, model, chosen / checkpoint.WEIGHTS)


def _warn_of_choice(chosen: Path, model: models.Model, config: Mapping[str, Any]) -> None:
    """Say so where the checkpoint was chosen by scores on what may be scored again."""
    best = model.about.get("best") or {}
    is_best = config["checkpoint"] == "best" and best.get("measure") == "macro_auc"
    if is_best and model.config.get("evals"):
        logger.warning(
            "%s was chosen by its AUC on the sets of `evals`: scores on the same splits are too good; give "
            "those entries split=validate, or take checkpoint=last",
            chosen.name,
        )


def _there_is(runs: Path) -> str:
    found = (
        sorted(path.parent.relative_to(runs).as_posix() for path in runs.glob("**/checkpoints"))
        if runs.is_dir()
        else []
    )
    return f"In {runs} there is {', '.join(found) or 'no run yet'}"


def device(name: str) -> str:
    """The device that a configuration names; `auto` takes an accelerator where there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
