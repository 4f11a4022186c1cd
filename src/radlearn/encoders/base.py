"""The contract of encoders: an image or texts in, `Encoded` or features out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from radlearn.data.report_tokens import ReportTokens, Vocabulary
from radlearn.data.sentences import split
from radlearn.errors import ConfigurationError
from radlearn.records import Encoded, Tokens

# name -> per-channel mean and standard deviation of pixels in [0, 1].
STATISTICS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "medclip": ((0.5862786,), (0.2795009,)),
    "half": ((0.5,), (0.5,)),
}


class Normalise(nn.Module):
    """Grey pixels -> what a backbone expects: [0, 1], replicated to its channels, standardised.

    It is part of the encoder, so that a checkpoint applies the normalisation it was trained with.

    Args:
        how: `per_image` (each image to mean 0, standard deviation 1), `clip`, `imagenet`, `medclip`, `half`,
            or a pair (mean, std) of numbers.
        channels: how many channels the backbone takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, how: str | Sequence[float], channels: int) -> None:
        super().__init__()
        self.per_image = how == "per_image"
        self.channels = channels
        if isinstance(how, str):
            if how not in STATISTICS and not self.per_image:
                known = ", ".join(["per_image", *STATISTICS])
                raise ConfigurationError(f"no normalisation '{how}': there is {known}, or [mean, std]")
            mean, std = STATISTICS.get(how, ((0.0,), (1.0,)))
        else:
            mean, std = (float(how[0]),), (float(how[1]),)
        # Not persistent: the configuration in the checkpoint fixes them.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) uint8, or float in [0, 1] -> (B, channels, H, W) float."""
        if images.ndim != 4 or images.shape[1] not in (1, self.channels):
            raise ValueError(f"images are (B, 1, H, W), uint8 or float in [0, 1]: got {tuple(images.shape)}")
        x = images.float().div(255) if images.dtype == torch.uint8 else images
        if self.per_image:
            mean = x.mean(dim=(1, 2, 3), keepdim=True)
            # An empty (constant) image becomes zeros instead of NaN.
            x = (x - mean) / x.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-4)
        else:
            x = (x - self.mean) / self.std
        return x.expand(-1, self.channels, -1, -1) if x.shape[1] != self.channels else x


class Encoder(nn.Module):
    """An image encoder.

    Keyword arguments of the constructor are `encoder.<key>` of the configuration.

    Attributes:
        width: D of `Encoded.pooled`.
        image_size: side of the square images it is evaluated on.
        size_multiple: image sides must be multiples of this.
        local_width: D of `Encoded.local`.
        level_widths: channels of the four maps of `pyramid`.
        normalise: the first thing done to an image.
        library: whose key names the weights of `backbone` have.
    """

    kind: ClassVar[str] = "image"
    library: ClassVar[str] = "radlearn"
    normalise: Normalise
    width: int
    image_size: int
    local_width: int
    level_widths: tuple[int, ...]
    size_multiple: int = 1

    @abstractmethod
    def forward(self, images: Tensor) -> Encoded:
        """(B, 1, H, W) uint8, or float in [0, 1] -> Encoded."""

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, C, H, W) at strides 4, 8, 16, 32, for dense tasks; `level_widths` are their C.

        Apart from `forward` where pre-training would pay for maps that nothing reads.
        """
        return self(images).levels  # type: ignore[no-any-return]

    def maps(self, images: Tensor) -> dict[int, Tensor]:
        """Stride -> map (B, C, H, W), for dense heads; `map_widths` are their C."""
        return dict(zip((4, 8, 16, 32), self.pyramid(images), strict=True))

    @property
    def map_widths(self) -> dict[int, int]:
        """Stride -> channels of `maps`."""
        return dict(zip((4, 8, 16, 32), self.level_widths, strict=True))

    def backbone(self) -> nn.Module:
        """The module whose weights are exported, with the key names of its library."""
        return self

    def pooling_modules(self) -> tuple[nn.Module, ...]:
        """Parts whose weights only `Encoded.pooled` depends on; who reads `local` alone freezes them."""
        return ()

    def num_tokens(self, size: int) -> int:
        """Positions a square image of this side is computed at (the budget column `image_tokens`)."""
        return (size // max(self.size_multiple, 1)) ** 2


class TextEncoder(Encoder):
    """A text encoder: texts in, one feature row a text out.

    A frozen one is called through the text cache only, never in a training step.
    """

    kind: ClassVar[str] = "text"
    identity: dict[str, Any]
    """Everything its features depend on: name, weights hash, pooling, max length, casing. The text cache's
    key.
    """

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (N, width) float32, in eval mode, without gradient."""

    def forward(self, images: Tensor) -> Encoded:
        """Refused: a text encoder reads texts."""
        raise TypeError(f"{type(self).__name__} encodes texts, not images")


class TokenEncoder(Encoder):
    """A text encoder that learns: tokens in, one feature row a token out (`encode_tokens`).

    Keyword arguments of the constructor are settings of `text`.

    Attributes:
        width: D of its features.
        vocabulary: ids of the special tokens, and the longest text.
        buckets: a batch is sorted by length and encoded in so many parts, each padded to its own longest; 1
            encodes it whole. The features are the same.
        identity: name, vocabulary and starting weights, by hash; it does not change while the encoder learns.
    """

    kind: ClassVar[str] = "tokens"
    vocabulary: Vocabulary
    identity: dict[str, Any]
    buckets: int = 1

    @abstractmethod
    def tokenise(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence, without the tokens that begin and end a text."""

    @abstractmethod
    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states (B, L, D) of ids (B, L); what padding has does not matter."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what builds this encoder again, its weights aside: vocabulary and shape."""

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Texts, split into sentences, on the encoder's device; a text without a word is one unknown token.

        Source: as LoVT joins sentences, see `data/report_tokens.py`.
        """
        sentences = [split(text) or [text or "?"] for text in texts]
        reports = ReportTokens(sentences, np.arange(len(texts)), self.tokenise, self.vocabulary)
        return reports.batch(np.arange(len(texts))).to(next(self.parameters()).device)

    def encode_tokens(self, tokens: Tokens) -> Tensor:
        """Last hidden states (B, L, D), zero where there is no token."""
        if self.buckets <= 1 or len(tokens) < 2 * self.buckets:
            return self.states(tokens.ids, tokens.mask) * tokens.mask.unsqueeze(-1)
        # Lengths go to the CPU once: how far each part is padded decides the shapes.
        lengths = tokens.mask.sum(1).cpu()
        order = lengths.argsort(stable=True)
        parts = []
        for part in order.chunk(self.buckets):
            longest = int(lengths[part].max())
            rows = part.to(tokens.ids.device)
            mask = tokens.mask[rows, :longest]
            states = self.states(tokens.ids[rows, :longest], mask) * mask.unsqueeze(-1)
            parts.append(nn.functional.pad(states, (0, 0, 0, tokens.ids.shape[1] - longest)))
        return torch.cat(parts)[order.argsort().to(tokens.ids.device)]

    def forward(self, images: Tensor) -> Encoded:
        """Refused: a text encoder reads texts."""
        raise TypeError(f"{type(self).__name__} encodes tokens, not images")

    def padding_ratio(self, tokens: Tokens) -> float:
        """Positions computed over tokens held: 1 where nothing is padded."""
        lengths = tokens.mask.sum(1).cpu().sort().values
        parts = lengths.chunk(self.buckets) if len(tokens) >= 2 * self.buckets else (lengths,)
        return sum(len(part) * int(part.max()) for part in parts) / int(lengths.sum())
