"""A BERT that learns with the method: sentences joined in one sequence, its first layers frozen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from radlearn.data.report_tokens import Vocabulary
from radlearn.encoders.base import TokenEncoder
from radlearn.encoders.hf_text import _quiet, _set_casing, locate, weights_hash
from radlearn.errors import ConfigurationError

_IDENTITY = "identity.json"


class BertText(TokenEncoder):
    """A BERT-like model of the hub or a local folder.

    Args:
        model: a local folder, or a hub id (looked up in the hub's cache first, then on the hub).
        folder: build what `save` wrote there instead, without weights.
        lower_case: see `HFText`.
        max_length: tokens of a text; 512 in LoVT.
        freeze_embeddings: whether the embeddings stay as they are.
        freeze_layers: so many first layers stay as they are; 6 in LoVT. Frozen parts are in eval mode.
        gradient_checkpointing: compute the layers again in the backward pass instead of keeping them.
        buckets: see `TokenEncoder`.

    Raises:
        ConfigurationError: if the model cannot be had, or is no BERT; says how to get it.
    Source: LoVT (Müller et al. 2022, arXiv:2112.02889), report encoder.
    """

    def __init__(
        self,
        *,
        model: str = "emilyalsentzer/Bio_ClinicalBERT",
        folder: str | None = None,
        lower_case: bool = True,
        max_length: int = 512,
        freeze_embeddings: bool = True,
        freeze_layers: int = 6,
        gradient_checkpointing: bool = False,
        buckets: int = 1,
    ) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        source = locate(model) if folder is None else Path(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(
            source, local_files_only=True, trust_remote_code=False, do_lower_case=lower_case
        )
        _set_casing(self.tokenizer, lower_case)
        if folder is None:
            with _quiet():
                self.trunk = AutoModel.from_pretrained(source, local_files_only=True, trust_remote_code=False)
            name = model if not Path(model).exists() else Path(model).name
            digest = weights_hash(source)
            self.identity = {
                "name": name,
                "sha256": digest,
                "max_length": max_length,
                "lower_case": lower_case,
            }
        else:
            config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
            self.trunk = AutoModel.from_config(config, trust_remote_code=False)
            self.identity = json.loads((source / _IDENTITY).read_text(encoding="utf-8"))
        layers = getattr(getattr(self.trunk, "encoder", None), "layer", None)
        if not isinstance(layers, nn.ModuleList):
            raise ConfigurationError(f"{model} is no BERT: it has no encoder.layer to freeze and train")
        if not 0 <= freeze_layers <= len(layers):
            raise ConfigurationError(f"text.freeze_layers={freeze_layers}: {model} has {len(layers)} layers")
        positions = int(self.trunk.config.max_position_embeddings)
        if max_length > positions:
            raise ConfigurationError(f"text.max_length={max_length}: {model} has {positions} positions")
        self.trunk.pooler = None  # its weights would never learn
        self.trunk.embeddings.requires_grad_(not freeze_embeddings)
        for layer in layers[:freeze_layers]:
            layer.requires_grad_(False)
        if gradient_checkpointing:
            self.trunk.gradient_checkpointing_enable({"use_reentrant": False})
        self.width = int(self.trunk.config.hidden_size)
        self.buckets = buckets
        self.vocabulary = Vocabulary(
            begin=int(self.tokenizer.cls_token_id),
            end=int(self.tokenizer.sep_token_id),
            pad=int(self.tokenizer.pad_token_id),
            max_length=max_length,
        )

    def tokenise(self, sentences: Sequence[str]) -> list[list[int]]:
        """Word-piece ids of each sentence."""
        if not sentences:
            return []
        ids: list[list[int]] = self.tokenizer(
            list(sentences), add_special_tokens=False, verbose=False, return_attention_mask=False
        )["input_ids"]
        return ids

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> (B, L, width)."""
        return self.trunk(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write tokenizer, shape and identity."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        self.trunk.config.save_pretrained(folder)
        identity: dict[str, Any] = self.identity
        (folder / _IDENTITY).write_text(json.dumps(identity, indent=1), encoding="utf-8")
