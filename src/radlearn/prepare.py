"""`prepare`: a release, read once, checked and resized, becomes a folder that every run maps into memory.

    manifest.parquet     the rows whose image is stored, row i of the table is image i of the store
    images-*.arrow       the images (data/store.py)
    rejected.parquet     image_id, path, reason, detail of every row that cannot be used
    card.json            the data card with counts, pixel statistics, settings; written last

A shard is the unit of work and of resumption. Its metadata holds all that the later steps need (source sizes,
rejected rows, pixel sums), so one rename makes it done, and a killed run goes on with the missing shards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import itertools
import json
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from radlearn import config
from radlearn.data.images import ImageError, resolve_inside, to_uint8
from radlearn.data.pixels import read_pixels
from radlearn.data.splits import check_patients
from radlearn.data.store import Store, encode_image, read_metadata, shard_name, write_shard
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._open import open_manifest
from radlearn.manifests.base import REQUIRED, SPLITS, Manifest
from radlearn.records import Card, Pixels, Release

logger = logging.getLogger("radlearn")

FORMAT = 2
# Up to this short side pixels are stored raw: 79 kB an image, read 8 to 12 times faster than JPEG.
RAW_UP_TO = 256
_SAMPLE = 64
REJECTED_SCHEMA = {"image_id": pl.String, "path": pl.String, "reason": pl.String, "detail": pl.String}

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Estimate:
    """What a full run would cost, from `sampled` images: seconds of wall time, bytes on disk."""

    seconds: float
    bytes: int
    sampled: int


@dataclass(frozen=True)
class Prepared:
    """A prepared data set, or what it would be after a dry run.

    Attributes:
        folder: where it lies; a dry run has written nothing.
        card: the data card with counts and statistics.
        counts: rows by split, and `rejected.<reason>`.
        rejected: columns `image_id, path, reason, detail`.
        estimate: set by a dry run.
    """

    folder: Path
    card: Card
    counts: Mapping[str, int]
    rejected: pl.DataFrame
    estimate: Estimate | None = None


@dataclass(frozen=True)
class _Task:
    """One shard to make: `rows` are (image_id, path, in the training split)."""

    number: int
    folder: Path
    root: Path
    size: int
    pixels: Pixels
    settings_hash: str
    rows: tuple[tuple[str, str, bool], ...]

    @property
    def path(self) -> Path:
        return self.folder / shard_name(self.number)


def prepare(
    manifest: Manifest,
    root: str | Path,
    out: str | Path,
    *,
    size: int = 512,
    max_bad_fraction: float = 0.001,
    num_workers: int = 0,
    shard_rows: int = 512,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Read a release, store its images at one short side, and write its table and card.

    Calling it again continues an interrupted run and leaves a finished one as it is, except that rejected
    files are looked at again. The result does not depend on `num_workers`.

    Args:
        manifest: reads the release.
        root: folder of the release; never written to.
        out: folder to write; must lie outside `root`.
        size: short side of the stored images. Up to 256 they are raw, above that JPEG of quality 95; images
            of more than 8 bits stay exact at 16. Smaller images keep their size.
        max_bad_fraction: largest share of rows, read or rejected by the manifest, that may be unusable.
        num_workers: processes; 0 works in this one.
        shard_rows: rows a shard.
        dry_run: count what can be seen without decoding everything, estimate time and disk, write nothing.
        progress: called with (done, total, what); by default a bar where the error stream is a terminal.

    Raises:
        DataError: not a release; too many bad rows; a folder that cannot be written or holds other data.
    """
    root, out = Path(root), Path(out)
    if size < 1 or shard_rows < 1 or num_workers < 0 or not 0 <= max_bad_fraction <= 1:
        raise ConfigurationError(
            "wanted size >= 1, shard_rows >= 1, num_workers >= 0 and max_bad_fraction in [0, 1]: got "
            f"{size=}, {shard_rows=}, {num_workers=}, {max_bad_fraction=}"
        )
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{out} lies in the release {root}, which is never written to: choose another paths.cache"
        )
    with _bar(progress) as advance:
        release = _without_duplicates(manifest.read(root, advance))
        _check_table(release)
        return _prepare(release, out, size, max_bad_fraction, num_workers, shard_rows, dry_run, advance)


