"""MIMIC-CXR reports by the rules of its public section parser, exactly, for runs that must match published
ones.

`radlearn.data.reports` reads any report and is the better sectioner; these rules define the texts that LoVT,
MGCA and Adaptor were trained on. A header is a newline, one space, a run of capitals, spaces and `()/,-`, a
colon and one white space; after a header the search goes on at the first newline, so a second header on that
line is text.

Sources: mimic-cxr `txt/section_parser.py` and `txt/create_section_files.py` (Johnson et al. 2019); LoVT
(Müller et al. 2022), whose sections are findings and impression; MGCA (Wang et al. 2022), whose captions
Adaptor uses too.
"""

from __future__ import annotations

import re
from typing import Literal

from radlearn.data._section_names import CONTAINED, PUBLIC_NAMES, VIEW_TITLES
from radlearn.data.reports import Section
from radlearn.errors import ConfigurationError

Irregular = Literal["drop", "override", "keep"]
COLUMNS = ("impression", "findings", "last_paragraph", "comparison")
"""The sections that the public sectioned file has a column of."""

# Possessive: the run holds no colon, so there is nothing to give back.
_HEADER = re.compile(r"\n ([A-Z ()/,-]++):\s")
_BLANK_LINE = "\n \n"

# Which section stands in for the report's conclusion: its last occurrence.
_SECTION_OF = {
    **dict.fromkeys(
        (50913680, 59768032, 59067458, 59087630, 58157373, 56482935, 58375018), "recommendations"
    ),
    **dict.fromkeys((59363654, 53356173, 50743547, 59215320, 55157853), "examination"),
    **dict.fromkeys((59279892, 53202765, 50808053), "technique"),
    **dict.fromkeys((57936451, 50058765, 51966317, 55124749, 54365831, 54654948), "indication"),
    56451190: "note",
    51491012: "history",
}
# Characters of the report file that hold it; (0, 0) where there is nothing to read.
_SLICE_OF = {
    50525523: (201, 349), 57564132: (233, 554), 59982525: (313, 717), 53488209: (149, 475),
    54875119: (234, 988), 50196495: (59, 399), 56579911: (59, 218), 52648681: (292, 631),
    59889364: (172, 453), 53514462: (73, 377), 59505494: (59, 450), 53182247: (59, 412),
    51410602: (47, 320), 56412866: (522, 822), 54986978: (59, 306), 59003148: (262, 505),
    57150433: (61, 394), 56760320: (219, 457), 59562049: (158, 348), 52674888: (145, 296),
    55258338: (192, 568), 59330497: (140, 655), 52119491: (179, 454),
    **dict.fromkeys(
        (58235663, 50798377, 54168089, 53071062, 56724958, 54231141, 53607029, 52035334), (0, 0)
    ),
}  # fmt: skip
IRREGULAR_STUDIES = frozenset(_SECTION_OF) | frozenset(_SLICE_OF)
"""Numbers of the 54 studies whose layout the rules do not fit: left out of the published sectioned file."""

_ENDS_CAPTION_PART = re.compile(r"(?<![0-9])[0-9]++\.|\.")
_CAPTION_TOKEN = re.compile(r"\w+")
_MIN_CAPTION_TOKENS = 3


def sections(report: str, *, corrected: bool = True) -> list[Section]:
    """Split a report file by the public rules.

    Text before the first header is the `preamble`; a report without a header is one `full report`. Empty
    impressions and findings are left out. If neither is left, what follows the first blank line (newline,
    space, newline) of the last section becomes one more section, `last_paragraph`.

    Args:
        report: the text of the file, unchanged.
        corrected: read "NDICATION" as the misspelt indication that it is; the public table makes it an
            impression.
    """
    found: list[Section] = []
    name, start = "preamble", 0
    header = _HEADER.search(report)
    if header is None:
        name = "full report"
    while header is not None:
        found.append(Section(name, report[start : header.start()]))
        name, start = canonical_name(header[1], corrected=corrected), header.end()
        header = _HEADER.search(report, max(start, report.find("\n", start)))
    found.append(Section(name, report[start:]))
    found = [s for s in found if s.name not in ("impression", "findings") or s.text.strip()]
    if found and not any(s.name in ("impression", "findings") for s in found):
        _, blank, rest = found[-1].text.partition(_BLANK_LINE)
        if blank:
            found.append(Section("last_paragraph", rest))
    return found


