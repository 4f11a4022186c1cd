"""The table of results, and the predictions they rest on.

`results.parquet` holds one `records.Result` a row. Rows are added under a lock and the file is replaced as a
whole, so that readers always see a complete table and jobs of a sweep can write to one file. A table never
mixes two versions of the data of one run and task: their numbers look alike and do not compare. Predictions
lie beside it, one file a task and data set with score and label of every case, so any interval or paired test
can be computed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from radlearn.errors import DataError
from radlearn.records import Result

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA_VERSION = 1
# Rows that agree in all of these are the same measurement; the later one replaces the earlier.
KEY = ("run", "task", "data", "split", "metric", "label", "seed", "fraction", "draw", "variant")
LOCK_TIMEOUT = 60.0
# File systems take names of 255 bytes; a temporary name is longer than the stem.
_LONGEST_STEM = 160

_RESULTS_MARK = b"radlearn.results"
_PREDICTIONS_MARK = b"radlearn.predictions"
_BOX_COLUMNS = {"boxes": pa.float64(), "scores": pa.float64(), "classes": pa.int64()}
_BOX_COLUMNS |= {"truth": pa.float64(), "truth_classes": pa.int64()}
_ARROW_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}


@dataclass(frozen=True)
class Predictions:
    """Score and label of every case of one evaluation; N cases, L labels.

    Attributes:
        image_id: (N,) case.
        patient_id: (N,) its patient, the unit that intervals redraw.
        label_names: (L,) names, in the order of the columns.
        scores: (N, L) float64, higher is more positive.
        labels: (N, L) as in the manifest after the label policy: 1, 0, NaN where the case does not count.
        data_hash: fingerprint of the data card.
    """

    image_id: Sequence[str]
    patient_id: Sequence[str]
    label_names: Sequence[str]
    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    data_hash: str = ""


def append(path: Path, rows: Iterable[Result]) -> None:
    """Add results to a table, creating it where there is none; a repeated measurement replaces its older row.

    Args:
        path: `results.parquet`.
        rows: what to add; of equal measurements among them the last counts.

    Raises:
        DataError: if the table holds, for the same run, task and data, numbers of another version of the
            data; if the file is no table of results or a newer one; if the folder cannot be written or stays
            locked.
    """
    added = list(rows)
    if not added:
        return
    with _locked(path):
        written = read(path) if path.exists() else []
        _refuse_mixed_versions(path, [*written, *added])
        merged = {_key(row): row for row in written}
        for row in added:
            # The replaced row leaves its place, so that the table stays in order of writing.
            merged.pop(_key(row), None)
            merged[_key(row)] = row
        _write(path, _to_arrow(list(merged.values())))


def read(path: Path) -> list[Result]:
    """Read a table of results, in order of writing.

    Raises:
        DataError: if there is none, or it is no table of results, or one that a newer version wrote.
    """
    table = _read(path)
    version = (table.schema.metadata or {}).get(_RESULTS_MARK)
    if version is None:
        raise DataError(f"{path} is no table of results; give the results.parquet that an evaluation wrote")
    if int(version) > SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {int(version)}, this radlearn reads up to {SCHEMA_VERSION}: "
            "update radlearn"
        )
    # An older table lacks later columns, and a row may leave a field open: both take the field's default.
    known = {field.name: None if field.default is MISSING else field.default for field in fields(Result)}
    return [
        Result(**known | {name: value for name, value in row.items() if name in known and value is not None})
        for row in table.to_pylist()
    ]


@dataclass(frozen=True)
class BoxPredictions:
    """Boxes that were predicted, and those that are there, for every case of one evaluation.

    Attributes:
        image_id, patient_id: (N,).
        label_names: names of the classes.
        boxes, scores, classes: for each case (P, 4) x, y, w, h in pixels of the view, (P,) and (P,).
        truth, truth_classes: for each case (M, 4) and (M,).
        data_hash: fingerprint of the data card.
    """

    image_id: Sequence[str]
    patient_id: Sequence[str]
    label_names: Sequence[str]
    boxes: Sequence[NDArray[np.float64]]
    scores: Sequence[NDArray[np.float64]]
    classes: Sequence[NDArray[np.int64]]
    truth: Sequence[NDArray[np.float64]]
    truth_classes: Sequence[NDArray[np.int64]]
    data_hash: str = ""


def write_boxes(
    run_folder: Path,
    predictions: BoxPredictions,
    *,
    task: str,
    data: str,
    split: str = "test",
    variant: str = "",
) -> Path:
    """Write boxes as `write_predictions` writes scores: one row a case, a list a column."""
    columns: dict[str, Any] = {}
    for name, kind in _BOX_COLUMNS.items():
        rows = [np.asarray(each).ravel().tolist() for each in getattr(predictions, name)]
        columns[name] = pa.array(rows, pa.list_(kind))
    facts = {"box_labels": list(predictions.label_names)}
    return _keep(run_folder, predictions, columns, facts, task=task, data=data, split=split, variant=variant)


def _keep(
    run_folder: Path,
    predictions: Predictions | BoxPredictions,
    columns: dict[str, Any],
    facts: dict[str, Any],
    *,
    task: str,
    data: str,
    split: str,
    variant: str,
) -> Path:
    """Write a table of cases into the folder of predictions."""
    cases = {
        name: pa.array([str(value) for value in getattr(predictions, name)], pa.string())
        for name in ("image_id", "patient_id")
    }
    about = json.dumps({**facts, "data_hash": predictions.data_hash, "split": split})
    table = pa.table({**cases, **columns}).replace_schema_metadata({_PREDICTIONS_MARK: about.encode()})
    path = run_folder / "predictions" / f"{predictions_stem(task, data, split, variant)}.parquet"
    _make_folder(path.parent)
    _write(path, table)
    return path


def read_boxes(path: Path) -> BoxPredictions | None:
    """Read what `write_boxes` wrote; None where the file holds other predictions."""
    table = _read(path)
    facts = json.loads((table.schema.metadata or {}).get(_PREDICTIONS_MARK, b"{}"))
    if "box_labels" not in facts:
        return None
    columns: dict[str, Any] = {name: [np.array(r) for r in table[name].to_pylist()] for name in _BOX_COLUMNS}
    for name in ("boxes", "truth"):
        columns[name] = [each.reshape(-1, 4).astype(np.float64) for each in columns[name]]
    for name in ("classes", "truth_classes"):
        columns[name] = [each.astype(np.int64) for each in columns[name]]
    ids = {name: table[name].to_pylist() for name in ("image_id", "patient_id")}
    return BoxPredictions(
        **ids, **columns, label_names=tuple(facts["box_labels"]), data_hash=facts["data_hash"]
    )


def write_predictions(
    run_folder: Path,
    predictions: Predictions,
    *,
    task: str,
    data: str,
    split: str = "test",
    variant: str = "",
) -> Path:
    """Write `predictions/<task>-<data>.parquet` into a run folder, replacing an older one.

    Columns: `image_id, patient_id`, then `score_<label>` (float64) and `label_<label>` (float32, null where
    it does not count) for each label.

    Args:
        run_folder: the folder of the run.
        predictions: scores and labels.
        task: name of the task.
        data: name of the data card.
        split: split that was scored; other splits than `test` are named in the file.
        variant: settings that change the scores, named in the file unless empty.

    Returns:
        The file.

    Raises:
        DataError: if shapes do not fit, a label name repeats, or the folder cannot be written.
    """
    _check(predictions)
    columns: dict[str, Any] = {}
    for column, label in enumerate(predictions.label_names):
        target = np.asarray(predictions.labels[:, column], dtype=np.float32)
        columns[f"score_{label}"] = pa.array(np.asarray(predictions.scores[:, column], dtype=np.float64))
        columns[f"label_{label}"] = pa.array(target, mask=np.isnan(target))
    facts = {"label_names": list(predictions.label_names)}
    return _keep(run_folder, predictions, columns, facts, task=task, data=data, split=split, variant=variant)


def predictions_stem(task: str, data: str, split: str = "test", variant: str = "") -> str:
    """Name, without suffix, of the file that holds the predictions of a task; see `write_predictions`."""
    parts = [task, data, split if split != "test" else "", variant]
    stem = "-".join(_file_part(part) for part in parts if part)
    if len(stem.encode()) <= _LONGEST_STEM:
        return stem
    head = stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return f"{head}-{hashlib.sha256(stem.encode()).hexdigest()[:12]}"


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        DataError: if there is no such file or it holds no predictions.
    """
    table = _read(path)
    facts = json.loads((table.schema.metadata or {}).get(_PREDICTIONS_MARK, b"{}"))
    if "label_names" not in facts:
        raise DataError(f"{path} holds no predictions; give a file of the predictions folder of a run")
    names = facts["label_names"]

    def stacked(prefix: str) -> NDArray[np.float64]:
        columns = [table[f"{prefix}_{name}"].to_numpy(zero_copy_only=False) for name in names]
        return np.stack(columns, axis=1).astype(np.float64) if columns else np.empty((table.num_rows, 0))

    return Predictions(
        image_id=table["image_id"].to_pylist(),
        patient_id=table["patient_id"].to_pylist(),
        label_names=tuple(names),
        scores=stacked("score"),
        labels=stacked("label"),
        data_hash=facts["data_hash"],
    )


