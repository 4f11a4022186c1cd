"""Pre-train a method: the run from top to bottom."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from radlearn import config as configuration
from radlearn.data.dataset import FixedBatches, StudyDataset
from radlearn.data.loading import StepSampler, steps_per_epoch, training_loader
from radlearn.data.splits import check_patients
from radlearn.data.views import (
    EvaluationView,
    Views,
    ViewSpec,
    global_views,
    local_views,
    require_pixels,
)
from radlearn.datasets import Dataset, open_dataset
from radlearn.encoders.base import TokenEncoder
from radlearn.objectives.base import Objective
from radlearn.ranks import is_main_process
from radlearn.terminal import quiet_libraries
from radlearn.training import batch_size as batch_sizes
from radlearn.training import checkpoint, resume, shortcuts
from radlearn.training.announcement import announce
from radlearn.training.bad_images import BadImages
from radlearn.training.budget import budget
from radlearn.training.evaluation_sets import evaluation_sets
from radlearn.training.gradient_cache import require_parts
from radlearn.training.initial import initialise
from radlearn.training.keeper import Best, Keeper
from radlearn.training.log import MetricsTable, Recorder
from radlearn.training.model import build_objective, trains_text, with_statistics
from radlearn.training.module import Optimisation, RunModule
from radlearn.training.online_evaluators import OnlineEvaluators
from radlearn.training.probes import Alarms, Probes
from radlearn.training.progress import ProgressLine
from radlearn.training.schedules import Plateau
from radlearn.training.studies import open_studies
from radlearn.training.text import TextSide, TokenSide, open_text, open_tokens, report_texts
from radlearn.training.trackers import open_trackers
from radlearn.training.validation import Validation, Waiting, check_settings

logger = logging.getLogger("radlearn")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run left behind."""

    folder: Path
    steps: int
    seconds: float
    alarms: tuple[str, ...] = ()


def pretrain(config: dict[str, Any]) -> Run:
    """Train a method, or go on where an earlier process stopped.

    Args:
        config: a resolved and validated configuration of the verb `pretrain`.
    Raises:
        RadlearnError: with what was wanted, what came and what to do.
    """
    started = time.monotonic()
    check_settings(config)
    config = shortcuts.apply(config)
    run = Path(config["output_dir"])
    found = resume.checkpoint_to_resume(run, config)
    if found is not None:
        resume.check_same_settings(found.config, config, run)
        stopped = bool(found.about.get("stopped"))
        if stopped or found.step >= int(found.about["num_steps"]):
            logger.info(
                "run %s is complete: %d steps%s. Evaluate it, or choose another run_name",
                run,
                found.step,
                ", stopped early by its validation loss" if stopped else "",
            )
            return Run(run, found.step, time.monotonic() - started)

    torch.manual_seed(config["seed"])
    data = open_dataset(
        config["data"], config["paths"], num_workers=config["num_workers"], smoke=config["smoke"]
    )
    if data.card.split_unit == "patient":
        check_patients(data.rows)
    config = {**config, "encoder": with_statistics(config["encoder"], data.card)}
    text: TextSide | TokenSide | None = None
    if trains_text(config):
        texts = report_texts(data.rows[data.split("train").tolist()], config["text"]["column"])
        text = open_tokens(config["text"], texts, None if found is None else found.folder)
    elif config["text"].get("model") is not None:
        text = open_text(config["text"], Path(config["paths"]["cache"]), synthetic=data.card.synthetic)
        config = {**config, "text": text.settings}
    if found is not None:
        resume.check_same_inputs(found, config, data, text)
    objective = build_objective(config, _text_of(text))
    if config["micro_batch"] is not None:
        require_parts(objective, config["recipe"])
    training = open_studies(config, data, text, objective, _views(config, data.short_side))
    initialise(config, objective, training, found)
    validating = _validation_data(config, data, text, objective)
    announce(config, data, text, training, found)

    world = int(config["num_nodes"]) * _num_devices(config)
    size = batch_sizes.choose(config, objective, training, world, found)
    optimisation = _optimisation(config, len(training), size, world)
    if config["dry_run"]:
        logger.info("dry run: %d steps of %d studies are ready to go", optimisation.num_steps, size * world)
        return Run(run, 0, time.monotonic() - started)

    run.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        configuration.save(configuration.merge_defaults(config), run / "config.yaml")
        (run / "card.json").write_text(json.dumps(dataclasses.asdict(data.card), indent=1))
    studies = training, validating
    steps, alarms = _fit(config, run, data, text, objective, studies, optimisation, size, world, found)
    return Run(run, steps, time.monotonic() - started, tuple(alarms.ringing.values()))


