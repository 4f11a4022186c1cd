"""Heads that turn an encoder's maps into masks or boxes.

A head reads what `Trunk` gives of an image, tensors by name: `local`, the last map (B, W, h, w); `stride_8`
and so on, maps of the encoder; `image`, what its first layer sees. Shapes: B images, C classes, S the side of
the image.

Source: the heads of LoVT's localized tasks (Müller et al. 2022, arXiv:2112.02889). With a ResNet-50 of 224
pixels they have its published sizes; other encoders give the maps they have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError

Maps = Mapping[str, Tensor]

# Width and height in pixels of a 224-pixel image, for strides 32, 16, 8; COCO's anchors of YOLOv3 times 0.54.
# The first width, 64.64, is the published one, probably a slip for 62.64.
ANCHORS = (
    ((64.64, 48.6), (84.24, 106.92), (201.42, 176.04)),
    ((16.2, 32.94), (33.48, 24.3), (31.86, 64.26)),
    ((5.4, 7.02), (8.64, 16.2), (17.82, 12.42)),
)
ANCHOR_IMAGE = 224
YOLO_STRIDES = (32, 16, 8)
_NARROWEST = 16


class Trunk(nn.Module):
    """An encoder as dense heads read it.

    Args:
        encoder: an image encoder.
        names: which tensors are wanted.
    """

    def __init__(self, encoder: Encoder, names: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, tuple(names)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 1, S, S) uint8, or float in [0, 1] -> the tensors that are wanted.

        Raises:
            ConfigurationError: if the last map is no square.
        """
        found: dict[str, Tensor] = {}
        if any(name.startswith("stride_") for name in self.names):
            maps = self.encoder.maps(images)
            found |= {f"stride_{stride}": value for stride, value in maps.items()}
        if "local" in self.names:
            local = self.encoder(images).local
            side = math.isqrt(local.shape[1])
            if side * side != local.shape[1]:
                raise ConfigurationError(
                    f"a linear head needs a square map: the encoder gives {local.shape[1]} positions"
                )
            found["local"] = local.mT.unflatten(2, (side, side))
        if "image" in self.names:
            found["image"] = self.encoder.normalise(images)
        return {name: found[name] for name in self.names}


class DenseHead(nn.Module):
    """A head.

    Attributes:
        names: the tensors of `Trunk` that it reads.
    """

    names: tuple[str, ...]