def _prepare(
    release: Release,
    out: Path,
    size: int,
    max_bad_fraction: float,
    num_workers: int,
    shard_rows: int,
    dry_run: bool,
    advance: Progress,
) -> Prepared:
    limit = _Limit(max_bad_fraction, len(release.rows) + len(release.rejected))
    settings = {
        "format": FORMAT,
        "size": size,
        "shard_rows": shard_rows,
        "pixels": json.loads(json.dumps(dataclasses.asdict(release.pixels))),  # as it comes back: no tuples
        "rows": _rows_hash(release.rows),
    }
    tasks = _tasks(release, out, settings)
    if dry_run:
        return _estimate(release, tasks, out, max(num_workers, 1))
    limit.check(release.rejected)
    finished = _finished(tasks, out, settings)
    if finished is not None:
        limit.check(finished.rejected)
        return finished
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            _refuse_other_settings(out, settings)
            facts = _make_shards(tasks, num_workers, limit, release.rejected, advance)
            return _finish(release, facts, out, settings)
    except OSError as error:
        raise DataError(
            f"cannot write to {out}: {error.strerror or error}. Free space there, or choose another folder "
            "with paths.cache; shards that are done are kept"
        ) from error


def load_prepared(
    folder: str | Path, settings: Mapping[str, Any] | None = None
) -> tuple[pl.DataFrame, Store, Card]:
    """Open a prepared folder: its table, its images (row i of the one is image i of the other) and its card.

    Args:
        folder: what `prepare` wrote.
        settings: settings the folder must have been made with, for instance `{"size": 512}`.

    Raises:
        DataError: if the folder is unfinished, has other settings, or its parts do not belong together.
    """
    folder = Path(folder)
    written = _read_card(folder)
    if written is None:
        raise DataError(
            f"{folder} is not a finished prepared data set (no card.json): run `radlearn prepare`"
        )
    differing = [
        f"{key}={value!r} wanted, {written['settings'].get(key)!r} there"
        for key, value in (settings or {}).items()
        if written["settings"].get(key) != value
    ]
    if differing:
        raise DataError(
            f"{folder} was prepared with other settings ({'; '.join(differing)}): run `radlearn prepare`"
        )
    rows, store = pl.read_parquet(folder / "manifest.parquet"), Store(folder)
    if rows["image_id"].to_list() != store.ids or store.metadata.get("settings") != settings_hash(
        written["settings"]
    ):
        raise DataError(
            f"the table and the images in {folder} are not of one run: delete it, run `radlearn prepare`"
        )
    return rows, store, _card_from(written)


def source_states(sources: Sequence[str]) -> list[list[Any]]:
    """[path, bytes, modification time] of files, as `card.json` keeps them; a missing file has None."""
    states: list[list[Any]] = []
    for path in sources:
        with contextlib.suppress(OSError):
            state = Path(path).stat()
            states.append([path, state.st_size, state.st_mtime_ns])
            continue
        states.append([path, None, None])
    return states


def table_of(folder: Path) -> dict[str, Any]:
    """What `card.json` says of the table: its `fingerprint` as read, `sources` and `pixels`."""
    written = _read_card(folder) or {}
    pixels = written.get("settings", {}).get("pixels", {})
    return {"fingerprint": "", "sources": [], "pixels": _tuples(pixels), **written.get("table", {})}


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Hash of everything that decides the content of a prepared folder."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:16]


# --- before any image is read


def _without_duplicates(release: Release) -> Release:
    """The first row of an image id is kept, later ones are rejected."""
    repeated = ~release.rows["image_id"].is_first_distinct()
    if not repeated.any():
        return release
    later = release.rows.filter(repeated).select(
        "image_id", "path", reason=pl.lit("duplicate_id"), detail=pl.lit("an earlier row has this image id")
    )
    rejected = pl.concat([_rejected_table(release.rejected), later])
    return dataclasses.replace(release, rows=release.rows.filter(~repeated), rejected=rejected)


