"""What became of the rows of a release: counted, named by reason, and held to a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from radlearn.errors import DataError
from radlearn.manifests.base import SPLITS
from radlearn.records import Card, Release

REJECTED_SCHEMA = {"image_id": pl.String, "path": pl.String, "reason": pl.String, "detail": pl.String}
_TALLY_SCHEMA = {"what": pl.String, **dict.fromkeys((*SPLITS, "all"), pl.Int64)}


@dataclass(frozen=True)
class Estimate:
    """What the rest of a run would cost.

    Attributes:
        seconds: wall time with the workers asked for; bytes: disk; from `sampled` images.
        free: bytes that are free where the folder would lie.
        shards, done: shards in all, and those that an earlier run has left there.
        stops: why the run would not begin, or an empty text.
    """

    seconds: float
    bytes: int
    sampled: int
    free: int
    shards: int
    done: int = 0
    stops: str = ""

    @property
    def fits(self) -> bool:
        """Whether the free disk is enough."""
        return self.bytes <= self.free


@dataclass(frozen=True)
class Prepared:
    """A prepared data set, or what it would be after a dry run.

    Attributes:
        folder: where it lies; a dry run has written nothing.
        card: the data card with counts and statistics.
        counts: rows by split, `rejected.<reason>` and `left_out.<reason>`.
        rejected: columns `image_id, path, reason, detail`.
        tally: columns `what, train, validate, test, all`: the same counts by split, null where a rejected row
            has none.
        estimate: set by a dry run.
    """

    folder: Path
    card: Card
    counts: Mapping[str, int]
    rejected: pl.DataFrame
    tally: pl.DataFrame
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Limit:
    """How many rows may be bad: `fraction` of `total`."""

    fraction: float
    total: int

    def allows(self, count: int) -> bool:
        """Whether so many bad rows are within the limit."""
        return count <= self.fraction * self.total

    def problem(self, rejected: pl.DataFrame) -> str:
        """What to say, with counts and examples, when `rejected` has too many rows; otherwise nothing."""
        if self.allows(len(rejected)):
            return ""
        return (
            f"{len(rejected)} of {self.total} images cannot be used, more than data.max_bad_fraction="
            f"{self.fraction}{reasons(rejected)}. Repair the release or raise the limit"
        )

    def check(self, rejected: pl.DataFrame) -> None:
        """Raises DataError when `rejected` has too many rows."""
        if problem := self.problem(rejected):
            raise DataError(problem)


def rejected_table(rejected: pl.DataFrame) -> pl.DataFrame:
    """Rejected rows in the columns of `REJECTED_SCHEMA`, whatever a manifest calls none."""
    if rejected.is_empty():
        return pl.DataFrame(schema=REJECTED_SCHEMA)
    return rejected.select(pl.col(name).cast(dtype) for name, dtype in REJECTED_SCHEMA.items())


def reasons(rejected: pl.DataFrame) -> str:
    """`: 2 missing, 1 corrupt; first: a.jpg (missing), b.jpg (corrupt)`, or nothing."""
    if rejected.is_empty():
        return ""
    found = ", ".join(f"{n} {reason}" for reason, n in Counter(rejected["reason"].to_list()).most_common())
    first = rejected.head(3).select("path", "reason").rows()
    return f": {found}; first: {', '.join(f'{path} ({reason})' for path, reason in first)}"


def counts(release: Release, rows: pl.DataFrame, rejected: pl.DataFrame) -> dict[str, int]:
    """Usable rows by split, and why others are not among them."""
    by_split, by_reason = Counter(rows["split"].to_list()), Counter(rejected["reason"].to_list())
    return {
        **_left_out(release),
        **{split: by_split[split] for split in SPLITS},
        **{f"rejected.{reason}": by_reason[reason] for reason in sorted(by_reason)},
    }


def _left_out(release: Release) -> dict[str, int]:
    """Rows that the settings leave out, such as lateral views, and patients in several published splits."""
    return {key: n for key, n in release.card.counts.items() if key.startswith(("left_out.", "leak."))}


def tally(release: Release, rows: pl.DataFrame, rejected: pl.DataFrame) -> pl.DataFrame:
    """The counts by split: `Prepared.tally`.

    Args:
        release: as read.
        rows: of it, those that can be used.
        rejected: the others; those that the manifest set aside have no split.
    """
    lines: list[dict[str, str | int | None]] = [_line("usable", rows)]
    splits = release.rows.select("image_id", "split")
    placed = rejected.select("image_id", "reason").join(splits, on="image_id", how="left")
    lines += [
        _line(f"rejected: {reason}", placed.filter(pl.col("reason") == reason))
        for reason in placed["reason"].unique().sort()
    ]
    names = {"left_out": "left out", "leak": "leak"}
    for key, count in _left_out(release).items():
        kind, _, reason = key.partition(".")
        lines.append({"what": f"{names[kind]}: {reason}", "all": count})
    return pl.DataFrame(lines, schema=_TALLY_SCHEMA)


def _line(what: str, rows: pl.DataFrame) -> dict[str, str | int | None]:
    found = Counter(rows["split"].to_list())
    known = {split: found[split] for split in SPLITS} if found.keys() - {None} else {}
    return {"what": what, **known, "all": len(rows)}
