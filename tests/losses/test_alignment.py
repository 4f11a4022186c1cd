import numpy as np
import pytest
import torch

from radlearn.losses.alignment import prediction_mse


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equals_the_mean_over_every_element():
    predictions, target = gaussian(3, 4, 5), gaussian(4, 5, seed=1)
    by_hand = np.mean([(p - target.numpy()) ** 2 for p in predictions.numpy()])
    assert prediction_mse(predictions, target).item() == pytest.approx(by_hand, rel=1e-14)


def test_a_worked_example():
    predictions = torch.tensor([[[1.0, 0.0]], [[3.0, 4.0]]])
    # Squares: 1, 4 and 1, 4 around (2, 2).
    assert prediction_mse(predictions, torch.tensor([[2.0, 2.0]])).item() == pytest.approx(10 / 4)


def test_independent_unit_gaussians_score_two():
    # Reference value: unit-variance independent predictions and targets give 2.
    measured = prediction_mse(gaussian(8, 500, 64), gaussian(500, 64, seed=1)).item()
    assert measured == pytest.approx(2, abs=0.03)


def test_the_gradient_reaches_both_sides():
    sides = gaussian(2, 3, 4).requires_grad_(), gaussian(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(prediction_mse, sides)


@pytest.mark.parametrize("shares", [(5, 3), (1, 7), (3, 3, 2)])
def test_unequal_shares_equal_one_process(across_ranks, shares):
    predictions, target = gaussian(3, 8, 6).requires_grad_(), gaussian(8, 6, seed=1).requires_grad_()
    whole = prediction_mse(predictions, target)
    whole_gradients = torch.autograd.grad(whole, (predictions, target))
    pairs = list(zip(predictions.split(shares, dim=1), target.split(shares), strict=True))
    losses = across_ranks(lambda pair, all_reduce: prediction_mse(*pair, all_reduce=all_reduce), pairs)
    assert [loss.item() for loss in losses] == pytest.approx([whole.item()] * len(shares), rel=1e-12)
    gradients = torch.autograd.grad(sum(losses), (predictions, target))
    for gradient, single in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(gradient, len(shares) * single)


def test_bfloat16_is_computed_in_float32():
    predictions, target = gaussian(2, 3, 4).bfloat16(), gaussian(3, 4, seed=1).bfloat16()
    measured = prediction_mse(predictions, target)
    assert measured.dtype == torch.float32
    assert measured.item() == prediction_mse(predictions.float(), target.float()).item()


@pytest.mark.parametrize("shape", [(1, 4), (3, 5), (4,)])
def test_shapes_that_would_broadcast_are_refused(shape):
    with pytest.raises((ValueError, TypeError)):
        prediction_mse(gaussian(2, 3, 4), gaussian(*shape))
