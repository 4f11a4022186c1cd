import numpy as np
import pytest
import torch

from radlearn.metrics import embedding as diagnostics

STUDIES, WIDTH = 200, 12


def pair(seed=0, studies=STUDIES, width=WIDTH):
    """Correlated, off-centre image and text embeddings, float64."""
    generator = np.random.default_rng(seed)
    text = generator.normal(size=(studies, width)) @ generator.normal(size=(width, width)) + 0.5
    image = 0.8 * text + generator.normal(size=(studies, width))
    return torch.from_numpy(image), torch.from_numpy(text)


def gaussian(rows, width, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_spread_of_dimensions():
    rows = pair()[0]
    rows[:, 3] *= 0.01
    np.testing.assert_allclose(diagnostics.dimension_std(rows), rows.numpy().std(axis=0))
    assert diagnostics.collapsed_fraction(rows).item() == pytest.approx(1 / WIDTH)
    assert (diagnostics.dimension_std(rows[:1]) == 0).all()


def test_effective_rank_is_the_formula():
    rows = pair()[0]
    singular = np.linalg.svd(rows.numpy() - rows.numpy().mean(axis=0), compute_uv=False)
    share = singular / singular.sum()
    expected = np.exp(-np.sum(share * np.log(share + 1e-7)))
    assert diagnostics.effective_rank(rows).item() == pytest.approx(expected, rel=1e-10)


def test_ranks_count_the_directions_in_use():
    # Three directions of equal spread in 12 dimensions, built orthogonal so that the count is exact.
    basis = torch.linalg.qr(gaussian(STUDIES, 4))[0]
    basis = torch.linalg.qr(basis - basis.mean(dim=0))[0][:, :3]
    rows = torch.zeros(STUDIES, WIDTH, dtype=torch.float64)
    rows[:, :3] = basis
    assert diagnostics.effective_rank(rows).item() == pytest.approx(3, rel=1e-5)
    assert diagnostics.participation_ratio(rows).item() == pytest.approx(3, rel=1e-9)
    shrunk = diagnostics.effective_rank(1e-3 * rows + 7)
    assert shrunk.item() == pytest.approx(3, rel=1e-5), "neither scale nor position enters"


def test_isotropy_group_is_the_formulas():
    rows = pair()[0]
    covariance = np.cov(rows.numpy(), rowvar=False, bias=True)
    eigenvalues = np.linalg.eigvalsh(covariance)
    correlation = np.abs(np.corrcoef(rows.numpy(), rowvar=False))
    off_diagonal = correlation[~np.eye(WIDTH, dtype=bool)].mean()
    distance = np.linalg.norm(covariance - np.eye(WIDTH)) / np.sqrt(WIDTH)
    ratio = eigenvalues.sum() ** 2 / np.sum(eigenvalues**2)
    assert diagnostics.condition_number(rows).item() == pytest.approx(eigenvalues[-1] / eigenvalues[0])
    assert diagnostics.covariance_distance(rows).item() == pytest.approx(distance)
    assert diagnostics.mean_absolute_correlation(rows).item() == pytest.approx(off_diagonal)
    assert diagnostics.participation_ratio(rows).item() == pytest.approx(ratio)


def test_excess_kurtosis_tells_gaussian_from_uniform_and_heavy_tails():
    assert diagnostics.excess_kurtosis(gaussian(20_000, 4)).item() == pytest.approx(0, abs=0.05)
    line = torch.linspace(-1, 1, 10_001, dtype=torch.float64)[:, None]
    # A uniform distribution has excess kurtosis -6/5, a Laplace distribution 3.
    assert diagnostics.excess_kurtosis(line).item() == pytest.approx(-1.2, abs=1e-3)
    # Equal steps of probability: the far tail is missing, hence a little less than 3.
    quantiles = torch.sign(line[1:-1]) * -torch.log1p(-line[1:-1].abs())
    assert 2.5 < diagnostics.excess_kurtosis(quantiles).item() < 3


def test_excess_kurtosis_repeats_and_leaves_the_global_generator_alone():
    rows = pair()[0]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert diagnostics.excess_kurtosis(rows) == diagnostics.excess_kurtosis(rows)
    assert torch.equal(torch.get_rng_state(), before)


def test_alignment_group_is_the_formulas():
    image, text = pair()
    x, t = image.numpy(), text.numpy()
    logits = unit(x) @ unit(t).T / 0.07
    partition = np.mean(np.log(np.exp(logits).sum(axis=1)))
    matched, found_partition, gap = diagnostics.contrastive_gap(image, text)
    assert diagnostics.mean_squared_error(image, text).item() == pytest.approx(np.mean((x - t) ** 2))
    expected = 1 - np.mean((x - t) ** 2) / t.var(axis=0).mean()
    assert diagnostics.explained_variance(image, text).item() == pytest.approx(expected)
    assert diagnostics.matched_cosine(image, text).item() == pytest.approx(
        np.sum(unit(x) * unit(t), axis=1).mean()
    )
    shifted = np.mean([unit(x)[row] @ unit(t)[(row + 1) % STUDIES] for row in range(STUDIES)])
    assert diagnostics.shifted_cosine(image, text).item() == pytest.approx(shifted)
    assert matched.item() == pytest.approx(np.diag(logits).mean())
    assert found_partition.item() == pytest.approx(partition)
    assert gap.item() == pytest.approx(np.diag(logits).mean() - partition)
    views = torch.stack([image, text, image + text])
    assert diagnostics.view_variance(views).item() == pytest.approx(views.numpy().var(axis=0).mean())


def test_explained_variance_at_its_marks():
    text = pair()[1]
    assert diagnostics.explained_variance(text, text).item() == 1
    assert diagnostics.explained_variance(text.mean(dim=0).expand_as(text), text).item() == pytest.approx(0)
    constant = torch.ones_like(text)
    assert diagnostics.explained_variance(constant, constant).item() == 0, "a collapse predicts nothing"


def test_geometry_group_is_the_formulas():
    image, text = pair()
    x, t = image.numpy(), text.numpy()
    distance = np.linalg.norm(x.mean(axis=0) - t.mean(axis=0))
    assert diagnostics.modality_gap(image, text).item() == pytest.approx(distance)
    pairs = [np.exp(-2 * np.sum((unit(x)[i] - unit(x)[j]) ** 2)) for i in range(STUDIES) for j in range(i)]
    assert diagnostics.uniformity(image).item() == pytest.approx(np.log(np.mean(pairs)))
    similarity = unit(x) @ unit(t).T
    for k in (1, 5):
        hits = [row in np.argsort(-similarity[row])[:k] for row in range(STUDIES)]
        assert diagnostics.recall_at(image, text, k).item() == pytest.approx(np.mean(hits))
        hits = [row in np.argsort(-similarity[:, row])[:k] for row in range(STUDIES)]
        assert diagnostics.recall_at(text, image, k).item() == pytest.approx(np.mean(hits))


def test_recall_of_ties_is_that_of_a_random_order():
    same = torch.ones(50, 8)
    assert diagnostics.recall_at(same, same, 5).item() == pytest.approx(5 / 50)
    # Four texts, each written twice: an image finds one of the two at rank 1 in half of all orders.
    twice = torch.eye(4).repeat(2, 1)
    assert diagnostics.recall_at(twice, twice, 1).item() == pytest.approx(0.5)
    assert diagnostics.recall_at(twice, twice, 2).item() == pytest.approx(1)


def test_bfloat16_is_widened():
    image, text = (rows.bfloat16() for rows in pair())
    assert diagnostics.effective_rank(image).dtype == torch.float32
    exact = diagnostics.uniformity(image.double()).item()
    assert diagnostics.uniformity(image).item() == pytest.approx(exact, abs=1e-5)
    assert diagnostics.explained_variance(image, text).dtype == torch.float32


def test_report_holds_the_specified_set_and_averages_the_global_views():
    image, text = pair()
    views = torch.stack([image, image.flip(1)])
    local = torch.stack([text, image, text + 1])
    report = diagnostics.embedding_report(views, text, local)
    assert all(isinstance(value, float) for value in report.values())
    for group in ("image_global", "image_local", "text"):
        for key in ("std_mean", "std_min", "collapsed_fraction", "effective_rank", "participation_ratio"):
            assert f"collapse/{group}_{key}" in report
    assert report["collapse/text_effective_rank"] == pytest.approx(
        diagnostics.effective_rank(text).item(), rel=1e-6
    )
    pooled = views.flatten(0, 1)
    assert report["isotropy/image_global_condition_number"] == pytest.approx(
        diagnostics.condition_number(pooled).item(), rel=1e-6
    )
    assert report["isotropy/text_mean_norm"] == pytest.approx(
        np.linalg.norm(text.numpy().mean(axis=0)), rel=1e-6
    )
    assert report["alignment/mse_global"] == pytest.approx(((views - text) ** 2).mean().item(), rel=1e-6)
    assert report["alignment/mse_local"] == pytest.approx(((local - text) ** 2).mean().item(), rel=1e-6)
    expected = torch.cat([views, local]).numpy().var(axis=0).mean()
    assert report["alignment/view_variance"] == pytest.approx(expected, rel=1e-6)
    cosines = [diagnostics.matched_cosine(view, text).item() for view in views]
    assert report["alignment/cosine_matched"] == pytest.approx(np.mean(cosines), rel=1e-6)
    recalls = [diagnostics.recall_at(text, view, 5).item() for view in views]
    assert report["geometry/text_to_image_recall_at_5"] == pytest.approx(np.mean(recalls), rel=1e-6)


def test_report_without_local_views_leaves_them_out():
    image, text = pair()
    report = diagnostics.embedding_report(image[None], text)
    assert not [key for key in report if "local" in key]
    assert report["alignment/view_variance"] == 0


def test_report_of_a_collapsed_model_is_finite_and_rings_true():
    point = torch.ones(2, STUDIES, WIDTH)
    report = diagnostics.embedding_report(point, point[0])
    assert np.isfinite(list(report.values())).all()
    assert report["collapse/image_global_std_mean"] == 0
    assert report["collapse/image_global_collapsed_fraction"] == 1
    assert report["collapse/image_global_effective_rank"] == pytest.approx(1)
    assert report["alignment/r2"] == 0
    assert report["alignment/gap"] == pytest.approx(-np.log(STUDIES), rel=1e-5)
    assert report["geometry/image_to_text_recall_at_1"] == pytest.approx(1 / STUDIES)
    assert report["geometry/image_uniformity"] == pytest.approx(0, abs=1e-5)


def test_report_of_a_white_gaussian_is_isotropic():
    rows = gaussian(2000, 4)
    report = diagnostics.embedding_report(rows[None].float(), rows.float())
    assert report["collapse/text_std_mean"] == pytest.approx(1, abs=0.03)
    assert report["collapse/text_effective_rank"] == pytest.approx(4, abs=0.02)
    assert report["isotropy/text_condition_number"] == pytest.approx(1, abs=0.2)
    assert report["isotropy/text_covariance_distance"] < 0.1
    assert report["isotropy/text_excess_kurtosis"] == pytest.approx(0, abs=0.1)


def test_report_is_the_same_under_mixed_precision():
    image, text = (rows.float() for rows in pair())
    expected = diagnostics.embedding_report(image[None], text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert diagnostics.embedding_report(image[None], text) == expected


@pytest.mark.parametrize(
    ("views", "text", "local", "message"),
    [
        ((4, 3), (4, 3), None, r"global \(4, 3\), text \(4, 3\), local None"),
        ((1, 5, 3), (4, 3), None, r"global \(1, 5, 3\)"),
        ((1, 1, 3), (1, 3), None, "at least two studies"),
        ((0, 4, 3), (4, 3), None, r"global \(0, 4, 3\)"),
        ((1, 4, 3), (4, 3), (2, 4, 5), r"local \(2, 4, 5\)"),
    ],
)
def test_report_names_shapes_that_do_not_fit(views, text, local, message):
    with pytest.raises(ValueError, match=message):
        diagnostics.embedding_report(
            torch.zeros(views), torch.zeros(text), None if local is None else torch.zeros(local)
        )


def test_report_names_the_diverged_side():
    image, text = pair()
    text[3, 2] = torch.nan
    with pytest.raises(ValueError, match="text holds NaN or infinite values"):
        diagnostics.embedding_report(image[None], text)
