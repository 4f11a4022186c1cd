"""From a release on disk to a prepared folder: content, rejection, resumption, refusal."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radlearn.data.images import resize_short
from radlearn.data.store import Store
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.base import Manifest
from radlearn.prepare import load_prepared, main, prepare, prepared_folder
from radlearn.records import Card, Release

COUNT = 40
LENIENT = {"size": 32, "shard_rows": 8, "max_bad_fraction": 0.5}


class Folder(Manifest):
    """Reads table.csv; radlearn.manifests.base says what it owes."""

    card = Card("folder", "a test", "none", "synthetic", "1", label_names=("opaque",))

    def read(self, root, progress=None):
        schema = {"image_id": pl.String, "path": pl.String, "patient_id": pl.String, "split": pl.String}
        rows = pl.read_csv(root / "table.csv", schema=schema).with_columns(
            study_id="image_id",
            view=pl.lit("PA"),
            height=pl.lit(None, pl.Int32),
            width=pl.lit(None, pl.Int32),
            opaque=pl.lit(1.0, pl.Float32),
        )
        return Release(rows, pl.DataFrame(), self.card, str(root))

    @classmethod
    def fake(cls, root):
        """40 images of 20 patients, 8-bit JPEG and PNG; the last two of 16 bits."""
        (root / "files").mkdir(parents=True)
        lines = ["image_id,path,patient_id,split"]
        for number in range(COUNT):
            deep = number >= COUNT - 2
            path = f"files/{number:03d}.{'jpg' if number % 2 and not deep else 'png'}"
            Image.fromarray(pixels(number)).save(root / path, quality=95)
            split = ("train", "train", "validate", "test")[number // 2 % 4]
            lines.append(f"i{number:03d},{path},p{number // 2},{split}")
        (root / "table.csv").write_text("\n".join(lines) + "\n")
        return cls()


def pixels(number):
    """64 x (48 + number) smooth pixels."""
    rows, columns = np.mgrid[:64, : 48 + number]
    grey = 127 + 120 * np.sin(rows / 9 + number) * np.cos(columns / 11)
    return (grey * 200).astype(np.uint16) if number >= COUNT - 2 else grey.astype(np.uint8)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("fake") / "release"
    Folder.fake(root)
    return root


@pytest.fixture
def root(fake, tmp_path):
    return Path(shutil.copytree(fake, tmp_path / "release"))


def hashes(folder):
    """Content of every visible file."""
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def replace_row(root, number, text):
    lines = (root / "table.csv").read_text().splitlines()
    lines[number + 1] = text
    (root / "table.csv").write_text("\n".join(lines) + "\n")


# --- content


def test_rows_images_and_card(root, tmp_path):
    seen = []
    prepared = prepare(
        Folder(), root, tmp_path / "out", size=32, shard_rows=16, progress=lambda *step: seen.append(step)
    )
    rows, store, card = load_prepared(tmp_path / "out")
    assert card == prepared.card
    assert rows["image_id"].to_list() == store.ids == [f"i{n:03d}" for n in range(COUNT)]
    assert rows["height"].to_list() == [64] * COUNT
    assert rows["width"].to_list() == [48 + n for n in range(COUNT)]
    assert rows["opaque"].to_list() == [1] * COUNT
    assert card.label_names == ("opaque",)
    assert card.counts == prepared.counts == {"train": 20, "validate": 10, "test": 10}
    assert prepared.rejected.is_empty()
    assert pl.read_parquet(tmp_path / "out" / "rejected.parquet").columns == [
        "image_id",
        "path",
        "reason",
        "detail",
    ]
    assert sorted(hashes(tmp_path / "out")) == [
        "card.json",
        "images-00000.arrow",
        "images-00001.arrow",
        "images-00002.arrow",
        "manifest.parquet",
        "rejected.parquet",
    ]
    store.verify()
    for row in range(0, COUNT, 2):
        np.testing.assert_array_equal(store.image(row), resize_short(pixels(row), 32))
    assert store.image(COUNT - 1).dtype == np.uint16
    assert seen[-1] == (COUNT, COUNT, "images")


def test_pixel_statistics_are_those_of_the_training_split(root, tmp_path):
    replace_row(root, 38, "i038,files/000.png,p19,test")
    replace_row(root, 39, "i039,files/001.jpg,p19,test")
    prepare(Folder(), root, tmp_path / "out", size=32)
    rows, store, card = load_prepared(tmp_path / "out")
    train = np.flatnonzero((rows["split"] == "train").to_numpy())
    values = np.concatenate([store.image(int(row)).ravel() for row in train]) / 255
    assert card.mean == pytest.approx(values.mean(), abs=1e-9)
    assert card.std == pytest.approx(values.std(), abs=1e-9)


def test_larger_sizes_are_jpeg_and_deep_images_stay_exact(tmp_path):
    root = tmp_path / "release"
    root.mkdir()
    generator = np.random.default_rng(0)
    deep = generator.integers(0, 65536, (300, 320)).astype(np.uint16)
    Image.fromarray(deep).save(root / "deep.png")
    flat = np.full((600, 640), 77, np.uint8)
    Image.fromarray(flat).save(root / "flat.png")
    (root / "table.csv").write_text(
        "image_id,path,patient_id,split\na,deep.png,p,train\nb,flat.png,p,train\n"
    )
    prepare(Folder(), root, tmp_path / "out", size=300)
    _, store, _ = load_prepared(tmp_path / "out")
    assert [store.size(row) for row in range(2)] == [(300, 320), (300, 320)]
    np.testing.assert_array_equal(store.image(0), deep)
    np.testing.assert_array_equal(store.image(1), np.full((300, 320), 77, np.uint8))
    assert (tmp_path / "out" / "images-00000.arrow").stat().st_size < 300 * 320 * 2 + 20_000


def test_two_workers_write_the_same_bytes(root, tmp_path):
    arguments = {"size": 32, "shard_rows": 8}
    alone = prepare(Folder(), root, tmp_path / "alone", **arguments)
    both = prepare(Folder(), root, tmp_path / "both", num_workers=2, **arguments)
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "both")
    assert alone.card.fingerprint == both.card.fingerprint != ""


def test_the_fingerprint_names_the_content(root, tmp_path):
    first = prepare(Folder(), root, tmp_path / "a", size=32).card.fingerprint
    assert prepare(Folder(), root, tmp_path / "b", size=32, shard_rows=7).card.fingerprint == first
    assert prepare(Folder(), root, tmp_path / "c", size=48).card.fingerprint != first
    (root / "files" / "000.png").unlink()
    assert prepare(Folder(), root, tmp_path / "d", **LENIENT).card.fingerprint != first
    replace_row(root, 0, "other,files/002.png,p0,train")
    assert prepare(Folder(), root, tmp_path / "e", size=32).card.fingerprint != first


def test_a_read_only_release_and_a_read_only_result_are_fine(root, tmp_path, monkeypatch):
    before = hashes(root / "files")
    prepare(Folder(), root, tmp_path / "out", size=32)
    assert hashes(root / "files") == before

    def refuse(*_arguments, **_keywords):
        raise AssertionError("a finished folder is not written to")

    monkeypatch.setattr("radlearn.prepare.write_shard", refuse)
    monkeypatch.setattr("radlearn.prepare._locked", refuse)
    again = prepare(Folder(), root, tmp_path / "out", size=32)
    assert again.card == load_prepared(tmp_path / "out")[2]


# --- rejection


def spoil(root):
    """One of each: missing, empty, truncated, outside, text; and a repeated id."""
    (root / "files" / "000.png").unlink()
    (root / "files" / "002.png").write_bytes(b"")
    whole = (root / "files" / "003.jpg").read_bytes()
    (root / "files" / "003.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "files" / "004.png").write_text("no image")
    replace_row(root, 5, "i005,../../etc/passwd,p2,validate")
    replace_row(root, 7, "i006,files/007.jpg,p3,test")
    return {
        "i000": "missing",
        "i002": "empty_file",
        "i003": "truncated",
        "i004": "unsupported_format",
        "i005": "path_escape",
        "i006": "duplicate_id",
    }


def test_unusable_images_are_named_counted_and_left_out(root, tmp_path):
    expected = spoil(root)
    prepared = prepare(Folder(), root, tmp_path / "out", **LENIENT)
    assert dict(prepared.rejected.select("image_id", "reason").rows()) == expected
    assert {key: n for key, n in prepared.counts.items() if "." in key} == {
        f"rejected.{reason}": 1 for reason in expected.values()
    }
    rows, store, _ = load_prepared(tmp_path / "out")
    assert rows["image_id"].to_list() == [f"i{n:03d}" for n in range(COUNT) if n not in (0, 2, 3, 4, 5, 7)]
    for row in (0, 5, 33):
        number = int(rows["image_id"][row][1:])
        assert rows["width"][row] == 48 + number
        assert store.size(row) == resize_short(pixels(number), 32).shape


def test_too_many_unusable_images_stop_the_run(root, tmp_path):
    spoil(root)
    with pytest.raises(DataError) as caught:
        prepare(Folder(), root, tmp_path / "out", size=32, max_bad_fraction=0.1)
    message = str(caught.value)
    assert message.startswith("6 of 40 images cannot be used, more than data.max_bad_fraction=0.1: ")
    for words in ("1 missing", "1 truncated", "files/007.jpg (duplicate_id)", "files/000.png (missing)"):
        assert words in message
    assert not (tmp_path / "out" / "card.json").exists()
    with pytest.raises(DataError, match=r"max_bad_fraction=0\.001"):
        prepare(Folder(), root, tmp_path / "out", size=32)


def test_exactly_the_limit_is_allowed(root, tmp_path):
    (root / "files" / "000.png").unlink()
    prepare(Folder(), root, tmp_path / "out", size=32, max_bad_fraction=1 / COUNT)


def test_rows_that_the_manifest_rejects_count_too(root, tmp_path, monkeypatch):
    bad = pl.DataFrame({"image_id": ["x"], "path": ["x.png"], "reason": ["label"], "detail": ["'maybe'"]})
    read = Folder.read
    monkeypatch.setattr(
        Folder,
        "read",
        lambda self, root, progress=None: Release(read(self, root).rows, bad, self.card, str(root)),
    )
    with pytest.raises(DataError, match=r"1 of 41 images .*: 1 label; first: x\.png \(label\)"):
        prepare(Folder(), root, tmp_path / "out", size=32)
    prepared = prepare(Folder(), root, tmp_path / "out", **LENIENT)
    assert prepared.counts["rejected.label"] == 1


def test_a_repaired_file_is_taken_in_by_the_next_run(root, tmp_path):
    saved = (root / "files" / "003.jpg").read_bytes()
    (root / "files" / "003.jpg").write_bytes(saved[:100])
    first = prepare(Folder(), root, tmp_path / "out", **LENIENT)
    untouched = (tmp_path / "out" / "images-00004.arrow").stat().st_mtime_ns
    (root / "files" / "003.jpg").write_bytes(saved)
    second = prepare(Folder(), root, tmp_path / "out", **LENIENT)
    assert (first.rejected.height, second.rejected.height) == (1, 0)
    assert len(load_prepared(tmp_path / "out")[1]) == COUNT
    assert (tmp_path / "out" / "images-00004.arrow").stat().st_mtime_ns == untouched


def test_patients_in_two_splits_are_refused(root, tmp_path):
    replace_row(root, 1, "i001,files/001.jpg,p0,test")
    with pytest.raises(DataError, match=r"1 of 20 patients .* 'p0' in test and train"):
        prepare(Folder(), root, tmp_path / "out", size=32)


def test_tables_without_what_is_needed_are_refused(root, tmp_path, monkeypatch):
    replace_row(root, 0, "i000,files/000.png,p0,valid")
    replace_row(root, 1, "i001,files/001.jpg,p0,valid")
    with pytest.raises(DataError, match=r"\['valid'\]: there is train, validate, test"):
        prepare(Folder(), root, tmp_path / "out", size=32)
    (root / "table.csv").write_text("image_id,path,patient_id,split\n")
    with pytest.raises(DataError, match="no usable row"):
        prepare(Folder(), root, tmp_path / "out", size=32)
    (root / "table.csv").write_text("image_id,path,patient_id,split\na,absent.png,p,train\n")
    with pytest.raises(DataError, match="no image of 'folder' can be used: 1 missing"):
        prepare(Folder(), root, tmp_path / "other", size=32, max_bad_fraction=1)
    read = Folder.read
    monkeypatch.setattr(
        Folder,
        "read",
        lambda self, root, progress=None: Release(
            read(self, root).rows.drop("view"), pl.DataFrame(), self.card, str(root)
        ),
    )
    with pytest.raises(DataError, match="lacks the columns view"):
        prepare(Folder(), root, tmp_path / "out", size=32)


def test_a_single_row_is_a_data_set(root, tmp_path):
    (root / "table.csv").write_text("image_id,path,patient_id,split\na,files/000.png,p,test\n")
    card = prepare(Folder(), root, tmp_path / "out", size=32).card
    assert (card.mean, card.std) == (None, None)
    assert len(load_prepared(tmp_path / "out")[1]) == 1


# --- folders


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


def test_a_write_error_in_a_worker_is_named(root, tmp_path):
    # The name of the second shard is taken by a folder, which no file can replace.
    (tmp_path / "out" / "images-00001.arrow" / "x").mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot write to .*out: Is a directory\. Free space"):
        prepare(Folder(), root, tmp_path / "out", size=32, shard_rows=8, num_workers=2)


def test_senseless_arguments_are_refused(root, tmp_path):
    for wrong in ({"size": 0}, {"shard_rows": 0}, {"num_workers": -1}, {"max_bad_fraction": 2}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            prepare(Folder(), root, tmp_path / "out", **wrong)


# --- interruption

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_prepare as t
from radlearn.data import store
import radlearn.prepare
written = store.write_shard
def write_and_die(path, images, metadata):
    if path.name == "images-00003.arrow":
        # Half a shard under its temporary name, as a kill while writing leaves it.
        path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    written(path, images, metadata)
radlearn.prepare.write_shard = write_and_die
radlearn.prepare.prepare(t.Folder(), Path(sys.argv[2]), Path(sys.argv[3]), **t.LENIENT)
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


# --- dry run and the command


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
        "from test_prepare import Folder\n"
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
    assert "would fill" in capsys.readouterr().out
    prepared = main({"data": data, "paths": paths, "num_workers": 0})
    assert prepared.folder == prepared_folder(data, paths)
    assert prepared.folder.parent == tmp_path / "cache"
    assert prepared.folder.name.startswith("my_folder-32-")
    assert prepared_folder({**data, "shade": 0.6}, paths) != prepared.folder
    assert prepared_folder({**data, "max_bad_fraction": 0.1}, paths) == prepared.folder
    printed = capsys.readouterr().out
    for words in ("train", "19", "rejected.missing", "files/000.png: missing", "fingerprint"):
        assert words in printed
    assert json.loads((prepared.folder / "card.json").read_text())["settings"]["size"] == 32
