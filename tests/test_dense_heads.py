"""Heads: published sizes, enlarging, and encoders with other maps."""

import pytest
import torch

from radlearn.dense_heads import ANCHORS, LinearHead, Trunk, UNetHead, YoloHead
from radlearn.encoders.resnet_levels import ResNetLevels
from radlearn.encoders.small_cnn import SmallCNN
from radlearn.encoders.timm_image import TimmImage


def test_published_numbers_of_weights():
    """LoVT's release executed: 2,049 a class, 124.3 million, 21.6 million."""
    with torch.device("meta"):
        encoder = ResNetLevels(arch="resnet50")
        sizes = [
            sum(p.numel() for p in head(encoder, 1, 224).parameters())
            for head in (LinearHead, UNetHead, YoloHead)
        ]
    assert sizes[0] == 2049
    assert round(sizes[1] / 1e6, 1) == 124.3
    assert round(sizes[2] / 1e6, 1) == 21.6


def test_logits_are_enlarged_as_interpolate_does():
    encoder = SmallCNN(image_size=48)
    head = LinearHead(encoder, 2, 50)
    maps = {"local": torch.randn(3, encoder.local_width, 3, 3)}
    wanted = torch.nn.functional.interpolate(head.classify(maps["local"]), size=(50, 50), mode="bilinear")
    torch.testing.assert_close(head(maps), wanted, rtol=1e-4, atol=1e-5)
    # Its matrix was made in inference first.
    other = LinearHead(encoder, 1, 52)
    with torch.inference_mode():
        other(maps)
    other(maps).sum().backward()
    assert other.classify.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("encoder", "size"),
    [
        (lambda: ResNetLevels(arch="resnet18"), 64),
        (lambda: ResNetLevels(arch="resnet18"), 100),  # sides that are no multiples of 32
        (lambda: SmallCNN(multiplier=0.25), 96),
        (lambda: SmallCNN(multiplier=0.25), 112),
        (lambda: TimmImage(arch="vit_tiny_patch16_224", hidden_size=24, num_layers=1, num_heads=2), 64),
    ],
)
def test_every_encoder_enters_every_head(encoder, size):
    encoder = encoder()
    images = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    for kind in (LinearHead, UNetHead, YoloHead):
        head = kind(encoder, 3, size)
        maps = Trunk(encoder, head.names)(images)
        found = head(maps)
        if kind is YoloHead:
            strides = [-(-size // out.shape[-1]) for out in found]
            assert [out.shape[:2] for out in found] == [(2, 24)] * 3
            assert [2 ** round(torch.tensor(float(s)).log2().item()) for s in strides] == [32, 16, 8]
        else:
            assert found.shape == (2, 3, size, size)
        outputs = found if isinstance(found, tuple) else (found,)
        sum(out.square().sum() for out in outputs).backward()
        assert all(p.grad is not None for p in head.parameters())


def test_anchors_grow_with_the_image():
    head = YoloHead(SmallCNN(), 1, 112)
    assert head.anchors[0][1] == (ANCHORS[0][1][0] / 2, ANCHORS[0][1][1] / 2)
