"""What travels between the stages: frozen records, no behaviour, no heavy import.

Shapes: B studies, V views of one size, C channels, H x W pixels, L tokens or labels, N local positions, D
width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from torch import Tensor


@dataclass(frozen=True)
class Card:
    """A data card: what a data set is, where it comes from, and who may see it.

    Attributes:
        name: the manifest's name, `mimic_cxr`.
        source: where the release is obtained: an address or a sentence.
        licence: the licence or the data use agreement.
        access: `open`, `credentialed` or `synthetic`. Only synthetic data may fall back to another text
            model, and pages about credentialed data hold no pixels, ids or report text.
        release: the version of the release.
        label_names: the label columns of the manifest, in order.
        split_rule: whose split, in words.
        split: name of the split among the data set's own, `official` for instance; split_seed: what it was
            drawn with, None where a file tells it; split_hash: SHA-256 of which image lies in which split.
        split_unit: `patient`, or `image` for a published split in which a patient may lie in several splits.
        patient_namespace: data sets with the same word number patients alike, so that their ids compare.
        overlaps: names of data sets that share patients with this one.
        citation: what to cite.
        fingerprint: hash of the manifest's content, set when it is prepared or read.
        counts: rows by split, and rejected rows by reason, set when it is prepared or read.
        mean, std: pixel statistics of the training split in [0, 1], set by `prepare`.
    """

    name: str
    source: str
    licence: str
    access: str
    release: str
    label_names: tuple[str, ...] = ()
    split_rule: str = ""
    split: str = ""
    split_seed: int | None = None
    split_hash: str = ""
    split_unit: str = "patient"
    patient_namespace: str = ""
    overlaps: tuple[str, ...] = ()
    citation: str = ""
    fingerprint: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    mean: float | None = None
    std: float | None = None

    @property
    def synthetic(self) -> bool:
        """Whether the images are generated."""
        return self.access == "synthetic"


def card_from(fields: Mapping[str, Any]) -> Card:
    """A card from what `dataclasses.asdict` wrote as JSON, which has no tuples; other keys are left out."""
    known = {f.name for f in dataclasses.fields(Card)}
    plain: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in fields.items() if key in known
    }
    return Card(**plain)


@dataclass(frozen=True)
class Pixels:
    """How the image files of a release become the pixels that are stored.

    Attributes:
        kind: `grey`, 8 or 16 bits with high = bright, or `hounsfield`, int16 Hounsfield units.
        offset: Hounsfield units are the stored value plus this; DICOM and NIfTI files tell their own.
        equalize: equalise the histogram of the whole image, to 8 bits, before it is shrunk.
        window: lowest and highest Hounsfield unit shown where no other window is asked for.
    """

    kind: str = "grey"
    offset: int = 0
    equalize: bool = False
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Release:
    """A release as read: the rows that can be used, and the rows that cannot, by name and reason.

    Attributes:
        rows: the manifest table, one row an image; columns as in `manifests/base.py`.
        rejected: columns `image_id, path, reason, detail`.
        card: the card, with fingerprint and counts.
        root: the folder that `path` is relative to.
        pixels: how its files are read.
        sources: the files that the rows came from, whose change makes the rows anew; empty where unknown.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    card: Card
    root: str
    pixels: Pixels = Pixels()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """Texts as tokens, for text encoders that learn.

    Attributes:
        ids: (B, L) int64 token ids.
        mask: (B, L) bool, true where there is a token.
        sentence: (B, L) int64, the sentence a token belongs to, from 0; -1 for the tokens that begin and end
            a text, and for padding.
    """

    ids: Tensor
    mask: Tensor
    sentence: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, rows: Any) -> Tokens:
        """Some texts, still padded to the same length."""
        return Tokens(self.ids[rows], self.mask[rows], self.sentence[rows])

    def to(self, device: Any, *, non_blocking: bool = True) -> Tokens:
        """Move every tensor to a device."""
        return Tokens(
            *(t.to(device, non_blocking=non_blocking) for t in (self.ids, self.mask, self.sentence))
        )

    def pin_memory(self) -> Tokens:
        """Pin every tensor, for asynchronous copies."""
        return Tokens(self.ids.pin_memory(), self.mask.pin_memory(), self.sentence.pin_memory())


