"""The figures of a report: drawn from a run's files, captioned, ready to be put into a page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from radlearn.errors import DataError
from radlearn.figures import (
    auc_intervals,
    base,
    collapse,
    embedding_map,
    example_cases,
    learning_curves,
    roc_curves,
)
from radlearn.report import scores
from radlearn.report.captions import CAPTIONS
from radlearn.report.run_folder import OPEN, RunFolder, table

MODULES = (auc_intervals, collapse, embedding_map, example_cases, learning_curves, roc_curves)
# Twice the pixels of a usual screen, so that print and dense screens are sharp too.
_DPI = 190
_CASES = 8


@dataclass(frozen=True)
class Picture:
    """A figure as the page needs it.

    Attributes:
        kind: the figure's module name; run, subject: what it is about.
        caption: what is seen, n, and how an interval was made.
        alternative: the picture in words, for those who cannot see it.
        png, pdf: the files' bytes, empty where there is a reason.
        width: width in CSS pixels.
        reason: why there is no picture, empty where there is one.
    """

    kind: str
    run: str
    subject: str
    caption: str
    alternative: str
    png: bytes = b""
    pdf: bytes = b""
    width: int = 0
    reason: str = ""

    @property
    def source(self) -> str:
        """The picture itself as an address, so that the page asks nobody for it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def stem(self) -> str:
        """A file name without suffix."""
        return "-".join([self.kind, *(slug(part) for part in (self.run, self.subject) if part)])


