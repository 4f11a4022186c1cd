"""Two runs on the same cases: first minus second, on the same draws of patients; read without torch.

Pairing removes what the two runs share, the difficulty of the drawn patients: two overlapping intervals say
nothing about a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radlearn import results, stats
from radlearn.errors import DataError, nearest
from radlearn.metrics import detection, per_case, segmentation

# What is kept of one head: counts of pixels, or boxes.
Head = results.Predictions | results.BoxPredictions
_NAMES = {"auroc": "auc", "average_precision": "average_precision"}


@dataclass(frozen=True)
class PairedResult:
    """One difference.

    Attributes:
        metric, label: as in the runs' results.
        first, second: the value of each run.
        difference: first minus second, with its 95 % interval and p value.
        num_cases, num_patients: that both scored.
    """

    metric: str
    label: str
    first: float
    second: float
    difference: stats.Difference
    num_cases: int
    num_patients: int


def compare(
    first: Path,
    second: Path,
    *,
    task: str,
    data: str | None = None,
    split: str = "test",
    variant: str = "",
    draws: int = 1000,
    seed: int = 0,
) -> list[PairedResult]:
    """Compare two runs on a task that both were evaluated on.

    Args:
        first, second: run folders.
        task: `linear_probe`, `retrieval`, ...
        data: evaluation set, where the runs have several.
        split, variant: of the evaluation.
        draws, seed: of the bootstrap.

    Returns:
        Differences of AUC and average precision for every label and their mean without "No Finding"; of
        per-case values those of each of their metrics.

    Raises:
        DataError: if a run has no such predictions, or they are of other data or other cases.
    """
    paths = [_find(run, task, data, split, variant) for run in (first, second)]
    heads = [[results.read_boxes(path) for path in of_run] for of_run in paths]
    if all(head is not None for of_run in heads for head in of_run):
        ours_boxes, theirs_boxes = ([head for head in of_run if head is not None] for of_run in heads)
        return _of_heads(ours_boxes, theirs_boxes, (first.name, second.name), draws, seed)
    if any(len(of_run) > 1 for of_run in paths):
        every = [[results.read_predictions(path) for path in of_run] for of_run in paths]
        return _of_heads(every[0], every[1], (first.name, second.name), draws, seed)
    ours, theirs = (results.read_predictions(of_run[0]) for of_run in paths)
    if ours.data_hash != theirs.data_hash:
        raise DataError(
            f"{first.name} and {second.name} were scored on different versions of the data "
            f"({ours.data_hash[:8]} and {theirs.data_hash[:8]}): evaluate both on one"
        )
    if list(ours.label_names) != list(theirs.label_names):
        raise DataError(f"the runs scored {list(ours.label_names)} and {list(theirs.label_names)}")
    order = _matching(ours.image_id, theirs.image_id, (first.name, second.name))
    if not np.array_equal(ours.labels, theirs.labels[order], equal_nan=True):
        raise DataError(
            f"{first.name} and {second.name} were scored against different labels: evaluate both again"
        )
    scores = theirs.scores[order]
    if np.isnan(ours.labels).all():
        if segmentation.is_counts(ours.label_names):
            return _of_heads([ours], [theirs], (first.name, second.name), draws, seed)
        return _of_values(ours, scores, draws, seed)
    return _of_scores(ours, scores, draws, seed)


def _find(run: Path, task: str, data: str | None, split: str, variant: str) -> list[Path]:
    """The file of a variant; of a mean over repeats those of all repeats."""
    folder = run / "predictions"
    names = sorted(path.stem for path in folder.glob("*.parquet")) if folder.is_dir() else []
    sets = [data] if data else sorted({name.split("-")[1] for name in names if name.startswith(f"{task}-")})
    found = {each: stems for each in sets if (stems := _stems(names, task, each, split, variant))}
    if len(found) != 1:
        wanted = results.predictions_stem(task, sets[0], split, variant) if sets else task
        there = ", ".join(names) or "none"
        raise DataError(
            f"{run.name} has predictions of {', '.join(stems[0] for stems in found.values())}: say which data"
            if found
            else f"{run.name} has no predictions of {wanted}: there is {there}{nearest(wanted, names)}; "
            "evaluate it first"
        )
    return [folder / f"{stem}.parquet" for stems in found.values() for stem in stems]


def _stems(names: Sequence[str], task: str, data: str, split: str, variant: str) -> list[str]:
    stem = results.predictions_stem(task, data, split, variant)
    if stem in names:
        return [stem]
    found: list[str] = []
    while True:
        repeat = f"repeat={len(found) + 1} {variant}".strip()
        stem = results.predictions_stem(task, data, split, repeat)
        if stem not in names:
            return found
        found.append(stem)


def _matching(ours: Sequence[str], theirs: Sequence[str], names: tuple[str, str]) -> np.ndarray:
    """Where each of our cases is among theirs: by id, never by order."""
    place = {case: row for row, case in enumerate(theirs)}
    unshared = {*ours} ^ {*theirs}
    if unshared or len(place) != len(theirs):
        raise DataError(
            f"{len(unshared)} cases were scored by one of {' and '.join(names)} only: evaluate both alike"
        )
    return np.array([place[case] for case in ours])


def _of_scores(ours: results.Predictions, theirs: np.ndarray, draws: int, seed: int) -> list[PairedResult]:
    names = list(ours.label_names)
    in_macro = [name.lower() != "no finding" for name in names]
    both = (ours.labels, ours.patient_id)
    found = stats.paired_bootstrap(ours.scores, theirs, *both, draws=draws, seed=seed, in_macro=in_macro)
    alone = [stats.patient_bootstrap(s, *both, draws=1, in_macro=in_macro) for s in (ours.scores, theirs)]
    rows = []
    for key, metric in _NAMES.items():
        of_labels = zip(names, *(m[key].labels for m in alone), found[key].labels, strict=True)
        of_all = ("macro", *(m[key].macro for m in alone), found[key].macro)
        for label, a, b, difference in [of_all, *of_labels]:
            rows.append(_row(metric, label, a.value, b.value, difference, ours.patient_id))
    return rows


def _of_values(ours: results.Predictions, theirs: np.ndarray, draws: int, seed: int) -> list[PairedResult]:
    rows = []
    for column, name in enumerate(ours.label_names):
        pair = ours.scores[:, column], theirs[:, column]
        for metric, summary in per_case.summaries_of(name).items():
            a, b = (per_case.interval(v, ours.patient_id, summary, draws=1).value for v in pair)
            difference = per_case.difference(*pair, ours.patient_id, summary, draws=draws, seed=seed)
            label = name if metric != name else "all"
            rows.append(_row(metric, label, a, b, difference, ours.patient_id))
    return rows


def _of_heads(
    ours: Sequence[Head], theirs: Sequence[Head], names: tuple[str, str], draws: int, seed: int
) -> list[PairedResult]:
    """Metrics of masks or boxes, the mean over each run's heads, on the same draws of patients."""
    first = ours[0]
    _check_alike([*ours, *theirs], names)
    counts = isinstance(first, results.Predictions)
    classes = segmentation.classes_of(first.label_names) if counts else list(first.label_names)
    multiplicities, index = stats.drawn_patients(first.patient_id, draws, seed)

    def of(head: Head) -> dict[str, stats.FloatArray]:
        rows = _matching(first.image_id, head.image_id, names)
        if isinstance(head, results.Predictions):
            pixels = head.scores[rows].reshape(len(rows), len(classes), -1).astype(np.int64)
            return segmentation.ratios_of_draws(pixels, index, multiplicities)
        detections = detection.of_classes(
            [head.boxes[i] for i in rows],
            [head.scores[i] for i in rows],
            [head.classes[i] for i in rows],
            [head.truth[i] for i in rows],
            [head.truth_classes[i] for i in rows],
            len(classes),
        )
        return detection.scores_of_draws(detections, index, multiplicities)

    return _of_draws([_mean(map(of, heads)) for heads in (ours, theirs)], classes, first.patient_id)


