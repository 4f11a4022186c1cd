"""One training of a head, with the encoder frozen below it or learning too.

Source: the evaluation protocol of LoVT (Müller et al. 2022, arXiv:2112.02889): Adam, weight decay 1e-6, the
rate halved where the validation loss stops falling, early stop and best weights by the validation metric,
images padded to a square and never augmented.
"""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from radlearn.dense_heads import DenseHead, Trunk
from radlearn.errors import ConfigurationError, DataError, TrainingError
from radlearn.tasks._dense_cases import Arrays, Cases, Epochs, Problem
from radlearn.tasks.base import Dense
from radlearn.training.inference import evaluating
from radlearn.training.schedules import Plateau

_MIN_DELTA = 1e-5
_UNREADABLE = "no image of the {} split could be read: run `radlearn check`"


@dataclass(frozen=True)
class Recipe:
    """How a head is trained.

    Attributes:
        lr: the learning rate; of several each is tried once and the best by validation is taken.
        repeats: trainings with the chosen rate, each with a seed of its own.
        batch_size: images a step; the last, smaller batch of an epoch is dropped.
        max_epochs: at most; patience: epochs without a better validation metric that end it.
        finetune: the encoder learns too, after `warmup_steps` steps of the head alone at `warmup_lr`.
        weight_decay: of Adam, added to the gradient.
        plateau_patience, plateau_factor: epochs without a lower validation loss after which the rate falls.
        lr_reset: legacy: set a fine-tuned encoder's rate before every step, so that plateaus change nothing.
        cache_gib: largest size of the maps that are kept in memory.
    """

    lr: Sequence[float] | float
    repeats: int = 1
    batch_size: int = 64
    max_epochs: int = 50
    patience: int = 10
    finetune: bool = False
    warmup_steps: int = 100
    warmup_lr: float = 1e-3
    weight_decay: float = 1e-6
    plateau_patience: int = 3
    plateau_factor: float = 0.5
    lr_reset: bool = False
    cache_gib: float = 4.0

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0:
            raise ConfigurationError(f"task.lr is a learning rate above 0, or a list of them: got {self.lr}")
        low = {"repeats": 1, "batch_size": 1, "max_epochs": 1, "patience": 0, "warmup_steps": 0}
        for name, least in low.items():
            if getattr(self, name) < least:
                raise ConfigurationError(f"task.{name} is at least {least}: got {getattr(self, name)}")

    @property
    def rates(self) -> tuple[float, ...]:
        """The candidates for the learning rate."""
        given = (self.lr,) if isinstance(self.lr, int | float) else self.lr
        return tuple(float(rate) for rate in given)


@dataclass(frozen=True)
class Trained:
    """A head's training: its rate, seed, and course, and what it predicts for the scored split.

    Attributes:
        best: validation metric of the weights that were kept; best_epoch, from 1; epochs: how many there
            were.
        places: positions in the scored split of the images that could be read.
        predicted: what it says of each of these; empty for a training that only tried a rate.
    """

    lr: float
    seed: int
    best: float
    best_epoch: int
    epochs: int
    seconds: float
    places: np.ndarray
    predicted: list[Arrays]


def diverged(lr: float, seed: int) -> Trained:
    """A training whose loss did not stay finite: no rate is worse."""
    return Trained(lr, seed, -math.inf, 0, 0, 0.0, np.zeros(0, np.int64), [])


