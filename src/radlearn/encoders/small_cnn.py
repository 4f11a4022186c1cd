"""The encoder of the demo and the tests: six convolutions that learn on a CPU in minutes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radlearn.encoders.base import Encoder, Normalise
from radlearn.records import Encoded

# Output width and stride of each 3x3 convolution: 0.34 M weights, strides 2, 4, 4, 8, 8, 16.
_PLAN = ((24, 2), (48, 2), (48, 1), (96, 2), (96, 1), (192, 2))
# Convolutions whose maps are the levels: strides 4, 8, 16.
_LEVELS = (2, 4, 5)


class SmallCNN(Encoder):
    """Six conv3x3 - BatchNorm - ReLU, average and maximum pooling side by side.

    Maximum pooling carries small findings that an average over the map washes out.

    Args:
        image_size: side of the images it is evaluated on.
        normalise: `per_image` removes exposure and display contrast, which differ from film to film.
        multiplier: scales every width.
    """

    size_multiple = 16

    def __init__(
        self, *, image_size: int = 96, normalise: str | Sequence[float] = "per_image", multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.normalise = Normalise(normalise, 1)
        blocks: list[nn.Module] = []
        previous = 1
        widths = [max(1, round(width * multiplier)) for width, _ in _PLAN]
        for width, (_, stride) in zip(widths, _PLAN, strict=True):
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(previous, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
                )
            )
            previous = width
        self.blocks = nn.ModuleList(blocks)
        self.local_width = previous
        self.width = 2 * previous
        self.level_widths = (*[widths[i] for i in _LEVELS], previous)
        # Convolutions run about twice as fast with the channels last.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Encoded:
        """(B, 1, H, W) -> pooled (B, 384), local (B, H/16 * W/16, 192), levels at strides 4, 8, 16, 32."""
        x = self.normalise(images).contiguous(memory_format=torch.channels_last)
        levels = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in _LEVELS:
                levels.append(x)
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        levels.append(F.max_pool2d(x, 2, ceil_mode=True))
        return Encoded(pooled, x.flatten(2).transpose(1, 2), tuple(levels))
