"""The reports of MIMIC-CXR: where they lie, and what is read out of each, once a study, in processes.

    mimic-cxr-reports.zip                 members files/p10/p10000032/s50414267.txt: the published archive
    files/p10/p10000032/s50414267.txt     the same unpacked, beside the images or in a root of its own
    mimic_cxr_sectioned.csv               the public parser's result: study,impression,findings,...

Source: MIMIC-CXR 2.0.0 (Johnson et al. 2019) and `create_section_files.py` of its public code.
"""

from __future__ import annotations

import logging
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from radlearn.data import mimic_reports, reports, sentences
from radlearn.data.reports import Fallback
from radlearn.errors import DataError
from radlearn.manifests._release import read_columns

logger = logging.getLogger("radlearn")

ARCHIVE, SECTIONED = "mimic-cxr-reports.zip", "mimic_cxr_sectioned.csv"
WANTED = f"no {ARCHIVE}, no files/p10/p10.../s....txt and no {SECTIONED}"
"""What a search did not find, for messages."""
MIN_TOKENS = 3
"""Studies with fewer are left out by LoVT and by MGCA."""

_MEMBER = re.compile(r"(?:^|/)s(\d+)\.txt$")
_CHUNK = 500  # reports: 0.3 seconds of work, 400 kB to send
_START_PROCESSES_AT = 20_000  # starting them takes two seconds, as long as reading 6,000 reports
# A network drive answers one small file in a millisecond, but several at once.
_READERS = 8
_PROBED = 50  # studies looked for before a folder counts as a tree of reports
_MIN_SHARE = 0.5  # a source that knows fewer of the studies belongs to another release
_SECTIONS = ("impression", "findings", "last_paragraph")
_READ: dict[str, Any] = {
    "study": pl.Int64,
    "state": pl.String,
    "report": pl.String,
    "findings": pl.String,
    "impression": pl.String,
    "sentences": pl.List(pl.String),
    "num_tokens": pl.Int32,
}

Study = tuple[int, int]  # the numbers of subject and study
Content = bytes | Mapping[str, str | None] | None  # a file, or its `_SECTIONS`, or None where there is none


@dataclass(frozen=True)
class Rules:
    """How a report is read.

    Attributes:
        sections: `corrected`, by `data.reports`, or `public`, by `data.mimic_reports`.
        fallback: what stands in for a missing impression.
        irregular: what becomes of the 54 irregular studies: `drop`, `override` or `keep`.
        sentences: `split`, findings and then impression as LoVT, or `caption`, MGCA's caption.
    """

    sections: str = "corrected"
    fallback: Fallback = "none"
    irregular: mimic_reports.Irregular = "drop"
    sentences: str = "split"


@dataclass(frozen=True)
class Archive:
    """The published zip file."""

    path: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def contents(self, studies: Sequence[Study]) -> Iterator[list[Content]]:
        """The files of the studies, chunk by chunk; b"" for a damaged or empty one."""
        try:
            archive = zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} cannot be read as a zip file: {error}") from error
        with archive:
            members: dict[int, str] = {}
            for name in archive.namelist():
                if match := _MEMBER.search(name):
                    members.setdefault(int(match[1]), name)
            for chunk in _chunks(studies):
                yield [_member(archive, members.get(study)) for _, study in chunk]


