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
        (lambda: TimmImage(arch="vit_small_patch8_224", hidden_size=24, num_layers=1, num_heads=2), 64),
        (lambda: TimmImage(arch="vit_small_patch14_dinov2", hidden_size=24, num_layers=1, num_heads=2), 224),
        (lambda: TimmImage(arch="vit_small_patch32_224", hidden_size=24, num_layers=1, num_heads=2), 64),
        (lambda: TimmImage(arch="resnet18"), 100),
        (lambda: TimmImage(arch="mambaout_femto"), 96),  # channels last
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
            assert [out.shape[:2] for out in found] == [(2, 24)] * 3
            assert [out.shape[-1] for out in found] == [-(-size // stride) for stride in (32, 16, 8)]
        else:
            assert found.shape == (2, 3, size, size)
        outputs = found if isinstance(found, tuple) else (found,)
        sum(out.square().sum() for out in outputs).backward()
        assert all(p.grad is not None for p in head.parameters())


def test_anchors_grow_with_the_image():
    head = YoloHead(SmallCNN(), 1, 112)
    assert head.anchors[0][1] == (ANCHORS[0][1][0] / 2, ANCHORS[0][1][1] / 2)


def test_maps_of_strides_that_are_no_neighbours_are_refused():
    """They would be cut to a quarter of the image, or repeated at its edge."""
    encoder = SmallCNN(multiplier=0.25)
    head = UNetHead(encoder, 1, 96)
    maps = Trunk(encoder, head.names)(torch.zeros(1, 1, 96, 96, dtype=torch.uint8))
    maps["stride_8"] = maps["stride_4"][:, :48]
    with pytest.raises(ValueError, match="are not of one stride"):
        head(maps)


def test_the_map_of_a_vit_stays_in_place():
    """Whatever its patch: a bright corner is in the same corner of every map."""
    for arch in ("vit_small_patch8_224", "vit_small_patch14_dinov2", "vit_small_patch32_224"):
        encoder = TimmImage(arch=arch, hidden_size=24, num_layers=1, num_heads=2)
        side = 56 * 4
        images = torch.zeros(2, 1, side, side, dtype=torch.uint8)
        images[1, :, -56:, -56:] = 255
        with torch.no_grad():
            for stride, values in encoder.eval().maps(images).items():
                assert values.shape[-1] == -(-side // stride)
                change = (values[1] - values[0]).abs().sum(0)
                place = int(change.argmax())
                row, column = divmod(place, change.shape[1])
                assert row >= change.shape[0] // 2, (arch, stride)
                assert column >= change.shape[1] // 2, (arch, stride)
