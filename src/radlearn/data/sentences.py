"""Sentences of a report: rules, linear in the length of the text (docs/decisions/0005-sentence-splitter.md).

A sentence ends at `.`, `!` or `?` before a space, unless the word there is an abbreviation, an initial or a
list number; at a blank line; and before a line that opens with a list number or a bullet. Neither semicolons
nor single line breaks end one. Joined with spaces, the sentences are the cleaned text, but for a space that
was missing after a stop ("normal.No") and for paragraphs without a word.

Source of the clean-up: LoVT (Müller et al. 2022): line breaks become one space, as do runs of blanks.
"""

from __future__ import annotations

import re

_BULLET = re.compile(r"[-*•]$|\(?\d{1,2}[.)]$")  # the first word of a list item
_LIST_NUMBER = re.compile(r"\(?#?(\d{1,2})\.$")
_MISSING_SPACE = re.compile(r"(?<=[^\W\d_A-Z]{3}|XXX|___)\.(?=[A-Z][a-z])")
_CLOSING = "\"')]}”’»"
_OPENING = "\"'([{“‘«"
_STOPS = ".!?…"
# "a.m", "e.g", "M.D": letters with dots between them, the last dot taken off.
_DOTTED = re.compile(r"[^\W\d_](?:\.[^\W\d_])+$")
_MARK = re.compile(r"_{2,}|X{4,}|\[\*\*")  # of de-identification: it says nothing about a new sentence
# These go before a name or a number, whatever its first letter.
_NEVER_LAST = frozenset(
    {"dr", "drs", "mr", "mrs", "ms", "prof", "st", "vs", "v", "cf", "approx", "fig", "figs", "eg", "ie",
     "e.g", "i.e", "esp", "incl"}
)  # fmt: skip
# These may end a sentence; a capital after them says that they do.
_MAYBE_LAST = frozenset(
    {"mm", "cm", "cc", "ml", "kg", "mg", "hr", "hrs", "min", "max", "sec", "wk", "wks", "mo", "mos", "yr",
     "yrs", "lt", "rt", "l", "r", "lat", "bilat", "ant", "post", "sup", "inf", "resp", "etc", "temp", "wt",
     "vol", "dept", "ed", "prev", "poss", "prob", "jr", "sr"}
)  # fmt: skip
# After a single capital with a dot these open a sentence ("hepatitis C. The"); other capitals are a surname.
_OPENERS = frozenset(
    {"a", "an", "again", "all", "also", "and", "as", "at", "both", "but", "clear", "clinical", "for",
     "findings", "heart", "however", "if", "in", "interval", "it", "left", "lung", "lungs", "mild", "minimal",
     "moderate", "no", "normal", "on", "otherwise", "please", "right", "small", "stable", "that", "the",
     "there", "these", "this", "those", "unchanged", "when", "while", "with", "within"}
)  # fmt: skip
_TOKEN = re.compile(r"\d+(?:[.,/]\d+)*|\w+|[^\w\s]")


def split(text: str) -> list[str]:
    """Sentences of a text, each on one line, in order; none for a text without a word.

    Each sentence splits into itself.
    """
    return [sentence for block in _blocks(text) for sentence in _split_line(block)]


def num_tokens(sentence: str) -> int:
    """Words, numbers and punctuation marks: about the tokens that a treebank tokenizer such as Stanza counts.

    LoVT skips studies of fewer than three.
    """
    return sum(1 for _ in _TOKEN.finditer(sentence))


def _blocks(text: str) -> list[str]:
    """Lines joined as they were wrapped; blank lines and list items begin anew; a missing space is put in."""
    blocks: list[list[str]] = [[]]
    # Not str.splitlines: form feeds and line separators inside a sentence are spaces, not lines.
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        words = _MISSING_SPACE.sub(". ", line).split()
        if not words or (blocks[-1] and len(words) > 1 and _BULLET.match(words[0])):
            blocks.append([])
        blocks[-1] += words
    joined = [" ".join(words) for words in blocks]
    return [block for block in joined if _has_word(block)]


def _split_line(line: str) -> list[str]:
    words = line.split(" ")
    sentences = []
    start = 0
    opened = False  # whether the sentence holds a word yet
    for i, word in enumerate(words[:-1]):
        opened = opened or _has_word(word)
        first = i == start
        if opened and (_ends(word, words[i + 1], first=first) or _next_item(words, start, i)):
            sentences.append(" ".join(words[start : i + 1]))
            start, opened = i + 1, False
    rest = " ".join(words[start:])
    if sentences and not _has_word(rest):  # "abnormality. ."
        sentences[-1] += f" {rest}"
        return sentences
    return [*sentences, rest]


def _ends(word: str, following: str, *, first: bool) -> bool:
    """Whether a sentence ends with `word`, `first` if it is the sentence's first, before `following`."""
    core = word.rstrip(_CLOSING)
    body = core.rstrip(_STOPS)
    stop = core[len(body) :]
    body = body.lstrip(_OPENING)
    if not stop or not _has_word(following):
        return False
    following = following.lstrip(_OPENING)
    capital = following[:1].isupper() and not _MARK.match(following)
    opens = capital or bool(_LIST_NUMBER.match(following))
    if "!" in stop or "?" in stop or "…" in stop or len(stop) > 2:
        return opens or following[:1].isdigit()
    name = body.lower()
    if name in _NEVER_LAST or (name in ("no", "nr") and following[:1].isdigit()):
        return False
    if name in _MAYBE_LAST or _DOTTED.match(body):
        return opens
    if first and (_LIST_NUMBER.match(word) or len(body) == 1):
        return False  # "1." or "A." opens an item
    if len(body) == 1 and body.isupper():
        return not capital or following.lower().rstrip(".,;:") in _OPENERS
    return True


def _next_item(words: list[str], start: int, last: int) -> bool:
    """Whether list item n, which began at `start` and has no stop, ends before the number n + 1."""
    if last + 2 >= len(words) or last == start:
        return False
    own, following = _LIST_NUMBER.match(words[start]), _LIST_NUMBER.match(words[last + 1])
    if own is None or following is None:
        return False
    return int(following[1]) == int(own[1]) + 1 and words[last + 2][:1].isupper()


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text) or "__" in text
