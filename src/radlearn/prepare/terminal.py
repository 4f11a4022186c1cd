"""What a terminal shows of `prepare`: a bar while it works, and what became of the rows."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from radlearn.manifests.base import SPLITS
from radlearn.prepare.outcome import Estimate, Prepared
from radlearn.terminal import console

Progress = Callable[[int, int, str], None]
_EXAMPLES = 3  # of each reason


@contextlib.contextmanager
def bar(progress: Progress | None) -> Iterator[Progress]:
    """The caller's callback, or a bar with the time left, or nothing where no terminal looks on."""
    if progress is not None or not sys.stderr.isatty():
        yield progress or (lambda done, total, what: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as shown:
        jobs: dict[str, Any] = {}

        def advance(done: int, total: int, what: str) -> None:
            if what not in jobs:
                jobs[what] = shown.add_task(what, total=total)
            shown.update(jobs[what], completed=done, total=total)

        yield advance


def print_summary(prepared: Prepared, num_workers: int) -> None:
    """Print the rows by split and reason, examples of rejected ones, and where the data lie or would lie."""
    from rich.markup import escape
    from rich.table import Table

    card, out = prepared.card, console()
    table = Table(title=escape(f"{card.name} ({card.access}), images"), title_justify="left")
    table.add_column("")
    for name in (*SPLITS, "all"):
        table.add_column(name, justify="right")
    for what, *numbers in prepared.tally.select("what", *SPLITS, "all").rows():
        table.add_row(escape(what), *("" if number is None else f"{number:,}" for number in numbers))
    out.print(table)
    lines = _examples(prepared.rejected)
    lines += _costs(prepared, num_workers) if prepared.estimate else _made(prepared)
    for line in lines:
        out.print(escape(line), highlight=False, soft_wrap=True)


def _examples(rejected: pl.DataFrame) -> list[str]:
    """The first rows of every reason."""
    lines = []
    for reason in rejected["reason"].unique().sort():
        rows = rejected.filter(pl.col("reason") == reason)
        lines += [
            f"{reason}: {path}" + (f" ({detail})" if detail else "")
            for path, detail in rows.head(_EXAMPLES).select("path", "detail").rows()
        ]
        if len(rows) > _EXAMPLES:
            lines.append(f"{reason}: and {len(rows) - _EXAMPLES:,} more")
    return lines


def _made(prepared: Prepared) -> list[str]:
    card, lines = prepared.card, []
    if card.split:
        lines.append(f"split: {card.split}, {card.split_rule}")
    if card.mean is not None and card.std is not None:
        lines.append(f"pixels of train: mean {card.mean:.4f}, standard deviation {card.std:.4f}")
    stored = sum(path.stat().st_size for path in prepared.folder.glob("*.arrow"))
    lines.append(f"fingerprint: {card.fingerprint[:12]}")
    lines.append(f"prepared in {prepared.folder}: {_size(stored)}, rejected rows in rejected.parquet")
    return lines


def _costs(prepared: Prepared, num_workers: int) -> list[str]:
    cost, card = prepared.estimate, prepared.card
    assert cost is not None
    lines = [f"split: {card.split}, {card.split_rule}"] if card.split else []
    lines.append(f"dry run: nothing was written. It would lie in {prepared.folder}")
    if cost.done:
        lines.append(f"there already: {cost.done} of {cost.shards} shards of an earlier run")
    if cost.sampled:
        how = f"with num_workers={num_workers}, from {cost.sampled} images"
        lines.append(f"time: about {_duration(cost.seconds)} {how}")
        lines.append(f"disk: about {_size(cost.bytes)}, {_size(cost.free)} are free: {_fits(cost)}")
    if cost.stops:
        lines.append(f"it would stop: {cost.stops}")
    return lines


def _fits(cost: Estimate) -> str:
    return "fits" if cost.fits else "does NOT fit; another folder: paths.cache, smaller images: data.size"


def _size(count: float) -> str:
    """`38.2 GB`, `1.4 MB`."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.1f} kB"


def _duration(seconds: float) -> str:
    """`12 s`, `7 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
