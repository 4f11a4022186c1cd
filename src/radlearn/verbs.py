"""Verbs that leave pictures beside their numbers; the rest of a verb is its own module's `main`."""

from __future__ import annotations

from typing import Any

from radlearn.terminal import is_first_process


def pretrain(config: dict[str, Any]) -> Any:
    """Train, then draw the run's curves into `plots/`."""
    from radlearn.training import pretrain as training

    run = training.main(config)
    if run.steps and is_first_process():
        from radlearn.report import pictures, run_folder

        pictures.save(pictures.training(run_folder.read(run.folder)), run.folder / "plots")
    return run
