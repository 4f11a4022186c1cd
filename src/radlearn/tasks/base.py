"""The contract of a task: what a model gives for a set of cases in, results and predictions out.

Tasks never learn how a model was trained: they see embeddings, prompts, pixels and labels.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from torch import Tensor

from radlearn.data import splits
from radlearn.data.store import ImageSource
from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError
from radlearn.metrics import per_case
from radlearn.metrics.classification import class_counts
from radlearn.records import Result
from radlearn.results import BoxPredictions
from radlearn.stats import Interval, patient_bootstrap

# Name of a metric in results -> its name in `stats`, and what chance scores (None: the share of positives).
_METRICS = {"auc": ("auroc", 0.5), "average_precision": ("average_precision", None)}


@dataclass(frozen=True)
class Prompts:
    """For each label, embeddings (P, D) of its positive and its negative prompts."""

    positive: Sequence[Tensor]
    negative: Sequence[Tensor]


@dataclass(frozen=True)
class Labelled:
    """Cases that a task may learn from.

    Attributes:
        features: (M, W) float32.
        labels: (M, L) in {1, 0, NaN}.
        patient_ids: (M,).
    """

    features: Tensor
    labels: np.ndarray
    patient_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.patient_ids)

    def take(self, rows: np.ndarray) -> Labelled:
        """Some of the cases."""
        return Labelled(self.features[rows], self.labels[rows], [self.patient_ids[row] for row in rows])


@dataclass(frozen=True)
class Regions:
    """Sentences that point to boxes, each with what a model says of the image's regions.

    Attributes:
        case_ids, patient_ids, kinds: (M,) image and number of the sentence, patient, and class of its boxes.
        similarity: variant -> (M, N) of the sentence to each region; its softmax is the attention. The
            variant "" is the headline.
        coverage: (M, N) share of each region that the boxes cover.
        positive: (M, N) bool, regions that count as a hit: at least half covered, or where there is none the
            regions in which the boxes have their centres.
    """

    case_ids: Sequence[str]
    patient_ids: Sequence[str]
    kinds: Sequence[str]
    similarity: Mapping[str, np.ndarray]
    coverage: np.ndarray
    positive: np.ndarray


@dataclass(frozen=True)
class DenseSplit:
    """Images of a split, and what is drawn on them.

    Attributes:
        image_ids, patient_ids: (N,).
        source, rows: where the images are read, and (N,) its rows.
        sizes: (N, 2) height and width of the source images, in whose pixels masks and boxes are.
        masks: for each image, class -> run lengths, see `run_lengths`.
        boxes: for each image, class -> (M, 4) x, y, w, h.
    """

    image_ids: Sequence[str]
    patient_ids: Sequence[str]
    source: ImageSource
    rows: np.ndarray
    sizes: np.ndarray
    masks: Sequence[Mapping[str, str]]
    boxes: Sequence[Mapping[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, kept: np.ndarray) -> DenseSplit:
        """Some of the images."""
        some = kept.tolist()
        ids, patients = ([each[i] for i in some] for each in (self.image_ids, self.patient_ids))
        masks, boxes = [self.masks[i] for i in some], [self.boxes[i] for i in some]
        return DenseSplit(ids, patients, self.source, self.rows[kept], self.sizes[kept], masks, boxes)


@dataclass(frozen=True)
class Dense:
    """An image encoder, and images with masks or boxes to learn a head on and to score it.

    Attributes:
        encoder: a copy that the task may change.
        train, validate, test: the splits; `test` is the one that is scored.
        identity: of encoder weights, images and annotations: what is kept of one is never taken for another.
        folder: where finished trainings are kept, so that an interrupted evaluation goes on; None keeps none.
        statistics: mean and standard deviation of the training pixels, where they are known.
        short_side: of the stored images, where they were shrunk to one.
        device: where the work is done; num_workers: processes that read images.
        progress: called with (done, total, what).
    """

    encoder: Encoder
    train: DenseSplit
    validate: DenseSplit
    test: DenseSplit
    identity: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    statistics: tuple[float, float] | None = None
    short_side: int | None = None
    device: str = "cpu"
    num_workers: int = 0
    progress: Callable[[int, int, str], None] = lambda done, total, what: None

    def with_splits(self, change: Callable[[DenseSplit], DenseSplit]) -> Dense:
        """The same with every split changed."""
        train, validate, test = (change(split) for split in (self.train, self.validate, self.test))
        return dataclasses.replace(self, train=train, validate=validate, test=test)


@dataclass(frozen=True)
class Inputs:
    """The cases of one evaluation set.

    Attributes:
        image_ids, patient_ids: (N,).
        labels: (N, L) in {1, 0, NaN}.
        label_names: L names.
        embeddings: (N, D) float32 of the model's shared space, if the task needs them.
        features: (N, W) float32 of the image encoder, if the task needs them.
        train, validate: cases of those splits, with features, if the task needs them; validate is None where
            it is the split that is scored, or empty.
        texts: (U, D) embeddings of the distinct reports, if the task needs them; text_index: (N,) which of
            them each case has, -1 for none.
        regions: if the task needs them.
        dense: if the task needs it.
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
    features: Tensor | None = None
    train: Labelled | None = None
    validate: Labelled | None = None
    texts: Tensor | None = None
    text_index: np.ndarray | None = None
    regions: Regions | None = None
    dense: Dense | None = None
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
class Values:
    """Numbers of each case that results summarise: ranks, hits.

    Attributes:
        case_ids, patient_ids: (M,); a case is an image or a part of one.
        names: (K,) of the columns.
        values: (M, K), NaN where a case has none.
    """

    case_ids: Sequence[str]
    patient_ids: Sequence[str]
    names: Sequence[str]
    values: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Results, and what they can be recomputed from: for each variant the scores (N, L), values a case, or
    boxes a case.
    """

    results: list[Result]
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, Values] = field(default_factory=dict)
    boxes: Mapping[str, BoxPredictions] = field(default_factory=dict)


class Task(ABC):
    """A downstream task. Keyword arguments of the constructor are `task.<key>` of the configuration.

    Attributes:
        needs: which fields of `Inputs` it reads, of embeddings, features, train (with validate), texts,
            regions, dense, prompts, pixels, train_pixels.
        labelled: whether it scores labels; a data set without any is refused then.
        headline: metric and label of the row to look at first.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    labelled: ClassVar[bool] = True
    headline: ClassVar[tuple[str, str]] = ("auc", "macro")

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


