"""The dry run: every path looked at, a sample decoded, nothing written."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from radlearn.data.images import ImageError
from radlearn.data.pixels import file_of, read_pixels, resolve_inside
from radlearn.data.store import encode_image
from radlearn.prepare.outcome import (
    REJECTED_SCHEMA,
    Estimate,
    Limit,
    Prepared,
    counts,
    rejected_table,
    tally,
)
from radlearn.prepare.shards import Plan, codec, done
from radlearn.records import Release

_SAMPLE = 64


def estimate(
    release: Release, plan: Plan, limit: Limit, workers: int, advance: Callable[[int, int, str], None]
) -> Prepared:
    """What `prepare` would make of a release, and what it would cost.

    Args:
        release: as read; rows whose file is there and no sampled decode refused count as usable.
        plan: the shards.
        limit: of bad rows.
        workers: processes, at least 1.
        advance: progress callback.
    """
    refused = _without_file(plan, advance)
    gone = {image_id for image_id, *_ in refused}
    finished = [number for number in range(len(plan)) if done(plan.task(number)) is not None]
    there = pl.DataFrame({"shard": finished}, schema={"shard": pl.Int64})
    readable = plan.rows.with_columns(shard=pl.int_range(pl.len()) // plan.shard_rows).filter(
        ~pl.col("image_id").is_in(gone)
    )
    to_do = readable.join(there, on="shard", how="anti", maintain_order="left")
    seconds, stored, sampled, unread = _decode_sample(plan, to_do)
    refused += unread
    unread_rows = pl.DataFrame(refused, schema=REJECTED_SCHEMA, orient="row")
    rejected = pl.concat([rejected_table(release.rejected), unread_rows])
    rows = release.rows.filter(~pl.col("image_id").is_in(unread_rows["image_id"].implode()))
    found = counts(release, rows, rejected)
    cost = Estimate(
        seconds=seconds * len(to_do) / workers,
        bytes=int(stored * len(to_do)),
        sampled=sampled,
        free=shutil.disk_usage(_existing(plan.folder)).free,
        shards=len(plan),
        done=len(finished),
        stops=limit.problem(rejected),
    )
    card = dataclasses.replace(release.card, counts=found)
    return Prepared(plan.folder, card, found, rejected, tally(release, rows, rejected), cost)


def _without_file(plan: Plan, advance: Callable[[int, int, str], None]) -> list[tuple[str, str, str, str]]:
    """Rows whose file is missing, empty or outside the root, as rejected rows."""
    refused = []
    for position, (image_id, path) in enumerate(plan.rows.select("image_id", "path").iter_rows()):
        advance(position + 1, len(plan.rows), "files")
        try:
            if Path(file_of(resolve_inside(plan.root, path))).stat().st_size == 0:
                raise ImageError(path, "empty_file")
        except ImageError as error:
            refused.append((image_id, path, error.reason, error.detail))
        except OSError as error:
            told = "" if isinstance(error, FileNotFoundError) else error.strerror or ""
            refused.append((image_id, path, "missing", told))
    return refused


def _decode_sample(
    plan: Plan, rows: pl.DataFrame
) -> tuple[float, float, int, list[tuple[str, str, str, str]]]:
    """Seconds and stored bytes an image, how many were decoded, and which could not be."""
    positions: Sequence[int] = np.unique(np.linspace(0, len(rows) - 1, _SAMPLE).astype(int)).tolist()
    sample = rows[positions].select("image_id", "path").rows() if len(rows) else []
    start, stored, unread = time.perf_counter(), 0, []
    for image_id, path in sample:
        try:
            image, _ = read_pixels(resolve_inside(plan.root, path), plan.pixels, short_side=plan.size)
            stored += len(encode_image(image_id, image, codec(image, plan.size)).data)
        except ImageError as error:
            unread.append((image_id, path, error.reason, error.detail))
    count = max(len(sample), 1)
    return (time.perf_counter() - start) / count, stored / count, len(sample), unread


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())
