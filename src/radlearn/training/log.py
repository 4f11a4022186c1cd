"""The run's numbers: one row an optimiser step in `metrics.parquet`, each step once, whatever was killed in
between.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import polars as pl
import torch
from torch import Tensor

from radlearn.errors import DataError, TrainingError
from radlearn.records import Batch
from radlearn.training.module import RunModule

logger = logging.getLogger("radlearn")

# Reading a number off an accelerator waits for all queued work, so it is done for several steps at once.
_STEPS_A_READ = 20
# A run is watched through metrics.parquet; rewriting it more often would cost without showing more.
_SECONDS_A_WRITE = 20.0


class MetricsTable:
    """Rows by step, in memory and in a parquet file.

    Args:
        path: of `metrics.parquet`, or None to keep no file.
        last_step: rows of later steps in an existing file are dropped: a resumed run takes those steps again.
    """

    def __init__(self, path: Path | None, *, last_step: int = 0) -> None:
        self.path = path
        self.rows: dict[int, dict[str, float]] = {}
        self._written = time.monotonic()
        if path is not None and path.exists():
            for row in pl.read_parquet(path).filter(pl.col("step") <= last_step).to_dicts():
                self.rows[int(row["step"])] = {k: v for k, v in row.items() if v is not None and k != "step"}

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add values to a step's row."""
        self.rows.setdefault(step, {}).update(values)

    def table(self) -> pl.DataFrame:
        """All rows by step; a value that was not measured at a step is null."""
        rows = [{"step": step, **values} for step, values in sorted(self.rows.items())]
        if not rows:
            return pl.DataFrame(schema={"step": pl.Int64})
        return pl.from_dicts(rows, infer_schema_length=None)

    def write(self, *, if_due: bool = False) -> None:
        """Replace the file; with `if_due` only some time after the last write."""
        if self.path is None or (if_due and time.monotonic() - self._written < _SECONDS_A_WRITE):
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.table().write_parquet(temporary)
            temporary.replace(self.path)
        except OSError as error:
            raise DataError(
                f"cannot write {self.path}: {error.strerror or error}; free space or set output_dir"
            ) from error
        self._written = time.monotonic()


class Recorder(L.Callback):
    """Writes every step's loss, terms, learning rate, gradient norm and speed; stops at a non-finite loss.

    Args:
        table: where to.
        trackers: called with (step, values) on every read; only numbers ever reach them.
        on_bad: called with the manifest rows whose images could not be read.
    """

    def __init__(
        self,
        table: MetricsTable,
        *,
        trackers: list[Callable[[int, Mapping[str, float]], None]] | None = None,
        on_bad: Callable[[list[int]], None] | None = None,
    ) -> None:
        self.table, self.trackers, self.on_bad = table, trackers or [], on_bad
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._waited = self._paused = self._images = 0.0
        self._losses: list[Tensor] = []
        self._end = self._begin = time.perf_counter()
        self.speed: dict[str, float] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clocks."""
        module: Any = pl_module
        self._end = self._begin = module.batch_ended = time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Time since the last step ended is time spent waiting for data."""
        now = time.perf_counter()
        module: RunModule = pl_module
        self._waited += now - module.batch_ended
        # Evaluation and saving between two steps belong to neither.
        self._paused += module.batch_ended - self._end
        self._images += len(batch.index) * trainer.world_size
        if self.on_bad is not None and batch.bad is not None and len(batch.bad):
            self.on_bad([int(row) for row in batch.bad])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keep the step's tensors; read them when enough have come together."""
        module: RunModule = pl_module
        assert module.output is not None
        self._losses.append(module.output.loss.detach())
        now = self._end = time.perf_counter()
        if module.micro_step:
            return
        elapsed = max(now - self._begin - self._paused, 1e-9)
        self.speed = {"images_per_second": self._images / elapsed, "data_wait": self._waited / elapsed}
        values = {
            "loss": torch.stack(self._losses).mean(),
            **module.output.metrics,
            "grad_norm": module.grad_norm,
            "lr": module.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            **self.speed,
        }
        self._pending.append((module.step, values))
        self._losses, self._begin = [], now
        self._images = self._waited = self._paused = 0.0
        on_cpu = module.output.loss.device.type == "cpu"
        if on_cpu or len(self._pending) >= _STEPS_A_READ:
            self.read()
            # Reading waits for the accelerator's work: that time belongs to the steps.
            self._end = time.perf_counter()
            self.table.write(if_due=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read and write what is left."""
        self.read()
        self.table.write()

    def read(self) -> None:
        """Move pending numbers into the table.

        Raises:
            TrainingError: at a non-finite loss, before any checkpoint is made of it.
        """
        pending, self._pending = self._pending, []
        for step, values in pending:
            numbers = {k: float(v) for k, v in values.items() if v is not None}
            if not math.isfinite(numbers["loss"]):
                self.table.write()
                terms = {k: v for k, v in numbers.items() if k not in self.speed}
                raise TrainingError(
                    f"the loss is {numbers['loss']} at step {step} ({terms}). The last checkpoint is "
                    "untouched: lower "
                    "lr, raise warmup_steps or set precision=32-true, and run the same command to go on "
                    "from it"
                )
            self.table.add(step, numbers)
            for track in self.trackers:
                track(step, numbers)
