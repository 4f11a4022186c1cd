"""Sections of a radiology report, and its impression: pure functions, linear in the length of the report.

A header is one to six words of letters and `()/,&-` with a colon after them. At the start of a line it counts
if it is all capitals or a known name in any case. Inside a line it counts if it is a known name in capitals,
so that a report that lost its line breaks still has sections. A known name without its colon counts where it
stands alone on a line, before a spaced dash, or in capitals before text that is not.

A capital header that no table knows but that contains a name ("PRELIMINARY IMPRESSION") or a view ("CHEST,
SINGLE AP VIEW") is what it contains: rules of the public MIMIC-CXR section parser, whose own reading of a
report is `radlearn.data.mimic_reports`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from radlearn.data._section_names import ALIASES, CONTAINED, VIEW_TITLES

Fallback = Literal["none", "findings", "last_paragraph"]

_VIEWS_ALONE = frozenset({"ap", "pa"})  # too short to be looked for inside a header
# Words too common in prose to be headers unless a colon follows them.
_NEED_COLON = frozenset({"imp", "study", "exam", "views", "summary", "opinion", "history", "procedure"})
# What these hold is about the report, not in it.
_NO_BODY = frozenset({"signature", "recommendation", "notification", "addendum", "wet_read"})

_MAX_WORDS = 6  # of an unknown header
_MAX_KNOWN = max(len(spelling.split()) for spelling in ALIASES)
_MAX_LENGTH = 80  # characters of the longest header; bounds the work a colon can cause
# Possessive quantifiers throughout: a line is read once, whatever it holds.
_WORDS = rf"((?:[^\W\d_]|[()/,&-])++(?:[ ]++(?:[^\W\d_]|[()/,&-])++){{0,{_MAX_KNOWN - 1}}}+)"
_LINE_HEADER = re.compile(rf"[ ]*+{_WORDS}[ ]*+:")
_LEADING_WORDS = re.compile(rf"[ ]*+{_WORDS}")
_DASH = re.compile(r"[ ]++[-–—]++(?:[ ]|$)")
# Capitalised: "as dictated by the clinical course" is prose.
_SIGNATURE = re.compile(
    r"(?<![^\s:.;])(?=[A-Z])(?i:electronically signed\b|end of (?:impression|report|addendum)\b|"
    r"(?:electronically )?(?:signed|dictated|transcribed|approved|interpreted|read) by\b)"
)
_DEIDENTIFIED = re.compile(r"_{2,}|(?<![^\W_])X{4,}(?![^\W_])|\[\*\*[^\[\]]{0,200}\*\*\]")
_SPACE_BEFORE_STOP = re.compile(r"(?<!\s)[ ]++(?=[.,;])")
_ENUMERATION = re.compile(
    r"(?m)(?:^[ ]*+|(?<=[.;!?])[ ]++)"
    r"(?:\(?\d{1,2}(?:[.)](?:[ ]++|$)|\.(?=[^\W\d]))|[-*•](?:[ ]++|$))++"
)
_BOUNDARY = re.compile(r"[.:;]")  # no header holds one
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")
_COMPARES = re.compile(
    r"\b(?:unchanged|change[sd]? (?:from|since)|no (?:\w+ )?change|interval|stable|previous(?:ly)?|prior|"
    r"compared? (?:to|with)|comparison|since the|again (?:seen|noted|demonstrated)|new(?:ly)?|"
    r"persist(?:s|ent|ing)?|worsen(?:s|ed|ing)|improv(?:ed|ing|ement)|(?:has|have) (?:increased|decreased)|"
    r"resolv(?:ed|ing)|remains?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Section:
    """One section of a report: its canonical name, and its text with its own line breaks.

    `name` is canonical (`impression`, `findings`, ...) for a known header, else the header in lower case;
    what precedes the first header is called `preamble`.
    """

    name: str
    text: str


def sections(report: str) -> list[Section]:
    """Split a report at its headers; empty sections are kept, an empty preamble is not."""
    found: list[tuple[str, list[str]]] = [("preamble", [])]
    for line in _lines(report):
        rest = line
        if header := _header_at_start(line):
            found.append((header[0], []))
            rest = line[header[1] :]
        for name, piece in _split_inside(rest):
            if name is not None:
                found.append((name, []))
            found[-1][1].append(piece)
    result = [Section(name, "\n".join(lines).strip()) for name, lines in found]
    return result if result[0].text else result[1:]


def impression(
    report: str,
    *,
    fallback: Fallback = "none",
    strip_enumeration: bool = False,
    deid: Literal["keep", "remove"] = "keep",
    drop_comparison: bool = False,
) -> str | None:
    """The last impression of a report that holds a word, on one line; None if there is none.

    An impression inside an addendum counts only if there is no other.

    Args:
        report: the whole report.
        fallback: what stands in for a missing impression: nothing (`none`), the `findings`, or the findings
            and failing that the `last_paragraph`: what follows the first blank line of the last section.
        strip_enumeration: remove list numbers and bullets.
        deid: keep or remove marks of de-identification: `___`, `XXXX`, `[** ... **]`.
        drop_comparison: leave out sentences that compare with an earlier study.
    """
    if deid == "remove":  # before sectioning: removed marks must not build a header
        report = _without_marks(report)
    parts = sections(report)
    candidates = _impressions(parts)
    if fallback in ("findings", "last_paragraph"):
        candidates += _named(parts, "findings")
    if fallback == "last_paragraph":
        candidates += _last_paragraph(parts)
    for text in candidates:
        line = clean(text, strip_enumeration=strip_enumeration, drop_comparison=drop_comparison)
        if line := _before_header(line):
            return line
    return None


def findings(report: str) -> str | None:
    """The last findings section that holds a word, on one line; None if there is none."""
    return next(
        (line for t in _named(sections(report), "findings") if (line := _before_header(clean(t)))), None
    )


def last_paragraph(report: str) -> str | None:
    """What follows the first blank line of the last section, on one line; None if it holds no word.

    Of a report without any header it is the whole. Sections about the report are not looked at:
    recommendation, notification, addendum, wet read, signature.
    """
    return next((line for t in _last_paragraph(sections(report)) if (line := _before_header(clean(t)))), None)


def clean(
    text: str,
    *,
    strip_enumeration: bool = False,
    deid: Literal["keep", "remove"] = "keep",
    drop_comparison: bool = False,
) -> str | None:
    """A section's text on one line, by the policies of `impression`; None if no word is left."""
    if deid == "remove":
        text = _without_marks(text)
    if strip_enumeration:  # by lines, then by sentences: a number may stand alone on its line
        text = _ENUMERATION.sub(" ", _one_line(_ENUMERATION.sub(" ", "\n".join(_lines(text)))))
    text = _one_line(text)
    if drop_comparison:
        text = " ".join(s for s in _SENTENCE_END.split(text) if not _COMPARES.search(s))
    return _with_words(text)


