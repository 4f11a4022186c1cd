"""Optional trackers beside `metrics.parquet`, given numbers only: never report text, ids or pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from radlearn.errors import ConfigurationError
from radlearn.ranks import is_main_process

Track = Callable[[int, Mapping[str, float]], None]
# Settings that are sent with a run: numbers and words of the recipe, no path and no column name.
_SHARED = (
    "recipe",
    "seed",
    "epochs",
    "batch_size",
    "accumulate",
    "lr",
    "eta_min",
    "warmup_steps",
    "weight_decay",
)


def open_trackers(config: Mapping[str, Any], run: Path) -> list[Track]:
    """The trackers that `tracker` names, on rank 0.

    Raises:
        ConfigurationError: on an unknown name, or one whose extra is not installed.
    """
    names = [*config["tracker"], *(["wandb"] if config["wandb_enabled"] else [])]
    known: dict[str, Callable[[Mapping[str, Any], Path], Track]] = {
        "tensorboard": _tensorboard,
        "mlflow": _mlflow,
        "wandb": _wandb,
    }
    opened = []
    for name in names if is_main_process() else []:
        if name not in known:
            raise ConfigurationError(f"no tracker '{name}': there is {', '.join(known)}")
        try:
            opened.append(known[name](config, run))
        except ImportError as error:
            raise ConfigurationError(
                f"tracker={name} needs its extra: pip install 'radlearn[{name}]'"
            ) from error
    return opened


def _tensorboard(config: Mapping[str, Any], run: Path) -> Track:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / "tensorboard"))

    def track(step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return track


def _mlflow(config: Mapping[str, Any], run: Path) -> Track:
    import mlflow

    mlflow.set_experiment(config["wandb_project"] or "radlearn")
    mlflow.start_run(run_name=run.name)
    mlflow.log_params({key: config[key] for key in _SHARED})
    return lambda step, values: mlflow.log_metrics(dict(values), step=step)


def _wandb(config: Mapping[str, Any], run: Path) -> Track:
    import wandb

    # Console text and command lines hold paths, and those of MIMIC-CXR hold patient ids.
    settings = wandb.Settings(
        console="off",
        x_disable_meta=True,
        x_disable_machine_info=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
    )
    started = wandb.init(
        project=config["wandb_project"] or "radlearn",
        name=run.name,
        dir=str(run),
        config={key: config[key] for key in _SHARED},
        settings=settings,
    )
    return lambda step, values: started.log(dict(values), step=step)
