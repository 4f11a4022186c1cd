"""The verb `evaluate`: a run and a task in, rows of `results.parquet` and predictions out."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from radlearn import cases, overlap, registry, results, terminal
from radlearn import config as configuration
from radlearn.datasets import Dataset, open_dataset
from radlearn.gather import gather
from radlearn.prepare.terminal import bar
from radlearn.records import Result
from radlearn.subject import Subject, open_run
from radlearn.tasks.base import Evaluation, Inputs, Task
from radlearn.training.evaluation_sets import evaluation_data

logger = logging.getLogger("radlearn")

# Settings of tasks that have a column of their own in the results.
_COLUMNS = ("name", "fraction", "draw")
# Settings that change no number.
_SILENT = ("cache_gib",)


def evaluate(config: dict[str, Any]) -> list[Result]:
    """Evaluate a run on a task and append the rows to its `results.parquet`.

    Args:
        config: a resolved and validated configuration of the verb `evaluate`.
    """
    task: Task = registry.find("tasks", config["task"]["name"])(**configuration.task_arguments(config))
    subject = open_run(config)
    rows: list[Result] = []
    for name, data_settings, entry in _sets(config, subject):
        data = open_dataset(data_settings, config["paths"], num_workers=config["num_workers"])
        if (trained := subject.trained_on()) is not None:
            overlap.check_cards(trained, data.card)
        split = entry.get("split", config["split"])
        with bar(None) as progress:
            inputs = gather(task, subject, data, split, config, entry, progress)
            evaluation = _marked(task.run(inputs), _deviations(config))
        keep(subject, config["task"]["name"], data, inputs, evaluation, name, split)
        if data.card.access in ("open", "synthetic"):
            cases.write(subject.folder, _stem(name, split), data, data.split(split))
        rows += evaluation.results
    return rows


def _deviations(config: Mapping[str, Any]) -> str:
    """What is set otherwise than by default and changes a number: such rows never replace the headline's."""
    settings, known = config["task"], registry.signature("tasks", config["task"]["name"]) or {}
    own = {
        k: v for k, v in settings.items() if known.get(k, ...) is not ... and k not in (*_COLUMNS, *_SILENT)
    }
    marks = [f"{k}={v}" for k, v in sorted(own.items()) if json.dumps(v) != json.dumps(known[k])]
    # A head that is trained depends on the seed; elsewhere it draws patients alone.
    trains = "dense" in registry.find("tasks", config["task"]["name"]).needs
    marks += [f"seed={config['seed']}"] if trains and config["seed"] != 1 else []
    marks += [] if config["checkpoint"] == "auto" else [f"checkpoint={config['checkpoint']}"]
    return " ".join(marks)


def _marked(evaluation: Evaluation, mark: str) -> Evaluation:
    """The evaluation with a mark added to every variant."""
    if not mark:
        return evaluation

    def named(variant: str) -> str:
        return f"{variant} {mark}".strip()

    return Evaluation(
        [dataclasses.replace(row, variant=named(row.variant)) for row in evaluation.results],
        {named(variant): scores for variant, scores in evaluation.scores.items()},
        {named(variant): values for variant, values in evaluation.values.items()},
        {named(variant): boxes for variant, boxes in evaluation.boxes.items()},
    )


def _sets(config: Mapping[str, Any], subject: Subject) -> list[tuple[str, dict[str, Any], Mapping[str, Any]]]:
    """Name, `data` settings and prompts of each evaluation set."""
    own = {
        key: config[key] for key in ("positive_prompts", "negative_prompts") if config.get(key) is not None
    }
    trained = subject.model.config
    if config.get("data") and "name" in config["data"]:
        return [(config["data"]["name"], dict(config["data"]), own)]
    entries = config["evals"] if config.get("evals") is not None else trained.get("evals") or []
    entries = [entry for entry in entries if entry.get("enabled", True)]
    if entries:
        return [(entry["name"], evaluation_data(entry), {**entry, **own}) for entry in entries]
    data = {**trained["data"], **(config.get("data") or {})}
    return [(data["name"], data, own)]


def keep(
    subject: Subject, task: str, data: Dataset, inputs: Inputs, evaluation: Evaluation, name: str, split: str
) -> None:
    """Write results, predictions and embeddings into the run's folder."""
    # First of all: it refuses numbers of another version of the data, and then nothing may be replaced.
    results.append(subject.folder / "results.parquet", evaluation.results)
    for variant, scores in evaluation.scores.items():
        kept = results.Predictions(
            image_id=inputs.image_ids,
            patient_id=inputs.patient_ids,
            label_names=inputs.label_names,
            scores=scores,
            labels=inputs.labels,
            data_hash=data.card.fingerprint,
        )
        results.write_predictions(subject.folder, kept, task=task, data=name, split=split, variant=variant)
    for variant, values in evaluation.values.items():
        kept = results.Predictions(
            image_id=values.case_ids,
            patient_id=values.patient_ids,
            label_names=values.names,
            scores=values.values,
            # They are measured already: there is no label to compare them with.
            labels=np.full(values.values.shape, np.nan),
            data_hash=data.card.fingerprint,
        )
        results.write_predictions(subject.folder, kept, task=task, data=name, split=split, variant=variant)
    for variant, boxes in evaluation.boxes.items():
        held = dataclasses.replace(boxes, data_hash=data.card.fingerprint)
        results.write_boxes(subject.folder, held, task=task, data=name, split=split, variant=variant)
    if inputs.embeddings is not None:
        vectors = inputs.embeddings.numpy()
        table = pl.DataFrame(
            {
                "image_id": inputs.image_ids,
                "patient_id": inputs.patient_ids,
                "embedding": pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)),
                **{f"label_{n}": inputs.labels[:, i] for i, n in enumerate(inputs.label_names)},
            }
        )
        path = subject.folder / "embeddings" / f"{_stem(name, split)}.parquet"
        path.parent.mkdir(exist_ok=True)
        table.write_parquet(path)


def _stem(name: str, split: str) -> str:
    """File name of a set; other splits than the test split are named."""
    return name if split == "test" else f"{name}-{split}"


def main(config: dict[str, Any]) -> list[Result]:
    """The verb `evaluate`: prints the table."""
    rows = evaluate(config)
    terminal.console().print(results.table(rows))
    return rows