class HeadModule(L.LightningModule):
    """A head, with the encoder below it where its maps are not at hand.

    Args:
        head: learns.
        trunk: None where batches are maps already.
        problem: loss and metric.
        recipe: how; lr: the rate of this training.
    """

    def __init__(
        self, head: DenseHead, trunk: Trunk | None, problem: Problem, recipe: Recipe, lr: float
    ) -> None:
        super().__init__()
        self.head, self.trunk, self.problem, self.recipe, self.lr = head, trunk, problem, recipe, lr
        self.plateau = Plateau(recipe.plateau_patience, recipe.plateau_factor)
        self.best, self.best_epoch, self.epochs = -math.inf, 0, 0
        self.best_state: dict[str, Tensor] = {}
        self._losses: list[tuple[float, int]] = []
        self._predicted: list[Arrays] = []
        self.batches = 0
        if trunk is not None and not recipe.finetune:
            trunk.requires_grad_(False)
        # Not every trainer does so when it begins: a frozen trunk that is handed over must not be training.
        self.train()

    def train(self, mode: bool = True) -> HeadModule:
        """A frozen trunk stays in eval mode."""
        super().train(mode)
        if self.trunk is not None and not self.recipe.finetune:
            self.trunk.eval()
        return self

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Places stay where they are."""
        inputs, targets, places = batch
        if isinstance(inputs, dict):
            return {name: value.to(device) for name, value in inputs.items()}, targets.to(device), places
        return inputs.to(device), targets.to(device), places

    @property
    def warming_up(self) -> bool:
        """Whether the head learns alone before the encoder does."""
        return self.recipe.finetune and self.global_step < self.recipe.warmup_steps

    def forward(self, inputs: Any) -> Any:
        """Maps or images -> what the head says."""
        if self.trunk is None:
            # They travel to the device in half precision.
            return self.head({name: value.float() for name, value in inputs.items()})
        learns = self.training and self.recipe.finetune and not self.warming_up
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            maps = self.trunk(inputs)
        return self.head(maps)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """The rate of this step; while the head learns alone the encoder's batch norms stay as they are."""
        if self.trunk is not None and self.recipe.finetune:
            self.trunk.train(not self.warming_up)
        ignores_plateaus = self.recipe.lr_reset and self.recipe.finetune
        rate = self.lr if ignores_plateaus else self.lr * self.plateau.scale
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.recipe.warmup_lr if self.warming_up else rate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        inputs, targets, _ = batch
        self.batches += 1
        loss = self.problem.loss(self(inputs), targets)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.global_step} with lr={self.lr:g}: take "
                "lower rates in task.lr"
            )
        return loss

    def on_train_epoch_end(self) -> None:
        """Refuse a training split of which no image could be read."""
        if not self.batches:
            raise DataError(_UNREADABLE.format("train"))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and predictions of a batch."""
        inputs, targets, places = batch
        outputs = self(inputs)
        self._losses.append((float(self.problem.loss(outputs, targets)), len(places)))
        self._predicted += self.problem.predict(outputs, targets)

    def on_validation_epoch_end(self) -> None:
        """Keep the weights if they are the best so far.

        Raises:
            DataError: if no image of the split could be read.
        """
        if not self._losses:
            raise DataError(_UNREADABLE.format("validate"))
        losses, weights = zip(*self._losses, strict=True)
        self.plateau.read(float(np.average(losses, weights=weights)))
        value = self.problem.score(self._predicted)
        self.log("metric", value)
        self.epochs += 1
        if value > self.best + _MIN_DELTA or not self.best_state:
            self.best, self.best_epoch = value, self.epochs
            self.best_state = {k: v.detach().cpu().clone() for k, v in self._learning().items()}
        self._losses, self._predicted = [], []

    def _learning(self) -> Mapping[str, Tensor]:
        """The state that training changes."""
        return (self if self.recipe.finetune else self.head).state_dict()

    def restore_best(self) -> None:
        """Take the best weights."""
        (self if self.recipe.finetune else self.head).load_state_dict(self.best_state)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all that learns, one group."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.Adam(learning, lr=self.lr, weight_decay=self.recipe.weight_decay)


class _Course(L.Callback):
    """Tells the progress of one training."""

    def __init__(self, dense: Dense, total: int, what: str) -> None:
        self.dense, self.total, self.what = dense, total, what

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        done = self.total if trainer.should_stop else pl_module.epochs
        self.dense.progress(done, self.total, f"{self.what}, best {pl_module.best:.3f}")


def fit(
    module: HeadModule, train: Cases, validate: Cases, recipe: Recipe, seed: int, dense: Dense, what: str
) -> None:
    on_gpu = dense.device.startswith("cuda")
    stop = EarlyStopping("metric", mode="max", patience=recipe.patience, min_delta=_MIN_DELTA)
    with warnings.catch_warnings(), _quiet():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own affair
        trainer = L.Trainer(
            max_epochs=recipe.max_epochs,
            accelerator="gpu" if on_gpu else "cpu",
            devices=[int(dense.device.partition(":")[2] or 0)] if on_gpu else 1,
            precision="bf16-mixed" if on_gpu else "32-true",
            callbacks=[stop, _Course(dense, recipe.max_epochs, what)],
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(
            module,
            Epochs(train, recipe.batch_size, seed=seed),
            Epochs(validate, recipe.batch_size, seed=None),
        )


class _quiet:
    """Lightning's lines about devices, in every one of many trainings, say nothing new."""

    def __enter__(self) -> None:
        self.loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
        self.levels = [each.level for each in self.loggers]
        for each in self.loggers:
            each.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for each, level in zip(self.loggers, self.levels, strict=True):
            each.setLevel(level)


def train(
    problem: Problem,
    dense: Dense,
    recipe: Recipe,
    cases: Mapping[str, Cases],
    lr: float,
    seed: int,
    what: str,
    *,
    predicts: bool,
) -> Trained:
    started = time.monotonic()
    torch.manual_seed(seed)
    size = cases["train"].view.size
    head = problem.head(dense.encoder, size)
    trunk = None
    if cases["train"].maps is None:
        # Fine-tuning changes it, and the next training starts from the run's weights again.
        trunk = Trunk(copy.deepcopy(dense.encoder) if recipe.finetune else dense.encoder, head.names)
    module = HeadModule(head, trunk, problem, recipe, lr)
    fit(module, cases["train"], cases["validate"], recipe, seed, dense, what)
    module.restore_best()
    predicted: list[Arrays] = []
    places: list[np.ndarray] = []
    if predicts:
        module.to(dense.device)
        with evaluating(module):
            for batch in Epochs(cases["test"], recipe.batch_size, seed=None):
                inputs, targets, where = module.transfer_batch_to_device(batch, torch.device(dense.device), 0)
                predicted += problem.predict(module(inputs), targets)
                places.append(where)
    if predicts and not predicted:
        raise DataError(_UNREADABLE.format("test"))
    return Trained(
        lr, seed, module.best, module.best_epoch, module.epochs, time.monotonic() - started,
        np.concatenate(places) if places else np.zeros(0, np.int64), predicted,
    )  # fmt: skip
