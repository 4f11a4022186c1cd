"""What a task asks for of a model and a data set: embeddings, features, prompts, reports, regions, pixels."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radlearn import extract, regions
from radlearn.data.dataset import EvaluationDataset
from radlearn.data.feature_file import FeatureFile
from radlearn.data.loading import evaluation_loader
from radlearn.data.text_cache import text_hash
from radlearn.data.views import EvaluationView
from radlearn.datasets import Dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.prepare.terminal import Progress
from radlearn.subject import Subject, device
from radlearn.tasks.base import Dense, DenseSplit, Inputs, Labelled, Prompts, Regions, Task
from radlearn.training.evaluation_sets import prompts
from radlearn.training.text import report_texts

logger = logging.getLogger("radlearn")

_THUMBNAIL = 16


def gather(
    task: Task,
    subject: Subject,
    data: Dataset,
    split: str,
    config: Mapping[str, Any],
    entry: Mapping[str, Any],
    progress: Progress = lambda done, total, what: None,
) -> Inputs:
    """What the task needs of this data set.

    Args:
        task: whose `needs` decide.
        subject: the run.
        data: the data set; split: which of its splits is scored.
        config: of the verb `evaluate`.
        entry: prompts of this evaluation set.
        progress: called by tasks that train for long with (done, total, what).

    Raises:
        DataError: if the split is empty or has no labels.
        ConfigurationError: if a task would learn from what it is scored on.
    """
    rows = data.split(split)
    if len(rows) == 0:
        there = {name: int((data.rows["split"] == name).sum()) for name in ("train", "validate", "test")}
        raise DataError(f"{data.card.name} has no rows in split={split}: there is {there}")
    if task.labelled and not data.card.label_names:
        raise DataError(f"{data.card.name} has no labels to score against: set data.label_cols")
    learns = "train" in task.needs
    if (learns or "dense" in task.needs) and split == "train":
        raise ConfigurationError("a task that learns from the training split is not scored on it: set split")
    if "dense" in task.needs and split == "validate":
        raise ConfigurationError(
            "the validation split chooses weights and learning rate of this task, which is not scored on it: "
            "set split"
        )
    made: FeatureFile | None = None
    if {"embeddings", "features"} & set(task.needs):
        made = vectors(subject, data, split, config)
        rows = rows[made.places(data.rows["image_id"][rows.tolist()], missing_ok=True) >= 0]
    table = data.rows[rows.tolist()]
    ids = table["image_id"].to_list()
    texts, text_index = _texts(task, subject, data, rows) if "texts" in task.needs else (None, None)
    train = data.split("train") if "train_pixels" in task.needs else None
    return Inputs(
        image_ids=ids,
        patient_ids=table["patient_id"].to_list(),
        labels=_binary(data.labels()[rows]),
        label_names=data.card.label_names,
        embeddings=_of(made, "embeddings", ids) if "embeddings" in task.needs else None,
        features=_of(made, "features", ids) if "features" in task.needs else None,
        train=_labelled(subject, data, "train", config) if learns else None,
        validate=_labelled(subject, data, "validate", config) if learns and split != "validate" else None,
        texts=texts,
        text_index=text_index,
        dense=_dense(subject, data, rows, config, progress) if "dense" in task.needs else None,
        regions=_regions(subject, data, rows, config) if "regions" in task.needs else None,
        prompts=_prompts(subject, data, entry, config["score"]) if "prompts" in task.needs else {},
        pixels=_thumbnails(data, rows) if "pixels" in task.needs else None,
        train_pixels=None if train is None else _thumbnails(data, train),
        train_labels=None if train is None else _binary(data.labels()[train]),
        macros=data.manifest.macro_labels(),
        provenance=provenance(subject, data, split),
        num_bootstrap=config["num_bootstrap"],
        seed=config["seed"],
        score=config["score"],
    )


def vectors(subject: Subject, data: Dataset, split: str, config: Mapping[str, Any]) -> FeatureFile:
    """The feature file of a split, made if it is not there yet."""
    job = extract.plan(extract.of_run(subject), data, Path(config["paths"]["cache"]), split=split)
    return extract.embed_data(job, batch_size=config["batch_size"], num_workers=config["num_workers"])


def _of(made: FeatureFile | None, name: str, ids: Sequence[str]) -> Tensor:
    assert made is not None
    return torch.from_numpy(made.vectors(name, ids))


def _labelled(subject: Subject, data: Dataset, split: str, config: Mapping[str, Any]) -> Labelled | None:
    """The readable cases of a split with their features, or None where it is empty."""
    rows = data.split(split)
    if len(rows) == 0:
        if split == "train":
            raise DataError(f"{data.card.name} has no training rows, which this task learns from")
        return None
    made = vectors(subject, data, split, config)
    ids = data.rows["image_id"][rows.tolist()]
    there = made.places(ids, missing_ok=True) >= 0
    rows, ids = rows[there], ids.filter(there)
    return Labelled(
        features=_of(made, "features", ids.to_list()),
        labels=_binary(data.labels()[rows]),
        patient_ids=data.rows["patient_id"][rows.tolist()].to_list(),
    )


def _texts(task: Task, subject: Subject, data: Dataset, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Embeddings of the distinct reports, and which each row has; -1 for none."""
    column = getattr(task, "column", None) or subject.model.config["text"]["column"]
    texts = report_texts(data.rows[rows.tolist()], column)
    unique = {text: number for number, text in enumerate(dict.fromkeys(text for text in texts if text))}
    if not unique:
        raise DataError(f"no row of {data.card.name} has a text in '{column}': set task.column")
    return subject.model.embed_text(list(unique)), np.array([unique.get(text, -1) for text in texts])


