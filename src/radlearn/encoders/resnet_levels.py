"""A torchvision ResNet with every level: regions of the last map, maps at strides 4 to 32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torchvision
from torch import Tensor, nn

from radlearn.encoders import _weight_file
from radlearn.encoders.base import Encoder, Normalise
from radlearn.errors import ConfigurationError, nearest
from radlearn.records import Encoded

ARCHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_STAGES = ("layer1", "layer2", "layer3", "layer4")
IMAGENET = "imagenet"


class ResNetLevels(Encoder):
    """The trunk of a torchvision ResNet: `local` are the cells of the last map, row by row.

    Args:
        arch: resnet18, 34, 50, 101 or 152.
        weights: `imagenet` for torchvision's ImageNet-1k V1 weights (from its cache or the network), a local
            file with torchvision's key names, or None for a random start. A classifier in it is left out.
        channels: input channels; grey is replicated.
        normalise: see `Normalise`; `dataset` takes the training split's mean and standard deviation.
        image_size: side of the images it is evaluated on.
    Source: LoVT (Müller et al. 2022, arXiv:2112.02889): ResNet-50 at 224 pixels, 7 x 7 regions.
    """

    library: ClassVar[str] = "torchvision"

    def __init__(
        self,
        *,
        arch: str = "resnet50",
        weights: str | None = None,
        channels: int = 3,
        normalise: str | Sequence[float] = "imagenet",
        image_size: int = 224,
    ) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise ConfigurationError(
                f"encoder.arch is one of {', '.join(ARCHS)}: got '{arch}'{nearest(arch, ARCHS)}"
            )
        trunk = torchvision.models.get_model(arch, weights=None)
        if channels != 3:
            trunk.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.width = self.local_width = int(trunk.fc.in_features)
        trunk.fc = nn.Identity()
        self.trunk = trunk
        if weights is not None:
            load_trunk(
                trunk,
                _imagenet(arch)
                if weights == IMAGENET
                else _weight_file.read(Path(weights), key="encoder.weights"),
                weights,
            )
        self.normalise = Normalise(normalise, channels)
        self.image_size = image_size
        self.level_widths = tuple(self.width // 8 * 2**i for i in range(4))

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, C, H, W) at strides 2, 4, 8, 16, 32: `conv1` before pooling, then `conv2` to `conv5`."""
        trunk = self.trunk
        x = trunk.relu(trunk.bn1(trunk.conv1(self.normalise(images))))
        maps = [x]
        x = trunk.maxpool(x)
        for stage in _STAGES:
            x = getattr(trunk, stage)(x)
            maps.append(x)
        return tuple(maps)

    def forward(self, images: Tensor) -> Encoded:
        """(B, 1, H, W) -> pooled (B, D), local (B, N, D)."""
        last = self.levels(images)[-1]
        return Encoded(last.mean(dim=(2, 3)), last.flatten(2).mT)

    def backbone(self) -> nn.Module:
        """The trunk."""
        trunk: nn.Module = self.trunk
        return trunk

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps at strides 4, 8, 16, 32."""
        return self.levels(images)[1:]

    def maps(self, images: Tensor) -> dict[int, Tensor]:
        """Maps at strides 2 to 32: `conv1` before pooling too."""
        return dict(zip((2, 4, 8, 16, 32), self.levels(images), strict=True))

    @property
    def map_widths(self) -> dict[int, int]:
        """Channels of `maps`."""
        return {2: 64} | super().map_widths

    def num_tokens(self, size: int) -> int:
        """Cells of the last map."""
        return (-(-size // 32)) ** 2


def load_trunk(trunk: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load torchvision's key names strictly, the classifier aside.

    Raises:
        ConfigurationError: if a weight is missing, unknown or of another shape.
    """
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    try:
        trunk.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigurationError(
            f"the weights of {source} do not fit: {str(error).splitlines()[-1].strip()}"
        ) from error


def _imagenet(arch: str) -> dict[str, Tensor]:
    from urllib.error import URLError

    published = torchvision.models.get_model_weights(arch).IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = published.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"torchvision's ImageNet weights of {arch} are not in its cache and cannot be fetched ({error}). "
            f"On a machine with network get {published.url}, and set encoder.weights=/path/to/the/file; or "
            "train from scratch with encoder.weights=null"
        ) from error
    return state
