"""Rows that cannot be used are named, counted and held to a limit; tables that cannot be used are refused."""

from __future__ import annotations

import polars as pl
import pytest
from folder_release import COUNT, LENIENT, Folder, pixels, replace_row, spoil

from radlearn.data.images import resize_short
from radlearn.errors import DataError
from radlearn.prepare import load_prepared, prepare
from radlearn.records import Release


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
    with pytest.raises(DataError, match=r"1 of 20 patients .* splits \(test, train\)"):
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
