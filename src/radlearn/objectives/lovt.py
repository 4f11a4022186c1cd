"""LoVT: align images and reports as wholes, and regions with sentences; ConVIRT and CLIP are settings of it.

    y_l_a = regions of the image (B, N_a, W),  y_g_a = pooled,  w_a = attention over the regions
    y_l_b = sentences of the report (B, N_b, W), y_g_b = pooled, w_b = attention over the sentences
    z = projections to D; b2a, a2b = cross-attention between z_l_a and z_l_b
    loss = .75 InfoNCE(z_g_a -> z_g_b) + .25 InfoNCE(z_g_b -> z_g_a)
           + .375 [local(z_l_a, b2a; w_a) both ways] + .375 [local(z_l_b, a2b; w_b) both ways]

Source: Müller, Kaissis, Zou, Rueckert 2022 (ECCV), arXiv:2112.02889; ConVIRT: Zhang et al. 2020,
arXiv:2010.00747. Shapes: B studies, V views, N_a regions, N_b sentences, L tokens, D shared width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from radlearn.attention import (
    AttentionPool,
    CrossAttention,
    LocalProjector,
    MeanPool,
    sentence_max,
    token_max,
)
from radlearn.encoders.base import Encoder, TokenEncoder
from radlearn.errors import ConfigurationError, nearest
from radlearn.heads import normalise
from radlearn.losses.contrastive import directed_info_nce
from radlearn.losses.local_alignment import grid_distances, local_contrastive, near, sequence_distances
from radlearn.metrics.embedding import RECALL_KS, recall_at
from radlearn.metrics.embedding_spaces import LocalSpace, Spaces, mean_item, together
from radlearn.metrics.local_alignment import attention_statistics, retrieval_in_sample
from radlearn.objectives.base import Objective
from radlearn.records import Batch, Output, Tokens

_IMAGE_POOLS = ("attention", "average")
_REPORT_POOLS = ("sentence_attention", "token_max")


@dataclass(frozen=True)
class Side:
    """One side of the batch: local features, which are valid, their weights, and the pooled feature."""

    local: Tensor
    mask: Tensor | None
    weights: Tensor
    pooled: Tensor


class LoVT(Objective):
    """Global and local contrast of images and reports, both encoders learning.

    Args:
        image_encoder: gives regions as `Encoded.local`, row by row of a square grid.
        text_encoder: the text encoder that learns.
        embed_dim: D.
        predictor_width: hidden width of the four projectors.
        image_pool: `attention` or `average` over the regions.
        report_pool: `sentence_attention` over the sentences, or `token_max` over all tokens.
        projection_norm: `batch` or `none` (ConVIRT).
        global_loss: whether there is one; image_loss, report_loss: the local ones.
        global_weight, image_to_report: the global loss's weight, and the share of its direction from image
            to report; ConVIRT's lambda.
        local_weight: of the mean of both directions of each local loss.
        local_attention: weigh regions and sentences by the pooling attention, without gradient.
        temperature, local_temperature: of the global and the local losses; learn_temperature: both are
            learned from there on.
        image_threshold, image_smoothing: which regions are positives: within this share of the diagonal,
            decaying so; a smoothing of None counts them alike.
        report_threshold: which sentences are positives, by position; 0 is the sentence itself.
        same_modality: negatives of an anchor's own side too, in the global and in the local losses.
        normalize_by_num_negatives: see `losses.local_contrastive`.
        padded_numerics: let padded sentences enter means and batch norms, as the release does.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "tokens")

    def __init__(
        self,
        image_encoder: Encoder,
        text_encoder: TokenEncoder,
        *,
        embed_dim: int = 512,
        predictor_width: int = 2048,
        image_pool: str = "attention",
        report_pool: str = "sentence_attention",
        projection_norm: str = "batch",
        global_loss: bool = True,
        image_loss: bool = True,
        report_loss: bool = True,
        global_weight: float = 1.0,
        image_to_report: float = 0.75,
        local_weight: float = 0.75,
        local_attention: bool = True,
        temperature: float = 0.1,
        local_temperature: float = 0.3,
        learn_temperature: bool = False,
        image_threshold: float = 0.5,
        image_smoothing: float | None = 1.0,
        report_threshold: float = 0.0,
        same_modality: bool = False,
        normalize_by_num_negatives: bool = False,
        padded_numerics: bool = False,
    ) -> None:
        super().__init__(image_encoder)
        _one_of("image_pool", image_pool, _IMAGE_POOLS)
        _one_of("report_pool", report_pool, _REPORT_POOLS)
        _one_of("projection_norm", projection_norm, ("batch", "none"))
        for part in image_encoder.pooling_modules():
            part.requires_grad_(False)  # regions are pooled here: DDP waits for every gradient
        self.text_encoder = text_encoder
        self.local_losses = image_loss or report_loss
        if not (global_loss or self.local_losses):
            raise ConfigurationError("method=lovt needs a loss: global_loss, image_loss or report_loss")
        attend = {
            "image": global_loss and image_pool == "attention",
            "report": global_loss and report_pool == "sentence_attention",
        }
        if local_attention and (
            (image_loss and not attend["image"]) or (report_loss and not attend["report"])
        ):
            raise ConfigurationError(
                "method.local_attention=true weighs regions and sentences by pooling attention, which only "
                "learns with global_loss=true, image_pool=attention and report_pool=sentence_attention"
            )
        widths = image_encoder.local_width, text_encoder.width
        # An attention that no loss reads would never learn.
        self.image_pool = _pool(widths[0], attend["image"], padded_numerics)
        self.report_pool = _pool(widths[1], attend["report"], padded_numerics)
        self.pools_sentences = report_pool == "sentence_attention"
        heads: dict[str, Any] = {"norm": projection_norm}
        if global_loss:
            self.image_head, self.report_head = (
                LocalProjector(width, predictor_width, embed_dim, **heads) for width in widths
            )
        if self.local_losses:
            heads["padded_rows"] = padded_numerics
            self.region_head, self.sentence_head = (
                LocalProjector(width, predictor_width, embed_dim, **heads) for width in widths
            )
            self.cross_attention = CrossAttention(embed_dim, padded_rows=padded_numerics)
        self.global_loss, self.image_loss, self.report_loss = global_loss, image_loss, report_loss
        self.global_weight, self.image_to_report, self.local_weight = (
            global_weight,
            image_to_report,
            local_weight,
        )
        self.local_attention = local_attention
        self.image_threshold, self.image_smoothing = float(image_threshold), image_smoothing
        self.report_threshold = float(report_threshold)
        start = torch.tensor([temperature, local_temperature]).log()
        self.log_temperature = torch.nn.Parameter(start, requires_grad=learn_temperature)
        self.local_options: dict[str, Any] = {
            "same_modality": same_modality,
            "normalize_by_num_negatives": normalize_by_num_negatives,
        }
        self.same_modality = same_modality

    # --- the two sides

    def encode(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the encoders give: the regions (B, N_a, W) of each view, then the token states (B, L, W)."""
        assert batch.tokens is not None
        regions: list[Tensor] = []
        for views in batch.views:
            local = self.image_encoder(views.flatten(0, 1)).local
            regions += local.unflatten(0, views.shape[:2]).unbind(0)
        return (*regions, self.text_encoder.encode_tokens(batch.tokens))

    def image_side(self, regions: Tensor) -> Side:
        """Regions (B, N_a, W) -> the image side."""
        pooled, weights = self.image_pool(regions)
        return Side(regions, None, weights, pooled)

    def report_side(self, states: Tensor, tokens: Tokens) -> Side:
        """Token states (B, L, W) -> the report side: sentences by the maximum over their tokens."""
        sentences, mask = sentence_max(states, tokens.sentence)
        pooled, weights = self.report_pool(sentences, mask)
        if not self.pools_sentences:
            pooled = token_max(states, tokens.sentence)
        return Side(sentences, mask, weights, pooled)

    # --- the losses

    def forward(self, batch: Batch, step: int) -> Output:
        """The loss of the batch of all ranks, the mean over views."""
        return self.compare(self.encode(batch), batch, step)

    def compare(self, encoded: tuple[Tensor, ...], batch: Batch, step: int) -> Output:
        """The loss of what the encoders gave."""
        assert batch.tokens is not None
        *views, states = encoded
        images, report = (
            [self.image_side(regions) for regions in views],
            self.report_side(states, batch.tokens),
        )
        tensors = {"features_image": images[0].pooled, "features_text": report.pooled}
        terms: list[dict[str, Tensor]] = [{} for _ in images]
        accuracies: dict[str, Tensor] = {}
        if self.global_loss:
            z_b = normalise(self.report_head(report.pooled))
            z_a = [normalise(self.image_head(image.pooled)) for image in images]
            w = self.gather(z_b)
            gathered = [self.gather(z) for z in z_a]
            for term, u in zip(terms, gathered, strict=True):
                term |= self._global(u, w)
            accuracies = _accuracies(gathered, w)
            # Diagnostics see the compared directions, scaled so that an isotropic space has unit spread.
            scale = math.sqrt(z_b.shape[-1])
            tensors |= {"image": torch.stack(z_a) * scale, "text": z_b * scale}
        if self.local_losses:
            sentences = self.sentence_head(report.local, report.mask)
            for term, image in zip(terms, images, strict=True):
                term |= self._local(image, report, sentences)
        losses = {key: torch.stack([term[key] for term in terms]).mean() for key in terms[0]}
        share = self.image_to_report
        weights = {"global_a2b": self.global_weight * share, "global_b2a": self.global_weight * (1 - share)}
        parts = [weights.get(key, self.local_weight / 2) * value for key, value in losses.items()]
        return Output(
            torch.stack(parts).sum(),
            {key: value.detach() for key, value in losses.items()} | accuracies,
            {key: value.detach() for key, value in tensors.items()},
        )

    def _global(self, u: Tensor, w: Tensor) -> dict[str, Tensor]:
        """Both directions of the global loss of one view, images u and reports w (B, D) of all ranks."""
        found = directed_info_nce(
            u, w, temperature=self.log_temperature[0].exp(), same_modality=self.same_modality
        )
        return dict(zip(("global_a2b", "global_b2a"), found, strict=True))

    def _local(self, image: Side, report: Side, sentences: Tensor) -> dict[str, Tensor]:
        """The local losses of one view, the mean over the samples of all ranks."""
        assert report.mask is not None
        regions = self.region_head(image.local)
        b2a, a2b, _ = self.cross_attention(regions, sentences, report.mask)
        options = {**self.local_options, "temperature": self.log_temperature[1].exp()}
        terms: dict[str, Tensor] = {}
        if self.image_loss:
            grid = self._grid(regions.shape[1])
            positives = near(grid, threshold=self.image_threshold, smoothing=self.image_smoothing)
            found = local_contrastive(regions, b2a, positives, weights=self._weights(image), **options)
            terms["local_a_l2att"], terms["local_a_att2l"] = (self._mean(each) for each in found)
        if self.report_loss:
            distances = sequence_distances(sentences.shape[1])
            positives = near(distances, threshold=self.report_threshold, smoothing=None)
            weights = self._weights(report)
            found = local_contrastive(sentences, a2b, positives, mask=report.mask, weights=weights, **options)
            terms["local_b_l2att"], terms["local_b_att2l"] = (self._mean(each) for each in found)
        return terms

    def _weights(self, side: Side) -> Tensor | None:
        return side.weights.detach() if self.local_attention else None

    def _mean(self, of_samples: Tensor) -> Tensor:
        """Mean over the samples of all ranks."""
        total = self.sum_across_ranks(torch.stack([of_samples.sum(), of_samples.new_tensor(len(of_samples))]))
        return total[0] / total[1].detach()

    @staticmethod
    def _grid(num_regions: int) -> Tensor:
        side = math.isqrt(num_regions)
        if side * side != num_regions:
            raise ValueError(f"LoVT's regions are those of a square image: got {num_regions}")
        return grid_distances(side, side)

    def validation_metrics(self, encoded: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
        """Retrieval of the attended partner inside a sample, and the attention's statistics: means over the
        samples; none without a local loss.
        """
        if not self.local_losses:
            return {}
        image, report = self._sides(encoded, batch)
        regions, sentences, b2a, a2b, over_b = self._aligned(image, report)
        keys = self.cross_attention.key(regions), self.cross_attention.key(sentences)
        over_a = (keys[1] @ keys[0].mT / math.sqrt(regions.shape[-1])).softmax(-1)
        found = {
            "attention_b2a": attention_statistics(over_b),
            "attention_a2b": attention_statistics(over_a, report.mask),
        }
        for key, z, attended, side in (("a", regions, b2a, image), ("b", sentences, a2b, report)):
            for way, pair in (("l2att", (z, attended)), ("att2l", (attended, z))):
                found[f"local_{key}_{way}"] = retrieval_in_sample(*pair, side.mask, self._weights(side))
        return {f"{of}_{name}": value.mean() for of, each in found.items() for name, value in each.items()}

    def embedding_spaces(self, encoded: tuple[Tensor, ...], batch: Batch) -> Spaces:
        """What is compared, for the statistics of `metrics.embedding_spaces`: y leaves the encoders, z the
        projectors; l is local, g pooled; a is the image, b the report.
        """
        image, report = self._sides(encoded, batch)
        local = {
            "yl_a": LocalSpace(image.local, image.mask, self._weights(image)),
            "yl_b": LocalSpace(report.local, report.mask, self._weights(report)),
        }
        pooled = {"yg_a": image.pooled, "yg_b": report.pooled}
        paired: dict[str, tuple[str, str]] = {}
        attended: dict[str, tuple[str, Tensor]] = {}
        modalities: dict[str, tuple[str, str]] = {}
        if self.global_loss:
            pooled |= {"zg_a": self.image_head(image.pooled), "zg_b": self.report_head(report.pooled)}
            paired["zg_a-zg_b"] = ("zg_a", "zg_b")
        if self.local_losses:
            regions, sentences, b2a, a2b, _ = self._aligned(image, report)
            z_a = LocalSpace(regions, image.mask, self._weights(image))
            z_b = LocalSpace(sentences, report.mask, self._weights(report))
            local |= {"zl_a": z_a, "zl_b": z_b, "zl_ab": together(z_a, z_b)}
            pooled |= {"zl_a_avg": mean_item(z_a), "zl_b_avg": mean_item(z_b)}
            paired["zl_a_avg-zl_b_avg"] = ("zl_a_avg", "zl_b_avg")
            attended |= {"zl_a-zl_b2a": ("zl_a", b2a), "zl_b-zl_a2b": ("zl_b", a2b)}
            modalities["zl_a-zl_b"] = ("zl_a", "zl_b")
        return Spaces(local, pooled, paired, attended, modalities)

    def _sides(self, encoded: tuple[Tensor, ...], batch: Batch) -> tuple[Side, Side]:
        """The image side of the first view, and the report side."""
        assert batch.tokens is not None
        return self.image_side(encoded[0]), self.report_side(encoded[-1], batch.tokens)

    def _aligned(self, image: Side, report: Side) -> tuple[Tensor, ...]:
        """Projected regions and sentences, their attended partners, and the attention over sentences."""
        assert report.mask is not None
        regions, sentences = self.region_head(image.local), self.sentence_head(report.local, report.mask)
        return regions, sentences, *self.cross_attention(regions, sentences, report.mask)

    def local_similarity(self, images: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor] | None:
        """How similar each sentence is to each region; None without a local loss.

        Returns:
            (B, N_b, N_a) logits, whose softmax over the regions is the cross-attention, and (B, N_b) which
            sentences there are.
        """
        if not self.local_losses:
            return None
        report = self.report_side(self.text_encoder.encode_tokens(tokens), tokens)
        assert report.mask is not None
        key = self.cross_attention.key
        regions = key(self.region_head(self.image_encoder(images).local))
        sentences = key(self.sentence_head(report.local, report.mask))
        return sentences @ regions.mT / math.sqrt(regions.shape[-1]), report.mask

    def no_weight_decay(self) -> set[str]:
        """The temperatures."""
        return {"log_temperature"}

    # --- embeddings

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, D); without a global loss the mean of the projected regions."""
        regions = self.image_encoder(images).local
        if self.global_loss:
            return self.image_head(self.image_side(regions).pooled)  # type: ignore[no-any-return]
        return normalise(self.region_head(regions)).mean(1)

    def embed_text(self, features: Tokens) -> Tensor:
        """Tokens of B texts -> (B, D); without a global loss the mean of the projected sentences."""
        side = self.report_side(self.text_encoder.encode_tokens(features), features)
        if self.global_loss:
            return self.report_head(side.pooled)  # type: ignore[no-any-return]
        assert side.mask is not None
        sentences = normalise(self.sentence_head(side.local, side.mask)) * side.mask.unsqueeze(-1)
        return sentences.sum(1) / side.mask.sum(1, keepdim=True)


@torch.no_grad()
def _accuracies(views: Sequence[Tensor], reports: Tensor) -> dict[str, Tensor]:
    """Share of the batch whose partner is among the k most similar, both ways: the mean over views (B, D).

    It falls with the size of the batch: compare runs of one size.
    """
    found: dict[str, Tensor] = {}
    with torch.autocast(reports.device.type, enabled=False):  # bf16 cosines would tie
        for way, pairs in (("a2b", [(u, reports) for u in views]), ("b2a", [(reports, u) for u in views])):
            shares = torch.stack([recall_at(*pair, *RECALL_KS) for pair in pairs]).mean(0)
            found |= {f"global_{way}_top{k}": s for k, s in zip(RECALL_KS, shares, strict=True)}
    return found


def _pool(width: int, attends: bool, padded_length: bool) -> AttentionPool | MeanPool:
    return (
        AttentionPool(width, padded_length=padded_length)
        if attends
        else MeanPool(padded_length=padded_length)
    )


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(
            f"method.{key} is one of {', '.join(known)}: got '{value}'{nearest(value, known)}"
        )
