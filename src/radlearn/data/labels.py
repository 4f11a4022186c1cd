"""Labels in CheXpert coding and their policies: 1 positive, 0 negative, -1 uncertain, blank not mentioned.

Blank and uncertain stay apart until a policy maps each. NOVA's default maps both to negative.
"""

from __future__ import annotations

from typing import Literal, get_args

import polars as pl

from radlearn.errors import ConfigurationError, DataError, nearest

Uncertain = Literal["zeros", "ones", "ignore", "soft", "keep"]
Blank = Literal["zeros", "ignore"]
UNCERTAIN = get_args(Uncertain)
BLANK = get_args(Blank)
CODES = (1.0, 0.0, -1.0)
SOFT = 0.5

_UNCERTAIN_VALUES = {"zeros": 0.0, "ones": 1.0, "ignore": None, "soft": SOFT, "keep": -1.0}
_MISSING_WORDS = ["", "nan", "na", "null", "none"]
_TRUTH_WORDS = {"true": "1", "false": "0"}


def parse_labels(column: pl.Series, source: str) -> pl.Series:
    """Label cells of any type -> float32 in {1, 0, -1, null}; blank cells and NaN are null.

    Args:
        column: strings ("1", "0.0", "-1.0", ""), numbers or booleans.
        source: the file, for the message.

    Raises:
        DataError: for any other value; names the column, the value and its row, counted from 1.
    """
    if column.dtype == pl.String:
        words = column.str.strip_chars().str.to_lowercase().replace(_TRUTH_WORDS)
        cells = words.set(words.is_in(_MISSING_WORDS), None)
        values = cells.cast(pl.Float32, strict=False)
    else:
        cells = column
        values = column.cast(pl.Float32, strict=False).fill_nan(None)
    unread = values.is_null() & cells.is_not_null() & (cells.cast(pl.String) != "NaN")
    wrong = (unread | ~values.is_in(CODES)).fill_null(False)
    if wrong.any():
        row = wrong.to_list().index(True)
        raise DataError(
            f"{source}: label column '{column.name}' holds {column[row]!r} in row {row + 1}; "
            "labels are 1, 0, -1 (uncertain) or blank (not mentioned)"
        )
    return values


def apply_policy(column: pl.Series, *, uncertain: str = "zeros", blank: str = "zeros") -> pl.Series:
    """Map labels in {1, 0, -1, null} by policy.

    Args:
        column: float32 labels.
        uncertain: what -1 becomes: `zeros` 0, `ones` 1, `ignore` null (left out of losses and metrics),
            `soft` 0.5 (a target for training losses; metrics refuse it), `keep` -1.
        blank: what null becomes: `zeros` 0, `ignore` null.
    """
    check_policy(uncertain, blank)
    blanks, unsure = column.is_null(), column == -1
    mapped = column.set(unsure.fill_null(False), _UNCERTAIN_VALUES[uncertain])
    return mapped.set(blanks, 0.0) if blank == "zeros" else mapped


def check_policy(uncertain: str, blank: str) -> None:
    """Refuse unknown policies with a ConfigurationError."""
    for key, value, known in (("uncertain", uncertain, UNCERTAIN), ("blank", blank, BLANK)):
        if value not in known:
            raise ConfigurationError(
                f"{key} is one of {', '.join(known)}: got '{value}'{nearest(str(value), known)}"
            )
