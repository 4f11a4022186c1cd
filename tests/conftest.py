"""Shared fixtures: a pool of two ranks, tiny batches, a quiet environment."""

from __future__ import annotations

import os

import pytest
from rank_pool import TwoRanks

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory):
    pool = TwoRanks(tmp_path_factory.mktemp("two_ranks"))
    yield pool
    pool.close()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests share two cores with others."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch):
    """No test reads or writes a user's runs, cache or settings."""
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    for name in ("RADLEARN_RUNS", "RADLEARN_DATA", "RADLEARN_CACHE", "RADLEARN_TRACKER_PROJECT"):
        monkeypatch.delenv(name, raising=False)
