"""The LightningModule: one objective, one optimiser, one number for the step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from radlearn.errors import ConfigurationError
from radlearn.objectives.base import Objective
from radlearn.ranks import rank, row_counts
from radlearn.records import Batch, Output
from radlearn.training.gradient_cache import EncodesApart, GradientCache, average_gradients, cut
from radlearn.training.optim import build_optimizer, parameter_groups
from radlearn.training.schedules import Plateau, learning_rate


@dataclass(frozen=True)
class Optimisation:
    """How the weights move; the run keys of the same names.

    Attributes:
        num_steps: optimiser steps of the run.
        batches_per_epoch: batches of one pass over the data, of which `accumulate` make a step.
    """

    num_steps: int
    batches_per_epoch: int = 1
    optimizer: str = "adamw"
    lr: float = 1e-4
    schedule: str = "cosine"
    eta_min: float = 1e-5
    weight_decay: float = 0.01
    warmup_steps: int = 1000
    plateau_patience: int = 12
    plateau_factor: float = 0.5
    no_decay_norm_bias: bool = False
    max_grad_norm: float | None = 1.0
    accumulate: int = 1

    def epochs(self, step: int) -> int:
        """Whole passes over the data after so many steps."""
        return step * self.accumulate // self.batches_per_epoch


class RunModule(L.LightningModule):
    """Runs an objective for `num_steps` optimiser steps, counted from the start of the run and not of the
    process.

    Everything that depends on the step (learning rate, slices, dropout) is a function of (seed, step), so a
    resumed run repeats an uninterrupted one to the last bit.

    Args:
        objective: what is learned.
        optimisation: how.
        seed: of dropout and the like.
        num_parts: in how many parts a batch is encoded, see `gradient_cache`; 1 encodes it whole.
        start_step: optimiser steps already taken.
        optimizer_state: the optimiser's state at `start_step`.
        plateau: state of the schedule `plateau`.
    """

    def __init__(
        self,
        objective: Objective,
        optimisation: Optimisation,
        *,
        seed: int,
        num_parts: int = 1,
        start_step: int = 0,
        optimizer_state: Mapping[str, Any] | None = None,
        plateau: Plateau | None = None,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.optimisation = optimisation
        self.seed = seed
        self.num_parts = num_parts
        self.step = start_step
        self.micro_step = 0
        self.stopping = False
        self.plateau = plateau or Plateau(optimisation.plateau_patience, optimisation.plateau_factor)
        self._optimizer_state = optimizer_state
        self._cache: GradientCache | None = None
        self.grad_norm: Tensor | None = None
        self.output: Output | None = None
        self.batch_ended = time.perf_counter()

    @property
    def at_end(self) -> bool:
        """Whether the step just taken is the run's last."""
        return self.stopping or self.step == self.optimisation.num_steps

    def train(self, mode: bool = True) -> RunModule:
        """Frozen parts stay in eval mode: batch statistics and dropout belong to what does not learn."""
        super().train(mode)
        for child in self.objective.modules():
            parameters = list(child.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                child.eval()
        return self

    def current_lr(self) -> float:
        """The learning rate of the present step."""
        o = self.optimisation
        return learning_rate(
            self.step,
            schedule=o.schedule,
            peak=o.lr,
            final=o.eta_min,
            warmup_steps=o.warmup_steps,
            num_steps=o.num_steps,
            steps_per_epoch=o.batches_per_epoch / o.accumulate,
            scale=self.plateau.scale,
        )

    def on_train_start(self) -> None:
        """Several backward passes a step are more than the ranks' own reduction of gradients takes."""
        model = self.trainer.strategy.model
        if self.num_parts > 1 and isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = False

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set what depends on the step."""
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.current_lr()
        # Dropout's generator is a function of the step: nothing to save, nothing that a callback can shift.
        torch.manual_seed(hash((self.seed, self.step, self.micro_step, rank())) & 0x7FFF_FFFF_FFFF)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one micro-batch."""
        self.output = self._in_parts(batch) if self.num_parts > 1 else self.objective(batch, self.step)
        self.micro_step = (self.micro_step + 1) % self.optimisation.accumulate
        return self.output.loss

    def _in_parts(self, batch: Batch) -> Output:
        """The loss of a batch whose gradient `backward` takes part by part."""
        assert isinstance(self.objective, EncodesApart)
        moment = (self.seed, self.step, self.micro_step, rank())

        def reseed(part: int) -> None:
            torch.manual_seed(hash((*moment, part)) & 0x7FFF_FFFF_FFFF)

        # All ranks encode as many parts, since their batch norms meet in each.
        num_parts = min(self.num_parts, *row_counts(len(batch.index)))
        self._cache = GradientCache(self.objective, cut(len(batch.index), num_parts), reseed)
        return self._cache.forward(batch, self.step)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The gradient; of a batch in parts, that of the encoders follows part by part."""
        super().backward(loss, *args, **kwargs)
        if self._cache is not None:
            self._cache.backward(self.trainer.precision_plugin.forward_context)
            self._cache = None

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """The mean gradient over ranks, where it was not taken in the backward pass."""
        if self.num_parts > 1:
            average_gradients([p for group in optimizer.param_groups for p in group["params"]])

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the global norm, and keep the norm before clipping for the log."""
        limit = self.optimisation.max_grad_norm
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if limit is None:
            self.grad_norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        else:
            self.grad_norm = torch.nn.utils.clip_grad_norm_(parameters, limit)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the step and count it; callbacks that run after the batch see the new count."""
        super().optimizer_step(*args, **kwargs)
        self.step += 1
        self.objective.after_step(self.step, self.optimisation.num_steps)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Runs after all callbacks: what follows until the next batch is waiting for data."""
        self.batch_ended = time.perf_counter()

    def configure_optimizers(self) -> Any:
        """The optimiser over the trainable parameters."""
        o = self.optimisation
        if not any(parameter.requires_grad for parameter in self.objective.parameters()):
            raise ConfigurationError("freeze leaves nothing to learn: name fewer parts")
        groups = parameter_groups(
            self.objective,
            weight_decay=o.weight_decay,
            no_decay_norm_bias=o.no_decay_norm_bias,
            never=self.objective.no_weight_decay(),
        )
        optimizer = build_optimizer(o.optimizer, groups, o.lr)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)  # type: ignore[arg-type]
            self._optimizer_state = None
        return optimizer

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches are dataclasses of tensors."""
        return batch.to(device)
