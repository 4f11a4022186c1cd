import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.special import log_softmax
from torch.nn import functional

from radlearn.losses.contrastive import info_nce, sigmoid_pairwise

LOG_SCALE = torch.tensor(2.6593, dtype=torch.float64)
BIAS = torch.tensor(-10.0, dtype=torch.float64)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def target_matrix(text_id, batch, same_text):
    """(B, B) of 0 and 1: which pairs are positive."""
    return np.eye(batch) if same_text == "negative" else np.equal.outer(text_id, text_id).astype(float)


def info_nce_reference(u, w, log_scale, positive):
    logits = np.exp(log_scale) * unit(u) @ unit(w).T
    by_row = positive / positive.sum(1, keepdims=True)
    by_column = positive / positive.sum(0, keepdims=True)
    rows = -(by_row * log_softmax(logits, axis=1)).sum(1).mean()
    columns = -(by_column * log_softmax(logits, axis=0)).sum(0).mean()
    return (rows + columns) / 2


def sigmoid_reference(u, w, log_scale, bias, positive):
    z = np.exp(log_scale) * unit(u) @ unit(w).T + bias
    return np.logaddexp(0, -(2 * positive - 1) * z).sum() / len(u)


batches = st.integers(1, 12).flatmap(
    lambda batch: st.tuples(
        st.just(batch),
        st.lists(st.integers(-3, 3), min_size=batch, max_size=batch),
        st.sampled_from(["negative", "positive"]),
        st.one_of(st.none(), st.integers(1, 13)),
        st.floats(0, math.log(100)),
        st.integers(0, 10**6),
    )
)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_info_nce_equals_the_definition(drawn):
    batch, text_id, same_text, chunk_rows, log_scale, seed = drawn
    u, w = gaussian(batch, 5, seed=seed), gaussian(batch, 5, seed=seed + 1)
    measured = info_nce(
        u,
        w,
        torch.tensor(log_scale, dtype=torch.float64),
        text_id=torch.tensor(text_id),
        same_text=same_text,
        chunk_rows=chunk_rows,
    )
    positive = target_matrix(text_id, batch, same_text)
    expected = info_nce_reference(u.numpy(), w.numpy(), log_scale, positive)
    assert measured.item() == pytest.approx(expected, rel=1e-10, abs=1e-11)


@settings(max_examples=60, deadline=None)
@given(batches, st.floats(-12, 3))
def test_sigmoid_pairwise_equals_the_definition(drawn, bias):
    batch, text_id, same_text, chunk_rows, log_scale, seed = drawn
    u, w = gaussian(batch, 5, seed=seed), gaussian(batch, 5, seed=seed + 1)
    measured = sigmoid_pairwise(
        u,
        w,
        torch.tensor(log_scale, dtype=torch.float64),
        torch.tensor(bias, dtype=torch.float64),
        text_id=torch.tensor(text_id),
        same_text=same_text,
        chunk_rows=chunk_rows,
    )
    positive = target_matrix(text_id, batch, same_text)
    expected = sigmoid_reference(u.numpy(), w.numpy(), log_scale, bias, positive)
    assert measured.item() == pytest.approx(expected, rel=1e-10, abs=1e-11)


# --- worked examples: u and w are the axes, or w is turned by one place ---


def test_info_nce_on_three_matching_axes():
    scale = torch.tensor(math.log(2.0))
    # Each row and column: e^2 against e^2 + 1 + 1.
    expected = -math.log(math.e**2 / (math.e**2 + 2))
    assert info_nce(torch.eye(3), torch.eye(3), scale).item() == pytest.approx(expected, rel=1e-6)
    # Turned by one place, the match has similarity 0.
    turned = torch.eye(3).roll(1, dims=0)
    assert info_nce(torch.eye(3), turned, scale).item() == pytest.approx(math.log(math.e**2 + 2), rel=1e-6)


def test_info_nce_with_one_text_twice():
    u, w = torch.eye(3), torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])
    scale = torch.tensor(math.log(2.0))
    e2 = math.e**2
    # Logits: (2, 2, 0), (0, 0, 0), (0, 0, 2); the positives of rows 0 and 1 are columns 0 and 1.
    rows = [math.log(2 * e2 + 1) - 2, math.log(3), math.log(2 + e2) - 2]
    columns = [math.log(e2 + 2) - 1, math.log(e2 + 2) - 1, math.log(2 + e2) - 2]
    measured = info_nce(u, w, scale, text_id=torch.tensor([7, 7, 3]), same_text="positive")
    assert measured.item() == pytest.approx(sum(rows + columns) / 6, rel=1e-6)


def test_sigmoid_pairwise_on_three_matching_axes():
    scale, bias = torch.tensor(math.log(10.0)), torch.tensor(-10.0)
    # Diagonal z = 0, six others z = -10; divided by 3 images.
    expected = (3 * math.log(2) + 6 * math.log1p(math.exp(-10))) / 3
    measured = sigmoid_pairwise(torch.eye(3), torch.eye(3), scale, bias)
    assert measured.item() == pytest.approx(expected, rel=1e-6)


# --- the forms others compute ---


def test_info_nce_equals_two_cross_entropies():
    u, w = gaussian(33, 8), gaussian(33, 8, seed=1)
    logits = LOG_SCALE.exp() * functional.normalize(u, dim=1) @ functional.normalize(w, dim=1).T
    labels = torch.arange(33)
    two = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
    assert info_nce(u, w, LOG_SCALE).item() == pytest.approx(two.item(), rel=1e-12)


