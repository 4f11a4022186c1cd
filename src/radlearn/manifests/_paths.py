"""From the path cell of a table to a path below the image root, and to patient and study if it tells them."""

from __future__ import annotations

import os
import posixpath
import re
from functools import cache
from pathlib import Path

# MIMIC-CXR: p10/p10000032/s50414267/<dicom>.jpg. CheXpert: train/patient00001/study1/view1_frontal.jpg.
_MIMIC = re.compile(r"(?:^|/)(p\d{6,})/(?:(s\d{6,})[/.])?")
_CHEXPERT = re.compile(r"(?:^|/)(patient\d+)/(?:(study\d+)/)?")


class PathJoiner:
    """Joins path cells with the image root, and forgives the usual differences of where a path begins.

    An absolute path below the root becomes relative. A leading folder that the root lacks is dropped if it is
    the root's own name (CheXpert's `CheXpert-v1.0/...`) or `files`; a missing `files/` is put in front
    (MIMIC-CXR). What leaves the root comes back absolute or with `..`, for `checks.finish` to reject.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._prefix = cache(self._find_prefix)

    def __call__(self, cell: str) -> str:
        """The normalised path, relative to the root wherever it lies below it."""
        path = posixpath.normpath(cell.strip())
        if path.startswith("/"):
            for base in (str(self.root), os.path.realpath(self.root)):
                if path.startswith(base.rstrip("/") + "/"):
                    return path[len(base.rstrip("/")) + 1 :]
            return path
        first, _, rest = path.partition("/")
        if not rest or first == "..":
            return path
        second = rest.partition("/")[0]
        drop, add = self._prefix(first, second if first == "files" else "")
        return rest if drop else f"files/{path}" if add else path

    def _find_prefix(self, first: str, second: str) -> tuple[bool, bool]:
        """Whether to drop the first folder, whether to put `files` in front."""
        if (self.root / first).exists():
            return False, False
        if first == self.root.name or (first == "files" and (self.root / second).exists()):
            return True, False
        return False, (self.root / "files" / first).exists()


def patient_of(path: str) -> tuple[str | None, str | None]:
    """Patient and study ids that the folders of a path tell; study ids are unique over patients."""
    if match := _MIMIC.search(path):
        return match[1], match[2]
    if match := _CHEXPERT.search(path):
        return match[1], match[2] and f"{match[1]}-{match[2]}"
    return None, None
