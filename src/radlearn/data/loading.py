"""The order of the training data as a pure function of (seed, step), and the loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from radlearn.data.dataset import EvaluationDataset, FixedBatches, StudyDataset, as_is
from radlearn.errors import ConfigurationError
from radlearn.records import Batch


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (draw, row) for micro-batches `first` to `last`, the same whoever asks and wherever it
    starts.

    Each epoch is one seeded permutation of all rows; a micro-batch takes `batch_size` rows for each rank in
    turn, and the rows that fill no whole batch are left to the next epoch's permutation.

    Args:
        num_rows: training rows.
        batch_size: rows of one rank's micro-batch.
        seed: of the permutations.
        first, last: micro-batches to yield, counted over the whole run.
        rank, world: which share.
    Raises:
        ConfigurationError: if one batch over all ranks is larger than the data.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        *,
        seed: int,
        first: int,
        last: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.per_epoch = steps_per_epoch(num_rows, batch_size, world)
        self.num_rows, self.batch_size, self.seed = num_rows, batch_size, seed
        self.first, self.last, self.rank, self.world = first, last, rank, world

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for micro_batch in range(self.first, self.last):
            now, position = divmod(micro_batch, self.per_epoch)
            if now != epoch:
                epoch = now
                order = np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
            start = (position * self.world + self.rank) * self.batch_size
            yield [(epoch, int(row)) for row in order[start : start + self.batch_size]]


def steps_per_epoch(num_rows: int, batch_size: int, world: int) -> int:
    """Whole micro-batches in one pass over the rows."""
    whole = num_rows // (batch_size * world)
    if whole == 0:
        share = f"{batch_size} on each of {world} devices" if world > 1 else str(batch_size)
        raise ConfigurationError(
            f"batch_size is {share}, but there are only {num_rows} training rows: "
            + ("lower batch_size" if num_rows > 1 else "pre-training needs more than one")
        )
    return whole


def training_loader(
    dataset: StudyDataset, sampler: StepSampler, *, num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """Whole batches, gathered in the workers; workers map the same files, so they share the page cache."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=as_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=False,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_one_thread,
    )


def evaluation_loader(
    dataset: EvaluationDataset,
    *,
    batch_size: int,
    num_workers: int,
    batches: Iterable[Sequence[int]] | None = None,
    pin_memory: bool = False,
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """All rows once, in order; or these batches of rows."""
    how = {"batch_size": batch_size} if batches is None else {"batch_sampler": batches}
    return DataLoader(
        dataset,
        collate_fn=as_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_one_thread,
        **how,
    )


def fixed_loader(
    batches: FixedBatches, numbers: Sequence[int], *, num_workers: int
) -> DataLoader[Batch | None]:
    """The batches of these numbers, in their order."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        collate_fn=as_is,
        num_workers=num_workers,
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:
    # Workers are the parallelism: OpenCV's and torch's own threads would fight over the same cores.
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