def _rejected_table(rejected: pl.DataFrame) -> pl.DataFrame:
    if rejected.is_empty():
        return pl.DataFrame(schema=REJECTED_SCHEMA)
    return rejected.select(pl.col(name).cast(dtype) for name, dtype in REJECTED_SCHEMA.items())


def _check_table(release: Release) -> None:
    rows, name = release.rows, release.card.name
    missing = [column for column in REQUIRED if column not in rows.columns]
    if missing:
        raise DataError(f"manifest '{name}' lacks the columns {', '.join(missing)}")
    if rows.is_empty():
        raise DataError(
            f"manifest '{name}' found no usable row below {release.root}" + _reasons(release.rejected)
        )
    strange = sorted({*rows["split"].unique().to_list()} - {*SPLITS}, key=str)
    if strange:
        raise DataError(f"manifest '{name}' names the splits {strange}: there is {', '.join(SPLITS)}")
    if release.card.split_unit == "patient":
        check_patients(rows)


def _rows_hash(rows: pl.DataFrame) -> str:
    digest = hashlib.sha256(json.dumps({name: str(dtype) for name, dtype in rows.schema.items()}).encode())
    for part in rows.iter_slices(50_000):
        digest.update(part.write_ndjson().encode())
    return digest.hexdigest()


def _tasks(release: Release, out: Path, settings: Mapping[str, Any]) -> list[_Task]:
    rows = release.rows.select("image_id", "path", pl.col("split") == "train").rows()
    step, key, root = settings["shard_rows"], settings_hash(settings), Path(release.root)
    return [
        _Task(number, out, root, settings["size"], release.pixels, key, tuple(rows[start : start + step]))
        for number, start in enumerate(range(0, len(rows), step))
    ]


@dataclass(frozen=True)
class _Limit:
    """How many rows may be bad."""

    fraction: float
    total: int

    def check(self, rejected: pl.DataFrame) -> None:
        """Raises DataError, with counts and examples, when `rejected` has too many rows."""
        if len(rejected) > self.fraction * self.total:
            raise DataError(
                f"{len(rejected)} of {self.total} images cannot be used, more than data.max_bad_fraction="
                f"{self.fraction}{_reasons(rejected)}. Repair the release or raise the limit"
            )


def _reasons(rejected: pl.DataFrame) -> str:
    """`: 2 missing, 1 corrupt; first: a.jpg, b.jpg`."""
    if rejected.is_empty():
        return ""
    counts = ", ".join(
        f"{count} {reason}" for reason, count in Counter(rejected["reason"].to_list()).most_common()
    )
    examples = [f"{path} ({reason})" for path, reason in rejected.head(3).select("path", "reason").rows()]
    return f": {counts}; first: {', '.join(examples)}"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder; a second `prepare` waits. The lock ends with the process, however it ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another `radlearn prepare` is writing to %s: waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # a file system without locks
                raise
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        yield


def _finished(tasks: Sequence[_Task], out: Path, settings: Mapping[str, Any]) -> Prepared | None:
    """What stands in a finished folder, which may be read-only; None if there is anything to do."""
    written = _read_card(out)
    if written is None or written["settings"] != settings or any(_done(task) is None for task in tasks):
        return None
    card = _card_from(written)
    return Prepared(out, card, card.counts, pl.read_parquet(out / "rejected.parquet"))


def _read_card(folder: Path) -> dict[str, Any] | None:
    try:
        written: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(
            f"{folder / 'card.json'} is damaged ({error}): delete it and run `radlearn prepare`"
        ) from error
    return written


def _card_from(written: Mapping[str, Any]) -> Card:
    names = {field.name for field in dataclasses.fields(Card)}
    return Card(**_tuples({key: value for key, value in written.items() if key in names}))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples; the records have no lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _refuse_other_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    written, first, reason = _read_card(folder), folder / shard_name(0), ""
    if written is not None:
        there = written["settings"]
        differing = [
            f"{key}: {there.get(key)} there, {settings[key]} now"
            for key in settings
            if there.get(key) != settings[key]
        ]
        reason = "; ".join(differing).replace("rows:", "hash of the table's rows:")
    else:
        with contextlib.suppress(DataError):  # a damaged shard is made again
            if first.exists() and read_metadata(first).get("settings") != settings_hash(settings):
                reason = "an interrupted run with other rows or settings"
    if reason:
        raise DataError(
            f"{folder} holds another prepared data set ({reason}): delete it or choose another folder"
        )


