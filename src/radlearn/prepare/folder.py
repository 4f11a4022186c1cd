"""A prepared folder on disk: its lock, its card, and whether its parts belong together."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from radlearn.data.store import Store, read_metadata, shard_name
from radlearn.errors import DataError
from radlearn.records import Card

logger = logging.getLogger("radlearn")


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
    written = read_card(folder)
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
    return rows, store, card_from(written)


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
    written = read_card(folder) or {}
    pixels = written.get("settings", {}).get("pixels", {})
    return {"fingerprint": "", "sources": [], "pixels": _tuples(pixels), **written.get("table", {})}


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Hash of everything that decides the content of a prepared folder."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:16]


def read_card(folder: Path) -> dict[str, Any] | None:
    """The content of `card.json`, or None where there is none.

    Raises:
        DataError: if it is damaged.
    """
    try:
        written: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(
            f"{folder / 'card.json'} is damaged ({error}): delete it and run `radlearn prepare`"
        ) from error
    return written


def card_from(written: Mapping[str, Any]) -> Card:
    """The card in the content of `card.json`."""
    names = {field.name for field in dataclasses.fields(Card)}
    return Card(**_tuples({key: value for key, value in written.items() if key in names}))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples; the records have no lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def refuse_other_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds, or began to hold, something else.

    Raises:
        DataError: names what differs.
    """
    written, first, reason = read_card(folder), folder / shard_name(0), ""
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


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
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
            leftover.unlink(missing_ok=True)
        yield


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, then rename it: it is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
