"""The contract of a method: what is learned, what is compared, what is returned."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from radlearn import registry
from radlearn.encoders.base import Encoder, TokenEncoder
from radlearn.errors import ConfigurationError
from radlearn.heads import TextHead, cross_rank_batch_norm, mlp, normalise
from radlearn.ranks import gather_rows, sum_across_ranks
from radlearn.records import Batch, Output


class Objective(nn.Module):
    """A method, without trainer, path, logger or device.

    The constructor takes the image encoder and the width of the frozen text encoder's features, or where the
    objective needs `tokens` the text encoder that learns; its keyword arguments are `method.<key>` of the
    configuration, and flat run keys of the same name.

    An objective whose encoders see each study alone can offer two methods more, of which `forward` is then
    made: `encode(batch)`, what the encoders give, each tensor (B, ...), and `compare(encoded, batch, step)`,
    the `Output`. It can then be given a batch in parts (gradient caching). `validation_metrics(encoded,
    batch)` may add means over the studies to what is logged on validation, `embedding_spaces(encoded, batch)`
    what `metrics.embedding_spaces` measures there.

    Attributes:
        needs: what a batch must hold: of `views`, `text`, `tokens`, `labels`. A data set without them is
            refused by name.
        alone: whether this rank's batch is the whole, as on validation, where each rank has batches of its
            own.
    """

    needs: ClassVar[tuple[str, ...]] = ("views",)
    alone: bool = False

    def __init__(self, image_encoder: Encoder, text_width: int | None = None) -> None:
        super().__init__()
        if "text" in self.needs and text_width is None:
            raise ConfigurationError(f"{type(self).__name__} needs a text encoder: set text.model")
        self.image_encoder = image_encoder
        self.text_width = text_width

    @abstractmethod
    def forward(self, batch: Batch, step: int) -> Output:
        """The loss of a batch; on several ranks the loss of all their batches together."""

    @abstractmethod
    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, D), in the space that is compared."""

    def embed_text(self, features: Any) -> Tensor:
        """(B, text_width) features of the frozen text encoder, or `Tokens` of B texts -> (B, D)."""
        raise ConfigurationError(
            f"{type(self).__name__} learns no text embedding: zero-shot scoring needs one"
        )

    def fit_text(self, features: Tensor) -> None:
        """Set fixed text statistics from the training texts' features (N, text_width), before step one."""
        for module in self.modules():
            if isinstance(module, TextHead):
                module.fit(features)

    def after_step(self, step: int, num_steps: int) -> None:
        """Called after every optimiser step: clamps, teachers."""

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are never decayed."""
        return set()

    def diagnose(self, tensors: Mapping[str, Tensor], step: int) -> dict[str, float]:
        """Further diagnostics of `Output.tensors`, read now and then: what only this method can measure."""
        return {}

    def gather(self, x: Tensor, dim: int = 0) -> Tensor:
        """Join the ranks' rows, with gradient."""
        return x if self.alone else gather_rows(x, dim)

    def sum_across_ranks(self, x: Tensor) -> Tensor:
        """Sum over ranks, with gradient."""
        return x if self.alone else sum_across_ranks(x)


