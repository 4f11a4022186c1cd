"""Reports for a text encoder that learns: tokenised once, sentences drawn and joined for each batch.

    [begin] sentence 0 | sentence 1 | ... [end]

Sentences are tokenised alone and joined while the sum of their tokens fits; the first that does not fit and
all later ones are dropped. What is drawn depends on (seed, draw, row) alone, as for views.

Source: LoVT (Müller et al. 2022, arXiv:2112.02889), its collator and its report augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from radlearn.errors import ConfigurationError, DataError, nearest
from radlearn.records import Tokens

AUGMENTATIONS = ("none", "swaps", "one", "crop")
# LoVT, report augmentation: swaps are geometric with this success probability (1.5 on average); a crop keeps
# a run of this share of the sentences.
_SWAP_STOP = 0.4
_CROP = (0.6, 1.0)


@dataclass(frozen=True)
class Vocabulary:
    """What joins tokens into a text.

    Attributes:
        begin, end, pad: ids of the tokens around a text and behind it.
        max_length: tokens of a text, begin and end included.
    """

    begin: int
    end: int
    pad: int
    max_length: int


class ReportTokens:
    """Texts as sentences of token ids, in flat arrays that the loader's workers share.

    Args:
        texts: the sentences of each unique text.
        index: (N,) which text each row has.
        tokenise: sentences -> token ids of each, without begin and end.
        vocabulary: of the text encoder.
        augment: `none`; `swaps`: exchange sentences, 1.5 times on average; `one`: keep one sentence; `crop`:
            keep a run of 60 to 100 % of them.
        seed: of what is drawn.

    Raises:
        DataError: if a text has no sentence with a token.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        index: np.ndarray,
        tokenise: Callable[[Sequence[str]], list[list[int]]],
        vocabulary: Vocabulary,
        *,
        augment: str = "none",
        seed: int = 0,
    ) -> None:
        if augment not in AUGMENTATIONS:
            hint = nearest(augment, AUGMENTATIONS)
            raise ConfigurationError(
                f"text.augment is one of {', '.join(AUGMENTATIONS)}: got '{augment}'{hint}"
            )
        self.index, self.vocabulary, self.augment, self.seed = index, vocabulary, augment, seed
        unique: dict[str, int] = {}
        of_text = [[unique.setdefault(s, len(unique)) for s in sentences] for sentences in texts]
        ids = tokenise(list(unique))
        limit = vocabulary.max_length - 2
        ids = [sentence[:limit] for sentence in ids]
        # A sentence without tokens has no features: dropped.
        of_text = [[s for s in sentences if ids[s]] for sentences in of_text]
        if not all(of_text):
            empty = next(i for i, sentences in enumerate(of_text) if not sentences)
            raise DataError(f"text {empty} of {len(texts)} has no sentence with a token: leave such rows out")
        self._ids, self._ids_start = _flat(ids)
        self._sentences, self._sentences_start = _flat(of_text)

    def __len__(self) -> int:
        return len(self.index)

    def num_sentences(self, row: int) -> int:
        """Sentences of a row's text, before anything is drawn or dropped."""
        text = self.index[row]
        return int(self._sentences_start[text + 1] - self._sentences_start[text])

    def batch(self, rows: Sequence[int] | np.ndarray, draw: int | None = None) -> Tokens:
        """The texts of these rows, padded to the longest.

        Args:
            rows: rows of the training table.
            draw: which draw of the augmentation; None draws nothing.
        """
        texts = [self._join(self._drawn(int(row), draw)) for row in rows]
        length = max(len(ids) for ids, _ in texts)
        out = np.full((len(texts), length), self.vocabulary.pad, np.int64)
        sentence = np.full((len(texts), length), -1, np.int64)
        for position, (ids, of_sentence) in enumerate(texts):
            out[position, : len(ids)], sentence[position, : len(ids)] = ids, of_sentence
        lengths = np.array([len(ids) for ids, _ in texts])
        mask = np.arange(length) < lengths[:, None]
        return Tokens(torch.from_numpy(out), torch.from_numpy(mask), torch.from_numpy(sentence))

    def _drawn(self, row: int, draw: int | None) -> np.ndarray:
        """The sentences of a row in the order of this draw."""
        text = self.index[row]
        sentences = self._sentences[self._sentences_start[text] : self._sentences_start[text + 1]]
        if draw is None or self.augment == "none" or len(sentences) < 2:
            return sentences
        random = np.random.default_rng([self.seed, draw, row])
        if self.augment == "one":
            return sentences[random.integers(len(sentences), size=1)]
        if self.augment == "crop":
            count = max(int(len(sentences) * random.uniform(*_CROP)), 1)
            start = random.integers(len(sentences) - count + 1)
            return sentences[start : start + count]
        sentences = sentences.copy()
        for _ in range(random.geometric(_SWAP_STOP) - 1):
            i, j = random.integers(len(sentences), size=2)
            sentences[[i, j]] = sentences[[j, i]]
        return sentences

    def _join(self, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and sentence numbers of one text, begin and end included."""
        parts = [self._ids[self._ids_start[s] : self._ids_start[s + 1]] for s in sentences]
        lengths = np.array([len(part) for part in parts])
        kept = int(np.searchsorted(np.cumsum(lengths), self.vocabulary.max_length - 2, side="right"))
        ids = np.concatenate([[self.vocabulary.begin], *parts[:kept], [self.vocabulary.end]])
        number = np.repeat(np.arange(kept), lengths[:kept])
        return ids, np.concatenate([[-1], number, [-1]])


def _flat(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists in one array, and where each begins (one more entry than lists)."""
    starts = np.concatenate([[0], np.cumsum([len(items) for items in lists], dtype=np.int64)])
    flat = np.fromiter((item for items in lists for item in items), np.int64, count=int(starts[-1]))
    return flat, starts
