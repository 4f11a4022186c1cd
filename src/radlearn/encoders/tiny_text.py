"""A small transformer over words, trained from scratch: a text encoder that learns on a CPU."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radlearn.data.report_tokens import Vocabulary
from radlearn.encoders.base import TokenEncoder
from radlearn.errors import DataError

_WORD = re.compile(r"[a-z]+|\d|[^\sa-z\d]")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_FILE = "vocabulary.txt"


class TinyText(TokenEncoder):
    """Words, digits and marks as tokens; a pre-norm transformer with learned positions.

    Args:
        vocabulary: the words it knows, best the commonest of the training texts; others become [UNK].
        folder: read the vocabulary that `save` wrote there instead.
        width: D; num_layers, num_heads: of the transformer.
        dropout: probability, while training.
        max_length: tokens of a text.
        buckets: see `TokenEncoder`.
    """

    def __init__(
        self,
        *,
        vocabulary: Sequence[str] = (),
        folder: str | None = None,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
        max_length: int = 128,
        buckets: int = 1,
    ) -> None:
        super().__init__()
        words = list(vocabulary) if folder is None else _read(Path(folder))
        self.words = [*_SPECIAL, *(word for word in words if word not in _SPECIAL)]
        self._ids = {word: position for position, word in enumerate(self.words)}
        self.vocabulary = Vocabulary(begin=2, end=3, pad=0, max_length=max_length)
        self.width, self.buckets = width, buckets
        self.embedding = nn.Embedding(len(self.words), width, padding_idx=0)
        self.position = nn.Embedding(max_length, width)
        layer = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)
        digest = hashlib.sha256("\n".join(self.words).encode()).hexdigest()
        self.identity: dict[str, Any] = {"name": "tiny_text", "sha256": digest, "max_length": max_length}

    @staticmethod
    def words_of(texts: Iterable[str], *, limit: int = 8192) -> list[str]:
        """The commonest words of texts, by count and then by the alphabet."""
        counts = Counter(word for text in texts for word in _WORD.findall(text.lower()))
        return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]]

    def tokenise(self, sentences: Sequence[str]) -> list[list[int]]:
        """Word ids of each sentence."""
        return [[self._ids.get(word, 1) for word in _WORD.findall(s.lower())] for s in sentences]

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> (B, L, width)."""
        x = self.embedding(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        return self.norm(self.layers(x, src_key_padding_mask=~mask))  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write the vocabulary."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text("\n".join(self.words), encoding="utf-8")


def _read(folder: Path) -> list[str]:
    path = folder / _FILE
    if not path.is_file():
        raise DataError(f"no {_FILE} in {folder}: wanted the vocabulary of a saved text encoder")
    return path.read_text(encoding="utf-8").split("\n")