@dataclass(frozen=True)
class Encoded:
    """What an encoder returns: pooled (B, D), local (B, N, D) or None, levels (B, C, H, W) at strides 4 to
    32.
    """

    pooled: Tensor
    local: Tensor | None = None
    levels: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        views: one tensor a view size, each uint8 (V, B, 1, H, W); encoders scale and normalise.
        index: (B,) int64, row of the manifest.
        text: (B, D) features of the frozen text encoder, or None.
        text_id: (B,) int64, equal where the texts are identical, or None.
        labels: (B, L) float32 in {1, 0, -1 uncertain, NaN not mentioned}, or None.
        view_parameters: for each entry of `views`, (V, B, P) float32: the drawn augmentation, replayable.
        bad: rows of the manifest that belonged here but whose image could not be read, int64, or None.
        tokens: the texts of a text encoder that learns, or None.
    """

    views: tuple[Tensor, ...]
    index: Tensor
    text: Tensor | None = None
    text_id: Tensor | None = None
    labels: Tensor | None = None
    view_parameters: tuple[Tensor, ...] = ()
    bad: Tensor | None = None
    tokens: Tokens | None = None

    def studies(self, rows: Any) -> Batch:
        """Some studies of the batch, by a slice or an index tensor; `bad` rows stay with none."""

        def of(value: Any) -> Any:
            return None if value is None else value[rows]

        return Batch(
            views=tuple(view[:, rows] for view in self.views),
            index=self.index[rows],
            text=of(self.text),
            text_id=of(self.text_id),
            labels=of(self.labels),
            view_parameters=tuple(parameters[:, rows] for parameters in self.view_parameters),
            tokens=of(self.tokens),
        )

    def to(self, device: Any, *, non_blocking: bool = True) -> Batch:
        """Move every tensor to a device."""

        def move(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(move(item) for item in value)
            return value if value is None else value.to(device, non_blocking=non_blocking)

        return Batch(**{f.name: move(getattr(self, f.name)) for f in dataclasses.fields(self)})

    def pin_memory(self) -> Batch:
        """Pin every tensor, for asynchronous copies; the DataLoader calls this."""

        def pin(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(pin(item) for item in value)
            return value if value is None else value.pin_memory()

        return Batch(**{f.name: pin(getattr(self, f.name)) for f in dataclasses.fields(self)})


@dataclass(frozen=True)
class Output:
    """What an objective returns: the loss to descend, detached scalars to log, detached tensors for
    diagnostics.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One number with its provenance: a row of `results.parquet`.

    Attributes:
        run: the run's name.
        task: the task's name, `zero_shot`.
        data: the data card's name; data_hash: its fingerprint.
        split: the split that was scored.
        metric: `auc`, `average_precision`, ...
        label: the label or class the number is about, `macro` for the mean over labels.
        value: the number; low, high: its 95 % interval; chance: what a random model scores.
        num_cases, num_patients, num_positive: what it was computed on.
        seed: the training seed; fraction: share of training labels used; draw: which few-shot draw.
        lr: learning rate of the task's own training, if it has any.
        variant: settings of the task that change the number, e.g. `prompts=single`.
        text_model: the text encoder behind the number, with the head of its hash; synthetic: generated data.
        samples_seen, num_views, image_tokens, forward_flops, tuning_trials: the budget of the run.
        versions: `name=version` pairs joined by commas; date: ISO 8601, UTC.
    """

    run: str
    task: str
    data: str
    data_hash: str
    split: str
    metric: str
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    num_cases: int = 0
    num_patients: int = 0
    num_positive: int | None = None
    seed: int | None = None
    fraction: float | None = None
    draw: int | None = None
    lr: float | None = None
    variant: str = ""
    method: str = ""
    encoder: str = ""
    text_model: str = ""
    synthetic: bool = False
    samples_seen: int | None = None
    num_views: int | None = None
    image_tokens: int | None = None
    forward_flops: float | None = None
    tuning_trials: int | None = None
    versions: str = ""
    date: str = ""
