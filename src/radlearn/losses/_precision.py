"""Where the losses do their arithmetic: in float32 or better, whatever precision surrounds them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The tensor in float32; float64 stays float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def no_autocast(device: torch.device) -> torch.autocast:
    """Within the block operations keep the precision of their inputs."""
    return torch.autocast(device.type, enabled=False)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within the block: no autocast, no reduced-precision matrix products (TF32, bfloat16 on CPU)."""
    with no_autocast(device), _exact_matrix_products():
        yield


@contextmanager
def _exact_matrix_products() -> Iterator[None]:
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch < 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    # Each backend is set by itself: setting the two at once would forget that they differed.
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    befores = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, befores, strict=True):
            backend.fp32_precision = precision
