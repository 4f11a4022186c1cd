import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.special import log_softmax, softmax

from radlearn.losses.contrastive import info_nce
from radlearn.losses.soft_targets import semantic_matching

LOG_SCALE = torch.tensor(math.log(1 / 0.07), dtype=torch.float64)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(batch, classes=14, seed=0, low=-1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, 2, (batch, classes), generator=generator).double()


def reference(u, w, log_scale, image_labels, text_labels, similarity, temperature):
    """(loss, entropy of the targets), by loops over pairs."""
    batch = len(u)
    sigma = np.zeros((batch, batch))
    for i, image in enumerate(np.nan_to_num(image_labels)):
        for j, text in enumerate(np.nan_to_num(text_labels)):
            lengths = np.linalg.norm(image) * np.linalg.norm(text)
            sigma[i, j] = image @ text
            if similarity == "cosine":
                sigma[i, j] = sigma[i, j] / lengths if lengths else 0
    logits = (
        np.exp(log_scale)
        * (u / np.linalg.norm(u, axis=1)[:, None])
        @ (w / np.linalg.norm(w, axis=1)[:, None]).T
    )
    loss = entropy = 0
    for axis in (0, 1):
        target = softmax(sigma / temperature, axis)
        loss -= (target * log_softmax(logits, axis)).sum() / batch / 2
        entropy -= (target * np.log(target)).sum() / batch / 2
    return loss, entropy


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 10),
    seed=st.integers(0, 10**6),
    similarity=st.sampled_from(["dot", "cosine"]),
    temperature=st.floats(0.1, 3),
    missing=st.booleans(),
)
def test_equals_the_definition(batch, seed, similarity, temperature, missing):
    u, w = gaussian(batch, 6, seed=seed), gaussian(batch, 6, seed=seed + 1)
    image_labels, text_labels = labels(batch, 5, seed=seed), labels(batch, 5, seed=seed + 1)
    if missing:
        image_labels[0] = float("nan")
        text_labels[-1, 1:] = float("nan")
    loss, metrics = semantic_matching(
        u, w, LOG_SCALE, image_labels, text_labels, similarity=similarity, target_temperature=temperature
    )
    expected_loss, expected_entropy = reference(
        u.numpy(),
        w.numpy(),
        LOG_SCALE.item(),
        image_labels.numpy(),
        text_labels.numpy(),
        similarity,
        temperature,
    )
    assert loss.item() == pytest.approx(expected_loss, rel=1e-10, abs=1e-12)
    assert metrics["target_entropy"].item() == pytest.approx(expected_entropy, rel=1e-10, abs=1e-12)
    assert metrics["kl"].item() == pytest.approx(expected_loss - expected_entropy, rel=1e-8, abs=1e-11)
    assert metrics["kl"].item() >= -1e-11


def test_a_worked_example():
    # Label products: identity, so each target is softmax(1, 0, 0); each prediction softmax(2, 0, 0).
    loss, metrics = semantic_matching(
        torch.eye(3), torch.eye(3), torch.tensor(math.log(2.0)), torch.eye(3), torch.eye(3)
    )
    match = math.e / (math.e + 2)
    other = 1 / (math.e + 2)
    norm = math.log(math.e**2 + 2)
    assert loss.item() == pytest.approx(match * (norm - 2) + 2 * other * norm, rel=1e-6)
    entropy = -(match * math.log(match) + 2 * other * math.log(other))
    assert metrics["target_entropy"].item() == pytest.approx(entropy, rel=1e-6)


def test_the_divergence_is_zero_where_the_softmax_equals_its_target():
    # Unit labels as embeddings, scale 1: the logits are the cosines.
    same = labels(6, 5, seed=3)
    _, metrics = semantic_matching(same, same, torch.zeros(()).double(), same, same, similarity="cosine")
    assert metrics["kl"].item() == pytest.approx(0, abs=1e-12)


def test_equal_labels_give_uniform_targets():
    _, metrics = semantic_matching(
        gaussian(8, 4), gaussian(8, 4, seed=1), LOG_SCALE, labels(1).expand(8, -1), labels(1).expand(8, -1)
    )
    assert metrics["target_entropy"].item() == pytest.approx(math.log(8), rel=1e-12)


def test_a_study_without_labels_has_similarity_zero_in_both_forms():
    empty = torch.zeros(4, 3).double()
    for similarity in ("dot", "cosine"):
        loss, metrics = semantic_matching(
            gaussian(4, 4), gaussian(4, 4, seed=1), LOG_SCALE, empty, labels(4, 3), similarity=similarity
        )
        assert math.isfinite(loss.item())
        assert metrics["target_entropy"].item() == pytest.approx(math.log(4), rel=1e-12)


def test_a_low_temperature_with_distinct_labels_is_info_nce():
    u, w = gaussian(5, 4), gaussian(5, 4, seed=1)
    one_hot = torch.eye(5).double()
    loss, metrics = semantic_matching(u, w, LOG_SCALE, one_hot, one_hot, target_temperature=0.01)
    assert loss.item() == pytest.approx(info_nce(u, w, LOG_SCALE).item(), rel=1e-10)
    assert metrics["target_entropy"].item() == pytest.approx(0, abs=1e-10)


def test_soft_targets_flatten_with_the_batch():
    # Why to watch the divergence: with 0/1 labels the cosine targets of 256 studies are nearly uniform.
    rare = (torch.rand(256, 14, generator=torch.Generator().manual_seed(0)) < 0.15).double()
    _, metrics = semantic_matching(
        gaussian(256, 8), gaussian(256, 8, seed=1), LOG_SCALE, rare, rare, similarity="cosine"
    )
    assert math.log(256) - 0.1 < metrics["target_entropy"].item() < math.log(256)


def test_gradient_equals_finite_differences_and_metrics_carry_none():
    inputs = [gaussian(5, 4), gaussian(5, 4, seed=1), LOG_SCALE.clone()]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    image_labels, text_labels = labels(5), labels(5, seed=1)
    assert torch.autograd.gradcheck(
        lambda u, w, s: semantic_matching(u, w, s, image_labels, text_labels)[0], inputs
    )
    _, metrics = semantic_matching(*inputs, image_labels, text_labels)
    assert not any(value.requires_grad for value in metrics.values())


def test_autocast_does_not_touch_it():
    inputs = [gaussian(9, 4), gaussian(9, 4, seed=1), LOG_SCALE, labels(9), labels(9, seed=1)]
    inputs = [tensor.float() for tensor in inputs]
    expected, _ = semantic_matching(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert semantic_matching(*inputs)[0].item() == expected.item()


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((3, 4), (2, 4), (3, 5), (3, 5)), {}, r"\(3, 4\) and \(2, 4\)"),
        (((3, 4), (3, 4), (3, 5), (3, 6)), {}, r"\(3, 5\) and \(3, 6\)"),
        (((3, 4), (3, 4), (2, 5), (2, 5)), {}, r"labels are \(3, classes\)"),
        (((3, 4), (3, 4), (3, 5), (3, 5)), {"similarity": "jaccard"}, "similarity must be one of"),
        (
            ((3, 4), (3, 4), (3, 5), (3, 5)),
            {"target_temperature": 0.0},
            "target_temperature must be positive",
        ),
    ],
)
def test_bad_input_is_refused(shapes, options, message):
    u, w, image_labels, text_labels = (gaussian(*shape) for shape in shapes)
    with pytest.raises((ValueError, TypeError)) as error:
        semantic_matching(u, w, LOG_SCALE, image_labels, text_labels, **options)
    if isinstance(error.value, ValueError):
        error.match(message)