class DualEncoder(Objective):
    """An image side and the projected features of a frozen text encoder, meeting in one space.

    Args:
        image_encoder: the image encoder.
        text_width: width of the frozen text encoder's features.
        embed_dim: D, width of the shared space.
        predictor_width, predictor_depth: hidden width and number of hidden layers of the image-side MLP.
        activation: of that MLP, `gelu` or `relu`.
        text_head: `linear` or `mlp`, the learned projection of the text features.
        text_standardise: see `heads.Standardise`.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "text")

    def __init__(
        self,
        image_encoder: Encoder,
        text_width: int | None,
        *,
        embed_dim: int = 64,
        predictor_width: int = 2048,
        predictor_depth: int = 2,
        activation: str = "gelu",
        text_head: str = "linear",
        text_standardise: bool = False,
    ) -> None:
        super().__init__(image_encoder, text_width)
        assert text_width is not None
        self.predictor = mlp(
            image_encoder.width, predictor_width, embed_dim, depth=predictor_depth, activation=activation
        )
        self.text_head = TextHead(text_width, embed_dim, kind=text_head, standardise=text_standardise)

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, D)."""
        return self.predictor(self.image_encoder(images).pooled)  # type: ignore[no-any-return]

    def embed_text(self, features: Tensor) -> Tensor:
        """(B, text_width) -> (B, D)."""
        return self.text_head(features)  # type: ignore[no-any-return]

    def embed_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Every view (V, B, D) and the text (B, D) in float32.

        One encoder call a view size, one predictor call for all views (view-major), as in training NOVA.
        """
        return self.embed_encoded(self.encode(batch), batch)

    def encode(self, batch: Batch) -> tuple[Tensor, ...]:
        """The pooled features (B, W) of each view, one encoder call a view size."""
        pooled: list[Tensor] = []
        for views in batch.views:
            pooled += self.image_encoder(views.flatten(0, 1)).pooled.unflatten(0, views.shape[:2]).unbind(0)
        return tuple(pooled)

    def embed_encoded(self, pooled: tuple[Tensor, ...], batch: Batch) -> tuple[Tensor, Tensor]:
        """As `embed_batch`, of what `encode` gave."""
        assert batch.text is not None
        z = self.predictor(torch.cat(pooled)).float()
        return z.unflatten(0, (len(pooled), -1)), self.embed_text(batch.text).float()

    @staticmethod
    def features(pooled: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
        """The features that online evaluators read, for `Output.tensors`: of the first view and the text."""
        assert batch.text is not None
        return {"features_image": pooled[0].detach(), "features_text": batch.text}


class ContrastiveDualEncoder(DualEncoder):
    """A dual encoder compared by cosine, with a learned scale; its loss is `pair_loss` of the whole batch.

    Args:
        image_encoder, text_width, **shared: see `DualEncoder`.
        temperature: initial; the logits are cosines divided by it.
    """

    def __init__(
        self, image_encoder: Encoder, text_width: int | None, *, temperature: float = 0.07, **shared: Any
    ) -> None:
        super().__init__(image_encoder, text_width, **shared)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    @abstractmethod
    def pair_loss(self, u: Tensor, w: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one view of the gathered batch, and scalars to log.

        Args:
            u, w: (N, D) unit rows of images and texts of all ranks.
            batch: this rank's batch; whatever else is needed of it is gathered here.
        """

    def forward(self, batch: Batch, step: int) -> Output:
        """The mean over views of the loss of the whole batch, all ranks gathered."""
        return self.compare(self.encode(batch), batch, step)

    def compare(self, encoded: tuple[Tensor, ...], batch: Batch, step: int) -> Output:
        """The loss of what the image encoder gave."""
        z, t = self.embed_encoded(encoded, batch)
        images, w = self.gather(normalise(z), dim=1), self.gather(normalise(t))
        terms = [self.pair_loss(u, w, batch) for u in images]
        loss = torch.stack([term for term, _ in terms]).mean()
        metrics = {key: torch.stack([m[key].detach() for _, m in terms]).mean() for key in terms[0][1]}
        metrics["logit_scale"] = self.logit_scale.detach().exp()
        # Diagnostics see the compared directions, scaled so that an isotropic space has unit standard
        # deviation.
        scale = math.sqrt(z.shape[-1])
        compared = {"image": normalise(z.detach()) * scale, "text": normalise(t.detach()) * scale}
        return Output(loss, metrics, compared | self.features(encoded, batch))

    def gather_text_id(self, batch: Batch) -> Tensor:
        """(N,) which studies of all ranks have the identical text."""
        assert batch.text_id is not None
        return self.gather(batch.text_id)

    def no_weight_decay(self) -> set[str]:
        """The scale."""
        return {"logit_scale"}


def build(
    name: str,
    image_encoder: Encoder,
    text: int | TokenEncoder | None,
    arguments: dict[str, Any],
) -> Objective:
    """The objective of this name around its encoders, with every batch norm seeing all ranks.

    Args:
        name: of the plug-in.
        image_encoder: the image encoder.
        text: width of the frozen text encoder's features, or the text encoder that learns.
        arguments: further ones of the constructor.

    Raises:
        ConfigurationError: if the method reads tokens and there is no text encoder that learns.
    """
    found = registry.find("objectives", name)
    if "tokens" in found.needs and not isinstance(text, TokenEncoder):
        raise ConfigurationError(f"{name} trains its text encoder: set text.model")
    objective: Objective = found(image_encoder, text, **arguments)
    cross_rank_batch_norm(objective)
    return objective
