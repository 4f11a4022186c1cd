"""`prepare`, step by step: read the table, make the missing shards, write the table and the card."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.base import Manifest
from radlearn.prepare.estimate import estimate
from radlearn.prepare.fan_out import check_engine, fan_out
from radlearn.prepare.finish import finish, rejected_rows
from radlearn.prepare.folder import card_from, locked, read_card, refuse_other_settings, settings_hash
from radlearn.prepare.outcome import Limit, Prepared, tally
from radlearn.prepare.rows import check_table, rows_hash, without_duplicates
from radlearn.prepare.shards import Plan, Shard, done, make_shard
from radlearn.prepare.terminal import Progress, bar
from radlearn.records import Release

FORMAT = 4


@dataclasses.dataclass(frozen=True)
class _Workers:
    """Who makes the shards: `number` processes, 0 for this one, of `engine`."""

    number: int
    engine: str


def prepare(
    manifest: Manifest,
    root: str | Path,
    out: str | Path,
    *,
    size: int = 512,
    max_bad_fraction: float = 0.001,
    num_workers: int = 0,
    engine: str = "local",
    shard_rows: int = 512,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Read a release, store its images at one short side, and write its table and card.

    Calling it again continues an interrupted run and leaves a finished one as it is, except that rejected
    files are looked at again. The result does not depend on `num_workers` or `engine`.

    Args:
        manifest: reads the release.
        root: folder of the release; never written to.
        out: folder to write; must lie outside `root`.
        size: short side of the stored images. Up to 256 they are raw, above that JPEG of quality 95; images
            of more than 8 bits stay exact at 16. Smaller images keep their size.
        max_bad_fraction: largest share of rows, read or rejected by the manifest, that may be unusable.
        num_workers: processes; 0 works in this one.
        engine: `local`, or `ray`: the processes of a Ray cluster (prepare/fan_out.py), all of which see the
            release and `out` under the same paths.
        shard_rows: rows a shard.
        dry_run: count what can be seen without decoding everything, estimate time and disk, write nothing.
        progress: called with (done, total, what); by default a bar where the error stream is a terminal.

    Raises:
        DataError: not a release; too many bad rows; a folder that cannot be written or holds other data.
        ConfigurationError: for arguments that make no sense, or an engine that is not installed.
    """
    root, out = Path(root).absolute(), Path(out).absolute()
    if size < 1 or shard_rows < 1 or num_workers < 0 or not 0 <= max_bad_fraction <= 1:
        raise ConfigurationError(
            "wanted size >= 1, shard_rows >= 1, num_workers >= 0 and max_bad_fraction in [0, 1]: got "
            f"{size=}, {shard_rows=}, {num_workers=}, {max_bad_fraction=}"
        )
    check_engine(engine, num_workers)
    _check_outside(out, root)
    with bar(progress) as advance:
        release = without_duplicates(manifest.read(root, advance))
        _check_outside(out, Path(release.root))  # images may lie elsewhere than the tables
        check_table(release)
        settings = {
            "format": FORMAT,
            "size": size,
            "shard_rows": shard_rows,
            "pixels": json.loads(
                json.dumps(dataclasses.asdict(release.pixels))
            ),  # as it comes back: no tuples
            "rows": rows_hash(release.rows),
        }
        plan = Plan(
            release.rows.select("image_id", "path"),
            shard_rows,
            out,
            Path(release.root).absolute(),
            size,
            release.pixels,
            settings_hash(settings),
        )
        limit = Limit(max_bad_fraction, len(release.rows) + len(release.rejected))
        if dry_run:
            refuse_other_settings(out, settings)
            return estimate(release, plan, limit, max(num_workers, 1), advance)
        limit.check(release.rejected)
        finished = _finished(release, plan, settings)
        if finished is not None:
            limit.check(finished.rejected)
            return finished
        return _write(release, plan, settings, limit, _Workers(num_workers, engine), advance)


def _check_outside(out: Path, root: Path) -> None:
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{out} lies in the release {root}, which is never written to: choose another paths.cache"
        )


def _finished(release: Release, plan: Plan, settings: Mapping[str, Any]) -> Prepared | None:
    """What stands in a finished folder, which may be read-only; None if there is anything to do."""
    written, out = read_card(plan.folder), plan.folder
    if written is None or written["settings"] != settings:
        return None
    if any(done(plan.task(number)) is None for number in range(len(plan))):
        return None
    card, rejected = card_from(written), pl.read_parquet(out / "rejected.parquet")
    rows = pl.read_parquet(out / "manifest.parquet", columns=["split"])
    return Prepared(out, card, card.counts, rejected, tally(release, rows, rejected))


def _write(
    release: Release,
    plan: Plan,
    settings: Mapping[str, Any],
    limit: Limit,
    workers: _Workers,
    advance: Progress,
) -> Prepared:
    out = plan.folder
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            refuse_other_settings(out, settings)
            shards = _shards(release, plan, limit, workers, advance)
            return finish(release, shards, out, settings)
    except OSError as error:
        raise DataError(
            f"cannot write to {out}: {error.strerror or error}. Free space there, or choose another folder "
            "with paths.cache; shards that are done are kept"
        ) from error


def _shards(release: Release, plan: Plan, limit: Limit, workers: _Workers, advance: Progress) -> list[Shard]:
    """Every shard, made where it is not done."""
    shards = {n: shard for n in range(len(plan)) if (shard := done(plan.task(n))) is not None}
    to_do = [number for number in range(len(plan)) if number not in shards]
    total = len(plan.rows)
    counter = itertools.count(total - sum(map(plan.length, to_do)))
    advance(next(counter), total, "images")
    bad = len(release.rejected)

    def take(shard: Shard) -> None:
        nonlocal bad
        shards[shard.number] = shard
        bad += len(shard.rejected)
        if not limit.allows(bad):
            limit.check(rejected_rows(release, list(shards.values())))

    for shard in list(shards.values()):
        take(shard)
    with contextlib.closing(
        _make(plan, to_do, workers, lambda: advance(next(counter), total, "images"))
    ) as made:
        for shard in made:  # an error stops the workers at once
            take(shard)
    return [shards[number] for number in range(len(plan))]


def _make(
    plan: Plan, numbers: Sequence[int], workers: _Workers, row_done: Callable[[], None]
) -> Generator[Shard, None, None]:
    """Make shards; yields them in any order, and calls `row_done` for each row."""
    if not workers.number or not numbers:
        for number in numbers:
            yield make_shard(plan.task(number), row_done)
        return
    num_workers = min(workers.number, len(numbers))
    made = fan_out(make_shard, map(plan.task, numbers), num_workers=num_workers, engine=workers.engine)
    with contextlib.closing(made):
        for shard in made:
            for _ in range(plan.length(shard.number)):
                row_done()
            yield shard
