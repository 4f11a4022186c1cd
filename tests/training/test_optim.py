import pytest
import torch
from torch import nn

from radlearn.errors import ConfigurationError
from radlearn.training.optim import build_optimizer, freeze, parameter_groups


def test_groups_hold_every_trainable_parameter_once():
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    module.scale = nn.Parameter(torch.tensor(1.0))
    module[0].bias.requires_grad_(False)
    groups = parameter_groups(module, weight_decay=0.1, no_decay_norm_bias=False, never={"scale"})
    assert [len(g["params"]) for g in groups] == [3, 1]
    assert groups[1]["params"][0] is module.scale
    groups = parameter_groups(module, weight_decay=0.1, no_decay_norm_bias=True)
    assert [[p.ndim for p in g["params"]] for g in groups] == [[2], [0, 1, 1]]


def test_freeze_by_prefix_and_a_prefix_without_match():
    module = nn.ModuleDict({"image_encoder": nn.Linear(2, 2), "predictor": nn.Linear(2, 2)})
    assert freeze(module, ["image_encoder"]) == ["image_encoder.weight", "image_encoder.bias"]
    assert not module["image_encoder"].weight.requires_grad
    with pytest.raises(ConfigurationError, match="start with image_encoder, predictor"):
        freeze(module, ["image"])


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_adamw_decays_weights_and_adam_the_gradient(name, kind):
    """One step from weight 2 and gradient 1: Adam moves by lr whatever the size of the gradient."""
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer(name, [{"params": [weight], "weight_decay": 0.5}], lr=0.1)
    assert type(optimizer) is kind
    weight.grad = torch.tensor([1.0])
    optimizer.step()
    # AdamW: 2 - lr * decay * 2 - lr; Adam: the gradient is 1 + 0.5 * 2, of which only the sign shows.
    assert weight.item() == pytest.approx({"adamw": 1.8, "adam": 1.9}[name])
    (state,) = optimizer.state.values()
    assert state["exp_avg"].item() == pytest.approx({"adamw": 0.1, "adam": 0.2}[name])