def test_sigmoid_pairwise_equals_the_log_sigmoid_form():
    u, w = gaussian(33, 8), gaussian(33, 8, seed=1)
    logits = LOG_SCALE.exp() * functional.normalize(u, dim=1) @ functional.normalize(w, dim=1).T + BIAS
    labels = 2 * torch.eye(33) - 1
    plain = -functional.logsigmoid(labels * logits).sum() / 33
    assert sigmoid_pairwise(u, w, LOG_SCALE, BIAS).item() == pytest.approx(plain.item(), rel=1e-12)


# --- gradients, chunks, precision ---


def losses(**options):
    return {
        "info_nce": lambda u, w, s, b: info_nce(u, w, s, **options),
        "sigmoid_pairwise": lambda u, w, s, b: sigmoid_pairwise(u, w, s, b, **options),
    }


TEXT_ID = torch.tensor([3, 1, 3, 2, 1, 3, 9])


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairwise"])
@pytest.mark.parametrize("same_text", ["negative", "positive"])
@pytest.mark.parametrize("chunk_rows", [None, 3])
def test_gradient_equals_finite_differences(name, same_text, chunk_rows):
    loss = losses(text_id=TEXT_ID, same_text=same_text, chunk_rows=chunk_rows)[name]
    inputs = [gaussian(7, 4), gaussian(7, 4, seed=1), LOG_SCALE.clone(), BIAS / 5]
    assert torch.autograd.gradcheck(loss, [tensor.requires_grad_() for tensor in inputs])


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairwise"])
@pytest.mark.parametrize("chunk_rows", [1, 10, 64, 1000])
def test_chunks_change_nothing(name, chunk_rows):
    def value_and_gradients(**options):
        inputs = [gaussian(64, 8), gaussian(64, 8, seed=1), LOG_SCALE.clone(), BIAS.clone()]
        inputs = [tensor.requires_grad_() for tensor in inputs]
        value = losses(**options)[name](*inputs)
        used = inputs[:3] if name == "info_nce" else inputs
        return value, *torch.autograd.grad(value, used)

    for chunked, whole in zip(value_and_gradients(chunk_rows=chunk_rows), value_and_gradients(), strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairwise"])
def test_the_graph_of_a_chunked_loss_keeps_no_square_matrix(name):
    def largest_saved(chunk_rows):
        sizes = []
        inputs = [gaussian(256, 8).requires_grad_(), gaussian(256, 8, seed=1), LOG_SCALE, BIAS]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            losses(chunk_rows=chunk_rows)[name](*inputs)
        return max(sizes)

    assert largest_saved(None) >= 256 * 256
    assert largest_saved(16) <= 256 * 16


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairwise"])
def test_the_order_of_the_studies_and_the_length_of_rows_do_not_matter(name):
    loss = losses()[name]
    u, w = gaussian(20, 6), gaussian(20, 6, seed=1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    expected = loss(u, w, LOG_SCALE, BIAS).item()
    assert loss(u[order], w[order], LOG_SCALE, BIAS).item() == pytest.approx(expected, rel=1e-12)
    assert loss(3 * u, w / 7, LOG_SCALE, BIAS).item() == pytest.approx(expected, rel=1e-12)
    assert loss(w, u, LOG_SCALE, BIAS).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairwise"])
def test_float32_at_the_largest_scale_is_finite_and_near_float64(name):
    u, w, log_scale = gaussian(50, 8), gaussian(50, 8, seed=1), torch.tensor(math.log(100))
    exact = losses()[name](u, w, log_scale.double(), BIAS).item()
    single = losses()[name](u.float(), w.float(), log_scale, BIAS.float()).item()
    assert single == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairwise"])
def test_autocast_does_not_touch_it(name):
    inputs = gaussian(20, 6).float(), gaussian(20, 6, seed=1).float(), LOG_SCALE.float(), BIAS.float()
    expected = losses()[name](*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses()[name](*inputs).item() == expected.item()
    assert losses()[name](*(tensor.bfloat16() for tensor in inputs)).dtype == torch.float32


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairwise"])
def test_positives_matter_only_where_texts_repeat(name):
    inputs = gaussian(7, 4), gaussian(7, 4, seed=1), LOG_SCALE, BIAS
    apart = losses(text_id=torch.arange(7), same_text="positive")[name](*inputs)
    assert apart.item() == pytest.approx(losses()[name](*inputs).item(), rel=1e-12)
    shared = losses(text_id=TEXT_ID, same_text="positive")[name](*inputs)
    assert shared.item() != pytest.approx(apart.item(), rel=1e-3)


# --- bad input ---


@pytest.mark.parametrize(
    ("u", "w", "options", "message"),
    [
        (gaussian(3, 4), gaussian(2, 4), {}, r"\(3, 4\) and \(2, 4\)"),
        (gaussian(3, 4), gaussian(3, 5), {}, r"\(3, 4\) and \(3, 5\)"),
        (gaussian(0, 4), gaussian(0, 4), {}, r"\(0, 4\)"),
        (gaussian(3, 4), gaussian(3, 4), {"same_text": "positive"}, "needs text_id"),
        (gaussian(3, 4), gaussian(3, 4), {"same_text": "ignore"}, "same_text must be one of"),
        (gaussian(3, 4), gaussian(3, 4), {"chunk_rows": 0}, "chunk_rows must be at least 1"),
    ],
)
def test_bad_input_is_refused(u, w, options, message):
    for loss in losses(**options).values():
        # The run-time type check, where it is on, is the first to see a wrong shape or word.
        with pytest.raises((ValueError, TypeError)) as error:
            loss(u, w, LOG_SCALE, BIAS)
        if isinstance(error.value, ValueError):
            error.match(message)
