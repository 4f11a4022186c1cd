"""NOVA: predict the frozen report's embedding from every view of the image.

    loss = (1 - w) * mean_v ||z_v - t||^2 / D + w * SIGReg(z_1, ..., z_V, t)

No negatives, no teacher, no stop-gradient: SIGReg alone keeps the shared space from shrinking to a point.

Source: Kuhn, Serra, Buettner 2026, arXiv:2602.00653. Shapes: B studies, V views, D shared width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError
from radlearn.losses.alignment import prediction_mse
from radlearn.losses.sigreg import SIGREG_FLOOR, sigreg
from radlearn.objectives.base import DualEncoder
from radlearn.records import Batch, Output


class NOVA(DualEncoder):
    """Predict the report's embedding from every view.

    Args:
        image_encoder, text_width, **shared: see `DualEncoder`.
        lambda_sigreg: w, the weight of SIGReg in the convex combination.
        sigreg: options of `losses.sigreg.sigreg`; `slices` stands for its `num_slices`.
        text_stop_grad: keep the text head out of the alignment term's gradient.
        seed: of the slices.
    """

    def __init__(
        self,
        image_encoder: Encoder,
        text_width: int | None,
        *,
        lambda_sigreg: float = 0.02,
        sigreg: Mapping[str, Any] | None = None,
        text_stop_grad: bool = False,
        seed: int = 0,
        **shared: Any,
    ) -> None:
        super().__init__(image_encoder, text_width, **shared)
        if not 0 <= lambda_sigreg <= 1:
            raise ConfigurationError(f"lambda_sigreg mixes two terms and lies in [0, 1]: got {lambda_sigreg}")
        self.lambda_sigreg, self.text_stop_grad, self.seed = lambda_sigreg, text_stop_grad, seed
        self.sigreg = {
            "num_slices" if key == "slices" else key: value for key, value in (sigreg or {}).items()
        }

    def forward(self, batch: Batch, step: int) -> Output:
        """The loss; every view weighs the same."""
        return self.compare(self.encode(batch), batch, step)

    def compare(self, encoded: tuple[Tensor, ...], batch: Batch, step: int) -> Output:
        """The loss of what the image encoder gave."""
        z, t = self.embed_encoded(encoded, batch)
        mse = prediction_mse(z, t.detach() if self.text_stop_grad else t, all_reduce=self.sum_across_ranks)
        # Text joins the regulariser: left out, the text head could shrink every t to one point.
        joint = torch.cat([z, t[None]])
        spread = sigreg(joint, step=step, seed=self.seed, all_reduce=self.sum_across_ranks, **self.sigreg)
        loss = torch.lerp(mse, spread, self.lambda_sigreg)
        metrics = {"mse": mse.detach(), "sigreg": spread.detach()}
        tensors = {"image": z.detach(), "text": t.detach()} | self.features(encoded, batch)
        return Output(loss, metrics, tensors)

    def diagnose(self, tensors: Mapping[str, Tensor], step: int) -> dict[str, float]:
        """SIGReg of images and text apart, over its floor; and how the two terms pull at the predictor
        output.

        The gradient ratio is that of the norms of w * SIGReg and (1 - w) * MSE, on this rank's rows.
        """
        z, t = (tensors[key].detach().requires_grad_() for key in ("image", "text"))
        if t.shape[0] < 2:
            return {}

        def test(rows: Tensor) -> Tensor:
            return sigreg(rows, step=step, seed=self.seed, **self.sigreg)

        with torch.enable_grad():
            (pull,) = torch.autograd.grad((1 - self.lambda_sigreg) * prediction_mse(z, t), [z])
            (push,) = torch.autograd.grad(self.lambda_sigreg * test(torch.cat([z, t[None]])), [z])
        groups = {"image": z.detach(), "text": t.detach()[None]}
        report = {
            f"regulariser/{name}_over_floor": float(test(x)) / SIGREG_FLOOR for name, x in groups.items()
        }
        return report | {"regulariser/gradient_ratio": float(push.norm() / pull.norm().clamp_min(1e-12))}
