"""Cells of a user's table: text, numbers, words for splits, boxes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import polars as pl

from radlearn.errors import DataError

BOX_FORMS = ("xywh", "xyxy")
_NUMBER = r"\s*[-+\d.eE]+\s*"
_LOVT_BOX = re.compile(rf"{_NUMBER}(?:;{_NUMBER}){{3}}")
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validate", "validation", "valid", "val", "dev"), "validate"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def as_text(column: pl.Series) -> pl.Series:
    """Cells as trimmed strings, null where blank; whole floats, as nullable ids become, as whole numbers."""
    if column.dtype.is_float() and (column.is_null() | (column == column.round())).all():
        column = column.cast(pl.Int64)
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def numbers(cell: pl.Expr) -> pl.Expr:
    """Text such as `1, 2.5`, `[1 2.5]` or `1;2.5` as a list of numbers; what is none becomes null in it."""
    plain = cell.str.strip_chars(" \t[](){}").str.replace_all(r"[,;\s]+", " ").str.strip_chars(" ")
    return plain.str.split(" ").list.eval(pl.element().cast(pl.Float64, strict=False))


def parse_splits(cells: pl.Series, path: Path, column: str) -> pl.Series:
    """Words for splits as train, validate and test.

    Args:
        cells: words in any case.
        path, column: where they stand, for the message.

    Raises:
        DataError: for any other word; names the row.
    """
    splits = cells.str.to_lowercase().replace_strict(_SPLIT_WORDS, default=None, return_dtype=pl.String)
    sound = splits.is_not_null()
    first_wrong(cells, sound, path, column, f"a split is one of {', '.join(_SPLIT_WORDS)}")
    return splits


def first_wrong(cells: pl.Series, sound: pl.Series, path: Path, column: str, wanted: str) -> None:
    """Refuse the first cell that is neither blank nor sound.

    Raises:
        DataError: names the column, the value and its row, counted from 1, and says what was wanted.
    """
    wrong = cells.is_not_null() & ~sound.fill_null(False)
    if wrong.any():
        row = wrong.to_list().index(True)
        shown = str(cells[row])
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise DataError(f"{path}: column '{column}' holds '{shown}' in row {row + 1}; {wanted}")


def parse_boxes(cell: Any, form: str = "xywh") -> list[dict[str, Any]]:
    """The boxes of one cell, each with x, y, w, h in pixels and class, None where the cell tells none.

    | cell | |
    |---|---|
    | `[[1, 2, 30, 40, "mass"], ...]`, `[{"x": 1, "y": 2, "w": 30, "h": 40, "class": "mass"}]` | JSON |
    | `1;2;30;40|5;6;70;80` | LoVT's csv |
    | `1 2 30 40 mass|5 6 70 80 pleural effusion` | x y w h class; `;` separates boxes too |

    Args:
        cell: a text, or lists as typed files hold them; None and blank are no boxes.
        form: `xywh`, or `xyxy`, whose last two numbers are right and bottom.

    Raises:
        ValueError: says which part is no box.
    """
    if isinstance(cell, str):
        text = cell.strip()
        items = json.loads(text) if text.startswith("[") else _split_boxes(text)
    else:
        items = list(cell) if cell is not None else []
    if items and all(isinstance(item, int | float) for item in items):
        items = [items]  # one box, not nested
    return [_box(item, form) for item in items]


def _split_boxes(text: str) -> list[list[str]]:
    pieces: list[list[str]] = []
    for part in text.split("|"):
        if _LOVT_BOX.fullmatch(part):
            pieces.append(part.split(";"))
        else:
            pieces += [re.split(r"[\s,]+", piece.strip(), maxsplit=4) for piece in part.split(";")]
    return [piece for piece in pieces if piece != [""]]


def _box(item: Any, form: str) -> dict[str, Any]:
    names = ("x", "y", "w", "h") if form == "xywh" else ("x1", "y1", "x2", "y2")
    if isinstance(item, dict):
        missing = [name for name in names if name not in item]
        if missing:
            raise ValueError(f"a box has {', '.join(names)}, and {missing[0]} is missing")
        parts, name = [item[key] for key in names], item.get("class")
    else:
        parts, name = list(item[:4]), (item[4] if len(item) == 5 else None)
        if not 4 <= len(item) <= 5:
            raise ValueError(f"a box is {' '.join(names)} and perhaps a class, got {item}")
    try:
        x, y, w, h = map(float, parts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a box is four numbers {' '.join(names)}, got {parts}") from error
    if not all(map(math.isfinite, (x, y, w, h))):
        raise ValueError(f"a box is four finite numbers {' '.join(names)}, got {parts}")
    if form == "xyxy":
        w, h = w - x, h - y
    return {"x": x, "y": y, "w": w, "h": h, "class": None if name is None else str(name).strip() or None}
