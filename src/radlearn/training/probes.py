"""What is measured while training: zero-shot AUC of the evaluation sets, embedding diagnostics, collapse
alarms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from radlearn.data.store import ImageSource
from radlearn.data.views import EvaluationView
from radlearn.metrics.classification import auroc, macro
from radlearn.metrics.embedding import COLLAPSED_STD, embedding_report
from radlearn.metrics.zero_shot import zero_shot_scores
from radlearn.objectives.base import Objective
from radlearn.records import Tokens
from radlearn.training.inference import embed_images, evaluating
from radlearn.training.log import MetricsTable
from radlearn.training.module import RunModule

logger = logging.getLogger("radlearn")

# An alarm takes this many readings in a row: one bad batch is no collapse.
_READINGS = 3
_MAX_ROWS = 1024


@dataclass(frozen=True)
class ZeroShotProbe:
    """One evaluation set, with the frozen text encoder's features of its prompts.

    Attributes:
        name: in `eval/<name>/<label>_auc`.
        source, rows: the images, and the source row of each case.
        labels: (N, L) in {1, 0, NaN}.
        label_names: L names.
        positive, negative: for each label the features (P, text_width), or the tokens, of its P prompts.
        in_macro: which labels count in the macro mean.
        texts: features (N, text_width), or tokens, of the cases' own reports, for held-out diagnostics.
    """

    name: str
    source: ImageSource
    rows: np.ndarray
    labels: np.ndarray
    label_names: Sequence[str]
    positive: Sequence[Tensor | Tokens]
    negative: Sequence[Tensor | Tokens]
    in_macro: Sequence[bool] | None = None
    texts: Tensor | Tokens | None = None

    def scores(self, objective: Objective, images: Tensor, score: str = "cosine") -> np.ndarray:
        """(n, L) scores of image embeddings (n, D)."""
        device = next(objective.parameters()).device
        with evaluating(objective):
            up, down = (
                [objective.embed_text(p.to(device)).float().cpu() for p in side]
                for side in (self.positive, self.negative)
            )
        scores: np.ndarray = zero_shot_scores(images, up, down, score=score).numpy()
        return scores


@dataclass
class Alarms:
    """Counts readings of collapse: of scale (standard deviation near 0), of dimension (low rank)."""

    embed_dim: int
    counts: dict[str, int] = field(default_factory=dict)
    ringing: dict[str, str] = field(default_factory=dict)

    def read(self, step: int, report: dict[str, float], *, num_rows: int) -> list[str]:
        """Take one reading of `num_rows` studies; returns the messages of alarms that start to ring now."""
        signs = {}
        for side in ("image_global", "text"):
            std, rank = report[f"collapse/{side}_std_mean"], report[f"collapse/{side}_effective_rank"]
            signs[f"{side} scale"] = (
                std < COLLAPSED_STD,
                f"mean per-dimension standard deviation {std:.3f} < 0.1",
            )
            # Centred rows span at most one dimension less than there are.
            limit = min(self.embed_dim, num_rows - 1) / 8
            signs[f"{side} dimension"] = (rank < limit, f"effective rank {rank:.1f} < {limit:g}")
        new = []
        for sign, (bad, why) in signs.items():
            self.counts[sign] = self.counts.get(sign, 0) + 1 if bad else 0
            if self.counts[sign] == _READINGS and sign not in self.ringing:
                self.ringing[sign] = f"collapse alarm at step {step}: {sign}: {why}"
                new.append(self.ringing[sign])
        return new


class Probes(L.Callback):
    """Adds diagnostics and periodic evaluation to the step's row.

    Args:
        table: where to.
        alarms: kept over resumes.
        metrics_every: steps between diagnostics of the training batch.
        evaluate_every: steps between zero-shot evaluations, or None.
        sets: the evaluation sets.
        num_global: how many of the batch's views are global ones.
        batch_size, num_workers: of the evaluation.
        trackers: called with (step, values); only numbers ever reach them.
    """

    def __init__(
        self,
        table: MetricsTable,
        alarms: Alarms,
        *,
        metrics_every: int,
        evaluate_every: int | None,
        sets: Sequence[ZeroShotProbe],
        num_global: int,
        batch_size: int,
        num_workers: int,
        trackers: Sequence[Callable[[int, Mapping[str, float]], None]] = (),
    ) -> None:
        self.trackers = trackers
        self.table, self.alarms, self.sets = table, alarms, sets
        self.metrics_every, self.evaluate_every, self.num_global = metrics_every, evaluate_every, num_global
        self.batch_size, self.num_workers = batch_size, num_workers
        self.macro_auc: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure what is due after this step."""
        module: RunModule = pl_module
        self.macro_auc = None
        if module.micro_step:
            return
        if module.step % self.metrics_every == 0 or module.at_end:
            self._diagnose(trainer, module)
        if self.sets and self.evaluate_every and (module.step % self.evaluate_every == 0 or module.at_end):
            self._evaluate(trainer, module)

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        self.table.add(step, values)
        for track in self.trackers:
            track(step, values)

    def _diagnose(self, trainer: L.Trainer, module: RunModule) -> None:
        assert module.output is not None
        tensors = module.output.tensors
        if not trainer.is_global_zero or not {"image", "text"} <= tensors.keys() or len(tensors["text"]) < 2:
            return
        image, text = tensors["image"][:, :_MAX_ROWS], tensors["text"][:_MAX_ROWS]
        local = image[self.num_global :] if image.shape[0] > self.num_global else None
        report = embedding_report(image[: self.num_global], text, local)
        report |= module.objective.diagnose({"image": image, "text": text}, module.step)
        self._add(module.step, {f"diagnostics/{key}": value for key, value in report.items()})
        for message in self.alarms.read(module.step, report, num_rows=len(text)):
            logger.warning(message)

    def _evaluate(self, trainer: L.Trainer, module: RunModule) -> None:
        """Each rank embeds its share of the cases; the embeddings meet, so a share may be empty."""
        macros = []
        for case in self.sets:
            share = np.arange(trainer.global_rank, len(case.rows), trainer.world_size)
            images, kept = embed_images(
                module.objective,
                case.source,
                case.rows[share],
                view=EvaluationView(module.objective.image_encoder.image_size),
                batch_size=self.batch_size,
                num_workers=self.num_workers,
            )
            images, positions = _join(images, share[kept])
            if not len(images):
                continue
            values = auroc(case.scores(module.objective, images), case.labels[positions])
            mean = macro(values, case.in_macro).value
            macros.append(mean)
            numbers = {
                f"eval/{case.name}/{n}_auc": float(v) for n, v in zip(case.label_names, values, strict=True)
            }
            self._add(module.step, numbers | {f"eval/{case.name}/macro_auc": mean})
            if case.texts is not None:
                self._diagnose_held_out(module, case, images, positions)
        if macros:
            self.macro_auc = float(np.nanmean(macros))
            self._add(module.step, {"eval/macro_auc": self.macro_auc})

    def _diagnose_held_out(
        self, module: RunModule, case: ZeroShotProbe, images: Tensor, positions: np.ndarray
    ) -> None:
        """The same diagnostics on cases that training never sees."""
        assert case.texts is not None
        features = case.texts[torch.from_numpy(positions)].to(next(module.objective.parameters()).device)
        with evaluating(module.objective):
            texts = module.objective.embed_text(features).float().cpu()
        report = embedding_report(images[None, :_MAX_ROWS], texts[:_MAX_ROWS].clone())
        self._add(module.step, {f"held_out/{case.name}/{key}": value for key, value in report.items()})


def _join(images: Tensor, positions: np.ndarray) -> tuple[Tensor, np.ndarray]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return images, positions
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, (images.numpy(), positions))
    full = [share for share in shares if len(share[0])]
    if not full:
        return images, positions
    return torch.from_numpy(np.concatenate([s[0] for s in full])), np.concatenate([s[1] for s in full])
