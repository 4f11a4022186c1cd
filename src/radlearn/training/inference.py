"""Embeddings of a whole data set, outside training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from radlearn.data.dataset import EvaluationDataset
from radlearn.data.loading import evaluation_loader
from radlearn.data.store import ImageSource
from radlearn.data.views import EvaluationView
from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError
from radlearn.objectives.base import Objective
from radlearn.records import Encoded


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; every submodule's mode and the random state are put back exactly."""
    modes = {child: child.training for child in module.modules()}
    state = torch.get_rng_state()
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for child, mode in modes.items():
            child.training = mode
        torch.set_rng_state(state)


def embed_images(
    objective: Objective,
    source: ImageSource,
    rows: np.ndarray,
    *,
    view: EvaluationView,
    batch_size: int = 256,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, np.ndarray]:
    """Embeddings of these source rows, on the CPU.

    Returns:
        (N, D) float32, and the positions (N,) in `rows` they belong to: unreadable images are left out.
    """
    device = next(objective.parameters()).device
    loader = evaluation_loader(
        EvaluationDataset(source, rows, view), batch_size=batch_size, num_workers=num_workers
    )
    embeddings, positions = [], []
    with evaluating(objective):
        for images, where in loader:
            if len(images):
                embeddings.append(objective.embed_image(images.to(device)).float().cpu())
                positions.append(where.numpy())
            if progress is not None:
                progress(int(where[-1]) + 1 if len(where) else 0, len(rows))
    if not embeddings:
        return torch.empty(0, 0), np.empty(0, dtype=np.int64)
    return torch.cat(embeddings).clone(), np.concatenate(positions)


def features_and_embeddings(module: Objective | Encoder, images: Tensor) -> dict[str, Tensor]:
    """What the image encoder pools, and of an objective the embeddings too, from one pass.

    Args:
        module: in eval mode, see `evaluating`.
        images: (B, 1, H, W) uint8, or float in [0, 1].

    Returns:
        `features` (B, W), and of an objective `embeddings` (B, D).
    """
    if isinstance(module, Encoder):
        return {"features": module(images).pooled}
    seen: list[Tensor] = []
    hook = module.image_encoder.register_forward_hook(lambda _, __, encoded: seen.append(encoded.pooled))
    try:
        embeddings = module.embed_image(images)
    finally:
        hook.remove()
    # A method that embeds with another encoder, a teacher for instance, does not call its own.
    features = seen[0] if seen else module.image_encoder(images).pooled
    return {"features": features, "embeddings": embeddings}


def embed_regions(objective: Objective, images: Tensor) -> Tensor:
    """Each local feature embedded as if it were a whole image: (B, N, D) in the space that is compared.

    The encoder's pooling of one position is that position; the objective's own image side does the rest, also
    where it pools by attention.

    Args:
        objective: in eval mode, see `evaluating`.
        images: (B, 1, H, W).

    Raises:
        ConfigurationError: if local and pooled features have unlike widths.
    Source: after MaskCLIP (Zhou et al. 2022, arXiv:2112.01071), which leaves out the last pooling.
    """
    encoder = objective.image_encoder
    times, rest = divmod(encoder.width, encoder.local_width)
    if rest:
        raise ConfigurationError(
            f"local features of {encoder.local_width} dimensions cannot stand for pooled ones of "
            f"{encoder.width}: regions of this encoder cannot be embedded"
        )

    def one_position_an_image(_: nn.Module, __: object, encoded: Encoded) -> Encoded:
        assert encoded.local is not None
        local = encoded.local.flatten(0, 1)
        # An encoder that pools in several ways, by mean and maximum, has one position that many times.
        return Encoded(local.repeat(1, times), local.unsqueeze(1))

    hook = encoder.register_forward_hook(one_position_an_image)
    try:
        embedded = objective.embed_image(images)
    finally:
        hook.remove()
    return embedded.view(len(images), -1, embedded.shape[-1])
