"""Two runs on the same cases: first minus second, on the same draws of patients; read without torch.

Pairing removes what the two runs share, the difficulty of the drawn patients: two overlapping intervals say
nothing about a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radlearn import results, stats
from radlearn.errors import DataError, nearest
from radlearn.metrics import detection, per_case, segmentation

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
    boxes = [results.read_boxes(path) for path in paths]
    if boxes[0] is not None and boxes[1] is not None:
        return _of_boxes(boxes[0], boxes[1], (first.name, second.name), draws, seed)
    ours, theirs = (results.read_predictions(path) for path in paths)
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
        of = _of_counts if segmentation.is_counts(ours.label_names) else _of_values
        return of(ours, scores, draws, seed)
    return _of_scores(ours, scores, draws, seed)


def _find(run: Path, task: str, data: str | None, split: str, variant: str) -> Path:
    folder = run / "predictions"
    names = sorted(path.stem for path in folder.glob("*.parquet")) if folder.is_dir() else []
    sets = [data] if data else sorted({name.split("-")[1] for name in names if name.startswith(f"{task}-")})
    stems = [results.predictions_stem(task, each, split, variant) for each in sets]
    found = [stem for stem in stems if stem in names]
    if len(found) != 1:
        wanted = stems[0] if stems else task
        there = ", ".join(names) or "none"
        raise DataError(
            f"{run.name} has predictions of {', '.join(found)}: say which data"
            if found
            else f"{run.name} has no predictions of {wanted}: there is {there}{nearest(wanted, names)}; "
            "evaluate it first"
        )
    return folder / f"{found[0]}.parquet"


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


def _of_counts(ours: results.Predictions, theirs: np.ndarray, draws: int, seed: int) -> list[PairedResult]:
    """Dice and its relatives: ratios of sums over the same draws of patients."""
    classes = segmentation.classes_of(ours.label_names)
    multiplicities, index = stats.drawn_patients(ours.patient_id, draws, seed)
    first, second = (
        segmentation.ratios_of_draws(
            scores.reshape(len(scores), len(classes), -1).astype(np.int64), index, multiplicities
        )
        for scores in (ours.scores, theirs)
    )
    rows = []
    for metric in first:
        for label, columns in [
            ("macro", slice(None)),
            *((n, slice(i, i + 1)) for i, n in enumerate(classes)),
        ]:
            a, b = (found[metric][:, columns].mean(1) for found in (first, second))
            difference = stats.difference_of_draws(a - b, 0.95)
            rows.append(_row(metric, label, float(a[0]), float(b[0]), difference, ours.patient_id))
    return rows


def _of_boxes(
    ours: results.BoxPredictions,
    theirs: results.BoxPredictions,
    names: tuple[str, str],
    draws: int,
    seed: int,
) -> list[PairedResult]:
    """Average precision and fROC on the same draws of patients."""
    if ours.data_hash != theirs.data_hash or list(ours.label_names) != list(theirs.label_names):
        raise DataError(
            f"{' and '.join(names)} were scored on different data or classes: evaluate both on one"
        )
    order = _matching(ours.image_id, theirs.image_id, names)
    multiplicities, index = stats.drawn_patients(ours.patient_id, draws, seed)
    found = []
    for held, rows in ((ours, range(len(order))), (theirs, order.tolist())):
        detections = detection.of_classes(
            [held.boxes[i] for i in rows],
            [held.scores[i] for i in rows],
            [held.classes[i] for i in rows],
            [held.truth[i] for i in rows],
            [held.truth_classes[i] for i in rows],
            len(held.label_names),
        )
        found.append(detection.scores_of_draws(detections, index, multiplicities))
    there = [i for i, each in enumerate(detections) if each.num_boxes.any()]
    labels = [("macro", there), *((name, [i]) for i, name in enumerate(ours.label_names) if i in there)]
    rows_found = []
    for metric in detection.METRICS:
        for label, columns_of_label in labels:
            a, b = (each[metric][:, columns_of_label].mean(1) for each in found)
            difference = stats.difference_of_draws(a - b, 0.95)
            rows_found.append(_row(metric, label, float(a[0]), float(b[0]), difference, ours.patient_id))
    return rows_found


def _row(
    metric: str, label: str, a: float, b: float, difference: stats.Difference, patients: Sequence[str]
) -> PairedResult:
    return PairedResult(metric, label, a, b, difference, len(patients), len(set(patients)))
