"""Folders: never mixed, never in the release; what a disk refuses is named."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from folder_release import Folder, hashes, replace_row

from radlearn.errors import ConfigurationError, DataError
from radlearn.prepare import load_prepared, prepare


def test_other_settings_or_rows_are_never_mixed_in(root, tmp_path):
    prepare(Folder(), root, tmp_path / "out", size=32)
    with pytest.raises(DataError, match="size: 32 there, 48 now"):
        prepare(Folder(), root, tmp_path / "out", size=48)
    with pytest.raises(DataError, match="size=48 wanted, 32 there"):
        load_prepared(tmp_path / "out", {"size": 48})
    load_prepared(tmp_path / "out", {"size": 32})
    (tmp_path / "out" / "card.json").unlink()
    with pytest.raises(DataError, match="interrupted run with other rows or settings"):
        prepare(Folder(), root, tmp_path / "out", size=48)
    with pytest.raises(DataError, match="not a finished"):
        load_prepared(tmp_path / "out")
    replace_row(root, 0, "renamed,files/000.png,p0,train")
    with pytest.raises(DataError, match="other rows"):
        prepare(Folder(), root, tmp_path / "out", size=32)


def test_parts_of_two_runs_are_refused(root, tmp_path):
    prepare(Folder(), root, tmp_path / "a", size=32)
    prepare(Folder(), root, tmp_path / "b", size=48)
    shutil.copy(tmp_path / "b" / "images-00000.arrow", tmp_path / "a")
    with pytest.raises(DataError, match="not of one run"):
        load_prepared(tmp_path / "a")
    (tmp_path / "a" / "card.json").write_text("{")
    with pytest.raises(DataError, match=r"card\.json is damaged"):
        load_prepared(tmp_path / "a")


def test_a_lost_or_damaged_shard_is_made_again(root, tmp_path):
    prepare(Folder(), root, tmp_path / "out", size=32, shard_rows=8)
    before = hashes(tmp_path / "out")
    (tmp_path / "out" / "images-00001.arrow").unlink()
    (tmp_path / "out" / "images-00003.arrow").write_bytes(b"damage")
    with pytest.raises(DataError, match="radlearn prepare"):
        load_prepared(tmp_path / "out")
    prepare(Folder(), root, tmp_path / "out", size=32, shard_rows=8)
    assert hashes(tmp_path / "out") == before


def test_the_release_is_never_written_to(root):
    for out in (root, root / "prepared"):
        with pytest.raises(DataError, match="lies in the release"):
            prepare(Folder(), root, out, size=32)


def test_images_that_lie_elsewhere_are_never_written_to_either(root, tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    shutil.copy(root / "table.csv", tmp_path / "tables")
    read = Folder.read

    def read_elsewhere(self, folder, progress=None):
        return dataclasses.replace(read(self, folder, progress), root=str(root))

    monkeypatch.setattr(Folder, "read", read_elsewhere)
    with pytest.raises(DataError, match=r"release, which is never written to"):
        prepare(Folder(), tmp_path / "tables", root / "cache", size=32)
    # A release inside the cache, beside what is prepared, is fine.
    prepare(Folder(), tmp_path / "tables", tmp_path / "out", size=32)


def test_a_folder_that_cannot_be_made_is_named(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write to .*file/out.*paths\.cache"):
        prepare(Folder(), root, tmp_path / "file" / "out", size=32)


@pytest.mark.parametrize("words", ["No space left on device", "Read-only file system"])
def test_a_full_or_read_only_disk_is_named(root, tmp_path, monkeypatch, words):
    def fail(_descriptor):
        raise OSError(28, words)

    monkeypatch.setattr("radlearn.data.store.os.fsync", fail)
    with pytest.raises(DataError, match=rf"cannot write to .*out: {words}\. Free space"):
        prepare(Folder(), root, tmp_path / "out", size=32)


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from folder_release import Folder
from radlearn.prepare import prepare
prepare(Folder(), Path(sys.argv[2]), Path(sys.argv[3]), size=32, shard_rows=8)
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))
try:
    prepare(Folder(), Path(sys.argv[2]), Path(sys.argv[3] + "-2"), size=32, shard_rows=8, num_workers=2)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_file_system_that_takes_no_more_bytes_is_named_and_the_next_run_goes_on(root, tmp_path):
    command = [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(root), str(tmp_path / "out")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.startswith(
        f"DataError cannot write to {tmp_path / 'out-2'}: File too large. Free space there"
    )
    assert len(hashes(tmp_path / "out")) == 9  # without the limit: five shards and four files
    assert not list((tmp_path / "out-2").glob("images-*.arrow"))
    prepare(Folder(), root, tmp_path / "out-2", size=32, shard_rows=8)
    assert hashes(tmp_path / "out-2") == hashes(tmp_path / "out")
    assert not list((tmp_path / "out-2").glob(".*.tmp"))


def test_a_write_error_in_a_worker_is_named(root, tmp_path):
    # The name of the second shard is taken by a folder, which no file can replace.
    (tmp_path / "out" / "images-00001.arrow" / "x").mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot write to .*out: Is a directory\. Free space"):
        prepare(Folder(), root, tmp_path / "out", size=32, shard_rows=8, num_workers=2)


def test_senseless_arguments_are_refused(root, tmp_path):
    for wrong in ({"size": 0}, {"shard_rows": 0}, {"num_workers": -1}, {"max_bad_fraction": 2}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            prepare(Folder(), root, tmp_path / "out", **wrong)
