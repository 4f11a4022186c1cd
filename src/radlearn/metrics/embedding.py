"""Diagnostics of an embedding space: collapse, isotropy, alignment of image and text, geometry.

All are pure functions of (N, D) tensors, N studies or rows and D dimensions. They compute on the tensors'
device in fp32 or better: bf16 inputs are widened, as 8 bits of mantissa would blur a variance. Spreads are
those of the population (divided by N), so that predicting the mean scores R^2 = 0 exactly and a single row
has spread 0, not NaN.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

# Below this spread a dimension counts as collapsed; SIGReg aims at 1.
COLLAPSED_STD = 0.1
# Logit temperature of the contrastive gap, that of LeVLJEPA's log and of CLIP at initialisation.
GAP_TEMPERATURE = 0.07
# In-batch retrieval is told for these, as LoVT logs it.
RECALL_KS = (1, 5)
# Singular values cost N * D^2: beyond a few thousand rows they no longer change.
MAX_SPECTRUM_ROWS = 4096


def dimension_std(embedding: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Standard deviation of every dimension over the rows; 0 where the embedding has collapsed."""
    return _wide(embedding).std(dim=0, correction=0)


def collapsed_fraction(
    embedding: Float[Tensor, "n d"], threshold: float = COLLAPSED_STD
) -> Float[Tensor, ""]:
    """Share of dimensions whose standard deviation is below `threshold`."""
    return (dimension_std(embedding) < threshold).to(torch.float32).mean()


