"""Files of weights: safetensors, or a tensor-only file of PyTorch."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from radlearn.errors import ConfigurationError


def read(path: Path, *, key: str) -> dict[str, Tensor]:
    """The weights of a file, by name; those under `state_dict` or `model` where a file nests them.

    Args:
        path: ends in .safetensors, or is a PyTorch file; nothing but tensors is unpickled.
        key: the setting that named the file, for messages.

    Raises:
        ConfigurationError: if there is no such file, or it holds more than weights.
    """
    if not path.is_file():
        raise ConfigurationError(f"{key}={path}: no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ConfigurationError(f"{key}={path} is no safetensors file: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"{key}={path} is no file of weights alone, and other objects are never unpickled: {reason}"
        ) from error
    for nested in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(nested), dict):
            state = state[nested]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigurationError(f"{key}={path} holds no dict of weights")
    return state