def _text_of(side: TextSide | TokenSide | None) -> int | TokenEncoder | None:
    """What an objective is built with: the width of frozen features, or the encoder that learns."""
    if isinstance(side, TokenSide):
        return side.encoder
    return None if side is None else side.encoder.width


def _views(config: Mapping[str, Any], short_side: int) -> Views:
    specs = [
        _spec(global_views(config["global_crops_number"], config["global_size"]), config["views"]["global"])
    ]
    if config["local_crops_number"]:
        specs.append(
            _spec(local_views(config["local_crops_number"], config["local_size"]), config["views"]["local"])
        )
    for spec in specs:
        require_pixels(spec.size, short_side)
    return Views(specs, seed=config["seed"])


def _spec(default: ViewSpec, deviations: Mapping[str, Any]) -> ViewSpec:
    changes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in deviations.items()}
    return dataclasses.replace(default, **changes)


def _num_devices(config: Mapping[str, Any]) -> int:
    devices = config["devices"]
    if isinstance(devices, list):
        return len(devices)
    if devices == "auto":
        return max(torch.cuda.device_count(), 1) if config["accelerator"] != "cpu" else 1
    return int(devices)


def _optimisation(config: Mapping[str, Any], num_rows: int, size: int, world: int) -> Optimisation:
    accumulate = int(config["accumulate"])
    per_epoch = steps_per_epoch(num_rows, size, world)
    num_steps = max(config["epochs"] * per_epoch // accumulate, 1)
    if config["max_steps"] is not None:
        num_steps = min(num_steps, int(config["max_steps"]))
    keys = {field.name for field in dataclasses.fields(Optimisation)} - {"num_steps", "batches_per_epoch"}
    return Optimisation(num_steps, per_epoch, **{key: config[key] for key in keys})


def _validation_data(
    config: Mapping[str, Any], data: Dataset, text: TextSide | TokenSide | None, objective: Objective
) -> StudyDataset | None:
    """The validation split seen whole and unaugmented, or None where nothing is to be validated."""
    if config["validate_every_n_epochs"] is None and config["validate_every_n_steps"] is None:
        return None
    if config["smoke"] and len(data.split("validate")) == 0:
        return None  # A miniature release need not have one.
    view = EvaluationView(config["global_size"], fit="pad_square")
    return open_studies(config, data, text, objective, view, split="validate")


def _fit(
    config: Mapping[str, Any],
    run: Path,
    data: Dataset,
    text: TextSide | TokenSide | None,
    objective: Objective,
    studies: tuple[StudyDataset, StudyDataset | None],
    optimisation: Optimisation,
    size: int,
    world: int,
    found: checkpoint.Checkpoint | None,
) -> tuple[int, Alarms]:
    """Train on the first studies, validate on the second; returns how many steps the run has now."""
    training, validating = studies
    state = None if found is None else found.state()
    start = 0 if found is None else found.step
    table = MetricsTable(run / "metrics.parquet" if is_main_process() else None, last_step=start)
    bad = BadImages(training, data, run, float(config["data"].get("max_bad_fraction", 0.001)))
    trackers = open_trackers(config, run)
    recorder = Recorder(table, trackers=trackers, on_bad=bad.add)
    alarms = Alarms(int(config["embed_dim"]), **(state["alarms"] if state else {}))
    probes = Probes(
        table,
        alarms,
        metrics_every=config["metrics_every_n_steps"],
        evaluate_every=config["eval_every_n_steps"],
        sets=evaluation_sets(config, data, text),
        num_global=config["global_crops_number"],
        batch_size=config["micro_batch"] or size,
        num_workers=config["num_workers"],
        trackers=trackers,
    )
    online = None
    if config["online_evaluators"]:
        online = OnlineEvaluators(
            config["online_evaluators"],
            data.card.label_names,
            seed=config["seed"],
            labels=config["online_labels"],
            uncertain=config["online_uncertain"],
            blank=config["online_blank"],
            state=state["online"] if state else None,
        )
    validation = None
    if validating is not None:
        validation = Validation(
            FixedBatches(validating, size * world),
            table,
            every_steps=config["validate_every_n_steps"],
            every_epochs=config["validate_every_n_epochs"],
            patience=config["early_stop_patience"],
            waiting=Waiting(**state["waiting"]) if state else Waiting(),
            online=online,
            num_workers=config["num_workers"],
            trackers=trackers,
        )
    about = {
        "text_encoder": None if text is None else text.encoder.identity,
        "text_width": None if text is None else text.encoder.width,
        "data": {
            "name": data.card.name,
            "fingerprint": data.card.fingerprint,
            "synthetic": data.card.synthetic,
        },
        "batch_size": size,
        "budget": budget(config, objective, optimisation, size, world),
    }
    keeper = Keeper(
        run,
        config=configuration.merge_defaults(config),
        about=about,
        recorder=recorder,
        probes=probes,
        alarms=alarms,
        validation=validation,
        online=online,
        every=config["save_every_n_steps"],
        keep_last=config["keep_last"],
        best=Best(**state["best"]) if state else Best(config["best"]),
    )
    progress = ProgressLine(recorder, first=start, total=optimisation.num_steps)
    module = RunModule(
        objective,
        optimisation,
        seed=config["seed"],
        num_parts=1 if config["micro_batch"] is None else -(-size // int(config["micro_batch"])),
        start_step=start,
        optimizer_state=None if state is None else state["optimizer"],
        plateau=Plateau(**state["plateau"]) if state else None,
    )
    quiet_libraries()
    # Our own checkpoints resume a requeued job; Lightning's would be restored over them.
    slurm: Any = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else None
    trainer = L.Trainer(
        default_root_dir=run,
        plugins=slurm,
        max_steps=optimisation.num_steps - start,
        max_epochs=-1,
        accelerator=config["accelerator"],
        devices=config["devices"],
        num_nodes=config["num_nodes"],
        strategy=config["strategy"],
        precision=config["precision"],
        accumulate_grad_batches=optimisation.accumulate,
        deterministic=config["deterministic"],
        callbacks=[c for c in (online, recorder, validation, probes, keeper, progress) if c is not None],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **config["trainer"],
    )
    if state is not None:
        trainer.precision_plugin.load_state_dict(state["precision"])
    module.train()
    loader = _Loader(
        training,
        optimisation,
        size=size,
        seed=config["seed"],
        start=start,
        num_workers=config["num_workers"],
        trainer=trainer,
    )
    try:
        with _no_hydra():
            trainer.fit(module, train_dataloaders=loader())
    except BaseException as error:
        failure = batch_sizes.out_of_memory(error, size)
        if failure is not None:
            raise failure from error
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            # Lightning turns Ctrl-C into exit(1); the command line has its own word for it.
            raise KeyboardInterrupt from error
        raise
    finally:
        progress.close()
        bad.report()
    return module.step, alarms


class _Loader:
    """Builds the loader of this rank's share, from the step a run starts at to its end."""

    def __init__(
        self,
        training: StudyDataset,
        optimisation: Optimisation,
        *,
        size: int,
        seed: int,
        start: int,
        num_workers: int,
        trainer: L.Trainer,
    ) -> None:
        self.training, self.num_workers, self.trainer = training, num_workers, trainer
        self.sampler = StepSampler(
            len(training),
            size,
            seed=seed,
            first=start * optimisation.accumulate,
            last=optimisation.num_steps * optimisation.accumulate,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )

    def __call__(self) -> Any:
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        return training_loader(self.training, self.sampler, num_workers=self.num_workers, pin_memory=on_gpu)


@contextmanager
def _no_hydra() -> Any:
    """Hide Hydra's global state while Lightning launches further ranks: they repeat our own command line."""
    from hydra.core.hydra_config import HydraConfig

    instance = HydraConfig.instance()
    kept, instance.cfg = instance.cfg, None
    try:
        yield
    finally:
        instance.cfg = kept


def main(config: dict[str, Any]) -> Run:
    """The verb `pretrain`."""
    run = pretrain(config)
    for alarm in run.alarms:
        logger.warning(alarm)
    return run