def _regions(subject: Subject, data: Dataset, rows: np.ndarray, config: Mapping[str, Any]) -> Regions:
    found = regions.collect(subject.model, data, rows, batch_size=config["batch_size"])
    images, patients = (data.rows[name][found.rows].to_list() for name in ("image_id", "patient_id"))
    return Regions(
        case_ids=[f"{i} sentence {s.number}" for i, s in zip(images, found.sentences, strict=True)],
        patient_ids=patients,
        kinds=[sentence.kind for sentence in found.sentences],
        similarity=found.similarity,
        coverage=found.coverage,
        positive=found.positive,
    )


def _dense(
    subject: Subject, data: Dataset, rows: np.ndarray, config: Mapping[str, Any], progress: Progress
) -> Dense:
    """Encoder and annotated images.

    Raises:
        DataError: if the data set has neither masks nor boxes, or the source sizes are not known.
    """
    if not {"mask", "boxes"} & set(data.rows.columns):
        raise DataError(f"{data.card.name} has neither masks nor boxes")
    of_run, card = extract.of_run(subject), data.card
    statistics = None if card.mean is None or card.std is None else (card.mean, card.std)
    return Dense(
        encoder=copy.deepcopy(subject.model.objective.image_encoder),
        train=dense_split(data, data.split("train")),
        validate=dense_split(data, data.split("validate")),
        test=dense_split(data, rows),
        identity={**of_run.identity, "data": data.card.fingerprint,
                  "images": extract.images_state(data.source)},
        folder=subject.folder / "trainings",
        statistics=statistics,
        short_side=data.short_side,
        device=device(config["device"]),
        num_workers=config["num_workers"],
        progress=progress,
    )  # fmt: skip


def dense_split(data: Dataset, rows: np.ndarray) -> DenseSplit:
    """Images of a data set with what is drawn on them.

    Args:
        data: with the columns `mask` or `boxes`.
        rows: of its table.

    Raises:
        DataError: if the source sizes are not known, in whose pixels masks and boxes are.
    """
    table = data.rows[rows.tolist()]
    drawn = [name for name in ("mask", "boxes") if name in table.columns]
    cells = {name: table[name].to_list() for name in drawn}
    empty: list[list[dict[str, Any]]] = [[]] * len(table)
    sizes = table.select("height", "width")
    if sum(sizes.null_count().row(0)):
        raise DataError(f"{data.card.name} does not tell the images' size, which masks need: prepare it")
    boxes: list[dict[str, np.ndarray]] = []
    for cell in cells.get("boxes", empty):
        of_class: dict[str, list[tuple[float, ...]]] = {}
        for box in cell or []:
            of_class.setdefault(str(box["class"]), []).append((box["x"], box["y"], box["w"], box["h"]))
        boxes.append({name: np.array(each, np.float64) for name, each in of_class.items()})
    return DenseSplit(
        image_ids=table["image_id"].to_list(),
        patient_ids=table["patient_id"].to_list(),
        source=data.source,
        rows=data.source_rows[rows],
        sizes=sizes.to_numpy(),
        masks=[_masks(cell or []) for cell in cells.get("mask", empty)],
        boxes=boxes,
    )


def _masks(cell: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Class -> run lengths; those of several masks of a class behind each other, which is their union."""
    found: dict[str, list[str]] = {}
    for mask in cell:
        found.setdefault(str(mask["class"]), []).append(mask["rle"])
    return {name: " ".join(texts) for name, texts in found.items()}


def _binary(labels: np.ndarray) -> np.ndarray:
    """Labels 1 and 0; uncertain and soft ones do not count in a metric."""
    return np.where((labels == 0) | (labels == 1), labels, np.nan).astype(np.float64)


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


def provenance(subject: Subject, data: Dataset, split: str) -> dict[str, Any]:
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
