import functools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from radlearn.losses import _trigonometric_sums
from radlearn.losses.sigreg import SIGREG_FLOOR, sample_slices, sigreg, sigreg_floor

# Reference values: LeJEPA's formula, D=64, K=1024, 17 knots on [0, 3].
FLOOR = 1.05246
COLLAPSED_PER_ROW = 0.402048


def reference(rows, slices, *, knots=17, t_max=3.0):
    """Epps-Pulley by its definition: N times the integral over [-t_max, t_max], float64, nothing folded."""
    t = np.linspace(-t_max, t_max, 2 * knots - 1)
    phi = np.exp(-(t**2) / 2)
    projections = rows @ slices.T
    ecf = np.exp(1j * projections[:, :, None] * t).mean(axis=0)
    return len(rows) * np.trapezoid(np.abs(ecf - phi) ** 2 * phi, t, axis=-1).mean()


def expectation(rows, factor):
    """Of rows from N(0, factor^2 I): bias of the characteristic function, squared, plus its variance."""
    t = np.linspace(-3, 3, 33)
    phi, scaled = np.exp(-(t**2) / 2), np.exp(-((factor * t) ** 2) / 2)
    return np.trapezoid((rows * (scaled - phi) ** 2 + 1 - scaled**2) * phi, t)


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def value_and_gradient(x, **options):
    x = x.detach().clone().requires_grad_()
    value = sigreg(x, **options)
    value.backward()
    return value.detach(), x.grad


# --- reference values ---


def test_the_floor_is_the_reference_value():
    assert pytest.approx(FLOOR, abs=5e-6) == SIGREG_FLOOR
    # Continuous integral on [-3, 3]: many knots come near it.
    assert sigreg_floor(knots=2001) == pytest.approx(1.05266, abs=5e-6)


@pytest.mark.parametrize(("rows", "value"), [(2304, 926.3), (256, 102.9)])
def test_a_collapsed_batch_scores_in_proportion_to_its_rows(rows, value):
    measured = sigreg(torch.zeros(rows, 64, dtype=torch.float64), step=0)
    assert measured.item() == pytest.approx(COLLAPSED_PER_ROW * rows, abs=5e-7 * rows)
    assert measured.item() == pytest.approx(value, abs=0.06)


def test_the_mean_over_draws_is_the_floor():
    draws = [sigreg(gaussian(256, 64, seed=s), step=s).item() for s in range(30)]
    # One draw scatters by 0.08.
    assert np.mean(draws) == pytest.approx(FLOOR, abs=4 * 0.08 / np.sqrt(30))
    assert np.std(draws) < 0.16


@pytest.mark.parametrize(
    ("rows", "factor", "value"),
    [
        (256, 1.0, 1.02),
        (256, 0.9, 2.2),
        (256, 1.1, 2.2),
        (256, 1.5, 22.8),
        (256, 0.5, 38.5),
        (2304, 0.9, 13.7),
        (2304, 1.1, 11.3),
        (2304, 1.5, 195.8),
        (2304, 0.5, 348.1),
    ],
)
def test_scaled_gaussians_score_the_reference_values(rows, factor, value):
    # The references are single draws, which scatter; the expectation is exact.
    num_draws = 12 if rows == 256 else 4
    draws = [sigreg(factor * gaussian(rows, 64, seed=s), step=s).item() for s in range(num_draws)]
    assert np.mean(draws) == pytest.approx(value, rel=0.1, abs=0.25)
    assert np.mean(draws) == pytest.approx(expectation(rows, factor), rel=0.02, abs=0.25)


@pytest.mark.parametrize(("rank", "value"), [(8, 67), (32, 17.5)])
def test_a_gaussian_of_low_rank_scores_the_reference_value(rank, value):
    x = gaussian(2304, rank) @ gaussian(rank, 64, seed=1) / rank**0.5
    assert sigreg(x, step=1).item() == pytest.approx(value, rel=0.15)


def test_unit_vectors_are_near_collapse_until_scaled_by_the_root_of_their_width():
    unit = torch.nn.functional.normalize(gaussian(2304, 64), dim=1)
    assert sigreg(unit, step=1).item() == pytest.approx(872, rel=0.005)
    assert sigreg(8 * unit, step=1).item() == pytest.approx(1.04, abs=0.15)


def test_nine_copies_score_nine_times_one():
    rows = gaussian(256, 64)
    one = sigreg(rows, step=4).item()
    assert sigreg(rows.expand(9, -1, -1), step=4).item() == pytest.approx(9 * one, rel=1e-5)
    assert 9 * one == pytest.approx(9.6, abs=1.5)


