"""The frozen text side of a run: which encoder, its cached features, and which text each row has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
from radlearn.data.text_cache import TextCache
from radlearn.encoders import _text_model
from radlearn.encoders.base import TextEncoder
from radlearn.errors import DataError, nearest
from radlearn.ranks import is_main_process

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


def training_texts(rows: pl.DataFrame, column: str, side: TextSide) -> tuple[np.ndarray, Texts]:
    """Features of the rows' texts.

    Returns:
        positions (n,) of the rows that have a text, and their `Texts`.
    Raises:
        DataError: if there is no such column, or no text in it.
    """
    if column not in rows.columns:
        known = [name for name in ("impression", "findings", "report") if name in rows.columns]
        raise DataError(
            f"the data set has no text column '{column}': it has "
            f"{', '.join(known) or 'none'}{nearest(column, known)}; "
            "set text.column"
        )
    texts = [text.strip() if text is not None else "" for text in rows[column].to_list()]
    positions = np.array([i for i, text in enumerate(texts) if text], dtype=np.int64)
    if len(positions) == 0:
        raise DataError(
            f"no training row has a text in '{column}'; set text.column, or data.report_col for a table"
        )
    unique: dict[str, int] = {}
    index = np.array([unique.setdefault(texts[i], len(unique)) for i in positions], dtype=np.int64)
    return positions, Texts(side.features(list(unique)), index)
