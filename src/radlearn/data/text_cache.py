"""Features of frozen text, computed once: the training step gathers rows and never runs the text encoder.

One folder a text encoder (keyed by everything its features depend on), append-only parquet parts keyed by the
hash of the text, so that nothing but hashes and features is stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

_TEXTS_A_PART = 4096


class Encodes(Protocol):
    """What the cache asks of a text encoder."""

    width: int
    identity: dict[str, object]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (N, width)."""


def text_hash(text: str) -> str:
    """Hash of one text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def identity_hash(identity: dict[str, object]) -> str:
    """Hash of everything an encoder's features depend on."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()


class TextCache:
    """Frozen text features on disk.

    Args:
        folder: the cache's root, or None to keep the features in memory only.
        encoder: the text encoder, called for texts that are not stored yet.
        batch_size: texts encoded in one call; they are sorted by length, so little is padded.
    """

    def __init__(self, folder: Path | None, encoder: Encodes, *, batch_size: int = 64) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        self.folder = None if folder is None else folder / identity_hash(encoder.identity)
        self._features: dict[str, np.ndarray] = {}
        if self.folder is not None and self.folder.is_dir():
            for part in sorted(self.folder.glob("*.parquet")):
                table = pl.read_parquet(part)
                self._features.update(zip(table["hash"], table["feature"].to_numpy(), strict=True))

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Features of the texts, in their order: (N, width) float32. Repeated texts are encoded once."""
        hashes = [text_hash(text) for text in texts]
        missing = {h: text for h, text in zip(hashes, texts, strict=True) if h not in self._features}
        if missing:
            self._add(missing, progress)
        return torch.from_numpy(np.stack([self._features[h] for h in hashes]).astype(np.float32))

    def _add(self, missing: dict[str, str], progress: Callable[[int, int], None] | None) -> None:
        by_length = sorted(missing.items(), key=lambda item: len(item[1]))
        unwritten: dict[str, np.ndarray] = {}
        for start in range(0, len(by_length), self.batch_size):
            part = by_length[start : start + self.batch_size]
            features = self.encoder.encode([text for _, text in part]).cpu().numpy().astype(np.float32)
            unwritten.update(zip([h for h, _ in part], features, strict=True))
            done = start + len(part)
            # Now and then: a killed process loses minutes of encoding, not hours.
            if len(unwritten) >= _TEXTS_A_PART or done == len(by_length):
                if self.folder is not None:
                    self._write(unwritten)
                self._features.update(unwritten)
                unwritten = {}
            if progress is not None:
                progress(done, len(by_length))

    def _write(self, new: dict[str, np.ndarray]) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        identity = self.folder / "encoder.json"
        if not identity.exists():
            _replace(identity, json.dumps(self.encoder.identity, indent=1).encode())
        name = text_hash("".join(sorted(new)))
        temporary = self.folder / f".{name}.{os.getpid()}"
        table = pl.DataFrame(
            {"hash": list(new), "feature": np.stack(list(new.values()))},
            schema={"hash": pl.String, "feature": pl.Array(pl.Float32, self.encoder.width)},
        )
        table.write_parquet(temporary)
        temporary.replace(self.folder / f"{name}.parquet")


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
