"""A shard: the unit of work and of resumption.

Its metadata hold all that the later steps need (source sizes, rejected rows, sums of the pixels), so one
rename makes it done, and a killed run goes on with the missing shards.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from radlearn.data.images import ImageError, to_uint8
from radlearn.data.pixels import read_pixels, resolve_inside
from radlearn.data.store import encode_image, read_metadata, shard_name, write_shard
from radlearn.errors import DataError
from radlearn.records import Pixels

# Up to this short side pixels are stored raw: 79 kB an image, read 8 to 12 times faster than JPEG.
RAW_UP_TO = 256


@dataclass(frozen=True)
class Task:
    """One shard to make; `rows` are (image_id, path)."""

    number: int
    folder: Path
    root: Path
    size: int
    pixels: Pixels
    settings_hash: str
    rows: tuple[tuple[str, str], ...]

    @property
    def path(self) -> Path:
        """The file of the shard."""
        return self.folder / shard_name(self.number)


@dataclass(frozen=True)
class Plan:
    """All shards of a data set; `len` of them.

    Attributes:
        rows: columns `image_id, path` of the manifest. Tasks are cut out of them when asked for: as Python
            objects all rows would take ten times the memory.
        shard_rows: rows a shard; other fields as in `Task`.
    """

    rows: pl.DataFrame
    shard_rows: int
    folder: Path
    root: Path
    size: int
    pixels: Pixels
    settings_hash: str

    def __len__(self) -> int:
        return -(-len(self.rows) // self.shard_rows)

    def length(self, number: int) -> int:
        """Rows of one shard."""
        return min(self.shard_rows, len(self.rows) - number * self.shard_rows)

    def task(self, number: int) -> Task:
        """One shard's task."""
        rows = self.rows.slice(number * self.shard_rows, self.shard_rows)
        return Task(
            number,
            self.folder,
            self.root,
            self.size,
            self.pixels,
            self.settings_hash,
            tuple(rows.select("image_id", "path").iter_rows()),
        )


@dataclass(frozen=True)
class Shard:
    """What a finished shard tells of itself.

    Attributes:
        number: which one.
        sizes: (N, 2) int32, height and width of the files whose images it holds.
        sums: (N, 3) int64, number, sum and sum of squares of their 8-bit pixels: exact, so no order matters.
        rejected: `image_id, path, reason, detail` of the rows whose image cannot be used.
    """

    number: int
    sizes: np.ndarray
    sums: np.ndarray
    rejected: tuple[tuple[str, str, str, str], ...]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Shard:
        """From the metadata of its file."""
        return cls(
            metadata["shard"],
            np.array(metadata["source_sizes"], np.int32).reshape(-1, 2),
            np.array(metadata["pixel_sums"], np.int64).reshape(-1, 3),
            tuple(map(tuple, metadata["rejected"])),
        )


def make_shard(task: Task, row_done: Callable[[], None] = lambda: None) -> Shard:
    """Read, shrink, encode and write the rows of one shard.

    Raises:
        OSError: if it cannot be written.
        DataError: if the release is not to be seen from here.
    """
    if not task.root.is_dir():
        raise DataError(
            f"{socket.gethostname()} sees no folder {task.root}: every machine that prepares must see the "
            "release and the cache under the same paths"
        )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one process a core
    try:
        images, sizes, sums, rejected = [], [], [], []
        for image_id, path in task.rows:
            row_done()
            try:
                file = resolve_inside(task.root, path)
                image, size = read_pixels(file, task.pixels, short_side=task.size)
            except ImageError as error:
                rejected.append((image_id, path, error.reason, error.detail))
                continue
            images.append(encode_image(image_id, image, codec(image, task.size)))
            sizes.append(size)
            sums.append(_pixel_sums(image, task.pixels.window))
    finally:
        cv2.setNumThreads(threads)
    metadata = {
        "settings": task.settings_hash,
        "shard": task.number,
        "source_sizes": sizes,
        "pixel_sums": sums,
        "rejected": rejected,
    }
    write_shard(task.path, images, metadata)
    return Shard.of(metadata)


def done(task: Task) -> Shard | None:
    """A finished shard; None if it is missing, damaged, or if a file that was rejected now reads."""
    if not task.path.exists():
        return None
    try:
        metadata = read_metadata(task.path)
    except DataError:
        return None
    if metadata.get("settings") != task.settings_hash:
        return None
    return None if any(_reads(task, path) for _, path, _, _ in metadata["rejected"]) else Shard.of(metadata)


def _reads(task: Task, path: str) -> bool:
    try:
        read_pixels(resolve_inside(task.root, path), task.pixels, short_side=task.size)
    except ImageError:
        return False
    return True


def codec(image: np.ndarray, size: int) -> str:
    """How an image is stored: small ones raw, 8 bits as JPEG, more as PNG, which is exact."""
    if size <= RAW_UP_TO:
        return "raw"
    return "jpeg" if image.dtype == np.uint8 else "png"


def _pixel_sums(image: np.ndarray, window: tuple[float, float] | None) -> tuple[int, int, int]:
    """Number, sum and sum of squares of the 8-bit pixels."""
    counts = np.bincount(to_uint8(image, window).ravel(), minlength=256)
    greys = np.arange(256)
    return int(counts.sum()), int(counts @ greys), int(counts @ greys**2)
