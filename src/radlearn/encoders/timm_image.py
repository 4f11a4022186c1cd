"""Any timm backbone: ViTs from scratch for real data, or weights from a local file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radlearn.encoders import _weight_file
from radlearn.encoders.base import Encoder, Normalise
from radlearn.errors import ConfigurationError, nearest
from radlearn.records import Encoded

# The simple feature pyramid of a plain ViT (Li et al. 2022, arXiv:2203.16527), without its learned layers:
# its last map, whatever the patch size, is resampled to these strides.
_STRIDES = (4, 8, 16, 32)


class TimmImage(Encoder):
    """A timm model without its classifier.

    Args:
        arch: any name of `timm.list_models()`.
        pretrained: take timm's published weights (needs the hub or its cache).
        weights: a local file of weights (safetensors, or a tensor-only .pth) loaded strictly, classifier
            aside.
        channels: input channels; grey is replicated. NOVA feeds CLIP-normalised grey on 3 channels.
        normalise: see `Normalise`.
        image_size: side of the images it is evaluated on; other multiples of the patch size work as well.
        drop_path: stochastic depth; 0 in NOVA.
        hidden_size, num_layers, num_heads: overrides of a ViT's shape.
    Source: reference settings of NOVA, section 1.1 (timm vit_*_patch16_224, from scratch, dynamic_img_size).
    """

    library: ClassVar[str] = "timm"

    def __init__(
        self,
        *,
        arch: str = "vit_base_patch16_224",
        pretrained: bool = False,
        weights: str | None = None,
        channels: int = 3,
        normalise: str | Sequence[float] = "clip",
        image_size: int = 224,
        drop_path: float = 0.0,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        num_heads: int | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(arch):
            raise ConfigurationError(f"timm has no model '{arch}'{nearest(arch, timm.list_models())}")
        options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
        self.is_vit = arch.startswith(("vit_", "deit", "eva"))
        if self.is_vit:
            options |= {"dynamic_img_size": True, "drop_path_rate": drop_path}
            shape = {"embed_dim": hidden_size, "depth": num_layers, "num_heads": num_heads}
            options |= {key: value for key, value in shape.items() if value is not None}
        elif drop_path:
            options["drop_path_rate"] = drop_path
        self.trunk = timm.create_model(arch, pretrained=pretrained, **options)
        if weights is not None:
            _load_local(self.trunk, weights)
        self.normalise = Normalise(normalise, channels)
        self.width = int(self.trunk.num_features)
        self.local_width = self.width
        self.image_size = image_size
        self.size_multiple = int(self.trunk.patch_embed.patch_size[0]) if self.is_vit else 1
        reductions = [
            info["num_chs"] for info in self.trunk.feature_info if info["reduction"] in (4, 8, 16, 32)
        ]
        self.level_widths = (self.width,) * 4 if self.is_vit else tuple(reductions)
        self.num_prefix_tokens = int(getattr(self.trunk, "num_prefix_tokens", 0))

    def forward(self, images: Tensor) -> Encoded:
        """(B, 1, H, W) -> pooled (B, D), local (B, N, D); `levels` come from `pyramid`."""
        self._check_size(images)
        x = self.trunk.forward_features(self.normalise(images))
        pooled = self.trunk.forward_head(x, pre_logits=True)
        if x.ndim == 3:
            local = x[:, self.num_prefix_tokens :]
        elif getattr(self.trunk, "output_fmt", "NCHW") == "NHWC":
            local = x.flatten(1, 2)
        else:
            local = x.flatten(2).transpose(1, 2)
        return Encoded(pooled, local)

    def backbone(self) -> nn.Module:
        """The trunk."""
        trunk: nn.Module = self.trunk
        return trunk

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps at strides 4, 8, 16, 32: the trunk's own stages, or a plain ViT's resampled last map."""
        self._check_size(images)
        if not self.is_vit:
            maps = self.trunk.forward_intermediates(self.normalise(images), intermediates_only=True)
            # A side that is no multiple of the stride is rounded up.
            sides = {-(-images.shape[-1] // stride): stride for stride in _STRIDES}
            strides = {sides[level.shape[-1]]: level for level in maps if level.shape[-1] in sides}
            return tuple(strides[stride] for stride in _STRIDES if stride in strides)
        height, width = (side // self.size_multiple for side in images.shape[-2:])
        encoded = self(images)
        last = encoded.local.transpose(1, 2).unflatten(2, (height, width))
        sizes = [tuple(-(-side // stride) for side in images.shape[-2:]) for stride in _STRIDES]
        return tuple(
            last
            if size == (height, width)
            else F.interpolate(last, size=size, mode="bilinear", antialias=size < (height, width))
            for size in sizes
        )

    def pooling_modules(self) -> tuple[nn.Module, ...]:
        """The trunk's head: its norm, and a pool that attends."""
        parts = (getattr(self.trunk, name, None) for name in ("head", "fc_norm", "attn_pool"))
        return tuple(part for part in parts if isinstance(part, nn.Module))

    def num_tokens(self, size: int) -> int:
        """Tokens of a square image: patches and prefix tokens of a ViT, else positions of the last map."""
        if self.is_vit:
            return (size // self.size_multiple) ** 2 + self.num_prefix_tokens
        return (size // 32) ** 2

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            below = min(height, width) // self.size_multiple * self.size_multiple
            raise ValueError(
                f"image sides must be multiples of the patch size {self.size_multiple}: got {height} x "
                f"{width}; "
                f"set global_size or local_size to {below} or {below + self.size_multiple}"
            )


def _load_local(trunk: torch.nn.Module, path: str) -> None:
    state = _weight_file.read(Path(path), key="encoder.weights")
    own = trunk.state_dict()
    extra = {key for key in state if key not in own}
    missing = set(own) - set(state)
    if missing or any(not key.startswith(("classifier.", "head.", "fc.")) for key in extra):
        raise ConfigurationError(
            f"{path} does not fit the model: missing {sorted(missing)[:3]}, unexpected {sorted(extra)[:3]}"
        )
    trunk.load_state_dict({key: value for key, value in state.items() if key in own})