def canonical_name(header: str, *, corrected: bool = True) -> str:
    """The section that a header opens: by the table, by a name it contains, by a view it names, or itself."""
    name = header.lower().strip()
    if corrected and name == "ndication":
        return "indication"
    if name in PUBLIC_NAMES:
        return PUBLIC_NAMES[name]
    contained = next((word for word in CONTAINED if word in name), None)
    if contained is None and any(title in name for title in VIEW_TITLES):
        return "findings"
    return contained or name


def sectioned(
    study_id: str | int, report: str, *, irregular: Irregular = "drop", corrected: bool = True
) -> dict[str, str] | None:
    """The columns of the public sectioned file for one study: the last occurrence of each, stripped.

    Args:
        study_id: `s50414267`, or the number.
        report: the text of the file, unchanged.
        irregular: what becomes of the 54 irregular studies: `drop` returns None, as published; `override`
            takes the hand-made choice of `override` as the impression; `keep` applies the rules as to any.
        corrected: see `sections`.

    Returns:
        `impression, findings, last_paragraph, comparison`, "" where there is none; or None.
    """
    if irregular not in ("drop", "override", "keep"):
        raise ConfigurationError(f"irregular is drop, override or keep: got '{irregular}'")
    columns = dict.fromkeys(COLUMNS, "")
    if irregular != "keep" and study_number(study_id) in IRREGULAR_STUDIES:
        text = override(study_id, report)
        return columns | {"impression": text or ""} if irregular == "override" else None
    for section in sections(report, corrected=corrected):
        if section.name in columns:
            columns[section.name] = section.text.strip()
    return columns


def override(study_id: str | int, report: str) -> str | None:
    """The part of an irregular report that its hand-made rule chooses, stripped; None for all other studies.

    The public parser writes it as the study's one section. It is "" where the rule finds nothing, and for the
    eight reports that hold nothing to read.
    """
    study = study_number(study_id)
    if study in _SLICE_OF:
        begin, end = _SLICE_OF[study]
        return report[begin:end].strip()
    if study not in _SECTION_OF:
        return None
    wanted = _SECTION_OF[study]
    texts = [section.text.strip() for section in sections(report) if section.name == wanted]
    return texts[-1] if texts else ""


def study_number(study_id: str | int) -> int:
    """`s50414267`, `50414267` or the number itself -> 50414267.

    Raises:
        ConfigurationError: if it is neither.
    """
    digits = str(study_id).removeprefix("s")
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigurationError(f"a MIMIC-CXR study is called s50414267 or 50414267: got '{study_id}'")
    return int(digits)


def caption(impression: str | None, findings: str | None) -> list[str]:
    """The caption of MGCA and Adaptor: impression, then findings, as sentences of lower-case tokens.

    Parts end at a dot, and at a number with a dot, so "2.5 cm" is cut, as published. Parts of one token and
    characters that are not ASCII are left out.

    Returns:
        Sentences; none if they hold fewer than three tokens in all: such a study is left out.
    """
    text = f"{impression or ' '} {findings or ' '}".replace("\n", " ")
    sentences = []
    for part in _ENDS_CAPTION_PART.split(text):
        tokens = _CAPTION_TOKEN.findall(part.replace("\ufffd\ufffd", " ").lower())
        if len(tokens) > 1:
            plain = [token.encode("ascii", "ignore").decode() for token in tokens]
            sentences.append(" ".join(filter(None, plain)))
    sentences = [sentence for sentence in sentences if sentence]
    enough = sum(len(sentence.split()) for sentence in sentences) >= _MIN_CAPTION_TOKENS
    return sentences if enough else []
