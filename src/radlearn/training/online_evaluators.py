"""Linear classifiers that learn beside a method, on features that its training step has already made.

They never touch the encoders: features come detached, and their weights and optimisers are their own.

Source: LoVT (Müller et al. 2022, arXiv:2112.02889), which encodes every batch again for each of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from radlearn.errors import ConfigurationError, DataError, nearest
from radlearn.metrics.classification import auroc, macro
from radlearn.ranks import sum_across_ranks
from radlearn.records import Batch
from radlearn.training.module import RunModule

# Name -> which of `Output.tensors` it reads.
READS = {
    "image": ("features_image",),
    "report": ("features_text",),
    "joint": ("features_image", "features_text"),
}
_LR = 1e-4  # of Adam, in LoVT


def check_names(names: Sequence[str]) -> None:
    """Refuse unknown evaluators.

    Raises:
        ConfigurationError: names the known ones.
    """
    for name in names:
        if name not in READS:
            hint = nearest(str(name), READS)
            raise ConfigurationError(f"online_evaluators has {', '.join(READS)}: got '{name}'{hint}")


def targets(labels: Tensor, *, uncertain: str, blank: str) -> Tensor:
    """Labels in {1, 0, -1, NaN} -> {1, 0, NaN}, where NaN has no part in loss and metrics.

    Args:
        labels: (B, L).
        uncertain: what -1 becomes: `ones`, `zeros` or `ignore`.
        blank: what NaN becomes: `zeros` or `ignore`.
    """
    values = {"ones": 1.0, "zeros": 0.0, "ignore": torch.nan}
    decided = torch.where(labels == -1, values[uncertain], labels)
    return torch.where(labels.isnan(), values[blank], decided)


def cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the binary cross-entropies of the known labels (B, L), and how many there are."""
    known = ~target.isnan()
    each = functional.binary_cross_entropy_with_logits(logits, target.nan_to_num(), reduction="none")
    return (each * known).sum(), known.sum()


class OnlineEvaluators(L.Callback):
    """Takes one step of each classifier after each micro-batch. Comes first among the callbacks.

    Args:
        names: of `READS`.
        label_names: of the data set's labels.
        labels: which of them are learned; None takes all. The macro mean leaves "No Finding" out.
        seed: of the starting weights.
        uncertain, blank: see `targets`.
        dropout: of the features, before the one linear layer.
        state: of `state_dict`, when a run goes on.
    """

    def __init__(
        self,
        names: Sequence[str],
        label_names: Sequence[str],
        *,
        seed: int,
        labels: Sequence[str] | None = None,
        uncertain: str = "ones",
        blank: str = "zeros",
        dropout: float = 0.2,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if not label_names:
            raise DataError("online_evaluators need labels, and the data set has none: set data.label_cols")
        for label in labels or ():
            if label not in label_names:
                there = f"the data set has {', '.join(label_names)}{nearest(str(label), label_names)}"
                raise ConfigurationError(f"online_labels names '{label}': {there}")
        self.names, self.seed = tuple(names), seed
        self.label_names = tuple(labels or label_names)
        self.columns = [list(label_names).index(label) for label in self.label_names]
        self.policy, self.dropout = {"uncertain": uncertain, "blank": blank}, dropout
        self.heads: dict[str, nn.Linear] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self._state = dict(state or {})

    def features(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        """(B, D) float32 features that an evaluator reads.

        Raises:
            ConfigurationError: if the method gives none.
        """
        missing = [key for key in READS[name] if key not in tensors]
        if missing:
            raise ConfigurationError(
                f"online_evaluators=[{name}] reads {missing[0]}, which this method's output does not hold"
            )
        return torch.cat([tensors[key].detach().float() for key in READS[name]], dim=1)

    def target(self, batch: Batch) -> Tensor:
        """(B, L) what is to be predicted."""
        assert batch.labels is not None
        return targets(batch.labels[:, self.columns], **self.policy)

    def _head(self, name: str, features: Tensor) -> nn.Linear:
        """The classifier, made when the width of its features is first seen."""
        if name not in self.heads:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self.seed)
                head = nn.Linear(features.shape[1], len(self.label_names))
            self.heads[name] = head.to(features.device)
            self.optimizers[name] = torch.optim.Adam(head.parameters(), lr=_LR)
            if name in self._state:
                head.load_state_dict(self._state[name]["head"])
                self.optimizers[name].load_state_dict(self._state[name]["optimizer"])
        return self.heads[name]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """One step of each classifier; its loss joins the step's metrics."""
        module: RunModule = pl_module
        assert module.output is not None
        target = self.target(batch)
        losses = {
            f"online_{name}_loss": self.update(name, self.features(name, module.output.tensors), target)
            for name in self.names
        }
        module.output = dataclasses.replace(module.output, metrics={**module.output.metrics, **losses})

    def update(self, name: str, features: Tensor, target: Tensor) -> Tensor:
        """One step on features (B, D) and targets (B, L) of all ranks; returns the loss before it."""
        head = self._head(name, features)
        with torch.enable_grad():
            total, count = cross_entropy(head(functional.dropout(features, self.dropout)), target)
            gradients = torch.autograd.grad(total, list(head.parameters()))
        # The ranks' sums and counts, so that the mean is over all known labels, however they are shared out.
        with torch.no_grad():
            sums = torch.cat([torch.stack([total, count]), *(g.flatten() for g in gradients)])
            sums = sum_across_ranks(sums)
            whole = sums[1].clamp_min(1)
            parts = torch.split(sums[2:] / whole, [g.numel() for g in gradients])
        for parameter, part in zip(head.parameters(), parts, strict=True):
            parameter.grad = part.view_as(parameter)
        self.optimizers[name].step()
        return sums[0] / whole

    def predict(
        self, batch: Batch, tensors: Mapping[str, Tensor]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Logits and targets (B, L) of each classifier for a validation batch."""
        target = self.target(batch).cpu().numpy()
        found = {}
        for name in self.names:
            features = self.features(name, tensors)
            found[name] = (self._head(name, features)(features).cpu().numpy(), target)
        return found

    def score(self, logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Loss, accuracy and macro AUROC of a whole validation split (N, L)."""
        total, count = cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(target).double())
        known = ~np.isnan(target)
        in_macro = [name.lower() != "no finding" for name in self.label_names]
        return {
            "loss": float(total / count),
            "accuracy": float(((logits > 0) == (target == 1))[known].mean()),
            "auroc": macro(auroc(logits, target), in_macro).value,
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimisers by name."""
        return {
            name: {"head": head.state_dict(), "optimizer": self.optimizers[name].state_dict()}
            for name, head in self.heads.items()
        }
