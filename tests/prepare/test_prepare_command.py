"""The dry run, and the command with what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folder_release import COUNT, LENIENT, Folder, spoil

from radlearn.prepare import command, main, prepare, prepared_folder


def test_a_dry_run_counts_and_estimates_and_writes_nothing(root, tmp_path):
    expected = spoil(root)
    dry = prepare(Folder(), root, tmp_path / "out", dry_run=True, **LENIENT)
    assert not (tmp_path / "out").exists()
    assert dict(dry.rejected.select("image_id", "reason").rows()) == expected
    wet = prepare(Folder(), root, tmp_path / "out", **LENIENT)
    assert dry.counts == wet.counts
    stored = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.arrow"))
    assert dry.estimate is not None
    assert 0.5 * stored < dry.estimate.bytes < 1.1 * stored
    assert dry.estimate.seconds > 0
    assert dry.estimate.sampled == COUNT - 4


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The manifest of this file under a name, as a user's own plug-in."""
    folder = tmp_path / "plugins" / "manifests"
    folder.mkdir(parents=True)
    (folder / "my_folder.py").write_text(
        "from radlearn.manifests.base import Manifest\n"
        "from folder_release import Folder\n"
        "class MyFolder(Manifest):\n"
        "    card = Folder.card\n"
        "    def __init__(self, *, shade: float = 1.0) -> None:\n"
        "        self.shade = shade\n"
        "    read = Folder.read\n"
        "    fake = Folder.fake\n"
    )
    monkeypatch.setenv("RADLEARN_PLUGINS", str(tmp_path / "plugins"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.usefixtures("plugin")
def test_the_command_prepares_below_the_cache_and_prints_a_table(root, tmp_path, capsys):
    data = {"name": "my_folder", "root": str(root), "size": 32, "max_bad_fraction": 0.2, "shade": 0.5}
    paths = {"cache": str(tmp_path / "cache")}
    (root / "files" / "000.png").unlink()
    dry = main({"data": data, "paths": paths, "num_workers": 0, "dry_run": True})
    assert not dry.folder.exists()
    assert "dry run: nothing was written" in capsys.readouterr().out
    prepared = main({"data": data, "paths": paths, "num_workers": 0})
    assert prepared.folder == prepared_folder(data, paths)
    assert prepared.folder.parent == tmp_path / "cache"
    assert prepared.folder.name.startswith("my_folder-32-")
    assert prepared_folder({**data, "shade": 0.6}, paths) != prepared.folder
    assert prepared_folder({**data, "max_bad_fraction": 0.1}, paths) == prepared.folder
    printed = capsys.readouterr().out
    for words in ("train", "19", "rejected: missing", "missing: files/000.png", "fingerprint"):
        assert words in printed
    assert json.loads((prepared.folder / "card.json").read_text())["settings"]["size"] == 32


def test_another_format_makes_generated_data_anew_and_leaves_a_release_where_it_is(tmp_path, monkeypatch):
    generated, table = {"name": "phantom_cxr"}, {"name": "table", "root": "/data"}
    paths = {"cache": str(tmp_path)}
    before = [prepared_folder(data, paths) for data in (generated, table)]
    monkeypatch.setattr(command, "FORMAT", command.FORMAT + 1)
    after = [prepared_folder(data, paths) for data in (generated, table)]
    assert before[0] != after[0]
    assert before[1] == after[1]
