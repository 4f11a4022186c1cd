"""A text model that needs no file: hashed words and word pairs, for a bare install."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from radlearn.encoders.base import TextEncoder

_WORD = re.compile(r"[a-z0-9]+")


class HashedText(TextEncoder):
    """Signed feature hashing of words and neighbouring word pairs, log-damped counts, unit length.

    It knows no synonyms: "enlarged heart" and "cardiomegaly" share nothing. Nothing is fitted, so the
    features of a text never depend on other texts.

    Args:
        width: number of features.
    Source: Weinberger et al. 2009, arXiv:0902.2206.
    """

    def __init__(self, *, width: int = 512) -> None:
        super().__init__()
        self.width = width
        self.identity = {"name": "hashed_text", "version": 1, "width": width}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (N, width) float32."""
        features = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in zip(features, texts, strict=True):
            words = _WORD.findall(text.lower())
            for term in (*words, *map(" ".join, pairwise(words))):
                digest = int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "little")
                row[digest % self.width] += 1.0 if digest >> 63 else -1.0
        features = np.sign(features) * np.log1p(np.abs(features))
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        return torch.from_numpy(features / np.maximum(norms, 1e-12))