def slug(name: str) -> str:
    """A name fit for a file; names that had to change end in a hash, so that no two meet."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:60]
    return plain if plain == name else f"{plain or 'unnamed'}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def training(run: RunFolder) -> list[Picture]:
    """Learning curves and, where probes were logged, the collapse diagnostics."""
    if run.metrics is None:
        return []
    rows = _marked(run.metrics, synthetic=_trained_on_synthetic(run))
    steps = base.count(rows.height, "logged step")
    pictures = [_picture(learning_curves, rows, run.name, "", {"count": steps})]
    if collapse.measured(rows):
        width = run.config.get("embed_dim")
        options = {"width": width if isinstance(width, int) else None}
        words = {"alarm": f"{collapse.ALARM_STD:g}"}
        pictures.append(_picture(collapse, rows, run.name, "", words, options))
    return pictures


def training_together(runs: Sequence[RunFolder]) -> list[Picture]:
    """Losses and periodic scores of several runs over each other."""
    logged = [
        run
        for run in runs
        if run.metrics is not None and set(learning_curves.NEEDS) <= set(run.metrics.columns)
    ]
    if len(logged) < 2:
        return []
    named = [run.metrics.with_columns(run=pl.lit(run.name)) for run in logged if run.metrics is not None]
    synthetic = any(_trained_on_synthetic(run) for run in logged)
    rows = _marked(pl.concat(named, how="diagonal_relaxed"), synthetic=synthetic)
    steps = f"{base.count(rows.height, 'logged step')} of {base.count(len(logged), 'run')}"
    return [_picture(learning_curves, rows, "", "several runs", {"count": steps})]


def roc(run: RunFolder) -> list[Picture]:
    """ROC curves of every task, data set and split with an AUC and predictions, in its main variant."""
    pictures = []
    for subject in scores.subjects(run.results):
        task, data, split = subject
        main = scores.main_variant(scores.of_subject(run.results, subject))
        path = run.predictions_of(task, data, split, main)
        if path is not None:
            rows = _marked(table(path), synthetic=run.access(data) == "synthetic")
            words = {"task": task, "data": data, "split": split, "count": _cases(rows)}
            pictures.append(_picture(roc_curves, rows, run.name, "-".join(subject), words))
    return pictures


def intervals(runs: Sequence[RunFolder], subject: tuple[str, str, str]) -> Picture:
    """AUC with interval a label: the runs side by side, or one run beside its references."""
    task, data, split = subject
    parts = []
    for run in runs:
        own = scores.of_subject(run.results, subject)
        main = scores.main_variant(own)
        parts.append(_series(own, main, run.name))
        if len(runs) == 1:
            parts += [_series(own, v, scores.variant_title(v)) for v in scores.variants(own) if v != main]
            for reference, title in scores.REFERENCE_TASKS.items():
                beside = scores.of_subject(run.results, (reference, data, split))
                parts.append(_series(beside, scores.main_variant(beside), title))
    rows = pl.concat(parts)
    name, others = (
        (runs[0].name, ", beside the same data under other conditions") if len(runs) == 1 else ("", "")
    )
    most = [max([0, *rows[column].drop_nulls()]) for column in ("num_cases", "num_patients")]
    largest = f"up to {base.count(most[0], 'image')} of {base.count(most[1], 'patient')}"
    words = {"task": task, "data": data, "split": split, "others": others, "count": largest}
    return _picture(auc_intervals, rows, name, "-".join(subject), words)


def maps(run: RunFolder) -> list[Picture]:
    """The embedding map of every data set with embeddings."""
    pictures = []
    for data, path in run.embeddings.items():
        rows = _marked(table(path), synthetic=run.access(data) == "synthetic")
        pictures.append(_picture(embedding_map, rows, run.name, data, {"data": data, "count": _cases(rows)}))
    return pictures


def cases(run: RunFolder, *, allowed: bool) -> list[Picture]:
    """Example cases of open and synthetic data; of credentialed data only where the user allowed it."""
    pictures = []
    for data, path in run.cases.items():
        access = run.access(data)
        if access in OPEN or allowed:
            rows = _marked(table(path), synthetic=access == "synthetic")
            options = {"labels": run.card.label_names if run.card is not None else (), "max_cases": _CASES}
            kind = "generated" if access == "synthetic" else access
            shown = base.count(min(rows.height, _CASES), "radiograph")
            words = {"data": data, "count": shown, "kind": kind}
            pictures.append(_picture(example_cases, rows, run.name, data, words, options))
    return pictures


def save(pictures: Sequence[Picture], folder: Path) -> list[Path]:
    """Write png and pdf of each picture; pictures of an earlier report there are removed.

    What an earlier report was allowed to show may not be shown now, so none of its pictures is left behind.
    """
    for module in MODULES:
        for suffix in ("png", "pdf"):
            for stale in folder.glob(f"{_kind(module)}-*.{suffix}"):
                stale.unlink()
    written = []
    for picture in pictures:
        for suffix, data in (("png", picture.png), ("pdf", picture.pdf)):
            if data:
                written.append(folder / f"{picture.stem}.{suffix}")
                base.write(written[-1], data)
    return written


def _kind(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _picture(
    module: Any,
    rows: pl.DataFrame,
    run: str,
    subject: str,
    words: Mapping[str, str],
    options: Mapping[str, Any] | None = None,
) -> Picture:
    """Draw, or say why not: one unreadable table must not cost the rest of the page."""
    kind = _kind(module)
    caption, alternative = CAPTIONS[kind if run or kind != "learning_curves" else f"{kind} of several runs"]
    caption, alternative = caption.format(run=run, **words), alternative.format(run=run, **words)
    try:
        figure: Figure = module.draw(rows, **(options or {}))
    except DataError as error:
        return Picture(kind, run, subject, caption, alternative, reason=str(error))
    png, pdf = base.render(figure, "png", _DPI), base.render(figure, "pdf", _DPI)
    return Picture(
        kind, run, subject, caption, alternative, png, pdf, width=round(96 * figure.get_figwidth())
    )


def _series(rows: pl.DataFrame, variant: str, name: str) -> pl.DataFrame:
    """Rows of one variant as one run of the forest plot."""
    keep = [scores.variant_of(row) == variant for row in rows.iter_rows(named=True)]
    chosen = rows.filter(pl.Series(keep, dtype=pl.Boolean))
    return chosen.with_columns(run=pl.lit(name, dtype=pl.String), variant=pl.lit("", dtype=pl.String))


def _trained_on_synthetic(run: RunFolder) -> bool:
    return run.card is not None and run.card.synthetic


def _marked(rows: pl.DataFrame, *, synthetic: bool) -> pl.DataFrame:
    return rows.with_columns(synthetic=pl.lit(synthetic))


def _cases(rows: pl.DataFrame) -> str:
    images = base.count(rows.height, "image")
    if "patient_id" not in rows.columns:
        return images
    return f"{images} of {base.count(rows['patient_id'].n_unique(), 'patient')}"