class FewShotTask(ClassificationTask):
    """A classification task that learns from a share of the training patients.

    Args:
        fraction: share of the patients, in (0, 1]; subsets of one draw are nested.
        draw: which subset; it does not matter where all patients are used.
    """

    needs: ClassVar[tuple[str, ...]] = ("features", "train")
    tuning_trials: int | None = None

    def __init__(self, *, fraction: float = 1.0, draw: int = 0) -> None:
        if not 0 < fraction <= 1:
            raise ConfigurationError(f"task.fraction is a share above 0 and at most 1: got {fraction}")
        self.fraction, self.draw = float(fraction), int(draw)

    def run(self, inputs: Inputs) -> Evaluation:
        """Score and measure; the rows say what was learned from."""
        found = super().run(inputs)
        few = self.fraction < 1
        changes: dict[str, Any] = {"fraction": self.fraction, "draw": self.draw if few else None}
        if self.tuning_trials is not None:
            changes["tuning_trials"] = self.tuning_trials
        rows = [dataclasses.replace(row, **changes) for row in found.results]
        # The file of predictions is named as the report names such rows.
        mark = f"fraction={self.fraction:g}, draw={self.draw}" if few else ""
        named = {", ".join(filter(None, (v, mark))): scores for v, scores in found.scores.items()}
        return Evaluation(rows, named)

    def learnable(self, inputs: Inputs) -> tuple[Tensor, Labelled]:
        """The features to score, and the cases to learn from: a few-shot draw of the training split.

        Raises:
            ConfigurationError: if either is missing.
        """
        if inputs.features is None or inputs.train is None:
            raise ConfigurationError(f"{self.name} needs features of the scored and of the training split")
        return inputs.features, few_shot(
            inputs.train, inputs.label_names, self.fraction, inputs.seed, self.draw
        )


def few_shot(
    cases: Labelled, label_names: Sequence[str], fraction: float, seed: int, draw: int = 0
) -> Labelled:
    """A share of the patients, nested and stratified by `data.splits.fraction`; all of them for 1."""
    if fraction >= 1:
        return cases
    labels = cases.labels[:, : len(label_names)]
    return cases.take(few_shot_rows(cases.patient_ids, labels, fraction, seed, draw))


def few_shot_rows(
    patient_ids: Sequence[str], labels: np.ndarray, fraction: float, seed: int, draw: int
) -> np.ndarray:
    """Which of the cases a few-shot draw keeps, in their order; labels (N, L) are the strata."""
    columns = {f"label_{i}": column for i, column in enumerate(labels.T)}
    rows = pl.DataFrame({"patient_id": list(map(str, patient_ids)), **columns}).with_row_index("_row")
    kept = splits.fraction(rows, 100 * fraction, seed, draw, label_names=list(columns))
    return kept["_row"].to_numpy().astype(np.int64)


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
                # The mean leaves out labels of one class, and so does what chance scores.
                both = np.array(mask) & (num_positive > 0) & (num_negative > 0)
                of_mean = prevalence[both].mean() if both.any() else np.nan
                share = prevalence[names.index(label)] if label in names else of_mean
                row = Result(
                    run="", task=task, data="", data_hash="", split="", metric=metric, label=label,
                    value=interval.value, low=interval.low, high=interval.high,
                    chance=chance if chance is not None else float(share),
                    num_cases=len(inputs.image_ids), num_patients=len(set(inputs.patient_ids)),
                    num_positive=positives, variant=variant,
                )  # fmt: skip
                results.append(dataclasses.replace(row, **inputs.provenance))
    return results


def summarise(
    inputs: Inputs,
    values: Values,
    *,
    task: str,
    chances: Mapping[tuple[str, str], float],
    variant: str = "",
) -> list[Result]:
    """One result for each column of per-case values and each of its summaries.

    Args:
        inputs: the cases' provenance, and the draws.
        values: the values.
        task, variant: stand in the results.
        chances: (metric, label) -> what a random model scores.
    """
    results = []
    for column, label in enumerate(values.names):
        known = ~np.isnan(values.values[:, column])
        patients = np.asarray(values.patient_ids)
        for metric, summary in per_case.summaries_of(label).items():
            found = per_case.interval(
                values.values[:, column], patients, summary, draws=inputs.num_bootstrap, seed=inputs.seed
            )
            # A column of ranks is named by its direction; any other is itself the metric.
            of = label if metric != label else "all"
            row = Result(
                run="", task=task, data="", data_hash="", split="", metric=metric, label=of,
                value=found.value, low=found.low, high=found.high, chance=chances[metric, of],
                num_cases=int(known.sum()), num_patients=len(np.unique(patients[known])), variant=variant,
            )  # fmt: skip
            results.append(dataclasses.replace(row, **inputs.provenance))
    return results