def _before_header(line: str | None) -> str | None:
    """Cut one line at a header that only joining the lines made: a name and its colon may be on two lines."""
    return line and _with_words(_split_inside(line)[0][1].strip())


def _with_words(text: str) -> str | None:
    return text if any(character.isalpha() for character in text) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _without_marks(text: str) -> str:
    return _SPACE_BEFORE_STOP.sub("", _DEIDENTIFIED.sub(" ", text))


def _lines(report: str) -> list[str]:
    # Not str.splitlines: form feeds and line separators inside a sentence are spaces, not lines.
    text = report.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[^\S\n]", " ", text).split("\n")


def _key(words: str) -> str:
    """A header as the alias table holds it: lower case, `and` for `&`, no space around a slash."""
    plain = " ".join(words.replace("&", " and ").lower().split())
    return plain.replace(" / ", "/").replace(" /", "/").replace("/ ", "/")


def _canonical(words: str) -> str:
    key = _key(words)
    if key in ALIASES:
        return ALIASES[key]
    # In capitals these are headers by their form; "Chest:" in an impression is prose.
    if contained := next((word for word in CONTAINED if word in key), None):
        return ALIASES[contained]
    return "findings" if key in _VIEWS_ALONE or any(title in key for title in VIEW_TITLES) else key