def _check_alike(heads: Sequence[Head], names: tuple[str, str]) -> None:
    """Refuse heads that were scored on other data, or for other classes, than the first."""
    for head in heads:
        alike = head.data_hash == heads[0].data_hash and list(head.label_names) == list(heads[0].label_names)
        if not alike:
            raise DataError(f"{' and '.join(names)} were scored on different data or classes: evaluate again")


def _mean(heads: Iterable[dict[str, stats.FloatArray]]) -> dict[str, stats.FloatArray]:
    every = list(heads)
    return {metric: np.mean([head[metric] for head in every], axis=0) for metric in every[0]}


def _of_draws(
    found: Sequence[dict[str, stats.FloatArray]], classes: Sequence[str], patients: Sequence[str]
) -> list[PairedResult]:
    """Differences of two runs from their draws (1 + draws, C): of each class, and of the mean of those with a
    value.
    """
    rows = []
    for metric, first in found[0].items():
        second = found[1][metric]
        there = np.flatnonzero(~np.isnan(first[0]) & ~np.isnan(second[0]))
        labels = [("macro", there), *((name, np.array([i])) for i, name in enumerate(classes) if i in there)]
        for label, columns in labels:
            a, b = (values[:, columns].mean(1) for values in (first, second))
            difference = stats.difference_of_draws(a - b, 0.95)
            rows.append(_row(metric, label, float(a[0]), float(b[0]), difference, patients))
    return rows


def _row(
    metric: str, label: str, a: float, b: float, difference: stats.Difference, patients: Sequence[str]
) -> PairedResult:
    return PairedResult(metric, label, a, b, difference, len(patients), len(set(patients)))
