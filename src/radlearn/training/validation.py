"""The objective's loss on the validation split while training: what stops a run early, lowers the learning
rate, or names its best checkpoint.

The split is read in fixed batches without augmentation, in eval mode. Each batch is one rank's alone and as
large as a training batch of all ranks, so that the loss does not depend on their number.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import numpy as np
import torch

from radlearn.data.dataset import FixedBatches
from radlearn.data.loading import fixed_loader
from radlearn.errors import ConfigurationError, DataError
from radlearn.metrics.embedding_spaces import BatchStatistics, Spaces, of_batch, summarise
from radlearn.objectives.base import Objective
from radlearn.ranks import world_size
from radlearn.records import Batch, Output
from radlearn.training.gradient_cache import EncodesApart, cut, encode_in_parts
from radlearn.training.inference import evaluating
from radlearn.training.log import MetricsTable
from radlearn.training.module import Optimisation, RunModule
from radlearn.training.online_evaluators import OnlineEvaluators, check_names

logger = logging.getLogger("radlearn")

# Statistics of embedding spaces keep a vector of each study: of so many at most, in evenly spaced batches.
_MAX_SPACE_STUDIES = 2048
# LoVT: a loss must fall by more than this to count as an improvement for early stopping.
_MIN_DELTA = 1e-5


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse settings that read a validation loss which nothing measures.

    Raises:
        ConfigurationError: says which key to set.
    """
    every = [key for key in ("validate_every_n_epochs", "validate_every_n_steps") if config[key] is not None]
    if len(every) > 1:
        raise ConfigurationError(f"set one of {' and '.join(every)}, and the other to null")
    readers = {
        "schedule=plateau": config["schedule"] == "plateau",
        f"early_stop_patience={config['early_stop_patience']}": config["early_stop_patience"] is not None,
        "best=val_loss": config["best"] == "val_loss",
    }
    for reader, reads in readers.items():
        if reads and not every:
            raise ConfigurationError(f"{reader} reads the validation loss: set validate_every_n_epochs=1")
    check_names(config["online_evaluators"])


@dataclass
class Waiting:
    """The lowest loss so far, and how many validations ago that was: kept over resumes."""

    best: float = math.inf
    validations: int = 0

    def read(self, loss: float) -> None:
        """Take the loss of a validation; NaN is no improvement."""
        if loss < self.best - _MIN_DELTA:
            self.best, self.validations = loss, 0
        else:
            self.validations += 1


@dataclass(frozen=True)
class Measured:
    """One validation batch: its number, how many studies, means over them, the statistics of its embeddings,
    and the evaluators' logits.
    """

    number: int
    studies: int
    metrics: dict[str, float]
    spaces: BatchStatistics | None = None
    online: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


