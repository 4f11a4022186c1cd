"""Saves the run: the last checkpoints and the best one, with everything a resumed process needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L

from radlearn.training import checkpoint
from radlearn.training.log import Recorder
from radlearn.training.module import RunModule
from radlearn.training.online_evaluators import OnlineEvaluators
from radlearn.training.probes import Alarms, Probes
from radlearn.training.validation import Validation


@dataclasses.dataclass
class Best:
    """The best value so far, and its step: the highest macro AUC, or the lowest validation loss."""

    measure: str = "macro_auc"
    step: int | None = None
    value: float | None = None

    def take(self, step: int, value: float | None) -> bool:
        """Whether the value of a step is the best so far, and then it is kept."""
        # A NaN, from labels of one class, is no best: nothing would ever exceed it.
        if value is None or not math.isfinite(value):
            return False
        if self.value is not None:
            better = value < self.value if self.measure == "val_loss" else value > self.value
            if not better:
                return False
        self.step, self.value = step, value
        return True


class Keeper(L.Callback):
    """Writes a checkpoint every so many steps, at a new best, and at the end. Comes last among the callbacks.

    Args:
        run: the run's folder.
        config: resolved configuration.
        about: what stands in `about.json` besides the step.
        recorder, probes, alarms, validation, online: whose state is read.
        every: steps between checkpoints, or None for the last one only.
        keep_last: how many are kept besides the best.
        best: kept over resumes.
    """

    def __init__(
        self,
        run: Path,
        *,
        config: Mapping[str, Any],
        about: Mapping[str, Any],
        recorder: Recorder,
        probes: Probes,
        alarms: Alarms,
        validation: Validation | None,
        online: OnlineEvaluators | None,
        every: int | None,
        keep_last: int,
        best: Best,
    ) -> None:
        self.run, self.config, self.about = run, config, about
        self.recorder, self.probes, self.alarms = recorder, probes, alarms
        self.validation, self.online = validation, online
        self.every, self.keep_last, self.best = every, keep_last, best

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time."""
        module: RunModule = pl_module
        if module.micro_step or not trainer.is_global_zero:
            return
        loss = None if self.validation is None else self.validation.loss
        value = loss if self.best.measure == "val_loss" else self.probes.macro_auc
        better = self.best.take(module.step, value)
        if better or module.at_end or (self.every is not None and module.step % self.every == 0):
            self.save(trainer, module)

    def save(self, trainer: L.Trainer, module: RunModule) -> None:
        """Write the numbers first, then the checkpoint: a checkpoint never stands without its steps."""
        self.recorder.read()
        self.recorder.table.write()
        state = {
            "optimizer": trainer.optimizers[0].state_dict(),
            "precision": trainer.precision_plugin.state_dict(),
            "best": dataclasses.asdict(self.best),
            "alarms": {"counts": dict(self.alarms.counts), "ringing": dict(self.alarms.ringing)},
            "plateau": dataclasses.asdict(module.plateau),
            "waiting": None if self.validation is None else dataclasses.asdict(self.validation.waiting),
            "online": None if self.online is None else self.online.state_dict(),
        }
        done = module.step / module.optimisation.num_steps
        # What has been spent so far, which of an unfinished run is less than what was planned.
        spent = {k: v if k == "num_views" else round(v * done) for k, v in self.about["budget"].items()}
        about = {
            **self.about,
            "budget": spent,
            "step": module.step,
            "num_steps": module.optimisation.num_steps,
            "stopped": module.stopping,
            "best": dataclasses.asdict(self.best),
        }
        folder = checkpoint.folder_of(self.run, module.step)
        checkpoint.save(folder, module.objective, config=self.config, about=about, state=state)
        checkpoint.prune(self.run, self.keep_last, self.best.step)
