"""A frozen BERT-like text encoder from a local folder or the hub's cache, offline first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radlearn.encoders.base import TextEncoder
from radlearn.errors import ConfigurationError

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class HFText(TextEncoder):
    """Frozen transformer, one feature row a text.

    Args:
        model: a local folder, or a hub id (looked up in the hub's cache first, then on the hub).
        pooling: `cls`, or `mean` over the text's own tokens (padding is masked).
        max_length: tokens kept.
        lower_case: explicit, since Bio_ClinicalBERT's repository carries no tokenizer configuration and the
            library's default lower-cases a cased model (EmilyAlsentzer/clinicalBERT #26).
        sha256: refuse weights whose file has another hash.
    Raises:
        ConfigurationError: if the model cannot be had; says how to get it.
    """

    def __init__(
        self,
        *,
        model: str = "emilyalsentzer/Bio_ClinicalBERT",
        pooling: str = "cls",
        max_length: int = 256,
        lower_case: bool = True,
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("cls", "mean"):
            raise ConfigurationError(f"text.pooling is cls or mean: got '{pooling}'")
        from transformers import AutoModel, AutoTokenizer

        folder = locate(model)
        digest = weights_hash(folder)
        if sha256 is not None and digest != sha256:
            raise ConfigurationError(
                f"the weights in {folder} have sha256 {digest[:16]}..., wanted {sha256[:16]}...: "
                "reinstall the package that ships them"
            )
        self.tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, do_lower_case=lower_case
        )
        _set_casing(self.tokenizer, lower_case)
        with _quiet():
            self.trunk = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.trunk.requires_grad_(False)
        positions = int(getattr(self.trunk.config, "max_position_embeddings", max_length))
        if max_length > positions:
            raise ConfigurationError(
                f"text.max_length is {max_length}, but {model} has {positions} positions"
            )
        self.width = int(self.trunk.config.hidden_size)
        self.pooling, self.max_length = pooling, max_length
        self.identity = {
            "name": model if not Path(model).exists() else Path(model).name,
            "sha256": digest,
            "pooling": pooling,
            "max_length": max_length,
            "lower_case": lower_case,
        }
        self.eval()

    def train(self, mode: bool = True) -> HFText:
        """Always in eval mode: dropout in a frozen encoder would make its features random."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (N, width) float32."""
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(next(self.trunk.parameters()).device)
        states = self.trunk(**tokens).last_hidden_state.float()
        if self.pooling == "cls":
            return states[:, 0]  # type: ignore[no-any-return]
        mask = tokens["attention_mask"].unsqueeze(-1)
        return (states * mask).sum(1) / mask.sum(1).clamp_min(1)  # type: ignore[no-any-return]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, for batches of like length."""
        return [
            len(ids)
            for ids in self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar: loading a text encoder takes a moment."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def locate(model: str) -> Path:
    """The folder of a model: as given, or of the hub's cache, or downloaded."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.txt", "*.safetensors", "pytorch_model.bin"]
    for offline in (True, False):
        try:
            return Path(snapshot_download(model, allow_patterns=patterns, local_files_only=offline))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
            reason: Exception = error
    raise ConfigurationError(
        f"the text model '{model}' is neither a folder, nor in the hub's cache, nor could it be fetched "
        f"({type(reason).__name__}). On a machine with network run `huggingface-cli download {model}` and "
        "copy "
        "its cache (HF_HOME) here, or set text.model=/path/to/folder"
    )


def weights_hash(folder: Path) -> str:
    """The sha256 of the folder's weights file."""
    for name in _WEIGHTS:
        if (folder / name).exists():
            with (folder / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    raise ConfigurationError(f"no weights in {folder}: wanted {' or '.join(_WEIGHTS)}")


def _set_casing(tokenizer: Any, lower_case: bool) -> None:
    """Make the backend's normaliser follow the setting, whatever the files beside the model say."""
    import json

    from tokenizers import normalizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is None:
        return
    state = json.loads(backend.normalizer.__getstate__())
    if state.get("type") == "BertNormalizer":
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=state.get("clean_text", True),
            handle_chinese_chars=state.get("handle_chinese_chars", True),
            strip_accents=state.get("strip_accents"),
            lowercase=lower_case,
        )
