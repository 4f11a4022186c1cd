"""The weights a run starts from: its checkpoint's, those of `init`, or the random ones it is built with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radlearn.data.dataset import StudyDataset
from radlearn.encoders import _weight_file
from radlearn.errors import ConfigurationError
from radlearn.objectives.base import Objective
from radlearn.training import checkpoint
from radlearn.training.optim import freeze

logger = logging.getLogger("radlearn")


def initialise(
    config: Mapping[str, Any],
    objective: Objective,
    training: StudyDataset,
    found: checkpoint.Checkpoint | None,
) -> None:
    """Give the objective its weights, and freeze what `freeze` names."""
    if found is not None:
        checkpoint.load_weights(objective, found.weights, where=str(found.folder))
    else:
        if training.texts is not None:
            objective.fit_text(training.texts.features)
        if config.get("init"):
            _start_from(objective, str(config["init"]), Path(config["paths"]["runs"]))
    frozen = freeze(objective, config["freeze"])
    if frozen:
        logger.info("%d tensors are frozen", len(frozen))


def _start_from(objective: Objective, init: str, runs: Path) -> None:
    """Weights of a run, a checkpoint folder or a file; of a whole objective, its image encoder, or the
    encoder's backbone as `radlearn export` writes it.
    """
    path = Path(init) if Path(init).exists() else runs / init
    if not path.exists():
        raise ConfigurationError(f"init={init} is neither a file or folder nor a run in {runs}")
    if path.is_file():
        file, weights = path, _weight_file.read(path, key="init")
    else:
        loaded = checkpoint.load(path)
        file, weights = loaded.folder / checkpoint.WEIGHTS, loaded.weights
    own = set(objective.state_dict())
    if set(weights) <= own:
        missing = checkpoint.load_weights(objective, weights, where=str(file), strict=False)
    else:
        prefix = "image_encoder."
        trunk = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)} or weights
        encoder = objective.image_encoder
        whole = set(trunk) & set(encoder.state_dict())
        checkpoint.load_weights(encoder if whole else encoder.backbone(), trunk, where=str(file))
        missing = [name for name in own if not name.startswith(prefix)]
    logger.info(
        "starts from %s (sha256 %s); %d tensors keep their own start",
        file,
        checkpoint.file_hash(file),
        len(missing),
    )