def effective_rank(embedding: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Exponential of the entropy of the singular values: how many directions are in use, 1 to min(N, D).

        exp(-sum_i s_i ln(s_i + 1e-7)),  s = singular values of the centred matrix / their sum

    Scale does not enter: an embedding that shrinks to a point in all directions alike keeps its rank.
    Centring and the constant differ between libraries, and so do their numbers. All rows equal scores 1.

    Source: Roy and Vetterli 2007; form and constant as logged by LeVLJEPA.
    """
    singular = torch.linalg.svdvals(_centred(embedding))
    share = singular / singular.sum().clamp_min(torch.finfo(singular.dtype).tiny)
    entropy: Tensor = -(share * torch.log(share + 1e-7)).sum()
    return entropy.exp()


def participation_ratio(embedding: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """(sum l)^2 / sum l^2 of the covariance eigenvalues l, 1 to D; 0 where all rows are equal.

    Both sums are traces, of the covariance and of its square, so no eigenvalue is computed.
    """
    covariance = _covariance(embedding)
    square_sum = covariance.square().sum().clamp_min(torch.finfo(covariance.dtype).tiny)
    ratio: Tensor = covariance.trace().square() / square_sum
    return ratio


def condition_number(embedding: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Largest over smallest eigenvalue of the covariance, 1 where isotropic; at most 1 / epsilon."""
    eigenvalues = torch.linalg.eigvalsh(_covariance(embedding))
    limits = torch.finfo(eigenvalues.dtype)
    # A smallest eigenvalue of 0 comes out as rounding noise of either sign.
    smallest = torch.maximum(eigenvalues[0], eigenvalues[-1] * limits.eps).clamp_min(limits.tiny)
    ratio: Tensor = eigenvalues[-1] / smallest
    return ratio


def covariance_distance(embedding: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Frobenius norm of (covariance - identity) / sqrt(D): 0 for white rows, 1 for a point."""
    covariance = _covariance(embedding)
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return (covariance - identity).square().sum().sqrt() / math.sqrt(len(covariance))


def mean_absolute_correlation(embedding: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean absolute correlation of two different dimensions; one without spread correlates with none."""
    covariance = _covariance(embedding)
    width = len(covariance)
    spread = covariance.diagonal().sqrt().clamp_min(torch.finfo(covariance.dtype).tiny ** 0.25)
    correlation = (covariance / (spread[:, None] * spread[None, :])).abs()
    return (correlation.sum() - correlation.diagonal().sum()) / max(width * (width - 1), 1)


def excess_kurtosis(
    embedding: Float[Tensor, "n d"], num_slices: int = 256, seed: int = 0
) -> Float[Tensor, ""]:
    """Mean excess kurtosis of the rows along fixed random directions: 0 for a Gaussian, -3 for a point.

    The directions depend on `seed`, D and `num_slices` only, so values compare across steps and runs.
    """
    centred = _centred(embedding)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(centred.shape[1], num_slices, generator=generator, dtype=torch.float64)
    projected = centred @ normalize(directions, dim=0).to(centred)
    second, fourth = projected.square().mean(dim=0), projected.pow(4).mean(dim=0)
    return (fourth / second.square().clamp_min(torch.finfo(second.dtype).tiny)).mean() - 3


def mean_squared_error(image: Float[Tensor, "n d"], text: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean over rows and dimensions of the squared difference, the prediction term of the loss."""
    return (_wide(image) - _wide(text)).square().mean()


def explained_variance(image: Float[Tensor, "n d"], text: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """R^2 = 1 - MSE / Var(text): 1 where the text is predicted, 0 where only its mean is; unbounded below."""
    variance = _wide(text).var(dim=0, correction=0).mean()
    explained = 1 - mean_squared_error(image, text) / variance
    # Constant text leaves nothing to explain: its collapse must not look like a perfect prediction.
    return torch.where(variance > 0, explained, torch.zeros_like(explained))


def matched_cosine(image: Float[Tensor, "n d"], text: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean cosine between each image and its own text."""
    return (_unit(image) * _unit(text)).sum(dim=1).mean()


def shifted_cosine(image: Float[Tensor, "n d"], text: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean cosine between each image and the text of the next row: what a mismatched pair scores."""
    return (_unit(image) * _unit(text).roll(-1, dims=0)).sum(dim=1).mean()


def contrastive_gap(
    image: Float[Tensor, "n d"], text: Float[Tensor, "n d"], temperature: float = GAP_TEMPERATURE
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean matched logit, mean row log-sum-exp, and the first minus the second, as LeVLJEPA logs them.

    The logits are cosines / temperature. The gap is minus the image-to-text InfoNCE loss: -ln N where nothing
    is told apart, towards 0 where every image picks its own text. It depends on N: compare at one batch size.
    """
    logits = _unit(image) @ _unit(text).T / temperature
    matched, partition = logits.diagonal().mean(), torch.logsumexp(logits, dim=1).mean()
    return matched, partition, matched - partition


def view_variance(views: Float[Tensor, "v n d"]) -> Float[Tensor, ""]:
    """View consistency: variance across the views of a study, mean over studies and dimensions."""
    return _wide(views).var(dim=0, correction=0).mean()


def modality_gap(image: Float[Tensor, "n d"], text: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Distance between the mean image and the mean text embedding.

    Normalise the rows first to compare methods. Source: Liang et al. 2022, arXiv:2203.02053, with rows of
    norm 1.
    """
    return (_wide(image).mean(dim=0) - _wide(text).mean(dim=0)).square().sum().sqrt()


def uniformity(embedding: Float[Tensor, "n d"], scale: float = 2.0) -> Float[Tensor, ""]:
    """Uniformity, ln E exp(-scale * d^2) over pairs of different rows on the unit sphere.

    0 for a point; lower is more uniform.
    Source: Wang and Isola 2020, arXiv:2005.10242.
    """
    unit = _unit(embedding)
    exponents = 2 * scale * (unit @ unit.T - 1)
    exponents.fill_diagonal_(-torch.inf)
    pairs = torch.tensor(float(len(unit) * (len(unit) - 1)), device=unit.device, dtype=unit.dtype)
    return torch.logsumexp(exponents.flatten(), dim=0) - pairs.log()


def recall_at(queries: Float[Tensor, "n d"], targets: Float[Tensor, "n d"], *ks: int) -> Float[Tensor, " k"]:
    """Share of rows whose own target is among the k most similar ones by cosine, for each k; chance is k / N.

    Ties count by their expected share under random order, so a collapsed embedding scores chance, not 1, and
    m identical reports share one hit.
    """
    similarity = _unit(queries) @ _unit(targets).T
    own = similarity.diagonal()[:, None]
    # Equal rows differ by rounding after the product.
    tolerance = 8 * torch.finfo(similarity.dtype).eps
    better = (similarity > own + tolerance).sum(dim=1)
    tied = ((similarity - own).abs() <= tolerance).sum(dim=1)
    return torch.stack([((k - better) / tied).clamp(0, 1).to(similarity.dtype).mean() for k in ks])


@torch.no_grad()
def embedding_report(
    image_views: Float[Tensor, "v n d"],
    text: Float[Tensor, "n d"],
    local_views: Float[Tensor, "w n d"] | None = None,
) -> dict[str, float]:
    """All diagnostics of one probe batch, for logging; use 1,024 held-out studies or more.

    Collapse and isotropy look at all views of a size together; what compares image and text is computed for
    each global view and averaged, since one view is what evaluation embeds.

    Args:
        image_views: (V, N, D) embeddings of the global views.
        text: (N, D) embeddings of the reports, row by row those of the views.
        local_views: (W, N, D) embeddings of the local views, if there are any.

    Returns:
        `group/metric` -> value, the groups being `collapse`, `isotropy`, `alignment` and `geometry`.

    Raises:
        ValueError: on shapes that do not fit, fewer than two studies, or values that are not finite.
    """
    _check_report_inputs(image_views, text, local_views)
    # Mixed precision would round the products inside the metrics.
    with torch.autocast(text.device.type, enabled=False):
        values = _report(image_views, text, local_views)
    # One transfer from the device, not one a metric.
    return dict(zip(values, torch.stack([value.float() for value in values.values()]).tolist(), strict=True))


def _report(image_views: Tensor, text: Tensor, local_views: Tensor | None) -> dict[str, Tensor]:
    images, text = _wide(image_views), _wide(text)
    groups = {"image_global": images.flatten(0, 1), "text": text}
    all_views = images
    if local_views is not None:
        groups["image_local"] = _wide(local_views).flatten(0, 1)
        all_views = torch.cat([images, _wide(local_views)])
    values: dict[str, Tensor] = {}
    for group, rows in groups.items():
        values |= {f"collapse/{group}_{key}": value for key, value in _collapse(rows).items()}
    for group in ("image_global", "text"):
        values |= {f"isotropy/{group}_{key}": value for key, value in _isotropy(groups[group]).items()}
    values["alignment/mse_global"] = (images - text).square().mean()
    if local_views is not None:
        values["alignment/mse_local"] = (_wide(local_views) - text).square().mean()
    values["alignment/view_variance"] = view_variance(all_views)
    pairs = [_pair_metrics(view, text) for view in images]
    values |= {key: torch.stack([pair[key] for pair in pairs]).mean() for key in pairs[0]}
    values["geometry/text_uniformity"] = uniformity(text)
    return values


def _collapse(rows: Tensor) -> dict[str, Tensor]:
    spread = dimension_std(rows)
    spectrum_rows = _thinned(rows)
    return {
        "std_mean": spread.mean(),
        "std_min": spread.min(),
        "collapsed_fraction": collapsed_fraction(rows),
        "effective_rank": effective_rank(spectrum_rows),
        "participation_ratio": participation_ratio(rows),
    }


def _isotropy(rows: Tensor) -> dict[str, Tensor]:
    return {
        "condition_number": condition_number(rows),
        "covariance_distance": covariance_distance(rows),
        "mean_absolute_correlation": mean_absolute_correlation(rows),
        "mean_norm": rows.mean(dim=0).square().sum().sqrt(),
        "excess_kurtosis": excess_kurtosis(rows),
    }


def _pair_metrics(image: Tensor, text: Tensor) -> dict[str, Tensor]:
    matched, partition, gap = contrastive_gap(image, text)
    return {
        "alignment/r2": explained_variance(image, text),
        "alignment/cosine_matched": matched_cosine(image, text),
        "alignment/cosine_shifted": shifted_cosine(image, text),
        "alignment/matched_logit": matched,
        "alignment/log_sum_exp": partition,
        "alignment/gap": gap,
        "geometry/modality_gap": modality_gap(image, text),
        "geometry/modality_gap_sphere": modality_gap(_unit(image), _unit(text)),
        "geometry/image_uniformity": uniformity(image),
        **_recalls("geometry/image_to_text_recall_at", image, text),
        **_recalls("geometry/text_to_image_recall_at", text, image),
    }


def _recalls(name: str, queries: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return dict(zip((f"{name}_{k}" for k in RECALL_KS), recall_at(queries, targets, *RECALL_KS), strict=True))


def _check_report_inputs(image_views: Tensor, text: Tensor, local_views: Tensor | None) -> None:
    fits = image_views.ndim == 3 and text.ndim == 2 and image_views.shape[1:] == text.shape and len(text) > 1
    fits = fits and len(image_views) > 0
    if local_views is not None:
        fits = fits and local_views.ndim == 3 and local_views.shape[1:] == text.shape
    if not fits:
        local = None if local_views is None else tuple(local_views.shape)
        raise ValueError(
            "views must be (V, N, D) and text (N, D) with at least two studies: got global "
            f"{tuple(image_views.shape)}, text {tuple(text.shape)}, local {local}"
        )
    named = {"image_views": image_views, "text": text, "local_views": local_views}
    for name, values in named.items():
        if values is not None and not values.isfinite().all():
            raise ValueError(
                f"{name} holds NaN or infinite values: the model has diverged; lower the learning rate"
            )


def _wide(values: Tensor) -> Tensor:
    """At least fp32."""
    return values if values.dtype == torch.float64 else values.float()


def _unit(values: Tensor) -> Tensor:
    return normalize(_wide(values), dim=-1)


def _centred(embedding: Tensor) -> Tensor:
    wide = _wide(embedding)
    return wide - wide.mean(dim=0)


def _covariance(embedding: Tensor) -> Tensor:
    centred = _centred(embedding)
    return centred.T @ centred / len(centred)


def _thinned(rows: Tensor) -> Tensor:
    """At most MAX_SPECTRUM_ROWS rows, evenly spaced."""
    return rows[:: -(-len(rows) // MAX_SPECTRUM_ROWS)]