def _is_capital(words: str) -> bool:
    return words.upper() == words and sum(c.isalpha() for c in words) > 1


def _is_unknown_header(words: str) -> bool:
    return len(words) <= _MAX_LENGTH and len(words.split()) <= _MAX_WORDS and _is_capital(words)


def _header_at_start(line: str) -> tuple[str, int] | None:
    """The header that opens a line -> (canonical name, where the text begins)."""
    match = _LINE_HEADER.match(line)
    if match and (_key(match[1]) in ALIASES or _is_unknown_header(match[1])):
        return _canonical(match[1]), match.end()
    return _header_without_colon(line)


def _header_without_colon(line: str) -> tuple[str, int] | None:
    match = _LEADING_WORDS.match(line[: 2 * _MAX_LENGTH])
    if match is None:
        return None
    words = list(re.finditer(r"\S+", match[1]))
    for last in reversed(words):
        name = match[1][: last.end()].rstrip("-–— ")
        key = _key(name)
        if key not in ALIASES or key in _NEED_COLON or not name[0].isupper():
            continue
        rest = line[match.start(1) + len(name) :]
        if not rest.strip():
            return ALIASES[key], len(line)
        if dash := _DASH.match(rest):
            return ALIASES[key], len(line) - len(rest) + dash.end()
        if _is_capital(name) and rest[0] == " " and any(c.islower() for c in rest):
            return ALIASES[key], len(line) - len(rest)
    return None


def _split_inside(text: str) -> list[tuple[str | None, str]]:
    """Cut a line at the known headers inside it -> [(name or None for what precedes the first, text)]."""
    signatures = [(match.start(), match.end(), "signature") for match in _SIGNATURE.finditer(text)]
    # "END OF IMPRESSION:" is both: the longer cut comes first.
    cuts = sorted([*_headers_inside(text), *signatures], key=lambda cut: (cut[0], -cut[1]))
    pieces: list[tuple[str | None, str]] = []
    name: str | None = None
    start = 0
    for begin, end, following in cuts:
        if begin >= start:
            pieces.append((name, text[start:begin]))
            name, start = following, end
    return [*pieces, (name, text[start:])]


def _headers_inside(text: str) -> Iterator[tuple[int, int, str]]:
    """For each colon the longest known name in capitals before it -> (begin, end, canonical name)."""
    colon = text.find(":")
    while colon >= 0:
        before = text[max(0, colon - _MAX_LENGTH) : colon]
        spaces = len(before) - len(before.rstrip(" "))
        before = _BOUNDARY.split(before.rstrip(" "))[-1]
        words = before.split(" ")[-_MAX_KNOWN:] if before[-1:].isupper() or before[-1:] == ")" else []
        for count in range(len(words), 0, -1):
            name = " ".join(words[-count:])
            if _is_capital(name) and _key(name) in ALIASES:
                yield colon - spaces - len(name), colon + 1, ALIASES[_key(name)]
                break
        colon = text.find(":", colon + 1)


def _impressions(parts: list[Section]) -> list[str]:
    """Texts of the impressions, best first: the last of the report itself, then those of an addendum."""
    own: list[str] = []
    added: list[str] = []
    in_addendum = False
    for part in parts:
        if part.name == "addendum":
            in_addendum = True
        elif part.name in ("report", "examination"):
            in_addendum = False  # MIMIC-CXR prints an addendum above the report it belongs to
        elif part.name == "impression":
            (added if in_addendum else own).append(part.text)
    return own[::-1] + added[::-1]


def _named(parts: list[Section], name: str) -> list[str]:
    return [part.text for part in reversed(parts) if part.name == name]


def _last_paragraph(parts: list[Section]) -> list[str]:
    """What follows the first blank line of the last section; all of a report that has neither."""
    body = [part for part in parts if part.name not in _NO_BODY]
    if not body:
        return []
    paragraphs = re.split(r"\n *\n", body[-1].text, maxsplit=1)
    if len(paragraphs) == 2:
        return [paragraphs[1]]
    return paragraphs if body[-1].name in ("preamble", "report") else []
