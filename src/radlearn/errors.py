"""Errors that a user can act on: the command line prints them without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RadlearnError(Exception):
    """What was wanted, what came, and what to do, in one message."""


class ConfigurationError(RadlearnError):
    """A key or value of the configuration that cannot be used."""


class DataError(RadlearnError):
    """Data that is missing, malformed or inconsistent."""


class TrainingError(RadlearnError):
    """A run that cannot go on: a non-finite loss, too little memory."""


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The hint `; did you mean 'x'?` for a mistyped word, or an empty string."""
    match = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean '{match[0]}'?" if match else ""
