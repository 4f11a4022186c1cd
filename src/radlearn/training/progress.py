"""The progress line: step, loss, speed, data wait and time left; plain lines where there is no terminal."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from radlearn.training.log import Recorder
from radlearn.training.module import RunModule

_SECONDS_A_LINE = 30.0


class ProgressLine(L.Callback):
    """Shows how training goes, on rank 0.

    Args:
        recorder: whose speed is shown.
        first: steps taken before this process.
        total: steps of the run.
        console: where to; standard error by default.
    """

    def __init__(self, recorder: Recorder, *, first: int, total: int, console: Console | None = None) -> None:
        self.recorder, self.first, self.total = recorder, first, total
        self.console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._last_line = self._started = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar."""
        if not trainer.is_global_zero:
            return
        self._started = self._last_line = time.monotonic()
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("pre-training"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=self.console,
            )
            self._task = self._progress.add_task("", total=self.total, completed=self.first, numbers="")
            self._progress.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        module: RunModule = pl_module
        if not trainer.is_global_zero or module.micro_step:
            return
        if self._progress is not None:
            self._progress.update(self._task, completed=module.step, numbers=self._numbers(module.step))
        elif time.monotonic() - self._last_line >= _SECONDS_A_LINE:
            self._last_line = time.monotonic()
            done = module.step - self.first
            left = (self._last_line - self._started) / max(done, 1) * (self.total - module.step)
            self.console.print(
                f"step {module.step}/{self.total}  {self._numbers(module.step)}  {left / 60:.1f} min left",
                highlight=False,
            )

    def _numbers(self, step: int) -> str:
        rows = self.recorder.table.rows
        row = rows.get(step) or (rows[max(rows)] if rows else {})
        loss = f"loss {row['loss']:.4f}" if "loss" in row else ""
        speed = self.recorder.speed
        if not speed:
            return loss
        return f"{loss}  {speed['images_per_second']:.0f} images/s  data wait {speed['data_wait']:.0%}"

    def close(self) -> None:
        """Close the bar, also after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar before the error is printed."""
        self.close()
