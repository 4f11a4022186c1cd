"""One Dataset for every manifest: rows and an image source in, whole batches out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from radlearn.data.report_tokens import ReportTokens
from radlearn.data.store import ImageSource
from radlearn.data.views import EvaluationView, Views, uniforms
from radlearn.errors import DataError
from radlearn.records import Batch

logger = logging.getLogger("radlearn")


# Beyond the counters of any view: see `views.uniforms`.
_STUDY_COUNTER = 2**32


@dataclass(frozen=True)
class Texts:
    """Cached text features: unique (U, D) features, and for each manifest row the unique text it has (N,)."""

    features: Tensor
    index: np.ndarray


class StudyDataset(Dataset[Batch]):
    """Training batches: `dataset.__getitems__([(draw, row), ...])` is one `Batch`.

    Args:
        source: images by source row.
        rows: (N,) source row of each training row.
        views: the augmentation; or an evaluation view, with which nothing is drawn at all.
        texts: features of the rows' texts, or None.
        labels: (N, L) float32, or None.
        reports: the rows' texts as tokens, or None.
        studies: (S + 1,) where each study's rows begin, rows being sorted by study: an item is then a study,
            of which each draw takes one row; None: an item is a row.
    """

    def __init__(
        self,
        source: ImageSource,
        rows: np.ndarray,
        views: Views | EvaluationView,
        *,
        texts: Texts | None = None,
        labels: np.ndarray | None = None,
        reports: ReportTokens | None = None,
        studies: np.ndarray | None = None,
    ) -> None:
        self.source, self.rows, self.views, self.texts, self.labels = source, rows, views, texts, labels
        self.reports, self.studies = reports, studies

    def __len__(self) -> int:
        return len(self.rows) if self.studies is None else len(self.studies) - 1

    def __getitem__(self, item: tuple[int, int]) -> Batch:
        """A batch of one."""
        return self.__getitems__([item])

    def _drawn(self, draw: int, items: np.ndarray) -> np.ndarray:
        """The row of each item: itself, or one of the study's, by (seed, draw, study) alone; for evaluation
        the study's first.
        """
        if self.studies is None:
            return items
        first, count = self.studies[items], np.diff(self.studies)[items]
        if isinstance(self.views, EvaluationView):
            return np.asarray(first)
        chosen = uniforms(self.views.seed, draw, items, np.array([_STUDY_COUNTER]))[0]
        return np.asarray(first + (chosen * count).astype(np.int64))

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> Batch:
        """A batch of the rows, augmented by their common draw; unreadable images are left out and named in
        `bad`.
        """
        draw = items[0][0]
        assert all(other == draw for other, _ in items)
        index = self._drawn(draw, np.array([row for _, row in items]))
        images, good = read_images(self.source, self.rows[index])
        if not images:
            raise DataError(f"none of the {len(items)} images of a batch could be read: run `radlearn check`")
        kept = index[good]
        views, parameters = self._rendered(draw, kept, images)
        drawn = None if isinstance(self.views, EvaluationView) else draw
        text = text_id = None
        if self.texts is not None:
            text_id = torch.from_numpy(self.texts.index[kept])
            text = self.texts.features[text_id]
        if self.reports is not None:
            text_id = torch.from_numpy(self.reports.index[kept])
        return Batch(
            views=tuple(torch.from_numpy(view).unsqueeze(2) for view in views),
            index=torch.from_numpy(kept),
            text=text,
            text_id=text_id,
            labels=None if self.labels is None else torch.from_numpy(self.labels[kept]),
            view_parameters=tuple(torch.from_numpy(p) for p in parameters),
            bad=torch.from_numpy(index[~good]),
            tokens=None if self.reports is None else self.reports.batch(kept, drawn),
        )

    def _rendered(
        self, draw: int, rows: np.ndarray, images: list[np.ndarray]
    ) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        """Views (V, B, H, W) of each size, and the parameters they were drawn with."""
        if isinstance(self.views, EvaluationView):
            return [self.views.batch(images)[None]], []
        heights = np.array([image.shape[0] for image in images])
        widths = np.array([image.shape[1] for image in images])
        parameters = self.views.draw(draw, rows, heights, widths)
        return self.views.render(images, parameters), parameters


class FixedBatches(Dataset[Batch | None]):
    """All studies in order, in batches of one size, the last one smaller: item i is batch i.

    Args:
        studies: with an evaluation view.
        batch_size: studies of a batch.
    """

    def __init__(self, studies: StudyDataset, batch_size: int) -> None:
        self.studies, self.batch_size = studies, batch_size

    def __len__(self) -> int:
        return -(-len(self.studies) // self.batch_size)

    def __getitem__(self, number: int) -> Batch | None:
        """A batch, or None if none of its images could be read, each of which the log names."""
        first = number * self.batch_size
        rows = range(first, min(first + self.batch_size, len(self.studies)))
        try:
            return self.studies.__getitems__([(0, row) for row in rows])
        except DataError:
            return None


class EvaluationDataset(Dataset[tuple[Tensor, Tensor]]):
    """Deterministic views for evaluation: batches (images (B, 1, S, S) uint8, position (B,))."""

    def __init__(self, source: ImageSource, rows: np.ndarray, view: EvaluationView) -> None:
        self.source, self.rows, self.view = source, rows, view

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """A batch of one."""
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A batch; unreadable images are left out, so their positions are missing."""
        positions = np.asarray(items)
        images, good = read_images(self.source, self.rows[positions])
        side = self.view.size
        pixels = self.view.batch(images) if images else np.zeros((0, side, side), np.uint8)
        return torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(positions[good])


def read_images(source: ImageSource, rows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Read these rows at once; if one fails, read them one by one. Returns the images and which rows were
    good.
    """
    try:
        return source.gather(rows.tolist()), np.ones(len(rows), dtype=bool)
    except DataError:
        images, good = [], np.zeros(len(rows), dtype=bool)
        for i, row in enumerate(rows):
            try:
                images.append(source.gather([row])[0])
                good[i] = True
            except DataError as error:
                logger.warning("left out: %s", error)
        return images, good


def as_is(batch: Any) -> Any:
    """Collate for datasets that return whole batches."""
    return batch