# --- the images


def _make_shards(
    tasks: Sequence[_Task], num_workers: int, limit: _Limit, rejected: pl.DataFrame, advance: Progress
) -> list[dict[str, Any]]:
    """The metadata of every shard, made where it is not done."""
    facts = {task.number: done for task in tasks if (done := _done(task)) is not None}
    to_do = [task for task in tasks if task.number not in facts]
    total = sum(len(task.rows) for task in tasks)
    counter = itertools.count(total - sum(len(task.rows) for task in to_do))
    advance(next(counter), total, "images")
    rejected = pl.concat([_rejected_table(rejected), *(_rejected_of(fact) for fact in facts.values())])
    limit.check(rejected)
    made = _run(to_do, num_workers, lambda: advance(next(counter), total, "images"))
    with contextlib.closing(made):  # an error stops the workers at once
        for fact in made:
            facts[fact["shard"]] = fact
            rejected = pl.concat([rejected, _rejected_of(fact)])
            limit.check(rejected)
    return [facts[task.number] for task in tasks]


def _run(
    tasks: Sequence[_Task], num_workers: int, row_done: Callable[[], None]
) -> Generator[dict[str, Any], None, None]:
    """Make shards here or in processes; yields their metadata in any order, calls `row_done` for each row."""
    if num_workers == 0:
        for task in tasks:
            yield _make_shard(task, row_done)
    elif tasks:
        from joblib import Parallel, delayed

        lengths = {task.number: len(task.rows) for task in tasks}
        jobs = Parallel(n_jobs=min(num_workers, len(tasks)), return_as="generator_unordered")
        facts = jobs(delayed(_make_shard)(task) for task in tasks)
        try:
            for fact in facts:
                for _ in range(lengths[fact["shard"]]):
                    row_done()
                yield fact
        finally:
            with warnings.catch_warnings():  # that the rest is given up is the purpose
                warnings.filterwarnings("ignore", ".*tasks which were still being processed.*")
                facts.close()


def _done(task: _Task) -> dict[str, Any] | None:
    """The metadata of a finished shard; None if missing, damaged, or if a rejected file now reads."""
    if not task.path.exists():
        return None
    try:
        fact = read_metadata(task.path)
    except DataError:
        return None
    if fact.get("settings") != task.settings_hash:
        return None
    return None if any(_reads(task, path) for _, path, _, _ in fact["rejected"]) else fact


def _reads(task: _Task, path: str) -> bool:
    try:
        read_pixels(resolve_inside(task.root, path), task.pixels, short_side=task.size)
    except ImageError:
        return False
    return True