def text_rows(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Results as text for a terminal or a page: the header, and one row a result.

    Columns that are empty throughout are left out. Generated data are marked, and where one data set occurs
    in several versions the name carries the head of the hash.
    """
    versions: dict[str, set[str]] = {}
    for result in results:
        versions.setdefault(result.data, set()).add(result.data_hash)
    cells = {
        "run": [result.run for result in results],
        "task": [result.task for result in results],
        "data": [_data_cell(result, versions[result.data]) for result in results],
        "split": [result.split for result in results],
        "variant": [result.variant for result in results],
        "fraction": [_number(result.fraction, "g") for result in results],
        "draw": [_number(result.draw, "d") for result in results],
        "seed": [_number(result.seed, "d") for result in results],
        "metric": [result.metric for result in results],
        "label": [result.label for result in results],
        "value": [_number(result.value, ".3f") for result in results],
        "95 % interval": [_interval_cell(result) for result in results],
        "chance": [_number(result.chance, ".3f") for result in results],
        "cases": [str(result.num_cases) for result in results],
        "patients": [str(result.num_patients) for result in results],
    }
    shown = [name for name, column in cells.items() if any(column)]
    return shown, [[cells[name][row] for name in shown] for row in range(len(results))]


def table(results: Sequence[Result], title: str | None = None) -> Table:
    """Results as a table for a rich console; what all rows share stands in the caption."""
    from rich.table import Table
    from rich.text import Text

    header, rows = text_rows(results)
    words = ("run", "task", "data", "split", "variant", "metric", "label")
    measured = ("metric", "label", "value", "95 % interval")
    columns = range(len(header))
    shared = [c for c in columns if header[c] not in measured and len({row[c] for row in rows}) == 1]
    caption = ", ".join(f"{header[c]} {rows[0][c]}" for c in shared) if rows else ""
    drawn = Table(title=title, caption=Text(caption) if len(rows) > 1 else None)
    shown = [c for c in columns if c not in shared or len(rows) == 1]
    for c in shown:
        drawn.add_column(header[c], justify="left" if header[c] in words else "right", no_wrap=True)
    for row in rows:
        # Plain text: a label such as "[left]" is no markup.
        drawn.add_row(*(Text(row[c]) for c in shown))
    return drawn


def _key(row: Result) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in KEY)


def _refuse_mixed_versions(path: Path, rows: Iterable[Result]) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for row in rows:
        older = seen.setdefault((row.run, row.task, row.data), row.data_hash)
        if older != row.data_hash:
            raise DataError(
                f"{path} would mix two versions of data set '{row.data}' for run '{row.run}', task "
                f"'{row.task}': data hash {older} and now {row.data_hash}. Evaluate on the same version, "
                "write to another results file, or delete this one if its numbers are obsolete"
            )


def _to_arrow(rows: Sequence[Result]) -> pa.Table:
    hints = typing.get_type_hints(Result)
    schema = pa.schema(
        [(field.name, _ARROW_TYPES[_plain_type(hints[field.name])]) for field in fields(Result)],
        metadata={_RESULTS_MARK: str(SCHEMA_VERSION).encode()},
    )
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)


def _plain_type(hint: Any) -> type:
    """The type X behind `X` or `X | None`."""
    if isinstance(hint, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    return typing.cast("type", hint)


def _read(path: Path) -> pa.Table:
    try:
        # Whole-file read: a memory map would still show the old file after it is replaced.
        return pq.read_table(path, memory_map=False)
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}; evaluate the run first") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path} as parquet: {error}") from error


def _write(path: Path, content: pa.Table) -> None:
    """Write to a temporary name in the same folder, then replace: readers see the old file or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            pq.write_table(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error}; choose a folder that can be written") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error}; choose a folder that can be written") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a table; the system frees it when its holder dies, so a lock is never stale.

    The lock is a file of its own, since the table is replaced, and it stays: removing it would let two
    writers lock two different files of one name.
    """
    _make_folder(path.parent)
    name = path.with_name(f".{path.name}.lock")
    deadline = time.monotonic() + LOCK_TIMEOUT
    try:
        lock = name.open("a")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}; choose a folder that can be written") from error
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DataError(
                        f"{path} is locked by another process for over {LOCK_TIMEOUT:.0f} s (lock: {name}): "
                        "end that process or write to another results file"
                    ) from None
                time.sleep(0.02)
            except OSError as error:
                raise DataError(
                    f"cannot lock {name}: {error}; write results to a file system with locks"
                ) from error
        yield


def _check(predictions: Predictions) -> None:
    cases, names = len(predictions.image_id), list(predictions.label_names)
    shapes = (np.shape(predictions.scores), np.shape(predictions.labels))
    if shapes != ((cases, len(names)),) * 2 or len(predictions.patient_id) != cases:
        raise DataError(
            f"predictions of {cases} images and {len(names)} labels need scores and labels of shape "
            f"({cases}, {len(names)}) and {cases} patients: got {shapes[0]}, {shapes[1]} and "
            f"{len(predictions.patient_id)}"
        )
    if len(set(names)) < len(names):
        raise DataError(f"label names must differ, got {names}")


def _file_part(text: str) -> str:
    """A part of a file name: letters, digits, `.`, `_` and `=`; anything else becomes `_`."""
    return "".join(letter if letter.isalnum() or letter in "._=" else "_" for letter in text)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _interval_cell(result: Result) -> str:
    return "" if result.low is None or result.high is None else f"[{result.low:.3f}, {result.high:.3f}]"


def _data_cell(result: Result, versions: set[str]) -> str:
    version = f"@{result.data_hash[:8]}" if len(versions) > 1 else ""
    return result.data + version + (" (synthetic)" if result.synthetic else "")
