"""The last step: the table, the rejected rows, the statistics, and the card, which makes the folder whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlearn.data import statistics_file
from radlearn.data.store import shard_name
from radlearn.errors import DataError
from radlearn.prepare.folder import replace, source_states
from radlearn.prepare.outcome import REJECTED_SCHEMA, Prepared, counts, reasons, rejected_table, tally
from radlearn.prepare.shards import Shard
from radlearn.records import Release


def finish(release: Release, shards: Sequence[Shard], out: Path, settings: Mapping[str, Any]) -> Prepared:
    """Write what makes a folder of shards a prepared data set.

    Raises:
        DataError: if no image can be used, or the folder holds more shards than there are.
    """
    rejected = rejected_rows(release, shards)
    unread = [image_id for shard in shards for image_id, *_ in shard.rejected]
    sizes = np.concatenate([shard.sizes for shard in shards])
    rows = release.rows.filter(~pl.col("image_id").is_in(unread)).with_columns(
        height=pl.Series(sizes[:, 0], dtype=pl.Int32), width=pl.Series(sizes[:, 1], dtype=pl.Int32)
    )
    if rows.is_empty():
        raise DataError(f"no image of '{release.card.name}' can be used{reasons(rejected)}")
    last = shard_name(len(shards))
    if (out / last).exists():
        raise DataError(
            f"{out} holds {last}, which is not of this data set: delete the folder and prepare again"
        )
    sums = np.concatenate([shard.sums for shard in shards])
    card = dataclasses.replace(
        release.card,
        fingerprint=_fingerprint(settings, unread),
        counts=counts(release, rows, rejected),
        **_pooled_statistics(sums[(rows["split"] == "train").to_numpy()]),
    )
    replace(out / "manifest.parquet", rows.write_parquet)
    replace(out / "rejected.parquet", rejected.write_parquet)
    statistics = statistics_file.of_splits(rows, sums)
    replace(out / statistics_file.NAME, lambda path: statistics_file.write(path, statistics))
    written = dataclasses.asdict(card) | {
        "settings": settings,
        "table": {"fingerprint": release.card.fingerprint, "sources": source_states(release.sources)},
    }
    replace(out / "card.json", lambda path: path.write_text(json.dumps(written, indent=2), encoding="utf-8"))
    return Prepared(out, card, card.counts, rejected, tally(release, rows, rejected))


def rejected_rows(release: Release, shards: Sequence[Shard]) -> pl.DataFrame:
    """What the manifest set aside, then what the shards could not read."""
    found = [row for shard in shards for row in shard.rejected]
    unread = pl.DataFrame(found, schema=REJECTED_SCHEMA, orient="row")
    return pl.concat([rejected_table(release.rejected), unread])


def _fingerprint(settings: Mapping[str, Any], unread: Sequence[str]) -> str:
    """Of the table, the settings and which images could not be read.

    Not of the encoded bytes, which differ between versions of a JPEG library.
    """
    content = json.dumps(
        [{k: v for k, v in settings.items() if k != "shard_rows"}, sorted(unread)], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()


def _pooled_statistics(sums: np.ndarray) -> dict[str, Any]:
    """Mean and standard deviation of all pixels together, in [0, 1]; `sums` as in `Shard`."""
    count, total, squares = map(int, sums.sum(axis=0))  # Python's integers do not overflow
    if count == 0:
        return {"mean": None, "std": None}
    variance = (squares * count - total**2) / count**2
    return {"mean": total / count / 255, "std": variance**0.5 / 255}
