"""The rows of a feature file, cut into parts that processes take, make and leave on disk until all are there.

No process is told its share: each takes the next part that nobody works on, by a lock of the operating system
that ends with its holder. So one process or many, on one machine or on several that see the same files, do
the same work; a killed one loses its part and no other, and whoever comes next goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from radlearn.errors import DataError

ROWS_A_PART = 1024


class Parts:
    """Parts of `count` rows in a folder of their own.

    Args:
        folder: theirs alone.
        count: rows in all.
        rows_a_part: rows of each part; the last may have fewer.
    """

    def __init__(self, folder: Path, count: int, *, rows_a_part: int = ROWS_A_PART) -> None:
        self.folder, self.count, self.rows_a_part = folder, count, rows_a_part
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make {folder}: {error.strerror}; set paths.cache") from error

    def __len__(self) -> int:
        return -(-self.count // self.rows_a_part)

    def rows(self, number: int) -> range:
        """The rows of a part."""
        return range(number * self.rows_a_part, min((number + 1) * self.rows_a_part, self.count))

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.npz"

    def done(self, number: int) -> bool:
        """Whether a part is there, whole."""
        return self._path(number).exists()

    def open(self) -> list[int]:
        """Parts that are not there yet."""
        return [number for number in range(len(self)) if not self.done(number)]

    def rows_done(self) -> int:
        """Rows of the parts that are there."""
        return sum(len(self.rows(number)) for number in range(len(self)) if self.done(number))

    def take(self, number: int, *, wait: bool = False) -> IO[str] | None:
        """Take a part: its lock, to be closed when the part is written; None if it is done or taken.

        Args:
            number: of the part.
            wait: until another process has let go of it; take nothing else meanwhile.
        """
        try:
            lock = (self.folder / f"part-{number:05d}.lock").open("w")
        except FileNotFoundError:  # all is done, and the folder gone
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            lock.close()
            return None
        if self.done(number) or not self.folder.exists():
            lock.close()
            return None
        return lock

    def write(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Leave a part on disk, whole or not at all.

        Raises:
            DataError: if the disk is full or read-only.
        """
        temporary = self.folder / f".part-{number:05d}.{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **dict(arrays))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path(number))
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DataError(
                f"cannot write to {self.folder}: {error.strerror}. Free space or set paths.cache; parts that "
                "are done are kept"
            ) from error

    def read(self, name: str) -> Iterator[NDArray[Any]]:
        """One array of each part, in order."""
        for number in range(len(self)):
            with np.load(self._path(number), allow_pickle=False) as arrays:
                yield arrays[name]

    def blocks(self, *names: str) -> Iterator[dict[str, NDArray[Any]]]:
        """Those of these arrays that the parts have, a part at a time and in order."""
        for number in range(len(self)):
            with np.load(self._path(number), allow_pickle=False) as arrays:
                yield {name: arrays[name] for name in names if name in arrays}

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to join the parts."""
        path = self.folder.with_suffix(".lock")
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
