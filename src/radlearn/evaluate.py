"""The verb `evaluate`: a run and a task in, rows of `results.parquet` and predictions out."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from radlearn import cases, overlap, registry, results, terminal
from radlearn import config as configuration
from radlearn.data.dataset import EvaluationDataset
from radlearn.data.loading import evaluation_loader
from radlearn.data.text_cache import text_hash
from radlearn.data.views import EvaluationView
from radlearn.datasets import Dataset, open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.records import Card, Result, card_from
from radlearn.tasks.base import Evaluation, Inputs, Prompts, Task
from radlearn.training import model as models
from radlearn.training.evaluation_sets import evaluation_data, prompts
from radlearn.training.inference import embed_images

logger = logging.getLogger("radlearn")

_THUMBNAIL = 16


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated: a loaded run."""

    name: str
    folder: Path
    model: models.Model

    def trained_on(self) -> Card | None:
        """The card of the training data, where the run keeps one."""
        path = self.folder / "card.json"
        return card_from(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


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
        inputs = gather(task, subject, data, split, config, entry)
        evaluation = task.run(inputs)
        keep(subject, config["task"]["name"], data, inputs, evaluation, name, split)
        if data.card.access in ("open", "synthetic"):
            cases.write(subject.folder, _stem(name, split), data, data.split(split))
        rows += evaluation.results
    return rows


def open_run(config: Mapping[str, Any]) -> Subject:
    """The run that `run` names: in `paths.runs`, or a folder.

    Raises:
        ConfigurationError: if there is none; lists what there is.
    """
    run = config.get("run")
    runs = Path(config["paths"]["runs"])
    if not run:
        raise ConfigurationError(f"say which run: run=NAME. {_there_is(runs)}")
    folder = next((path for path in (runs / run, Path(run)) if path.is_dir()), None)
    if folder is None:
        raise ConfigurationError(
            f"no run '{run}': neither {runs / run} nor {run} is a folder. {_there_is(runs)}"
        )
    cache = Path(config["paths"]["cache"]) / "text"
    model = models.load(folder, device=_device(config["device"]), cache=cache, trust=config["trust"])
    home = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    return Subject(home.name, home, model)


def _there_is(runs: Path) -> str:
    found = (
        sorted(path.parent.relative_to(runs).as_posix() for path in runs.glob("**/checkpoints"))
        if runs.is_dir()
        else []
    )
    return f"In {runs} there is {', '.join(found) or 'no run yet'}"


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


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


def gather(
    task: Task,
    subject: Subject,
    data: Dataset,
    split: str,
    config: Mapping[str, Any],
    entry: Mapping[str, Any],
) -> Inputs:
    """What the task needs of this data set.

    Raises:
        DataError: if the split is empty or has no labels.
    """
    rows = data.split(split)
    if len(rows) == 0:
        there = {name: int((data.rows["split"] == name).sum()) for name in ("train", "validate", "test")}
        raise DataError(f"{data.card.name} has no rows in split={split}: there is {there}")
    if not data.card.label_names:
        raise DataError(f"{data.card.name} has no labels to score against: set data.label_cols")
    embeddings: Tensor | None = None
    if "embeddings" in task.needs:
        embeddings, kept = embed_images(
            subject.model.objective,
            data.source,
            data.source_rows[rows],
            view=subject.model.view,
            batch_size=config["batch_size"],
            num_workers=config["num_workers"],
        )
        _check_readable(len(rows), len(kept), data)
        rows = rows[kept]
        if not bool(torch.isfinite(embeddings).all()):
            raise DataError(f"the run {subject.name} gives non-finite embeddings: its weights are broken")
    train = data.split("train") if "train_pixels" in task.needs else None
    table = data.rows[rows.tolist()]
    return Inputs(
        image_ids=table["image_id"].to_list(),
        patient_ids=table["patient_id"].to_list(),
        labels=_binary(data.labels()[rows]),
        label_names=data.card.label_names,
        embeddings=embeddings,
        prompts=_prompts(subject, data, entry, config["score"]) if "prompts" in task.needs else {},
        pixels=_thumbnails(data, rows) if "pixels" in task.needs else None,
        train_pixels=None if train is None else _thumbnails(data, train),
        train_labels=None if train is None else _binary(data.labels()[train]),
        macros=data.manifest.macro_labels(),
        provenance=provenance(subject, data, split, task),
        num_bootstrap=config["num_bootstrap"],
        seed=config["seed"],
        score=config["score"],
    )


def _binary(labels: np.ndarray) -> np.ndarray:
    """Labels 1 and 0; uncertain and soft ones do not count in a metric."""
    return np.where((labels == 0) | (labels == 1), labels, np.nan).astype(np.float64)


def _check_readable(wanted: int, read: int, data: Dataset) -> None:
    if read < wanted:
        logger.warning(
            "%d of %d images of %s could not be read and are not scored",
            wanted - read,
            wanted,
            data.card.name,
        )
    if read == 0:
        raise DataError(
            f"no image of {data.card.name} could be read: run `radlearn check data={data.card.name}`"
        )


def _thumbnails(data: Dataset, rows: np.ndarray) -> np.ndarray:
    view = EvaluationView(_THUMBNAIL, fit="stretch")
    loader = evaluation_loader(
        EvaluationDataset(data.source, data.source_rows[rows], view), batch_size=256, num_workers=0
    )
    # An unreadable image stays black: a probe of thumbnails is no reason to stop.
    pixels = np.zeros((len(rows), _THUMBNAIL, _THUMBNAIL), np.uint8)
    for images, positions in loader:
        pixels[positions.numpy()] = images.squeeze(1).numpy()
    return pixels


def _prompts(subject: Subject, data: Dataset, entry: Mapping[str, Any], score: str) -> dict[str, Prompts]:
    """The headline prompts, and beside them the "no X" negatives where the headline's are others."""
    positive, negative = prompts(data, entry)
    no_x = [[f"no {p[0].lower().rstrip('.')}"] for p in positive]

    def embed(side: Sequence[Sequence[str]]) -> list[Tensor]:
        flat = subject.model.embed_text([text for texts in side for text in texts])
        return list(torch.split(flat, [len(texts) for texts in side]))

    given = [entry[key] for key in ("positive_prompts", "negative_prompts") if entry.get(key) is not None]
    # Other prompts and other scores are other measurements: they never replace the headline's rows.
    marks = [f"prompts={text_hash(json.dumps(given))[:8]}"] if given and not entry.get("name") else []
    marks += [] if score == "cosine" else [f"score={score}"]
    headline = Prompts(embed(positive), embed(negative))
    variants = {" ".join(marks): headline}
    if no_x != [[text.lower() for text in texts] for texts in negative]:
        variants[" ".join(["negative=no_x", *marks])] = Prompts(headline.positive, embed(no_x))
    return variants


def provenance(subject: Subject, data: Dataset, split: str, task: Task) -> dict[str, Any]:
    """Fields of `Result` that every row of this evaluation shares."""
    config, about = subject.model.config, subject.model.about
    identity = about.get("text_encoder") or {}
    digest = str(identity.get("sha256", ""))[:8]
    versions = about.get("versions", {})
    return {
        "run": subject.name,
        "data": data.card.name,
        "data_hash": data.card.fingerprint,
        "split": split,
        "seed": config["seed"],
        "method": config["recipe"],
        "encoder": config["encoder"]["name"],
        "text_model": f"{identity.get('name', '')}@{digest}" if digest else str(identity.get("name", "")),
        "synthetic": data.card.synthetic,
        **about.get("budget", {}),
        "versions": ",".join(f"{name}={version}" for name, version in sorted(versions.items())),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


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
