"""Interrupted runs, killed for good: the same command goes on, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folder_release import COUNT, LENIENT, Folder, hashes, make_shard_and_die

from radlearn.data.store import Store
from radlearn.errors import DataError
from radlearn.prepare import load_prepared, prepare

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import folder_release as t
from radlearn.prepare import prepare, shards
written = shards.write_shard
def write_and_die(path, images, metadata):
    if path.name == "images-00003.arrow":
        # Half a shard under its temporary name, as a kill while writing leaves it.
        path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    written(path, images, metadata)
shards.write_shard = write_and_die
prepare(t.Folder(), Path(sys.argv[2]), Path(sys.argv[3]), **t.LENIENT)
"""


def test_a_killed_run_continues_to_the_same_bytes(root, tmp_path):
    (root / "files" / "003.jpg").write_bytes(b"\xff\xd8\xff")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    prepare(Folder(), root, whole, **LENIENT)
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(root), str(killed)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    left = sorted(path.name for path in killed.iterdir())
    assert [name for name in left if name.startswith("images")] == [f"images-0000{n}.arrow" for n in range(3)]
    assert any(name.endswith(".tmp") for name in left)
    done = {name: (killed / name).stat().st_mtime_ns for name in left if name.startswith("images")}
    with pytest.raises(DataError, match="not a finished"):
        load_prepared(killed)
    prepare(Folder(), root, killed, num_workers=2, **LENIENT)
    assert hashes(killed) == hashes(whole)
    assert {name: (killed / name).stat().st_mtime_ns for name in done} == done
    assert not list(killed.glob(".*.tmp"))


WITH_WORKERS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import folder_release as t
from radlearn.prepare import prepare
prepare(t.Folder(), Path(sys.argv[2]), Path(sys.argv[3]), num_workers=2, **t.LENIENT)
"""


def wait_for(condition, process):
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < limit, "the run did not come that far"
        time.sleep(0.05)


def test_a_run_whose_processes_are_all_killed_continues_to_the_same_bytes(root, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    prepare(Folder(), root, whole, **LENIENT)
    # Whoever opens a pipe that nobody writes to waits: one worker is stuck in the last shard.
    stuck = root / "files" / "035.jpg"
    content = stuck.read_bytes()
    stuck.unlink()
    os.mkfifo(stuck)
    command = [sys.executable, "-c", WITH_WORKERS, str(Path(__file__).parent), str(root), str(killed)]
    with subprocess.Popen(command, start_new_session=True) as run:
        wait_for(lambda: len(list(killed.glob("images-*.arrow"))) == 4, run)
        os.killpg(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    stuck.unlink()
    stuck.write_bytes(content)
    done = {path: path.stat().st_mtime_ns for path in killed.glob("images-*.arrow")}
    assert sorted(path.name for path in done) == [f"images-0000{n}.arrow" for n in range(4)]
    assert not (killed / "card.json").exists()
    prepare(Folder(), root, killed, num_workers=2, **LENIENT)
    assert hashes(killed) == hashes(whole)
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_a_worker_that_is_killed_is_named_and_the_rest_is_kept(root, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    prepare(Folder(), root, whole, **LENIENT)
    monkeypatch.setattr("radlearn.prepare.run.make_shard", make_shard_and_die)
    with pytest.raises(DataError, match=r"worker process was ended from outside.*num_workers=2 now"):
        prepare(Folder(), root, broken, num_workers=2, **LENIENT)
    monkeypatch.undo()
    assert not (broken / "images-00003.arrow").exists()
    prepare(Folder(), root, broken, num_workers=2, **LENIENT)
    assert hashes(broken) == hashes(whole)


def test_a_second_run_waits_for_the_first(root, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    script = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('locked', flush=True); time.sleep(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out / ".lock")], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        prepare(Folder(), root, out, size=32)
        assert other.wait() == 0
    assert len(Store(out)) == COUNT
