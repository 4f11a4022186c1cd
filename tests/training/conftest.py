"""A small phantom that training tests share, and configurations on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import SETTINGS


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Cache root; the phantom in it is generated once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def overrides(cache, tmp_path):
    """overrides -> those of a small run: small phantom, small encoder, few steps, and the given ones."""

    def make(*given: str, run: str = "run") -> list[str]:
        settings = {
            **SETTINGS,
            "run_name": run,
            "paths.runs": tmp_path / "runs",
            "paths.cache": cache,
        }
        keys = {override.partition("=")[0].lstrip("+~") for override in given}
        kept = [override for override in given if not override.startswith("~")]
        return [*(f"{key}={value}" for key, value in settings.items() if key not in keys), *kept]

    return make


@pytest.fixture
def configure(overrides):
    """overrides -> a resolved configuration of `pretrain`, as `overrides` has it."""

    def make(*given: str, run: str = "run"):
        from radlearn import composition

        return composition.compose("pretrain", overrides(*given, run=run))

    return make
