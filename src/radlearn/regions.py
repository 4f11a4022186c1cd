"""Sentences that point to boxes, and how similar a model finds them to the regions: for `localisation`."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from radlearn.data import masks
from radlearn.data.dataset import read_images
from radlearn.data.report_tokens import ReportTokens
from radlearn.data.views import EvaluationView
from radlearn.datasets import Dataset
from radlearn.encoders.base import TokenEncoder
from radlearn.errors import ConfigurationError, DataError
from radlearn.objectives.base import Objective
from radlearn.training.inference import embed_regions, evaluating
from radlearn.training.model import Model

logger = logging.getLogger("radlearn")

# Of the attention by global similarity where the method learns no temperature.
_TEMPERATURE = 0.07
GLOBAL = "global"

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence that points to boxes.

    Attributes:
        number: its place among the row's sentences that hold a text.
        text: the sentence; boxes: (x, y, w, h) in source pixels; kind: class of the first.
    """

    number: int
    text: str
    boxes: tuple[Box, ...]
    kind: str


@dataclasses.dataclass(frozen=True)
class Found:
    """Arrays of M sentences, see `tasks.base.Regions`, and row and number of each."""

    rows: list[int]
    sentences: list[Sentence]
    similarity: dict[str, np.ndarray]
    coverage: np.ndarray
    positive: np.ndarray


def collect(model: Model, data: Dataset, rows: np.ndarray, *, batch_size: int = 64) -> Found:
    """Similarities of all sentences of these rows that point to boxes.

    Args:
        model: with a text side.
        data: with the columns `sentences` and `boxes`.
        rows: of the data set's table.
        batch_size: images at a time.

    Raises:
        DataError: if no sentence points to a box, or the source sizes are not known.
        ConfigurationError: if the encoder's regions are no square grid.
    """
    wanted = {"sentences", "boxes"} - set(data.rows.columns)
    if wanted:
        raise DataError(f"{data.card.name} has no {' and no '.join(sorted(wanted))}: nothing to localise")
    table = data.rows[rows.tolist()].select("sentences", "boxes", "height", "width").to_dicts()
    texts = [[s["text"] for s in row["sentences"] or [] if (s["text"] or "").strip()] for row in table]
    pointing = [_pointing(row) for row in table]
    asking = [i for i, sentences in enumerate(pointing) if sentences]
    if not asking:
        raise DataError(f"no sentence of {data.card.name} points to a box: nothing to localise")
    if any(table[i]["height"] is None for i in asking):
        raise DataError(f"{data.card.name} does not tell the images' size, which boxes need: prepare it")
    unique = list(dict.fromkeys(s.text for i in asking for s in pointing[i]))
    embedded = dict(zip(unique, torch.nn.functional.normalize(model.embed_text(unique), dim=-1), strict=True))
    parts, skipped = [], 0
    for start in range(0, len(asking), batch_size):
        some = asking[start : start + batch_size]
        images, good = read_images(data.source, data.source_rows[rows[some]])
        some = [i for i, readable in zip(some, good, strict=True) if readable]
        if not some:
            continue
        similar = _similarities(model, model.view.batch(images), [texts[i] for i in some])
        for place, i in enumerate(some):
            for sentence in pointing[i]:
                found = _one(sentence, similar, place, embedded, _sized(table[i]), model.view)
                if found is None:
                    skipped += 1
                else:
                    parts.append((int(rows[i]), sentence, *found))
    if skipped:
        logger.warning("%d sentences are cut off, or point outside the view, and are not scored", skipped)
    if not parts:
        raise DataError(f"no sentence of {data.card.name} points into the view of an image that can be read")
    similarity = [similar for *_, similar, _, _ in parts]
    return Found(
        rows=[row for row, *_ in parts],
        sentences=[sentence for _, sentence, *_ in parts],
        similarity={name: np.stack([each[name] for each in similarity]) for name in similarity[0]},
        coverage=np.stack([coverage for *_, coverage, _ in parts]),
        positive=np.stack([positive for *_, positive in parts]),
    )


def _sized(row: dict[str, Any]) -> tuple[int, int]:
    return int(row["height"]), int(row["width"])


