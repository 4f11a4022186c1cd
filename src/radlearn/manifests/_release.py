"""What readers of published releases share: finding files and columns, and the names of splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from radlearn.errors import ConfigurationError, DataError, nearest
from radlearn.manifests._table_file import TableFile

# A csv of a release is also found packed, as some sites hand it out.
_PACKED = ("", ".gz", ".zip")


def find(root: Path, *names: str) -> Path | None:
    """The first of these files or folders below `root` that exists, also packed as .gz or .zip."""
    return next((path for path in _places(root, names) if path.exists()), None)


def need(root: Path, *names: str, what: str) -> Path:
    """As `find`, for what a release cannot do without.

    Args:
        root: folder of the release.
        names: where it may lie, relative to the root, best first.
        what: in words, for the message: `the table of labels`.

    Raises:
        DataError: says what was looked for, and where.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder: data.root is the folder of the release")
    found = find(root, *names)
    if found is None:
        raise DataError(
            f"no {what} in {root}: looked for {', '.join(names)} (also .gz and .zip). Is data.root "
            "the folder of the release?"
        )
    return found


def _places(root: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        for suffix in _PACKED:
            yield root / f"{name}{suffix}"


def read_columns(path: Path, columns: Mapping[str, str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """Columns of a release's table as trimmed strings, null where blank.

    Args:
        path: csv, tsv, parquet or jsonl, also packed.
        columns: our name -> the release's header, verbatim.
        optional: our names of columns that may be missing; they are left out then.

    Raises:
        DataError: if a header is not there; names the nearest one.
    """
    file = TableFile(path)
    missing = {ours: theirs for ours, theirs in columns.items() if theirs not in file.columns}
    for ours, theirs in missing.items():
        if ours not in optional:
            raise DataError(
                f"{path}: no column '{theirs}'{nearest(theirs, file.columns)}; there is "
                f"{', '.join(map(repr, file.columns))}: is this the release's own file?"
            )
    there = {ours: theirs for ours, theirs in columns.items() if ours not in missing}
    table = file.read(list(there.values()))
    cells = [pl.col(theirs).cast(pl.String).str.strip_chars().alias(ours) for ours, theirs in there.items()]
    return table.select(cells).with_columns(pl.all().replace("", None))


def check_choice(key: str, value: str, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices.

    Raises:
        ConfigurationError: names the key, the choices and the nearest one.
    """
    if value not in choices:
        raise ConfigurationError(
            f"data.{key} is one of {', '.join(choices)}: got '{value}'{nearest(str(value), choices)}"
        )
    return value