class LinearHead(DenseHead):
    """A 1 x 1 convolution of the last map; its logits are enlarged to the image.

    Args:
        encoder: whose local features it reads.
        num_classes: C.
        size: S.
    """

    names = ("local",)

    def __init__(self, encoder: Encoder, num_classes: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.classify = nn.Conv2d(encoder.local_width, num_classes, 1)

    def forward(self, maps: Maps) -> Tensor:
        """-> logits (B, C, S, S)."""
        logits = self.classify(maps["local"])
        # Two matrix products: on a CPU three times as fast as interpolating forwards and backwards.
        down, across = (_bilinear(side, self.size).to(logits.device) for side in logits.shape[2:])
        with torch.autocast(logits.device.type, enabled=False):
            enlarged: Tensor = down @ logits.float() @ across.T
            return enlarged


class UNetHead(DenseHead):
    """A U-Net decoder: two convolutions at stride 32, then five steps up, each joined by the map of its size.

    Each step halves the channels. Where an encoder has no map of a stride, the step goes without.

    Args:
        encoder: whose maps it reads.
        num_classes: C.
        size: S, which only tells it from other heads: it is the maps' affair.
    """

    def __init__(self, encoder: Encoder, num_classes: int, size: int) -> None:
        super().__init__()
        widths = {f"stride_{stride}": width for stride, width in encoder.map_widths.items()}
        widths["image"] = encoder.normalise.channels
        self.size = size
        self.names = tuple(widths)
        top = widths["stride_32"]
        self.bridge = _two_convolutions(top, top)
        self.skips = ("stride_16", "stride_8", "stride_4", "stride_2", "image")
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        width = top
        for name in self.skips:
            narrower = max(width // 2, _NARROWEST)
            self.up.append(nn.ConvTranspose2d(width, narrower, 2, stride=2))
            self.join.append(_two_convolutions(narrower + widths.get(name, 0), narrower))
            width = narrower
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Maps) -> Tensor:
        """-> logits (B, C, S, S)."""
        x = self.bridge(maps["stride_32"])
        for name, up, join in zip(self.skips, self.up, self.join, strict=True):
            x = up(x)
            if name in maps:
                x = torch.cat([_as_large(x, maps[name]), maps[name]], dim=1)
            x = join(x)
        logits: Tensor = self.classify(x)
        return logits


class YoloHead(DenseHead):
    """The head of YOLOv3 over strides 32, 16 and 8.

    Args:
        encoder: whose maps it reads.
        num_classes: C.
        size: S: anchors grow with it.
        width: of its first scale; the others have a half and a quarter.
    """

    names = tuple(f"stride_{stride}" for stride in YOLO_STRIDES)

    def __init__(self, encoder: Encoder, num_classes: int, size: int, *, width: int = 512) -> None:
        super().__init__()
        self.size, self.num_classes = size, num_classes
        self.anchors = anchors_of(size)
        self.body, self.narrow, self.out = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        from_above = 0
        for stride in YOLO_STRIDES:
            given = encoder.map_widths[stride] + from_above
            pairs = [(given, 1), (width, 3), (2 * width, 1), (width, 3), (2 * width, 1)]
            layers = [_cbl(w, width if kernel == 1 else 2 * width, kernel) for w, kernel in pairs]
            self.body.append(nn.Sequential(*layers))
            last = nn.Conv2d(2 * width, len(ANCHORS[0]) * (5 + num_classes), 1)
            self.out.append(nn.Sequential(_cbl(width, 2 * width, 3), last))
            from_above = width // 2
            if stride != YOLO_STRIDES[-1]:
                self.narrow.append(_cbl(width, from_above, 1))
            width = from_above

    def forward(self, maps: Maps) -> tuple[Tensor, ...]:
        """-> logits (B, A (5 + C), H, W) of each stride."""
        found: list[Tensor] = []
        above: Tensor | None = None
        for i, (name, body, out) in enumerate(zip(self.names, self.body, self.out, strict=True)):
            x = maps[name]
            if above is not None:
                x = torch.cat([_as_large(F.interpolate(above, scale_factor=2.0), x), x], dim=1)
            x = body(x)
            found.append(out(x))
            if i < len(self.narrow):
                above = self.narrow[i](x)
        return tuple(found)


@functools.cache
def _bilinear(side: int, size: int) -> Tensor:
    """(size, side): what `F.interpolate` does along one axis, with `align_corners=False`."""
    # It is kept: made in an evaluation, it must still serve a training.
    with torch.inference_mode(False), torch.no_grad():
        identity = torch.eye(side).unsqueeze(0)
        return F.interpolate(identity, size=size, mode="linear", align_corners=False)[0].T.contiguous()


def anchors_of(size: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Anchors in pixels of images of this side, for strides 32, 16, 8."""
    scale = size / ANCHOR_IMAGE
    return tuple(tuple((w * scale, h * scale) for w, h in each) for each in ANCHORS)


def _two_convolutions(width: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (width, out):
        layers += [nn.Conv2d(given, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


def _cbl(width: int, out: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.LeakyReLU(0.1))


def _as_large(x: Tensor, other: Tensor) -> Tensor:
    """The map, cut or repeated at its edge to the size of another: images need not be multiples of 32.

    Raises:
        ValueError: if they differ by more than a pixel: they are not maps of neighbouring strides.
    """
    height, width = (o - s for o, s in zip(other.shape[2:], x.shape[2:], strict=True))
    if max(abs(height), abs(width)) > 1:
        raise ValueError(f"maps of {tuple(x.shape[2:])} and {tuple(other.shape[2:])} are not of one stride")
    return x if height == width == 0 else F.pad(x, (0, width, 0, height), mode="replicate")