# --- against the definition ---


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 40),
    dim=st.integers(1, 9),
    num_slices=st.integers(1, 20),
    knots=st.integers(2, 24),
    t_max=st.floats(0.5, 6.0),
    sampling=st.sampled_from(["iid", "orthogonal"]),
    step=st.integers(0, 2**40),
)
def test_equals_the_definition_in_float64(rows, dim, num_slices, knots, t_max, sampling, step):
    x = 2 * gaussian(rows, dim, seed=step % 1000, dtype=torch.float64) + 0.3
    slices = sample_slices(dim, num_slices, seed=5, step=step, sampling=sampling).numpy()
    options = {"num_slices": num_slices, "knots": knots, "t_max": t_max, "slice_sampling": sampling}
    measured = sigreg(x, step=step, seed=5, **options).item()
    assert measured == pytest.approx(
        reference(x.numpy(), slices, knots=knots, t_max=t_max), rel=1e-10, abs=1e-12
    )


def test_large_input_equals_the_definition():
    x = gaussian(1500, 16, dtype=torch.float64)
    slices = sample_slices(16, 70, seed=0, step=2).numpy()
    assert sigreg(x, step=2, num_slices=70).item() == pytest.approx(reference(x.numpy(), slices), rel=1e-10)


def test_float32_is_within_1e_5_of_float64():
    x = gaussian(2304, 64)
    value, gradient = value_and_gradient(x, step=3)
    exact_value, exact_gradient = value_and_gradient(x.double(), step=3)
    assert value.dtype == torch.float32
    assert exact_value.dtype == torch.float64
    assert value.item() == pytest.approx(exact_value.item(), rel=1e-5)
    assert (gradient - exact_gradient).norm() <= 1e-5 * exact_gradient.norm()


@pytest.mark.parametrize("options", [{}, {"pool": "per_view", "scale": "batch"}, {"knots": 3}, {"knots": 2}])
def test_gradient_equals_finite_differences(options):
    x = gaussian(3, 4, 5, dtype=torch.float64).requires_grad_()
    loss = functools.partial(sigreg, step=0, num_slices=6, **options)
    assert torch.autograd.gradcheck(loss, (x,))


def test_gradient_equals_that_of_the_plain_formula():
    x = gaussian(50, 8, dtype=torch.float64)
    _, gradient = value_and_gradient(x, step=9, num_slices=33)
    x.requires_grad_()
    t = torch.linspace(0, 3, 17, dtype=torch.float64)
    phi = torch.exp(-t.square() / 2)
    angles = (x @ sample_slices(8, 33, seed=0, step=9).T)[..., None] * t
    squares = (angles.cos().mean(0) - phi).square() + angles.sin().mean(0).square()
    (50 * 2 * torch.trapezoid(squares * phi, t).mean()).backward()
    torch.testing.assert_close(gradient, x.grad, rtol=1e-10, atol=1e-14)


def test_descending_the_gradient_turns_a_collapsed_batch_into_a_gaussian():
    x = (0.01 * gaussian(128, 4)).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=0.05)
    for step in range(120):
        optimiser.zero_grad()
        sigreg(x, step=step, num_slices=32).backward()
        optimiser.step()
    assert sigreg(x, step=1000).item() < SIGREG_FLOOR
    assert x.std(dim=0).min().item() == pytest.approx(1, abs=0.15)


# --- invariances ---


