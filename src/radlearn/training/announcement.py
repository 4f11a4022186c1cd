"""The first lines of a run: what learns on what."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from radlearn.data.dataset import StudyDataset
from radlearn.data.views import Views
from radlearn.datasets import Dataset
from radlearn.errors import DataError
from radlearn.training.checkpoint import Checkpoint
from radlearn.training.text import TextSide, TokenSide

logger = logging.getLogger("radlearn")

# Images whose size is looked up before training.
_SAMPLE = 256


def announce(
    config: Mapping[str, Any],
    data: Dataset,
    text: TextSide | TokenSide | None,
    training: StudyDataset,
    found: Checkpoint | None,
) -> None:
    """Log what runs on what, and the share of crops that are enlarged."""
    synthetic = "synthetic " if data.card.synthetic else ""
    frozen = "no text model" if text is None else f"text model {text.name}"
    logger.info(
        "%s on %s%s, %d images, %s, encoder %s%s",
        config["recipe"], synthetic, data.card.name, len(training), frozen, config["encoder"]["name"],
        "" if found is None else f"; resumes at step {found.step}",
    )  # fmt: skip
    share = _upsampled_share(training, data)
    if share is not None:
        percent, size = 100 * share, data.short_side
        logger.info(
            "%.0f %% of the crops have more pixels than the stored image (data.size=%s)", percent, size
        )


def _upsampled_share(training: StudyDataset, data: Dataset) -> float | None:
    """Share of crops that are enlarged, over the first readable images; None where none can be read."""
    views = training.views
    assert isinstance(views, Views)
    sizes: dict[int, tuple[int, int]] = {}
    for row in range(min(_SAMPLE, len(training))):
        with suppress(DataError):
            sizes[row] = data.source.size(int(training.rows[row]))
    if not sizes:
        return None
    heights, widths = np.array(list(sizes.values())).T
    drawn = views.draw(0, list(sizes), heights, widths)
    return views.upsampled_share(drawn, heights, widths)
