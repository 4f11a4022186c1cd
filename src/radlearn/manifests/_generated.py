"""Releases that are generated where they are missing, in chunks and in several processes.

    <root>/phantom.json               the settings; a root holds one set of them
    <root>/chunks/00000/<image>.png   generated images, with the rows of the chunk beside them
    <root>/rows.parquet               the manifest table, written last

A chunk appears by one rename, so a killed generation goes on with the chunks that are missing.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.base import SPLITS

Render = Callable[[Any], tuple[dict[str, Any], np.ndarray]]
"""From what describes an image to its row and its pixels (H, W); `path` of the row is the file's name."""


def split_sizes(*, num_train: int, num_validate: int, num_test: int) -> dict[str, int]:
    """Images or patients to generate by split.

    Raises:
        ConfigurationError: if one is negative or all are 0.
    """
    sizes = dict(zip(SPLITS, (num_train, num_validate, num_test), strict=True))
    if min(sizes.values()) < 0 or not any(sizes.values()):
        raise ConfigurationError(
            f"num_train, num_validate and num_test are not negative, and not all 0: got {sizes}"
        )
    return sizes


def rows_of(
    root: Path,
    settings: Mapping[str, Any],
    chunks: Callable[[], Sequence[Sequence[Any]]],
    render: Render,
    schema: Mapping[str, pl.DataType],
    *,
    num_workers: int | None,
    progress: Any = None,
) -> pl.DataFrame:
    """The table of a generated release; where it is missing or unfinished, it is generated first.

    Args:
        root: a folder for this release alone; written to only where it is not complete.
        settings: all that the release depends on, as JSON can write it.
        chunks: makes the list of images, in chunks; called only where something is to be generated.
        render: picklable, for other processes.
        schema: of the rows.
        num_workers: processes; None takes the number of cores. The release does not depend on it.
        progress: optional callable (done, total, what).

    Raises:
        DataError: if the root holds a release of other settings, or cannot be written.
    """
    _check_settings(root, settings)
    table = root / "rows.parquet"
    if not table.exists():
        try:
            _generate(root, settings, chunks(), render, schema, num_workers, progress)
        except OSError as error:
            raise DataError(
                f"cannot generate the phantom in {root}: {error}; choose another folder"
            ) from error
    return pl.read_parquet(table)


def _check_settings(root: Path, wanted: Mapping[str, Any]) -> None:
    path = root / "phantom.json"
    if not path.exists():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != wanted:
        raise DataError(
            f"{root} holds the phantom of {found}, wanted {wanted}: delete it or choose another root"
        )


def _generate(
    root: Path,
    settings: Mapping[str, Any],
    chunks: Sequence[Sequence[Any]],
    render: Render,
    schema: Mapping[str, pl.DataType],
    num_workers: int | None,
    progress: Any,
) -> None:
    (root / "chunks").mkdir(parents=True, exist_ok=True)
    _write(root / "phantom.json", json.dumps(settings, indent=2).encode())
    folders = [root / "chunks" / f"{number:05d}" for number in range(len(chunks))]
    jobs = [
        (folder, chunk, render, schema)
        for folder, chunk in zip(folders, chunks, strict=True)
        if not folder.exists()
    ]
    total = sum(map(len, chunks))
    done = total - sum(len(chunk) for _, chunk, *_ in jobs)
    for rendered in _run(jobs, num_workers):
        done += rendered
        if progress is not None:
            progress(done, total, "synthetic images")
    _write(root / "rows.parquet", pl.concat([pl.read_parquet(folder / "rows.parquet") for folder in folders]))


def _run(jobs: Sequence[tuple[Any, ...]], num_workers: int | None) -> Iterator[int]:
    """Render the chunks, here or in processes; yields the number of images of each as it is done."""
    from joblib import Parallel, cpu_count, delayed

    workers = min(num_workers or cpu_count(), len(jobs))
    if workers <= 1:
        yield from (_render_chunk(*job) for job in jobs)
    else:
        yield from Parallel(n_jobs=workers, return_as="generator_unordered")(
            delayed(_render_chunk)(*j) for j in jobs
        )


def _render_chunk(
    folder: Path, images: Sequence[Any], render: Render, schema: Mapping[str, pl.DataType]
) -> int:
    """Render images into `folder`, which appears complete or not at all."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one process a core
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        rows = []
        for image in images:
            row, pixels = render(image)
            # Not flushed one by one, which costs a tenth of rendering: `prepare` checks what it reads.
            (temporary / row["path"]).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
            rows.append({**row, "path": f"chunks/{folder.name}/{row['path']}"})
        _write(temporary / "rows.parquet", pl.DataFrame(rows, schema=schema))
        temporary.chmod(0o755)
        _rename(temporary, folder)
    finally:
        cv2.setNumThreads(threads)
        shutil.rmtree(temporary, ignore_errors=True)
    return len(images)


def _rename(temporary: Path, folder: Path) -> None:
    try:
        temporary.replace(folder)
    except OSError:
        if not folder.exists():  # another process may have rendered the same chunk
            raise


def _write(path: Path, content: bytes | pl.DataFrame) -> None:
    """Write under a temporary name, flush to disk, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content.write_parquet(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
