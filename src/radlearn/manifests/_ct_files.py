"""Folders of CT slices: which files are slices, of which kind, and whose by their folders and names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from radlearn.data import dicom, nifti
from radlearn.errors import DataError

KINDS = ("png", "dicom", "nifti")
_PICTURES = (".png", ".jpg", ".jpeg")
_DICOM_SUFFIXES = (".dcm", ".ima")
# DeepLesion's names tell patient, study and series: 000001_01_01/109.png, 000001_01_01_109.png.
_DEEPLESION = re.compile(r"(?:^|/)(((\d{6})_\d{2})_\d{2})(?:/|_\d{3,}\.)")


@dataclass(frozen=True)
class Tree:
    """The files below a root.

    Attributes:
        files: kind -> paths relative to the root, sorted.
        folders: all folders that were entered.
        linked: how many were not, because they are symbolic links.
    """

    files: dict[str, list[str]]
    folders: tuple[str, ...]
    linked: int


def scan(root: Path) -> Tree:
    """Look through the folders below `root`; hidden files and folders do not count, links are not followed.

    A file without a known suffix is DICOM if it begins as one.
    """
    files: dict[str, list[str]] = {kind: [] for kind in KINDS}
    folders, linked = [], 0
    for folder, below, names in os.walk(root):
        folders.append(folder)
        links = {name for name in below if Path(folder, name).is_symlink()}
        linked += len(links)
        below[:] = sorted(n for n in below if n not in links and not n.startswith(".") and n != "__MACOSX")
        prefix = os.path.relpath(folder, root)
        for name in sorted(names):
            if (kind := _kind(Path(folder, name))) is not None:
                files[kind].append(name if prefix == "." else f"{prefix}/{name}")
    return Tree(files, tuple(folders), linked)


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    if name.startswith(".") or name == "dicomdir":
        return None
    if name.endswith(_PICTURES):
        return "png"
    if nifti.is_nifti(name):
        return "nifti"
    return "dicom" if name.endswith(_DICOM_SUFFIXES) or dicom.is_dicom(path) else None


def stem(path: str) -> str:
    """A path without the suffix of an image: the image id."""
    for suffix in (*nifti.SUFFIXES[::-1], *_PICTURES, *_DICOM_SUFFIXES):
        if path.lower().endswith(suffix):
            return path[: -len(suffix)]
    return path


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts names as people do: 2 before 10."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def owners(path: str) -> tuple[str | None, str, str]:
    """Patient, study and series that the folders tell: the first, the first two, all of them.

    The names of DeepLesion tell them themselves; a file in no folder has no patient.
    """
    if match := _DEEPLESION.search(path):
        return match[3], match[2], match[1]
    parts = path.split("/")[:-1]
    return (parts[0] if parts else None), "/".join(parts[:2]), "/".join(parts)


def choose_kind(files: dict[str, list[str]], wanted: str, root: Path) -> str:
    """The kind of files to read.

    Raises:
        DataError: if there are none, or several kinds and none is wanted.
    """
    there = {kind: paths for kind, paths in files.items() if paths}
    if wanted != "auto":
        if wanted not in there:
            raise DataError(
                f"{root} holds no {wanted} files" + (f", but {', '.join(there)}" if there else "")
            )
        return wanted
    if not there:
        raise DataError(
            f"no slices in {root}: looked for PNG, JPEG, DICOM and NIfTI files in it and its folders. Is "
            "data.root the folder of the patients?"
        )
    if len(there) > 1:
        examples = ", ".join(f"{kind} ({len(paths)}, first {paths[0]})" for kind, paths in there.items())
        raise DataError(f"{root} mixes kinds of files: {examples}. Choose one with data.kind")
    return next(iter(there))