@dataclass(frozen=True)
class Tree:
    """A folder that holds p10 to p19; its files are too many to be looked at for changes.

    A patient's folder that comes or goes is noticed, an edited report is not.
    """

    path: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """The ten folders of patients."""
        return tuple(self.path / f"p{number}" for number in range(10, 20))

    def contents(self, studies: Sequence[Study]) -> Iterator[list[Content]]:
        """The files of the studies, chunk by chunk; b"" for an unreadable or empty one."""
        with ThreadPoolExecutor(_READERS) as pool:
            for chunk in _chunks(studies):
                yield list(pool.map(self._read, chunk))

    def holds_any(self, studies: Sequence[Study]) -> bool:
        """Whether one of a few studies, spread over all, has a report here."""
        step = max(1, len(studies) // _PROBED)
        return any(self._file(study).is_file() for study in studies[::step])

    def _file(self, study: Study) -> Path:
        return self.path / f"p{str(study[0])[:2]}" / f"p{study[0]}" / f"s{study[1]}.txt"

    def _read(self, study: Study) -> Content:
        try:
            return self._file(study).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            return b""


@dataclass(frozen=True)
class Sectioned:
    """The csv of the public parser, which holds no whole reports and no irregular studies."""

    path: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def contents(self, studies: Sequence[Study]) -> Iterator[list[Content]]:
        """The sections of the studies, chunk by chunk."""
        table = read_columns(self.path, {name: name for name in ("study", *_SECTIONS)}, ("last_paragraph",))
        numbers = table["study"].str.strip_prefix("s").cast(pl.Int64, strict=False)
        by_study = dict(zip(numbers, table.drop("study").iter_rows(named=True), strict=True))
        for chunk in _chunks(studies):
            yield [by_study.get(study) for _, study in chunk]


Source = Archive | Tree | Sectioned


def locate(given: str, root: Path, studies: Sequence[Study]) -> Source:
    """The reports that `data.reports` names: a zip file, a csv, or a folder with either or with the tree.

    Args:
        given: absolute, or relative to the root or to the working directory.
        root: folder of the release.
        studies: all studies, of which a tree must hold some.

    Raises:
        DataError: says where it looked.
    """
    path = Path(given).expanduser()
    found = next((place for place in (root / path, path) if place.exists()), None)
    if found is None:
        raise DataError(f"data.reports={given}: neither in {root} nor in {Path.cwd()}")
    if found.is_file():
        return Archive(found) if found.suffix.lower() == ".zip" else Sectioned(found)
    source = search([found], studies)
    if source is None:
        raise DataError(f"data.reports={given}: {found} holds {WANTED} of this release")
    return source


def search(places: Sequence[Path], studies: Sequence[Study]) -> Source | None:
    """Reports in one of these folders: the archive before a tree, a tree before the sectioned file."""
    for place in places:
        if (place / ARCHIVE).is_file():
            return Archive(place / ARCHIVE)
    for place in places:
        for tree in (Tree(place / "files"), Tree(place)):
            if tree.holds_any(studies):
                return tree
    for place in places:
        for name in (SECTIONED, f"{SECTIONED}.gz", f"{SECTIONED}.zip"):
            if (place / name).is_file():
                return Sectioned(place / name)
    return None


def read(
    source: Source, studies: Sequence[Study], rules: Rules, *, num_workers: int = 0, progress: Any = None
) -> pl.DataFrame:
    """Read the reports of the studies.

    Args:
        source: where they lie.
        studies: numbers of subject and study, each study once.
        rules: how each is read.
        num_workers: processes; 0 takes one a core where there are many reports. The result is the same.
        progress: optional callable (done, total, what).

    Returns:
        One row a study: `study, report, findings, impression, sentences, num_tokens`, and `state`: `read`,
        `latin1` (not UTF-8, read as Latin-1), `missing` or `unreadable`.

    Raises:
        DataError: if the source cannot be read, or lacks most of the studies.
    """
    from joblib import Parallel, cpu_count, delayed

    workers = num_workers or (cpu_count() if len(studies) >= _START_PROCESSES_AT else 1)
    jobs = zip(_chunks(studies), source.contents(studies), strict=True)
    chunks = Parallel(n_jobs=workers, return_as="generator")(
        delayed(_read_chunk)([study for _, study in chunk], contents, rules) for chunk, contents in jobs
    )
    tables = [pl.DataFrame(schema=_READ)]
    done = 0
    for rows in chunks:
        tables.append(pl.DataFrame(rows, schema=_READ, orient="row"))
        done += len(rows)
        if progress is not None:
            progress(done, len(studies), "reports")
    texts = pl.concat(tables)
    _check_states(texts["state"], source.path)
    no_boxes = pl.lit([], pl.List(pl.Int32))
    pairs = pl.col("sentences").list.eval(pl.struct(text=pl.element(), boxes=no_boxes))
    return texts.with_columns(pairs)


def _check_states(states: pl.Series, path: Path) -> None:
    words = ("latin1", "missing", "unreadable")
    latin1, missing, unreadable = (int((states == word).sum()) for word in words)
    if missing > (1 - _MIN_SHARE) * len(states):
        raise DataError(
            f"{path} holds reports of {len(states) - missing} of {len(states)} studies: is it complete, and "
            "of this release? Set data.reports"
        )
    if latin1:
        logger.info("%d reports are not UTF-8: read as Latin-1", latin1)
    if missing + unreadable:
        logger.warning("%d of %d studies have no readable report", missing + unreadable, len(states))


def decode(data: bytes) -> tuple[str, bool]:
    """A report's text with plain line ends, and whether it is UTF-8; what is not is Latin-1."""
    try:
        text, is_utf8 = data.decode("utf-8"), True
    except UnicodeDecodeError:
        text, is_utf8 = data.decode("latin-1"), False
    return text.replace("\r\n", "\n").replace("\r", "\n"), is_utf8


def impression_and_findings(study: int, report: str, rules: Rules) -> tuple[str | None, str | None]:
    """The two sections of a report, None where there is none; by the public rules with their line breaks."""
    if rules.sections == "public":
        texts = mimic_reports.sectioned(study, report, irregular=rules.irregular, corrected=False)
        return _with_fallback(texts or {}, rules.fallback)
    chosen = mimic_reports.override(study, report) if rules.irregular == "override" else None
    if chosen is not None:
        return reports.clean(chosen), None
    return reports.impression(report, fallback=rules.fallback), reports.findings(report)


def _of_csv(texts: Mapping[str, str | None], rules: Rules) -> tuple[str | None, str | None]:
    if rules.sections == "corrected":
        texts = {name: text and reports.clean(text) for name, text in texts.items()}
    return _with_fallback(texts, rules.fallback)


def _with_fallback(texts: Mapping[str, str | None], fallback: Fallback) -> tuple[str | None, str | None]:
    impression, findings = texts.get("impression") or None, texts.get("findings") or None
    if fallback != "none":
        impression = impression or findings
    if fallback == "last_paragraph":
        impression = impression or texts.get("last_paragraph") or None
    return impression, findings


def _chunks(studies: Sequence[Study]) -> Iterator[list[Study]]:
    iterator = iter(studies)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _member(archive: zipfile.ZipFile, name: str | None) -> Content:
    if name is None:
        return None
    try:
        return archive.read(name)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return b""


def _read_chunk(studies: Sequence[int], contents: Sequence[Content], rules: Rules) -> list[tuple[Any, ...]]:
    """Rows of `_READ`, in a process of its own."""
    return [_read_one(study, content, rules) for study, content in zip(studies, contents, strict=True)]


def _read_one(study: int, content: Content, rules: Rules) -> tuple[Any, ...]:
    if not content:
        state = "missing" if content is None else "unreadable"
        return (study, state, None, None, None, None, 0)
    if isinstance(content, bytes):
        report, is_utf8 = decode(content)
        impression, findings = impression_and_findings(study, report, rules)
    else:
        report, is_utf8 = None, True
        impression, findings = _of_csv(content, rules)
    if rules.sentences == "caption":
        split = mimic_reports.caption(impression, findings)
        num_tokens = sum(len(sentence.split()) for sentence in split)
    else:
        split = [*sentences.split(findings or ""), *sentences.split(impression or "")]
        num_tokens = sum(map(sentences.num_tokens, split))
    state = "read" if is_utf8 else "latin1"
    return (study, state, report, findings, impression, split or None, num_tokens)
