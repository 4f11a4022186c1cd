"""One small reading from each of many files: in threads, because they wait for the disk or the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from radlearn.data.images import ImageError

T = TypeVar("T")

_THREADS = 16
_CHUNK = 32  # files a job: handing out a job costs about as much as reading a small header


def each_file(
    read: Callable[[Path], T], paths: Sequence[Path], progress: Any = None, what: str = "files"
) -> list[T | ImageError]:
    """`read` of every file, in their order; a file that cannot be used gives its `ImageError` instead.

    Args:
        read: of one path.
        paths: the files.
        progress: optional callable (done, total, what).
        what: in words, for `progress`.
    """
    from joblib import Parallel, delayed

    def chunk(part: Sequence[Path]) -> list[T | ImageError]:
        return [_caught(read, path) for path in part]

    parts = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    results: list[T | ImageError] = []
    threads = Parallel(n_jobs=min(_THREADS, max(len(parts), 1)), prefer="threads", return_as="generator")
    for done in threads(delayed(chunk)(part) for part in parts):
        results += done
        if progress is not None:
            progress(len(results), len(paths), what)
    return results


def _caught(read: Callable[[Path], T], path: Path) -> T | ImageError:
    try:
        return read(path)
    except ImageError as error:
        return error
