"""A small phantom that training tests share, and configurations on it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Cache root; the phantom in it is generated once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def configure(cache, tmp_path):
    """overrides -> a resolved configuration of `pretrain` on a small phantom with a small encoder."""

    def make(*overrides: str, run: str = "run"):
        from radlearn import composition

        settings = {
            "data": "phantom_cxr",
            "data.num_train": 48,
            "data.num_validate": 12,
            "data.num_test": 24,
            "data.image_size": 32,
            "data.num_workers": 1,
            "data.size": 32,
            "encoder": "small_cnn",
            "encoder.image_size": 32,
            "encoder.multiplier": 0.25,
            "text.model": "hashed",
            "embed_dim": 8,
            "predictor_width": 16,
            "batch_size": 8,
            "epochs": 100,
            "max_steps": 6,
            "warmup_steps": 4,
            "lr": 1e-3,
            "save_every_n_steps": 3,
            "metrics_every_n_steps": 2,
            "precision": "32-true",
            "accelerator": "cpu",
            "num_workers": 0,
            "global_crops_number": 1,
            "global_size": 32,
            "local_crops_number": 1,
            "local_size": 16,
            "run_name": run,
            "paths.runs": tmp_path / "runs",
            "paths.cache": cache,
        }
        given = {override.partition("=")[0].lstrip("+~") for override in overrides}
        defaults = [f"{key}={value}" for key, value in settings.items() if key not in given]
        return composition.compose("pretrain", [*defaults, *overrides])

    return make
