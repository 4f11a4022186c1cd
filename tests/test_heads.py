import numpy as np
import pytest
import torch
from torch import nn

from radlearn import heads


def test_mlp_is_the_three_layer_predictor_with_the_published_number_of_parameters():
    # Reference: 5,124,160 parameters for width 384, hidden 2048, output 64 (ViT-S); 5,910,592 for 768
    # (ViT-B).
    for width, expected in ((384, 5_124_160), (768, 5_910_592)):
        predictor = heads.mlp(width, 2048, 64, depth=2)
        assert sum(p.numel() for p in predictor.parameters()) == expected
    kinds = [type(layer).__mro__[1].__name__ for layer in predictor]
    assert [k for k in kinds if k == "_CrossRank"] == ["_CrossRank"] * 2
    assert isinstance(predictor[-1], nn.Linear)


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="gelu, relu"):
        heads.mlp(4, 4, 4, depth=1, activation="swish")


def test_standardise_removes_mean_and_scale_of_the_fitted_texts():
    features = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (500, 6)).astype(np.float32))
    standardise = heads.Standardise(6)
    assert torch.equal(standardise(features), features)
    standardise.fit(features)
    out = standardise(features).numpy()
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), 1, rtol=1e-5)


def test_standardise_does_not_blow_up_what_the_training_texts_never_show():
    features = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    features[:, 3] = 0
    standardise = heads.Standardise(4)
    standardise.fit(features)
    assert standardise(torch.tensor([[0.0, 0.0, 0.0, 1.0]])).abs().max() < 20


def test_standardise_needs_two_texts():
    with pytest.raises(ValueError, match="at least two texts"):
        heads.Standardise(3).fit(torch.zeros(1, 3))


def test_text_head_takes_half_precision_features():
    head = heads.TextHead(5, 3)
    assert head(torch.ones(2, 5, dtype=torch.float16)).dtype == torch.float32


def test_batch_norm_over_unequal_ranks_equals_the_whole_batch(two_ranks):
    torch.manual_seed(0)
    x = (3 + torch.randn(8, 3, 4, 4)).requires_grad_()
    norm = nn.BatchNorm2d(3).train()
    y = norm(x)
    (y * x.detach()).square().sum().backward()
    first, second = two_ranks("two_rank_jobs:batch_norm")
    torch.testing.assert_close(torch.cat([first["y"], second["y"]]), y.detach(), rtol=1e-4, atol=1e-4)
    gradient = torch.cat([first["gradient"], second["gradient"]]) / 2
    scale = float(x.grad.abs().max())
    torch.testing.assert_close(gradient, x.grad, rtol=1e-2, atol=1e-3 * scale)
    torch.testing.assert_close((first["weight"] + second["weight"]) / 2, norm.weight.grad, rtol=1e-3, atol=1)
    for answer in (first, second):
        assert answer["state"].keys() == norm.state_dict().keys()
        for key, value in norm.state_dict().items():
            torch.testing.assert_close(answer["state"][key], value, rtol=1e-5, atol=1e-5)


def test_conversion_keeps_weights_and_state_keys_of_plain_and_timm_norms():
    import timm

    trunk = timm.create_model("efficientnet_lite0", num_classes=0)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    images = torch.rand(2, 3, 32, 32)
    expected = trunk.train()(images)
    heads.cross_rank_batch_norm(trunk)
    norms = [m for m in trunk.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, heads._CrossRank) for norm in norms)
    trunk.load_state_dict(before)
    torch.testing.assert_close(trunk.train()(images), expected)


def test_a_norm_without_a_cross_rank_form_is_refused_by_name():
    class Odd(nn.BatchNorm2d):
        pass

    with pytest.raises(TypeError, match="Odd"):
        heads.cross_rank_batch_norm(nn.Sequential(Odd(3)))