def _pointing(row: dict[str, Any]) -> list[Sentence]:
    """The sentences of a row that point to boxes."""
    found = []
    spoken = [s for s in row["sentences"] or [] if (s["text"] or "").strip()]
    for number, sentence in enumerate(spoken):
        boxes = [row["boxes"][i] for i in sentence["boxes"] or []]
        if boxes:
            corners = tuple((float(b["x"]), float(b["y"]), float(b["w"]), float(b["h"])) for b in boxes)
            found.append(Sentence(number, sentence["text"], corners, str(boxes[0]["class"])))
    return found


# --- similarity


@dataclasses.dataclass(frozen=True)
class _Similar:
    """Of a batch: embedded regions (B, N, D) with the scale of their cosines, and local logits, if any."""

    regions: Tensor
    scale: float
    local: Tensor | None
    mask: Tensor | None


def _similarities(model: Model, pixels: np.ndarray, texts: Sequence[Sequence[str]]) -> _Similar:
    objective = model.objective
    on = next(objective.parameters()).device
    images = torch.from_numpy(pixels).unsqueeze(1).to(on)
    with evaluating(objective):
        regions = torch.nn.functional.normalize(embed_regions(objective, images).float(), dim=-1).cpu()
        encoder = getattr(objective, "text_encoder", None)
        of_sentences = getattr(objective, "local_similarity", None)
        found = None
        if of_sentences is not None and isinstance(encoder, TokenEncoder):
            kept = [[t for t, ids in zip(s, encoder.tokenise(s), strict=True) if ids] for s in texts]
            # A sentence without a token would shift the numbers of those behind it.
            if all(len(k) == len(s) for k, s in zip(kept, texts, strict=True)):
                tokens = ReportTokens(kept, np.arange(len(kept)), encoder.tokenise, encoder.vocabulary)
                found = of_sentences(images, tokens.batch(np.arange(len(kept))).to(on))
        local, mask = (None, None) if found is None else (found[0].float().cpu(), found[1].cpu())
    return _Similar(regions, _scale(objective), local, mask)


def _scale(objective: Objective) -> float:
    """What the global loss multiplies cosines by."""
    logit_scale, temperatures = (
        getattr(objective, name, None) for name in ("logit_scale", "log_temperature")
    )
    if isinstance(logit_scale, Tensor):
        return float(logit_scale.detach().exp())
    if isinstance(temperatures, Tensor):
        return float((-temperatures.detach().flatten()[0]).exp())
    return 1 / _TEMPERATURE


def _one(
    sentence: Sentence,
    similar: _Similar,
    place: int,
    embedded: dict[str, Tensor],
    size: tuple[int, int],
    view: EvaluationView,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray] | None:
    """Similarity by variant, coverage and positive regions of a sentence; None if it cannot be scored."""
    regions = similar.regions[place]
    covered = cover(sentence.boxes, size, view, num_regions=len(regions))
    if covered is None:
        return None
    by_global = (similar.scale * (regions @ embedded[sentence.text])).numpy()
    if similar.local is None or similar.mask is None:
        return {"": by_global}, *covered
    if sentence.number >= similar.mask.shape[1] or not similar.mask[place, sentence.number]:
        return None
    return {"": similar.local[place, sentence.number].numpy(), GLOBAL: by_global}, *covered


# --- boxes on the grid of regions


def cover(
    boxes: Sequence[Box], size: tuple[int, int], view: EvaluationView, *, num_regions: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The share of each region that boxes cover, and which regions count as a hit.

    Args:
        boxes: (x, y, w, h) in source pixels.
        size: height and width of the source.
        view: what the model sees of it.
        num_regions: N, a square grid, row by row.

    Returns:
        (N,) float64 and (N,) bool; None where the boxes lie outside the view.
    """
    side = math.isqrt(num_regions)
    if side * side != num_regions or view.fit != "centre_crop":
        raise ConfigurationError(
            f"localisation needs a square grid of regions of a centre crop: got {num_regions} of a {view.fit}"
        )
    seen = view.boxes(np.array(boxes), *size)
    mask = masks.from_boxes(seen, view.size, view.size)
    if not mask.any():
        return None
    coverage = cv2.resize(mask.astype(np.float64), (side, side), interpolation=cv2.INTER_AREA).ravel()
    positive = coverage >= 0.5
    if not positive.any():
        cell = view.size / side
        for x, y, w, h in seen:
            column, row = int((x + w / 2) // cell), int((y + h / 2) // cell)
            if 0 <= row < side and 0 <= column < side:
                positive[row * side + column] = True
        # A box whose centre was cut off: the region that holds most of what is left.
        positive |= coverage == coverage.max() if not positive.any() else False
    return coverage, positive
