"""How `finding_labels` reads one sentence: phrases to events, then one pass a clause with the open scopes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from radlearn.data import _finding_phrases as phrases

_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+|[,;:./]")
_IRREGULAR = {
    "pneumothoraces": "pneumothorax", "hydropneumothoraces": "hydropneumothorax", "metastases": "metastasis",
    "atelectases": "atelectasis", "prostheses": "prosthesis",
}  # fmt: skip
_LOOK_AHEAD = 20  # words a comma looks ahead; with _LOOK_BACK it bounds the work a word can cause
_LOOK_BACK = 12  # findings that one trigger reaches back to
_OR_GAP = 6  # words between two findings that an "or" makes alternatives
_STATE_GAP = 8  # words between a subject and its state: "heart size and pulmonary vascularity are normal"
_NEW_STATEMENT = ("mention", "verb", "comma")  # no state is looked for beyond one of these
_STATE_VALUES = {
    ("Cardiomegaly", "enlarged"): 1,
    ("Cardiomegaly", "prominent"): -1,
    ("Enlarged Cardiomediastinum", "enlarged"): 1,
    ("Enlarged Cardiomediastinum", "prominent"): 1,
    ("Cardiomegaly", "borderline"): -1,
    ("Enlarged Cardiomediastinum", "borderline"): -1,
    ("Cardiomegaly", "normal"): 0,
    ("Enlarged Cardiomediastinum", "normal"): 0,
}


@dataclass
class Found:
    """A mention: its words [start, end), the labels it is about, and what it says about them: 1, 0 or -1."""

    start: int
    end: int
    labels: tuple[str, ...]
    value: int


class _Event(NamedTuple):
    """A known phrase in a sentence: words [start, end), and kind -> the labels or states it stands for."""

    start: int
    end: int
    kinds: Mapping[str, tuple[str, ...]]


class _Clause(NamedTuple):
    """The events between two words that end every scope, and the word where the clause ends."""

    events: list[_Event]
    end: int


def words_of(sentence: str) -> tuple[str, ...]:
    """Lower-case words and punctuation; hyphens are spaces, plurals and third persons folded."""
    return tuple(_lemma(word) for word in _WORD.findall(sentence.lower()))


def read(words: tuple[str, ...]) -> list[Found]:
    """Everything that the words of a sentence say about findings, in their order."""
    found: list[Found] = []
    for clause in _clauses(words):
        found += _read_mentions(clause, words)
        found += _read_states(clause.events)
    return sorted(found, key=lambda one: one.start)


def _clauses(words: tuple[str, ...]) -> Iterator[_Clause]:
    events: list[_Event] = []
    for event in _events(words):
        if "stop" in event.kinds:
            yield _Clause(events, event.start)
            events = []
        else:
            events.append(event)
    yield _Clause(events, len(words))


def _events(words: tuple[str, ...]) -> Iterator[_Event]:
    """The longest known phrase at each word; phrases do not overlap."""
    at = 0
    while at < len(words):
        end = at + 1
        for rest, kinds in _LEXICON.get(words[at], ()):
            if words[at + 1 : at + 1 + len(rest)] == rest:
                end = at + 1 + len(rest)
                yield _Event(at, end, kinds)
                break
        at = end


def _read_mentions(clause: _Clause, words: tuple[str, ...]) -> list[Found]:
    """One pass: an open scope holds for the mentions after it, a trigger that looks back for those before."""
    found: list[Found] = []
    negated = doubted = overruled = imagined = alternative = listed = False
    statement = verb = 0  # how many mentions lie before the last statement, before its verb
    for position, event in enumerate(clause.events):
        kinds = event.kinds
        if "mention" in kinds:
            if not imagined:
                value = -1 if overruled or (doubted and not negated) else 0 if negated else 1
                new = Found(event.start, event.end, kinds["mention"], value)
                if alternative and found and new.start - found[-1].end <= _OR_GAP:
                    _make_alternatives(found[-1], new)
                found.append(new)
                statement = verb
            alternative = False
            continue
        backward = bool(found) and not _is_before_mention(clause.events, position)
        reached = found[max(statement, len(found) - _LOOK_BACK) :]
        if "negation after" in kinds and backward:
            for one in reached:
                one.value = 0 if one.value == 1 else one.value
        elif "doubt after" in kinds and backward:
            for one in reached:
                one.value = -1
        elif "negation" in kinds:
            negated = True
        elif "doubt over negation" in kinds:
            overruled = True
        elif "doubt" in kinds:
            doubted = True
        elif "hypothetical" in kinds:
            imagined = True
        if "unchanged" in kinds:
            listed = True  # "no change in effusion or edema": both are there
        if "or" in kinds:
            alternative = not listed
        if "verb" in kinds:
            verb = len(found)
        if "subject" in kinds:
            statement = verb = len(found)
        if "cause" in kinds:
            negated = False
        ahead = min(clause.end, event.end + _LOOK_AHEAD)
        if "joint" in kinds and found and _opens_statement(words[event.end : ahead]):
            negated = doubted = overruled = False
    return found


def _is_before_mention(events: Sequence[_Event], position: int) -> bool:
    """Whether a mention comes next and close by: "possible effusion", not "effusion possible"."""
    following = events[position + 1] if position + 1 < len(events) else None
    return (
        following is not None and "mention" in following.kinds and following.start - events[position].end <= 3
    )


def _make_alternatives(one: Found, other: Found) -> None:
    """Make both uncertain ("atelectasis or infiltrate"), unless they are one finding or are denied."""
    if one.value == other.value == 1 and not set(one.labels) & set(other.labels):
        one.value = other.value = -1


def _opens_statement(rest: tuple[str, ...]) -> bool:
    """Whether the words after a comma, "and" or "with" report what is there, after a list of what is not."""
    if not rest or "or" in rest:
        return False
    chunk = itertools.takewhile(lambda word: word not in (",", "and"), rest)
    return not phrases.SIZES.isdisjoint(rest[:2]) or any(word in phrases.PRESENT for word in chunk)


def _read_states(events: Sequence[_Event]) -> list[Found]:
    """Statements about size: a subject has the state right before it, else the next, else the last one."""
    found = []
    for position, event in enumerate(events):
        if "subject" in event.kinds and (at := _state_of(events, position)) is not None:
            state, between = events[at], events[min(at, position) + 1 : max(at, position)]
            before = events[at - 1] if at else None
            name = state.kinds["state"][0]
            denied = any("negation" in one.kinds for one in between) or (
                before is not None and "negation" in before.kinds and state.start - before.end <= 3
            )
            doubted = any("doubt" in one.kinds for one in between)
            for label in event.kinds["subject"]:
                value = _STATE_VALUES[label, name]
                if value and denied:
                    value = 0
                elif value and doubted:
                    value = -1
                found.append(Found(event.start, event.end, (label,), value))
    return found


def _state_of(events: Sequence[_Event], position: int) -> int | None:
    """Position of the state that a subject is in."""
    subject = events[position]
    if position and "state" in events[position - 1].kinds and subject.start - events[position - 1].end <= 1:
        return position - 1
    for at in range(position + 1, len(events)):
        if events[at].start - subject.end > _STATE_GAP or "mention" in events[at].kinds:
            break
        if "state" in events[at].kinds:
            return at
    for at in range(position - 1, -1, -1):
        far = subject.start - events[at].end > _STATE_GAP
        if far or not events[at].kinds.keys().isdisjoint(_NEW_STATEMENT):
            break
        if "state" in events[at].kinds:
            return at
    return None


def _lemma(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "xes")) else word[:-1]


_Kinds = dict[str, tuple[str, ...]]


def _lexicon() -> dict[str, list[tuple[tuple[str, ...], _Kinds]]]:
    """First word -> [(the words after it, what the phrase is)], the longest first."""
    table: dict[tuple[str, ...], _Kinds] = {}

    def add(kind: str, lines: Iterable[str], what: str = "") -> None:
        for line in lines:
            for phrase in phrases.expand(line):
                kinds = table.setdefault(tuple(map(_lemma, phrase)), {})
                kinds[kind] = tuple(dict.fromkeys((*kinds.get(kind, ()), what)))

    for kind, by_name in phrases.NAMED.items():
        for name, lines in by_name.items():
            add(kind, lines, name)
    for kind, lines in phrases.TRIGGERS.items():
        add(kind, lines)
    lexicon: dict[str, list[tuple[tuple[str, ...], _Kinds]]] = {}
    for phrase, kinds in table.items():
        lexicon.setdefault(phrase[0], []).append((phrase[1:], kinds))
    for readings in lexicon.values():
        readings.sort(key=lambda reading: -len(reading[0]))
    return lexicon


_LEXICON = _lexicon()