@pytest.mark.parametrize(("block", "block_rows"), [(1, 1), (7, 3), (64, 1000), (10**6, 10**6)])
def test_blocks_of_any_size_give_the_same(monkeypatch, block, block_rows):
    x = gaussian(29, 6, dtype=torch.float64)
    expected = value_and_gradient(x, step=0, num_slices=11)
    monkeypatch.setattr(_trigonometric_sums, "_CPU_BLOCK", block)
    monkeypatch.setattr(_trigonometric_sums, "_CPU_BLOCK_ROWS", block_rows)
    blocked = value_and_gradient(x, step=0, num_slices=11)
    torch.testing.assert_close(blocked, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("num_slices", [5, 600])
def test_the_formulas_to_compile_equal_the_blocked_form(monkeypatch, num_slices):
    x = gaussian(29, 6, dtype=torch.float64)
    expected = value_and_gradient(x, step=0, num_slices=num_slices)
    monkeypatch.setattr(_trigonometric_sums, "_compiled", lambda kernel: kernel)
    compilable = value_and_gradient(x, step=0, num_slices=num_slices, compile=True)
    torch.testing.assert_close(compilable, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_the_compiled_form_equals_the_blocked_form():
    x = gaussian(300, 16)
    # Few knots and one shape: compiling takes the time.
    options = {"step": 0, "num_slices": 64, "knots": 5}
    expected = value_and_gradient(x, **options)
    compiled = value_and_gradient(x, compile=True, **options)
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_rows_does_not_matter():
    x = gaussian(60, 6, dtype=torch.float64)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert sigreg(x[order], step=0).item() == pytest.approx(sigreg(x, step=0).item(), rel=1e-12)


def test_a_mirrored_batch_scores_the_same():
    x = gaussian(60, 6, dtype=torch.float64)
    assert sigreg(-x, step=0).item() == pytest.approx(sigreg(x, step=0).item(), rel=1e-12)


def test_autocast_does_not_touch_it():
    x = gaussian(64, 16)
    expected = value_and_gradient(x, step=0, num_slices=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = value_and_gradient(x, step=0, num_slices=64)
    torch.testing.assert_close(under_autocast, expected, rtol=0, atol=0)


def test_a_reduced_matmul_precision_does_not_touch_it():
    x = gaussian(256, 64)
    expected = value_and_gradient(x, step=0, num_slices=256)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        reduced = value_and_gradient(x, step=0, num_slices=256)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(reduced, expected, rtol=0, atol=0)


def test_bfloat16_input_is_computed_in_float32_and_gets_a_bfloat16_gradient():
    x = gaussian(64, 8).bfloat16()
    value, gradient = value_and_gradient(x, step=0)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    assert value.item() == sigreg(x.float(), step=0).item()


def test_it_can_stand_inside_a_compiled_function():
    x = gaussian(20, 4)
    compiled = torch.compile(lambda x: 3 * sigreg(x, step=1, num_slices=8), backend="eager")
    assert compiled(x).item() == pytest.approx(3 * sigreg(x, step=1, num_slices=8).item(), rel=1e-6)


# --- slices ---


@pytest.mark.parametrize("sampling", ["iid", "orthogonal"])
def test_slices_depend_on_seed_and_step_alone(sampling):
    draw = functools.partial(sample_slices, 8, 300, sampling=sampling)
    torch.manual_seed(1)
    np.random.seed(1)
    first = draw(seed=0, step=7)
    before = torch.get_rng_state()
    torch.manual_seed(2)
    np.random.seed(2)
    again = draw(seed=0, step=7)
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(seed=0, step=8))
    assert not torch.equal(first, draw(seed=1, step=7))
    torch.manual_seed(1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("sampling", ["iid", "orthogonal"])
def test_more_slices_extend_the_list(sampling):
    many = sample_slices(6, 700, seed=0, step=0, sampling=sampling)
    assert torch.equal(sample_slices(6, 259, seed=0, step=0, sampling=sampling), many[:259])
    torch.testing.assert_close(many.norm(dim=1), torch.ones(700, dtype=torch.float64))
    # Uniform on the sphere: E a a^T = I / D.
    torch.testing.assert_close(many.T @ many / 700, torch.eye(6).double() / 6, rtol=0, atol=0.05)
    assert many.mean(dim=0).abs().max() < 0.08


def test_orthogonal_slices_are_orthogonal_within_a_block():
    slices = sample_slices(7, 21, seed=0, step=3, sampling="orthogonal").view(3, 7, 7)
    torch.testing.assert_close(slices @ slices.mT, torch.eye(7).double().expand(3, 7, 7))


def test_orthogonal_slices_leave_less_noise_in_the_gradient():
    x = 0.8 * gaussian(256, 16)
    _, exact = value_and_gradient(x, step=10**6, num_slices=8192)

    def error(sampling):
        draws = (value_and_gradient(x, step=s, num_slices=64, slice_sampling=sampling)[1] for s in range(8))
        return np.mean([(draw - exact).norm().item() for draw in draws])

    assert error("orthogonal") < 0.9 * error("iid")


# --- options ---


@pytest.mark.parametrize(
    ("pool", "scale", "factor"),
    [
        ("joint", "rows", 12),
        ("joint", "batch", 4),
        ("joint", "none", 1),
        ("per_view", "rows", 4),
        ("per_view", "batch", 4),
        ("per_view", "none", 1),
    ],
)
def test_pool_and_scale_by_formula(pool, scale, factor):
    x = gaussian(3, 4, 5, dtype=torch.float64)
    slices = sample_slices(5, 9, seed=0, step=0).numpy()
    tests = [x.flatten(0, 1)] if pool == "joint" else list(x)
    mean_per_row = np.mean([reference(rows.numpy(), slices) / len(rows) for rows in tests])
    measured = sigreg(x, step=0, num_slices=9, pool=pool, scale=scale).item()
    assert measured == pytest.approx(factor * mean_per_row, rel=1e-10)


def test_rows_without_views_are_one_view():
    x = gaussian(12, 5, dtype=torch.float64)
    for pool in ("joint", "per_view"):
        assert sigreg(x, step=0, pool=pool).item() == sigreg(x[None], step=0, pool=pool).item()


# --- ranks ---


@pytest.mark.parametrize("pool", ["joint", "per_view"])
@pytest.mark.parametrize("scale", ["rows", "batch", "none"])
@pytest.mark.parametrize("shares", [(5, 3), (4, 4), (1, 7), (3, 3, 2)])
def test_unequal_shares_equal_one_process(across_ranks, pool, scale, shares):
    x = gaussian(3, 8, 6, dtype=torch.float64)
    options = {"step": 0, "num_slices": 16, "pool": pool, "scale": scale}
    value, gradient = value_and_gradient(x, **options)
    parts = [part.clone().requires_grad_() for part in x.split(shares, dim=1)]
    losses = across_ranks(lambda part, all_reduce: sigreg(part, all_reduce=all_reduce, **options), parts)
    for loss in losses:
        assert loss.item() == pytest.approx(value.item(), rel=1e-12)
    sum(losses).backward()
    across = torch.cat([part.grad for part in parts], dim=1)
    torch.testing.assert_close(across, len(shares) * gradient, rtol=1e-10, atol=1e-13)


def test_a_local_count_scales_by_the_rows_of_the_rank(across_ranks):
    x = gaussian(8, 6, dtype=torch.float64)
    losses = across_ranks(
        lambda part, all_reduce: sigreg(part, step=0, count="local", all_reduce=all_reduce), x.split((5, 3))
    )
    per_row = sigreg(x, step=0, scale="none").item()
    assert [loss.item() for loss in losses] == pytest.approx([5 * per_row, 3 * per_row], rel=1e-12)


@pytest.mark.parametrize(("count", "factors"), [("global", (8, 8)), ("local", (5, 3))])
def test_undistributed_ranks_test_their_own_rows(across_ranks, count, factors):
    parts = gaussian(8, 6, dtype=torch.float64).split((5, 3))
    losses = across_ranks(
        lambda part, all_reduce: sigreg(part, step=0, count=count, distributed=False, all_reduce=all_reduce),
        parts,
    )
    expected = [
        factor * sigreg(part, step=0, scale="none").item()
        for factor, part in zip(factors, parts, strict=True)
    ]
    assert [loss.item() for loss in losses] == pytest.approx(expected, rel=1e-12)


def test_sums_and_count_travel_as_one_tensor():
    payloads = []

    def all_reduce(payload):
        payloads.append(payload.shape)
        return payload

    sigreg(gaussian(2, 5, 4), step=0, num_slices=10, knots=17, all_reduce=all_reduce)
    assert payloads == [(2 * 10 * 16 + 1,)]


# --- bad input ---


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(1, 4), {}, r"at least 2 rows.*\(1, 4\)"),
        (torch.zeros(3, 1, 4), {"pool": "per_view"}, r"at least 2 rows.*per_view"),
        (torch.zeros(0, 4), {}, "at least 2 rows"),
        (torch.zeros(5, 0), {}, "rows"),
        (torch.zeros(2, 2, 3, 4), {}, r"\(views, batch, dim\).*\(2, 2, 3, 4\)"),
        (torch.zeros(5, 4), {"pool": "both"}, "pool must be one of joint, per_view; got 'both'"),
        (torch.zeros(5, 4), {"scale": "N"}, "scale must be one of"),
        (torch.zeros(5, 4), {"count": "all"}, "count must be one of"),
        (torch.zeros(5, 4), {"slice_sampling": "qr"}, "slice_sampling must be one of"),
        (torch.zeros(5, 4), {"num_slices": 0}, "num_slices"),
        (torch.zeros(5, 4), {"knots": 1}, "knots"),
        (torch.zeros(5, 4), {"t_max": 0.0}, "t_max"),
        (torch.zeros(5, 4), {"seed": -1}, "seed"),
    ],
)
def test_bad_input_is_refused(x, options, message):
    # An option that is no member of its Literal is caught by the run-time type check first, where that is on.
    with pytest.raises((ValueError, TypeError)) as error:
        sigreg(x, step=0, **options)
    if isinstance(error.value, ValueError):
        error.match(message)


def test_non_finite_input_is_named():
    x = gaussian(3, 8, 4)
    x[1, 5, 2] = float("nan")
    x[2, 0] = float("inf")
    with pytest.raises(
        FloatingPointError, match=r"2 of 24 rows, in views \[1, 2\]; the first is row 5 of view 1"
    ):
        sigreg(x, step=0)
    with pytest.raises(FloatingPointError, match="1 of 8 rows, the first is row 5"):
        sigreg(x[1], step=0)
