"""Unreadable images met while training: counted, listed, and too many of them stop the run."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from radlearn.data.dataset import StudyDataset
from radlearn.datasets import Dataset
from radlearn.errors import DataError
from radlearn.ranks import is_main_process

logger = logging.getLogger("radlearn")


class BadImages:
    """Counts unreadable images of the training set, and stops the run when they are too many.

    Args:
        training: the training set, whose rows the batches name.
        data: for their paths.
        run: where `rejected.parquet` is written.
        limit: largest share of the training rows.
    """

    def __init__(self, training: StudyDataset, data: Dataset, run: Path, limit: float) -> None:
        self.training, self.data, self.run, self.limit = training, data, run, limit
        self.rows: set[int] = set()

    def add(self, rows: list[int]) -> None:
        """Count these rows once.

        Raises:
            DataError: past the limit; names the first paths.
        """
        self.rows |= set(rows)
        if len(self.rows) > self.limit * len(self.training.rows):
            self.report()
            paths = self._paths()[:3]
            raise DataError(
                f"{len(self.rows)} of {len(self.training.rows)} training images cannot be read, more than "
                f"data.max_bad_fraction={self.limit:g}: {', '.join(paths)} ... See "
                f"{self.run / 'rejected.parquet'}"
            )

    def _paths(self) -> list[str]:
        source_to_row = {int(s): i for i, s in enumerate(self.data.source_rows)}
        return [self.data.rows["path"][source_to_row[int(self.training.rows[i])]] for i in sorted(self.rows)]

    def report(self) -> None:
        """Write the list and say how many there were, if any."""
        if self.rows and is_main_process():
            pl.DataFrame({"path": self._paths(), "reason": "unreadable"}).write_parquet(
                self.run / "rejected.parquet"
            )
            logger.warning(
                "%d images could not be read and were left out: %s",
                len(self.rows),
                self.run / "rejected.parquet",
            )