def _make_shard(task: _Task, row_done: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Read, shrink, encode and write the rows of one shard; returns its metadata."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one process a core
    try:
        images, sizes, rejected, sums = [], [], [], [0, 0, 0]
        for image_id, path, train in task.rows:
            row_done()
            try:
                file = resolve_inside(task.root, path)
                image, size = read_pixels(file, task.pixels, short_side=task.size)
            except ImageError as error:
                rejected.append((image_id, path, error.reason, error.detail))
                continue
            images.append(encode_image(image_id, image, _codec(image, task.size)))
            sizes.append(size)
            if train:
                found = _pixel_sums(image, task.pixels.window)
                sums = [old + new for old, new in zip(sums, found, strict=True)]
    finally:
        cv2.setNumThreads(threads)
    fact = {
        "settings": task.settings_hash,
        "shard": task.number,
        "source_sizes": sizes,
        "rejected": rejected,
        "train_pixels": sums,
    }
    write_shard(task.path, images, fact)
    return fact


def _codec(image: np.ndarray, size: int) -> str:
    if size <= RAW_UP_TO:
        return "raw"
    return "jpeg" if image.dtype == np.uint8 else "png"


def _pixel_sums(image: np.ndarray, window: tuple[float, float] | None) -> list[int]:
    """Count, sum and sum of squares of the 8-bit pixels: integers, so their order does not matter."""
    counts = np.bincount(to_uint8(image, window).ravel(), minlength=256)
    greys = np.arange(256)
    return [int(counts.sum()), int(counts @ greys), int(counts @ greys**2)]


# --- after the images


def _rejected_of(fact: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(fact["rejected"], schema=REJECTED_SCHEMA, orient="row")


def _finish(
    release: Release, facts: Sequence[dict[str, Any]], out: Path, settings: Mapping[str, Any]
) -> Prepared:
    rejected = pl.concat([_rejected_table(release.rejected), *map(_rejected_of, facts)])
    unread = [image_id for fact in facts for image_id, *_ in fact["rejected"]]
    sizes = [size for fact in facts for size in fact["source_sizes"]]
    rows = release.rows.filter(~pl.col("image_id").is_in(unread)).with_columns(
        pl.Series("height", [height for height, _ in sizes], pl.Int32),
        pl.Series("width", [width for _, width in sizes], pl.Int32),
    )
    if rows.is_empty():
        raise DataError(f"no image of '{release.card.name}' can be used{_reasons(rejected)}")
    card = dataclasses.replace(
        release.card,
        fingerprint=_fingerprint(settings, unread),
        counts={**_left_out(release), **_counts(rows, rejected)},
        **_statistics([fact["train_pixels"] for fact in facts]),
    )
    last = shard_name(len(facts))
    if (out / last).exists():
        raise DataError(
            f"{out} holds {last}, which is not of this data set: delete the folder and prepare again"
        )
    _replace(out / "manifest.parquet", rows.write_parquet)
    _replace(out / "rejected.parquet", rejected.write_parquet)
    written = dataclasses.asdict(card) | {
        "settings": settings,
        "table": {"fingerprint": release.card.fingerprint, "sources": source_states(release.sources)},
    }
    _replace(out / "card.json", lambda path: path.write_text(json.dumps(written, indent=2), encoding="utf-8"))
    return Prepared(out, card, card.counts, rejected)


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _fingerprint(settings: Mapping[str, Any], unread: Sequence[str]) -> str:
    """Of the table, the settings and which images could not be read.

    Not of the encoded bytes, which differ between versions of a JPEG library.
    """
    content = json.dumps(
        [{k: v for k, v in settings.items() if k != "shard_rows"}, sorted(unread)], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()


def _left_out(release: Release) -> dict[str, int]:
    """Rows that the settings leave out, such as lateral views, and patients in several published splits."""
    return {key: n for key, n in release.card.counts.items() if key.startswith(("left_out.", "leak."))}


def _counts(rows: pl.DataFrame, rejected: pl.DataFrame) -> dict[str, int]:
    splits, reasons = Counter(rows["split"].to_list()), Counter(rejected["reason"].to_list())
    return {split: splits[split] for split in SPLITS} | {
        f"rejected.{key}": reasons[key] for key in sorted(reasons)
    }


def _statistics(sums: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Mean and standard deviation of the training pixels in [0, 1]."""
    count, total, squares = (sum(column) for column in zip(*sums, strict=True))
    if count == 0:
        return {"mean": None, "std": None}
    variance = (squares * count - total**2) / count**2
    return {"mean": total / count / 255, "std": variance**0.5 / 255}


# --- dry run


def _estimate(release: Release, tasks: Sequence[_Task], out: Path, workers: int) -> Prepared:
    """Look at every path, decode a sample spread over the rows."""
    all_rows = [(task, row) for task in tasks for row in task.rows]
    rejected, readable = [], []
    for task, (image_id, path, _) in all_rows:
        try:
            if resolve_inside(task.root, path).stat().st_size == 0:
                raise ImageError(path, "empty_file")
            readable.append((task, image_id, path))
        except ImageError as error:
            rejected.append((image_id, path, error.reason, error.detail))
        except OSError as error:
            rejected.append((image_id, path, "missing", error.strerror or ""))
    sample = (
        [readable[i] for i in np.unique(np.linspace(0, len(readable) - 1, _SAMPLE).astype(int))]
        if readable
        else []
    )
    start, stored = time.perf_counter(), 0
    for task, image_id, path in sample:
        try:
            image, _ = read_pixels(resolve_inside(task.root, path), task.pixels, short_side=task.size)
            stored += len(encode_image(image_id, image, _codec(image, task.size)).data)
        except ImageError as error:
            rejected.append((image_id, path, error.reason, error.detail))
    per_image = (time.perf_counter() - start) / max(len(sample), 1)
    estimate = Estimate(
        per_image * len(readable) / workers, stored * len(readable) // max(len(sample), 1), len(sample)
    )
    table = pl.concat(
        [_rejected_table(release.rejected), pl.DataFrame(rejected, schema=REJECTED_SCHEMA, orient="row")]
    )
    counts = _counts(release.rows.filter(~pl.col("image_id").is_in([row[0] for row in rejected])), table)
    return Prepared(out, dataclasses.replace(release.card, counts=counts), counts, table, estimate)


# --- terminal


@contextlib.contextmanager
def _bar(progress: Progress | None) -> Iterator[Progress]:
    """The caller's callback, or a bar with the time left, or nothing where no terminal looks on."""
    if progress is not None or not sys.stderr.isatty():
        yield progress or (lambda done, total, what: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        jobs: dict[str, Any] = {}

        def advance(done: int, total: int, what: str) -> None:
            if what not in jobs:
                jobs[what] = bar.add_task(what, total=total)
            bar.update(jobs[what], completed=done, total=total)

        yield advance


def prepared_folder(data: Mapping[str, Any], paths: Mapping[str, Any]) -> Path:
    """Where a data set lies prepared: `<paths.cache>/<name>-<size>-<hash of its root and settings>`."""
    size = data.get("size") or 512
    identity = {"root": data.get("root"), "settings": config.manifest_arguments(data)}
    identity |= {key: data[key] for key in ("split_files", "split_unit") if data.get(key)}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return Path(str(paths["cache"])).expanduser() / f"{data['name']}-{size}-{key}"


def main(cfg: Mapping[str, Any]) -> Prepared:
    """`radlearn prepare`: prepare the data set of a configuration and print what became of it."""
    from radlearn.datasets import release_root  # that module opens data sets with this one

    data, paths = cfg["data"], cfg["paths"]
    manifest = open_manifest(data)
    folder = prepared_folder(data, paths)
    limit = data.get("max_bad_fraction")
    prepared = prepare(
        manifest,
        release_root(manifest, data, paths, folder),
        folder,
        size=int(data.get("size") or 512),
        max_bad_fraction=0.001 if limit is None else float(limit),
        num_workers=int(cfg.get("num_workers") or 0),
        dry_run=bool(cfg.get("dry_run")),
    )
    _print_summary(prepared)
    return prepared


def _print_summary(prepared: Prepared) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    card, console = prepared.card, Console()
    table = Table(title=escape(f"{card.name} ({card.access})"), show_header=False)
    for key, count in prepared.counts.items():
        table.add_row(key, f"{count:,}")
    if card.mean is not None and card.std is not None:
        table.add_row("pixel mean, std of train", f"{card.mean:.4f}, {card.std:.4f}")
    if prepared.estimate is None:
        stored = sum(path.stat().st_size for path in prepared.folder.glob("*.arrow"))
        table.add_row("images on disk", f"{stored / 1e9:.2f} GB")
        table.add_row("fingerprint", card.fingerprint[:12])
    else:
        table.add_row(
            "would take", f"{prepared.estimate.seconds / 60:.1f} min, from {prepared.estimate.sampled} images"
        )
        table.add_row("would fill", f"{prepared.estimate.bytes / 1e9:.2f} GB")
    console.print(table)
    for path, reason, detail in prepared.rejected.head(5).select("path", "reason", "detail").rows():
        console.print(escape(f"rejected: {path}: {reason} {detail or ''}".rstrip()), highlight=False)
    if prepared.estimate is None:
        console.print(escape(f"prepared in {prepared.folder}"), highlight=False, soft_wrap=True)
