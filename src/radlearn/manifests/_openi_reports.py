"""The report files of OpenI: one XML a report, in a folder or still in the archive, read where they lie."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from radlearn.errors import DataError

# The largest real one has 9 kB. Expanding entities is not what a report needs.
_MAX_BYTES = 1 << 20
_DECLARES = (b"<!DOCTYPE", b"<!ENTITY")
_SECTIONS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")
_NAMED_VIEW = re.compile(r"\b(PA|AP|LAT|LATERAL|FRONTAL)\b")


@dataclass(frozen=True)
class Report:
    """One report as its file tells it.

    Attributes:
        report_id: `CXR1`.
        sections: name in capitals -> text, only those that hold a text, in the file's order.
        mesh: the headings that annotators gave (`major`); automatic: those found by a program.
        images: image id -> caption.
    """

    report_id: str
    sections: dict[str, str]
    mesh: tuple[str, ...]
    automatic: tuple[str, ...]
    images: dict[str, str]

    @property
    def text(self) -> str:
        """The sections below their headers."""
        return "\n\n".join(f"{name}: {text}" for name, text in self.sections.items())

    def view(self) -> str | None:
        """PA or AP where there is one image and its caption names that view only.

        A lateral view is not told so: in "Chest XXXX and lateral" the first of two names was removed.
        """
        if len(self.images) != 1:
            return None
        named = set(_NAMED_VIEW.findall(next(iter(self.images.values())).upper()))
        return next(iter(named)) if len(named) == 1 and named <= {"PA", "AP"} else None


def read_all(path: Path, progress: Any = None) -> tuple[list[Report], list[tuple[str, str]]]:
    """All reports of a folder of XML files, or of the archive of one.

    Args:
        path: `ecgen-radiology/`, or `NLMCXR_reports.tgz`.
        progress: optional callable (done, total, what).

    Returns:
        Reports, sorted by file name, and (file name, what is wrong) of each file that is none.

    Raises:
        DataError: if the archive cannot be read to its end, or there is no report file at all.
    """
    files = sorted(_folder(path) if path.is_dir() else _archive(path))
    if not files:
        raise DataError(f"no report in {path}: wanted XML files such as 1.xml of ecgen-radiology")
    reports, bad = [], []
    for done, (name, content) in enumerate(files, start=1):
        try:
            reports.append(parse(content))
        except DataError as error:
            bad.append((name, str(error)))
        if progress is not None and (done % 500 == 0 or done == len(files)):
            progress(done, len(files), "reports")
    return reports, bad


def parse(content: bytes) -> Report:
    """One report file.

    Raises:
        DataError: if it is not the XML of a report.
    """
    if len(content) > _MAX_BYTES or any(word in content for word in _DECLARES):
        raise DataError("larger than a report, or declares entities")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"not well-formed: {error}") from error
    report_id = _attribute(root.find("uId"), "id")
    if not report_id:
        raise DataError("no uId: not a report of this release")
    texts = {
        _attribute(node, "Label"): " ".join((node.text or "").split()) for node in root.iter("AbstractText")
    }
    return Report(
        report_id=report_id,
        sections={name: texts[name] for name in _SECTIONS if texts.get(name)},
        mesh=_headings(root, "major"),
        automatic=_headings(root, "automatic"),
        images={
            image_id: " ".join((node.findtext("caption") or "").split())
            for node in root.iter("parentImage")
            if (image_id := _attribute(node, "id"))
        },
    )


def _attribute(node: ElementTree.Element | None, name: str) -> str:
    return "" if node is None else node.get(name, "").strip()


def _headings(root: ElementTree.Element, kind: str) -> tuple[str, ...]:
    texts = (" ".join((node.text or "").split()) for node in root.iter(kind))
    return tuple(text for text in texts if text)


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for entry in os.scandir(path):
        if entry.name.endswith(".xml") and entry.is_file():
            yield entry.name, _head(Path(entry.path))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Members are read, never unpacked, so that no name in the archive can lead anywhere."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".xml"):
                    file = archive.extractfile(member)
                    if file is not None:
                        yield member.name.rpartition("/")[2], file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read as an archive of reports: {error}; load it again") from error
