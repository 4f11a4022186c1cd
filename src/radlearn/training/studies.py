"""The studies of a split that an objective can use, with their texts and labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from radlearn.data.dataset import StudyDataset, Texts
from radlearn.data.report_tokens import ReportTokens
from radlearn.data.views import EvaluationView, Views
from radlearn.datasets import Dataset
from radlearn.errors import DataError
from radlearn.objectives.base import Objective
from radlearn.training.text import (
    TextSide,
    TokenSide,
    positions_with_text,
    report_sentences,
    row_features,
    row_tokens,
)

logger = logging.getLogger("radlearn")


def open_studies(
    config: Mapping[str, Any],
    data: Dataset,
    text: TextSide | TokenSide | None,
    objective: Objective,
    views: Views | EvaluationView,
    *,
    split: str = "train",
) -> StudyDataset:
    """The rows of a split that the objective can use.

    Args:
        config: the run's; `max_samples` and the augmentation of texts are for training alone.
        data: the data set.
        text: the text side.
        objective: what it needs is there.
        views: what is made of an image.
        split: which.

    Raises:
        DataError: if the data set lacks what the objective needs, or has no such rows.
    """
    training = isinstance(views, Views)
    positions = data.split(split)
    if len(positions) == 0:
        raise DataError(f"{data.card.name} has no rows in the split '{split}'")
    by_study = config["sample"] == "study"
    if by_study:
        study_ids = data.rows["study_id"].to_numpy()
        positions = positions[np.argsort(study_ids[positions], kind="stable")]
    labels = data.labels()
    if "labels" in objective.needs and labels.shape[1] == 0:
        raise DataError(
            f"{config['recipe']} needs labels, and {data.card.name} has none: set data.label_cols"
        )
    limit = config.get("max_samples") if training else None
    texts: Texts | None = None
    reports: ReportTokens | None = None
    column = config["text"]["column"]
    if "tokens" in objective.needs:
        assert isinstance(text, TokenSide)
        sentences = report_sentences(data.rows[positions.tolist()], column)
        with_text = positions_with_text(sentences, column)
        _say_left_out(len(positions) - len(with_text), split)
        kept = with_text[:limit]
        positions = positions[kept]
        augment = config["text"]["augment"] if training else "none"
        reports = row_tokens([sentences[i] for i in kept], text, augment=augment, seed=config["seed"])
    if "text" in objective.needs:
        assert isinstance(text, TextSide)
        with_text, texts = row_features(data.rows[positions.tolist()], column, text)
        _say_left_out(len(positions) - len(with_text), split)
        positions = positions[with_text]
    if limit is not None and limit < len(positions):
        positions = positions[:limit]
        texts = None if texts is None else Texts(texts.features, texts.index[:limit])
    return StudyDataset(
        data.source,
        data.source_rows[positions],
        views,
        texts=texts,
        labels=labels[positions] if labels.shape[1] else None,
        reports=reports,
        studies=_starts(study_ids[positions]) if by_study else None,
    )


def _say_left_out(count: int, split: str) -> None:
    if count:
        logger.info("%d rows of the split '%s' have no text and are left out", count, split)


def _starts(sorted_ids: np.ndarray) -> np.ndarray:
    """Where each run of equal ids begins, and the end: (runs + 1,)."""
    changes = np.flatnonzero(sorted_ids[1:] != sorted_ids[:-1]) + 1
    return np.concatenate([[0], changes, [len(sorted_ids)]])
