"""The text side of a run: a frozen encoder with cached features, or one that learns; each row's text."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from radlearn.data.dataset import Texts
from radlearn.data.report_tokens import ReportTokens
from radlearn.data.sentences import split
from radlearn.data.text_cache import TextCache
from radlearn.encoders import _text_model, _token_model
from radlearn.encoders.base import TextEncoder, TokenEncoder
from radlearn.errors import DataError, nearest
from radlearn.ranks import is_main_process
from radlearn.records import Tokens

logger = logging.getLogger("radlearn")


@dataclass(frozen=True)
class TextSide:
    """A frozen text encoder with its cache.

    Attributes:
        settings: the resolved `text` settings, `auto` replaced.
        encoder: the encoder.
        cache: its features on disk.
    """

    settings: dict[str, Any]
    encoder: TextEncoder
    cache: TextCache

    @property
    def name(self) -> str:
        """Name and head of the weights' hash."""
        return _text_model.describe(self.encoder)

    def groups(self, texts: Sequence[Sequence[str]]) -> list[Tensor]:
        """Features of several lists of texts, encoded together."""
        flat = self.features([text for several in texts for text in several])
        return list(torch.split(flat, [len(several) for several in texts]))

    def features(self, texts: Sequence[str]) -> Tensor:
        """(N, width) features, with a progress bar for those that are not cached yet.

        Encoded on the accelerator if there is one, which is given back for training.
        """
        if torch.cuda.is_available():
            self.encoder.to("cuda")
        try:
            return self._encode(texts)
        finally:
            self.encoder.to("cpu")

    def _encode(self, texts: Sequence[str]) -> Tensor:
        console = Console(stderr=True)
        if not console.is_terminal or not is_main_process():
            return self.cache.encode(texts)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("encoding texts", total=None)
            return self.cache.encode(
                texts, lambda done, total: progress.update(task, completed=done, total=total)
            )


def open_text(text: Mapping[str, Any], cache: Path, *, synthetic: bool) -> TextSide:
    """The text side of `text` settings."""
    settings = _text_model.resolve(text, synthetic=synthetic)
    encoder = _text_model.build(settings)
    return TextSide(settings, encoder, TextCache(cache / "text", encoder))


@dataclass(frozen=True)
class TokenSide:
    """A text encoder that learns with the objective: its "features" of texts are their tokens.

    Attributes:
        settings: the `text` settings.
        encoder: the encoder, which the objective holds too.
    """

    settings: dict[str, Any]
    encoder: TokenEncoder

    @property
    def name(self) -> str:
        """Name and head of the hash of what it starts from."""
        return _text_model.describe(self.encoder)

    def groups(self, texts: Sequence[Sequence[str]]) -> list[Tokens]:
        """Tokens of several lists of texts."""
        return [self.features(several) for several in texts]

    def features(self, texts: Sequence[str]) -> Tokens:
        """Tokens of N texts."""
        return self.encoder.tokens(texts)


def open_tokens(text: Mapping[str, Any], texts: Iterable[str], checkpoint: Path | None) -> TokenSide:
    """The text side of a method that trains its text encoder.

    Args:
        text: `text` settings.
        texts: the training texts, whose words a `tiny` encoder knows.
        checkpoint: of the run that goes on, whose encoder is built again.
    """
    built = _token_model.build(text, texts) if checkpoint is None else _token_model.restore(text, checkpoint)
    return TokenSide(dict(text), built)


def report_sentences(rows: pl.DataFrame, column: str) -> list[list[str]]:
    """The sentences of each row's text; an empty list where it has none.

    Args:
        rows: a manifest table.
        column: of texts, which are split; or `sentences`, which the data set tells.

    Raises:
        DataError: if there is no such column.
    """
    _require_text(rows, column)
    if column == "sentences":
        told = rows["sentences"].to_list()
        return [[s["text"] for s in cell or [] if s["text"] and s["text"].strip()] for cell in told]
    unique = rows[column].unique().drop_nulls().to_list()
    of_text = {text: split(text) for text in unique}
    return [of_text.get(text, []) for text in rows[column]]


def report_texts(rows: pl.DataFrame, column: str) -> list[str]:
    """The text of each row; empty where it has none. Told sentences are paragraphs."""
    if column == "sentences":
        # A blank line keeps sentences apart that end without a stop, wherever the text is split again.
        return ["\n\n".join(sentences) for sentences in report_sentences(rows, column)]
    _require_text(rows, column)
    return [text.strip() if text is not None else "" for text in rows[column].to_list()]


def _require_text(rows: pl.DataFrame, column: str) -> None:
    if column in rows.columns:
        return
    known = [name for name in ("impression", "findings", "report", "sentences") if name in rows.columns]
    raise DataError(
        f"the data set has no text column '{column}': it has "
        f"{', '.join(known) or 'none'}{nearest(column, known)}; set text.column"
    )


def row_tokens(
    sentences: Sequence[Sequence[str]], side: TokenSide, *, augment: str, seed: int
) -> ReportTokens:
    """The texts of rows as tokens; rows with the same sentences share them."""
    unique: dict[tuple[str, ...], int] = {}
    index = np.array([unique.setdefault(tuple(s), len(unique)) for s in sentences], dtype=np.int64)
    encoder = side.encoder
    return ReportTokens(list(unique), index, encoder.tokenise, encoder.vocabulary, augment=augment, seed=seed)


def row_features(rows: pl.DataFrame, column: str, side: TextSide) -> tuple[np.ndarray, Texts]:
    """Features of the rows' texts.

    Returns:
        positions (n,) of the rows that have a text, and their `Texts`.
    Raises:
        DataError: if there is no such column, or no text in it.
    """
    texts = report_texts(rows, column)
    positions = positions_with_text(texts, column)
    unique: dict[str, int] = {}
    index = np.array([unique.setdefault(texts[i], len(unique)) for i in positions], dtype=np.int64)
    return positions, Texts(side.features(list(unique)), index)


def positions_with_text(texts: Sequence[Any], column: str) -> np.ndarray:
    """Positions (n,) of the rows whose text, or list of sentences, is not empty.

    Raises:
        DataError: if there is none.
    """
    positions = np.array([i for i, text in enumerate(texts) if text], dtype=np.int64)
    if len(positions) == 0:
        raise DataError(
            f"no row of the split has a text in '{column}'; set text.column, or data.report_col for a table"
        )
    return positions
