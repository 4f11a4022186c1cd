"""The small release, once for all tests and a copy for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from folder_release import Folder


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("fake") / "release"
    Folder.fake(root)
    return root


@pytest.fixture
def root(fake, tmp_path):
    return Path(shutil.copytree(fake, tmp_path / "release"))
