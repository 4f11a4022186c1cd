"""A trained model, loaded from a run or checkpoint path alone: `rl.load(path)`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radlearn import config as configuration
from radlearn import registry
from radlearn.data.images import read_image, to_uint8
from radlearn.data.text_cache import TextCache
from radlearn.data.views import EvaluationView
from radlearn.encoders import _text_model, _token_model
from radlearn.encoders.base import Encoder, TextEncoder, TokenEncoder
from radlearn.errors import ConfigurationError
from radlearn.metrics.zero_shot import zero_shot_scores
from radlearn.objectives import base as objectives
from radlearn.records import Card
from radlearn.training import checkpoint
from radlearn.training.inference import evaluating

logger = logging.getLogger("radlearn")

_TEXTS_A_BATCH = 256
NEGATIVE_PROMPT = "No acute cardiopulmonary process."


def build_image_encoder(config: dict[str, Any]) -> Encoder:
    """The image encoder of a resolved configuration."""
    encoder: Encoder = registry.find("encoders", config["encoder"]["name"])(
        **configuration.encoder_arguments(config)
    )
    return encoder


def with_statistics(encoder: Mapping[str, Any], card: Card) -> dict[str, Any]:
    """Encoder settings, with `normalise=dataset` as the mean and deviation of the training pixels.

    Raises:
        ConfigurationError: if the data set has not been prepared, so that nobody has measured them.
    """
    if encoder.get("normalise") != "dataset":
        return dict(encoder)
    if card.mean is None or card.std is None:
        raise ConfigurationError(
            f"encoder.normalise=dataset: {card.name} has no pixel statistics. Run `radlearn prepare`, or "
            "give encoder.normalise=imagenet, or [mean, std]"
        )
    return {**encoder, "normalise": [card.mean, card.std]}


def trains_text(config: dict[str, Any]) -> bool:
    """Whether the method of a configuration trains its text encoder."""
    return "tokens" in registry.find("objectives", config["method"]["name"]).needs


def build_objective(config: dict[str, Any], text: int | TokenEncoder | None) -> objectives.Objective:
    """The objective of a resolved configuration, untrained.

    Args:
        config: the configuration.
        text: width of the frozen text encoder's features, or the text encoder that learns.
    """
    encoder = build_image_encoder(config)
    return objectives.build(
        config["method"]["name"], encoder, text, configuration.objective_arguments(config)
    )


class Model:
    """A trained objective with its preprocessing and text encoder.

    Attributes:
        objective: the trained module, in eval mode.
        config: the run's resolved configuration.
        about: step, data fingerprint, text encoder and versions of the checkpoint.
        view: the evaluation view.
    """

    def __init__(
        self,
        objective: objectives.Objective,
        config: dict[str, Any],
        about: dict[str, Any],
        cache: Path | None = None,
    ) -> None:
        self.objective, self.config, self.about = objective.eval(), config, about
        self.view = EvaluationView(objective.image_encoder.image_size)
        self._cache_folder = cache
        self._text: TextCache | None = None

    @property
    def text_encoder(self) -> TextEncoder:
        """The frozen text encoder, loaded when first used.

        Raises:
            ConfigurationError: if the one at hand is not the one the run was trained with.
        """
        return self._text_cache().encoder  # type: ignore[return-value]

    def _text_cache(self) -> TextCache:
        if self._text is None:
            trained = self.about.get("text_encoder")
            if trained is None:
                raise ConfigurationError("this run has no text encoder, so it embeds no text")
            encoder = _text_model.build(self.config["text"])
            differing = {
                key: (trained.get(key), encoder.identity.get(key))
                for key in {*trained, *encoder.identity} - ({"name"} if "sha256" in trained else set())
                if trained.get(key) != encoder.identity.get(key)
            }
            if differing:
                raise ConfigurationError(
                    f"the text encoder differs from the run's (trained, now): {differing}"
                )
            self._text = TextCache(self._cache_folder, encoder)
        return self._text

    def embed_image(self, images: Sequence[str | Path | np.ndarray], *, batch_size: int = 64) -> Tensor:
        """Embeddings (N, D) of image files or arrays (H, W), on the CPU."""
        device = next(self.objective.parameters()).device
        parts = []
        for start in range(0, len(images), batch_size):
            arrays = [
                i if isinstance(i, np.ndarray) else read_image(i) for i in images[start : start + batch_size]
            ]
            pixels = torch.from_numpy(np.stack([self.view(to_uint8(array)) for array in arrays])).unsqueeze(1)
            with evaluating(self.objective):
                parts.append(self.objective.embed_image(pixels.to(device)).float().cpu())
        return torch.cat(parts).clone()

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of texts, on the CPU."""
        device = next(self.objective.parameters()).device
        learned = getattr(self.objective, "text_encoder", None)
        parts = []
        for start in range(0, len(texts), _TEXTS_A_BATCH):
            some = texts[start : start + _TEXTS_A_BATCH]
            if isinstance(learned, TokenEncoder):
                features: Any = learned.tokens(some)
            else:
                features = self._text_cache().encode(some).to(device)
            with evaluating(self.objective):
                parts.append(self.objective.embed_text(features).float().cpu())
        # Out of inference mode, so that what is returned may take part in a user's own training.
        return torch.cat(parts).clone()

    def zero_shot(
        self,
        images: Sequence[str | Path | np.ndarray],
        prompts: Sequence[str],
        negative: str | Sequence[str] = NEGATIVE_PROMPT,
    ) -> Tensor:
        """Scores (N, L) of images for L positive prompts against one negative prompt, or one for each."""
        negatives = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
        up, down = self.embed_text(prompts), self.embed_text(negatives)
        return zero_shot_scores(self.embed_image(images), list(up[:, None]), list(down[:, None]))


def load(
    path: str | Path,
    *,
    which: str = "auto",
    device: str = "cpu",
    cache: Path | None = None,
    trust: Sequence[str] = (),
) -> Model:
    """A model from a run folder or a checkpoint folder.

    Args:
        path: the folder.
        which: checkpoint of a run, see `checkpoint.choose`.
        device: where the weights go.
        cache: folder of the text cache; in memory if None.
        trust: modules whose classes the checkpoint's configuration may name by dotted path.
    Raises:
        DataError: if there is no checkpoint.
        ConfigurationError: if the weights do not fit, or the configuration names a class that is not trusted.
    """
    folder = Path(path)
    if not (folder / checkpoint.WEIGHTS).exists():
        folder = checkpoint.choose(folder, which) or folder
    found = checkpoint.load(folder)
    _check_trust(found.config, trust)
    text = found.about.get("text_width")
    if trains_text(found.config):
        text = _token_model.restore(found.config["text"], found.folder)
    objective = build_objective(found.config, text)
    checkpoint.load_weights(objective, found.weights, where=str(found.folder))
    return Model(objective.to(device), found.config, found.about, cache)


def _check_trust(config: dict[str, Any], trust: Sequence[str]) -> None:
    """A dotted path in a checkpoint is code to run: only from modules the caller names."""
    named = [config[group]["name"] for group in ("method", "encoder", "data")]
    named += [entry.get("data", "table") for entry in config.get("evals") or []]
    for name in map(str, named):
        if "." in name and not any(name == t or name.startswith(f"{t}.") for t in trust):
            raise ConfigurationError(
                f"the checkpoint names the class {name}; loading it runs its code: if you trust it, "
                f"pass trust=[{name.rpartition('.')[0]}]"
            )