class Validation(L.Callback):
    """Measures the validation loss when it is due, and acts on it.

    Args:
        batches: the validation split.
        table: where numbers go.
        every_steps, every_epochs: how often; the last step is always measured.
        patience: validations without an improvement after which the run stops; None never stops it.
        waiting: kept over resumes.
        online: the evaluators that are scored too.
        num_workers: of the loader.
        trackers: called with (step, values); only numbers ever reach them.
    """

    def __init__(
        self,
        batches: FixedBatches,
        table: MetricsTable,
        *,
        every_steps: int | None,
        every_epochs: int | None,
        patience: int | None,
        waiting: Waiting,
        online: OnlineEvaluators | None,
        num_workers: int,
        trackers: Sequence[Callable[[int, Mapping[str, float]], None]] = (),
    ) -> None:
        self.batches, self.table, self.trackers = batches, table, trackers
        self.every_steps, self.every_epochs = every_steps, every_epochs
        self.patience, self.waiting, self.online = patience, waiting, online
        self.num_workers = num_workers
        self.loss: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if it is time; `loss` is that of this step, or None."""
        module: RunModule = pl_module
        self.loss = None
        if module.micro_step or not (module.at_end or self.due(module.step, module.optimisation)):
            return
        values = self.measure(trainer, module)
        self.table.add(module.step, values)
        for track in self.trackers:
            track(module.step, values)
        self.loss = values["val/total_loss"]
        self.waiting.read(self.loss)
        if module.optimisation.schedule == "plateau":
            module.plateau.read(self.loss)
        if self.patience is not None and self.waiting.validations >= self.patience:
            module.stopping = trainer.should_stop = True
            logger.info(
                "stops at step %d: no validation loss below %.5f in %d validations",
                module.step, self.waiting.best, self.waiting.validations,
            )  # fmt: skip

    def due(self, step: int, optimisation: Optimisation) -> bool:
        """Whether a step is followed by a validation."""
        if self.every_steps is not None:
            return step % self.every_steps == 0
        if self.every_epochs is None:
            return False
        before, after = (optimisation.epochs(s) // self.every_epochs for s in (step - 1, step))
        return after > before

    def measure(self, trainer: L.Trainer, module: RunModule) -> dict[str, float]:
        """`val/total_loss` and `val/<metric>`: means over the studies of all ranks."""
        numbers = range(trainer.global_rank, len(self.batches), trainer.world_size)
        loader = fixed_loader(self.batches, numbers, num_workers=self.num_workers)
        every_space = -(-len(self.batches) * self.batches.batch_size // _MAX_SPACE_STUDIES)
        own = []
        with _alone(module.objective), evaluating(module.objective):
            for number, batch in zip(numbers, loader, strict=True):
                if batch is not None:
                    with trainer.precision_plugin.forward_context():
                        output, further, spaces = _forward(module, batch.to(module.device))
                    metrics = {"total_loss": output.loss, **output.metrics, **further}
                    own.append(
                        Measured(
                            number,
                            len(batch.index),
                            {key: float(value) for key, value in metrics.items()},
                            of_batch(spaces) if spaces is not None and number % every_space == 0 else None,
                            self.online.predict(batch, output.tensors) if self.online else {},
                        )
                    )
        every = _of_all_ranks(own)
        if not every:
            raise DataError("no image of the validation split could be read: run `radlearn check`")
        weights = [each.studies for each in every]
        values = {
            f"val/{key}": float(np.average([each.metrics[key] for each in every], weights=weights))
            for key in every[0].metrics
        }
        if measured := [each.spaces for each in every if each.spaces is not None]:
            values |= {f"val/emb/{key}": value for key, value in summarise(measured).items()}
        for name in self.online.names if self.online else ():
            assert self.online is not None
            logits, target = (np.concatenate([each.online[name][i] for each in every]) for i in (0, 1))
            found = self.online.score(logits, target)
            values |= {f"val/online_{name}_{key}": value for key, value in found.items()}
        return values


def _forward(module: RunModule, batch: Batch) -> tuple[Output, Mapping[str, torch.Tensor], Spaces | None]:
    """Loss, further metrics and embedding spaces of a validation batch; a batch that is trained in parts is
    encoded so.
    """
    # The same slices at every validation, where an objective draws any.
    objective, step = module.objective, 0
    if not isinstance(objective, EncodesApart):
        return objective(batch, step), {}, None
    parts = cut(len(batch.index), module.num_parts * world_size())
    encoded = encode_in_parts(objective, batch, parts, before=lambda part: None)
    output = objective.compare(encoded, batch, step)
    further, spaces = (getattr(objective, name, None) for name in ("validation_metrics", "embedding_spaces"))
    return (
        output,
        further(encoded, batch) if further is not None else {},
        spaces(encoded, batch) if spaces is not None else None,
    )


def _of_all_ranks(own: list[Measured]) -> list[Measured]:
    """What all ranks measured, in the order of the batches."""
    shares: list[Any] = [own]
    if world_size() > 1:
        shares = [None] * world_size()
        torch.distributed.all_gather_object(shares, own)
    return sorted((each for share in shares for each in share), key=lambda each: each.number)


@contextmanager
def _alone(objective: Objective) -> Iterator[None]:
    """This rank's batches are whole: nothing is gathered."""
    objective.alone = True
    try:
        yield
    finally:
        objective.alone = False
