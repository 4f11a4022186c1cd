"""What a prepared folder holds: rows, images, card and statistics, the same however it was made."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from folder_release import COUNT, LENIENT, Folder, hashes, pixels, replace_row
from PIL import Image

from radlearn.data import statistics_file
from radlearn.data.images import resize_short, to_uint8
from radlearn.prepare import load_prepared, prepare


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
        "dataset_statistics.json",
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


def test_the_statistics_file_weighs_every_image_alike(root, tmp_path):
    prepare(Folder(), root, tmp_path / "out", size=32, shard_rows=16)
    rows, store, _ = load_prepared(tmp_path / "out")
    found = statistics_file.read(tmp_path / "out" / statistics_file.NAME)
    assert {split: known.num_samples for split, known in found.items()} == {
        "train": 20,
        "validate": 10,
        "test": 10,
    }
    for split, known in found.items():
        images = [store.image(row) for row in np.flatnonzero((rows["split"] == split).to_numpy())]
        images = [to_uint8(image) / 255 for image in images]
        means, variances = [image.mean() for image in images], [image.var() for image in images]
        assert known.pixel_mean == pytest.approx(np.mean(means), abs=1e-9)
        assert known.pixel_std == pytest.approx(np.sqrt(np.mean(variances) + np.var(means)), abs=1e-9)
        assert known.patient_ids == known.segmentation_pos_weights == ()


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

    monkeypatch.setattr("radlearn.prepare.shards.write_shard", refuse)
    monkeypatch.setattr("radlearn.prepare.run.locked", refuse)
    again = prepare(Folder(), root, tmp_path / "out", size=32)
    assert again.card == load_prepared(tmp_path / "out")[2]
