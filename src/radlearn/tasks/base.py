"""The contract of a task: what a model gives for a set of cases in, results and predictions out.

Tasks never learn how a model was trained: they see embeddings, prompts, pixels and labels.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from radlearn.metrics.classification import class_counts
from radlearn.records import Result
from radlearn.stats import Interval, patient_bootstrap

# Name of a metric in results -> its name in `stats`, and what chance scores (None: the share of positives).
_METRICS = {"auc": ("auroc", 0.5), "average_precision": ("average_precision", None)}


@dataclass(frozen=True)
class Prompts:
    """For each label, embeddings (P, D) of its positive and its negative prompts."""

    positive: Sequence[Tensor]
    negative: Sequence[Tensor]


@dataclass(frozen=True)
class Inputs:
    """The cases of one evaluation set.

    Attributes:
        image_ids, patient_ids: (N,).
        labels: (N, L) in {1, 0, NaN}.
        label_names: L names.
        embeddings: (N, D) float32 of the model's shared space, if the task needs them.
        prompts: variant -> prompts, if the task needs them; the variant "" is the headline.
        pixels: (N, S, S) uint8 thumbnails, if the task needs them.
        train_pixels, train_labels: those of the training split, if the task needs them.
        macros: further macro means: name -> labels in it.
        provenance: fields of `Result` that are the same for every row.
        num_bootstrap, seed: draws of the interval and their seed.
        score: how a zero-shot score is formed, see `metrics.zero_shot`.
    """

    image_ids: Sequence[str]
    patient_ids: Sequence[str]
    labels: np.ndarray
    label_names: Sequence[str]
    embeddings: Tensor | None = None
    prompts: Mapping[str, Prompts] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    train_pixels: np.ndarray | None = None
    train_labels: np.ndarray | None = None
    macros: Mapping[str, Sequence[str]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    num_bootstrap: int = 1000
    seed: int = 0
    score: str = "cosine"


@dataclass(frozen=True)
class Evaluation:
    """Results, and for each variant the scores (N, L) they can be recomputed from."""

    results: list[Result]
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)


class Task(ABC):
    """A downstream task. Keyword arguments of the constructor are `task.<key>` of the configuration.

    Attributes:
        needs: which fields of `Inputs` it reads, of embeddings, prompts, pixels, train_pixels.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def run(self, inputs: Inputs) -> Evaluation:
        """Evaluate."""


class ClassificationTask(Task):
    """A task that gives one score a case and label: AUC and average precision with patient-clustered
    intervals.
    """

    name: ClassVar[str]

    @abstractmethod
    def scores(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Variant -> (N, L) scores, higher is more positive; the variant "" is the headline."""

    def run(self, inputs: Inputs) -> Evaluation:
        """Score, then measure every variant on the same draws of patients."""
        scores = self.scores(inputs)
        measured = [measure(inputs, s, task=self.name, variant=variant) for variant, s in scores.items()]
        return Evaluation([row for rows in measured for row in rows], scores)


def measure(inputs: Inputs, scores: np.ndarray, *, task: str, variant: str = "") -> list[Result]:
    """One result a label, one for the macro mean and one for each further mean, for AUC and average
    precision.

    Args:
        inputs: the cases.
        scores: (N, L).
        task, variant: stand in the results.
    """
    names = list(inputs.label_names)
    num_positive, num_negative = class_counts(inputs.labels)
    everything = [name.lower() != "no finding" for name in names]
    means = {"macro": everything} | {
        name: [label in included for label in names] for name, included in inputs.macros.items()
    }
    results = []
    for i, (mean_name, mask) in enumerate(means.items()):
        intervals = patient_bootstrap(
            scores,
            inputs.labels,
            inputs.patient_ids,
            draws=inputs.num_bootstrap,
            seed=inputs.seed,
            in_macro=mask,
        )
        for metric, (key, chance) in _METRICS.items():
            found = intervals[key]
            rows: list[tuple[str, Interval, int | None]] = [(mean_name, found.macro, None)]
            if i == 0:
                rows += [(n, found.labels[j], int(num_positive[j])) for j, n in enumerate(names)]
            for label, interval, positives in rows:
                prevalence = num_positive / np.maximum(num_positive + num_negative, 1)
                share = (
                    prevalence[names.index(label)] if label in names else prevalence[np.array(mask)].mean()
                )
                row = Result(
                    run="", task=task, data="", data_hash="", split="", metric=metric, label=label,
                    value=interval.value, low=interval.low, high=interval.high,
                    chance=chance if chance is not None else float(share),
                    num_cases=len(inputs.image_ids), num_patients=len(set(inputs.patient_ids)),
                    num_positive=positives, variant=variant,
                )  # fmt: skip
                results.append(dataclasses.replace(row, **inputs.provenance))
    return results
