"""Opening a data set: prepared or not, the same rows; an edited table is never the old one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radlearn import datasets, registry
from radlearn.data.splits import split_hash
from radlearn.datasets import open_dataset, release_root
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._open import open_manifest
from radlearn.manifests.table import Table
from radlearn.prepare import prepare, prepared_folder


@pytest.fixture
def table(tmp_path):
    """A release of tables and images, and the `data` settings and paths that open it."""
    root = tmp_path / "release"
    root.mkdir()
    manifest = Table.fake(root)
    settings = {
        "name": "table", "root": str(root), "size": 32, "train_manifest": "train.csv",
        "validate_manifest": "validate.csv.gz", "test_manifest": "test.jsonl", "report_col": "report",
        "label_cols": ["Edema"], "check_files": True,
    }  # fmt: skip
    return root, manifest, settings, {"cache": str(tmp_path / "cache"), "data": str(tmp_path)}


def prepared(root, settings, paths):
    from radlearn import config

    manifest = Table(**config.manifest_arguments(settings))
    prepare(manifest, root, prepared_folder(settings, paths), size=32, max_bad_fraction=0.2)


def test_prepared_and_plain_hold_the_same_rows_and_nearly_the_same_pixels(table):
    root, _, settings, paths = table
    plain = open_dataset(settings, paths)
    prepared(root, settings, paths)
    stored = open_dataset(settings, paths)
    assert type(stored.source).__name__ == "Store"
    columns = [name for name in plain.rows.columns if name not in ("height", "width")]
    assert stored.rows.select(columns).equals(plain.rows.select(columns))
    assert stored.card.fingerprint == plain.card.fingerprint
    for row in (0, len(plain.rows) - 1):
        images = [d.source.image(int(d.source_rows[row])).astype(float) for d in (plain, stored)]
        assert np.abs(images[0] - images[1]).mean() < 1


def test_an_edited_text_is_read_and_a_new_image_asks_for_prepare(table):
    root, _, settings, paths = table
    prepared(root, settings, paths)
    before = open_dataset(settings, paths)
    lines = (root / "test.jsonl").read_text().splitlines()
    (root / "test.jsonl").write_text("\n".join(lines).replace("Moderate", "Massive") + "\n")
    after = open_dataset(settings, paths)
    assert not before.rows["impression"].str.contains("Massive").any()
    assert after.rows["impression"].str.contains("Massive").any()
    assert after.card.fingerprint != before.card.fingerprint

    first = sorted((root / "files").rglob("*.jpg"))[0]  # of a training patient
    copy = first.with_name("copy.jpg")
    copy.write_bytes(first.read_bytes())
    with (root / "train.csv").open("a", encoding="utf-8") as file:
        file.write(f"{copy.relative_to(root / 'files')},New.,,PA,,,,\r\n")
    with pytest.raises(DataError, match=r"images of the table are not in .* prepare again"):
        open_dataset(settings, paths)


def test_without_the_release_the_prepared_table_serves(table, tmp_path):
    import shutil

    root, _, settings, paths = table
    prepared(root, settings, paths)
    rows = open_dataset(settings, paths).rows
    shutil.rmtree(root)
    assert open_dataset(settings, paths).rows["image_id"].to_list() == rows["image_id"].to_list()


def test_a_data_set_without_a_root_says_which_key(tmp_path):
    class Rootless(Table):
        def default_root(self):
            return None

    with pytest.raises(ConfigurationError, match=r"data=table needs data\.root="):
        release_root(Rootless(), {"name": "table"}, {}, tmp_path)


@pytest.fixture
def chexpert(tmp_path):
    """A prepared release that says which files its rows come from."""
    root = tmp_path / "chexpert"
    root.mkdir()
    registry.find("manifests", "chexpert").fake(root)
    settings = {"name": "chexpert", "root": str(root), "size": 32}
    paths = {"cache": str(tmp_path / "cache"), "data": str(tmp_path)}
    prepare(open_manifest(settings), root, prepared_folder(settings, paths), size=32, max_bad_fraction=0.5)
    return root, settings, paths


def test_an_untouched_table_is_not_read_again_and_a_touched_one_is(chexpert, monkeypatch):
    root, settings, paths = chexpert
    manifest = registry.find("manifests", "chexpert")
    reads, read = [], manifest.read

    def counted(self, *arguments):
        reads.append(arguments)
        return read(self, *arguments)

    monkeypatch.setattr(manifest, "read", counted)
    first = open_dataset(settings, paths)
    assert not reads
    stored = (root / "train.csv").stat()
    os.utime(root / "train.csv", ns=(stored.st_atime_ns, stored.st_mtime_ns + 1))
    second = open_dataset(settings, paths)
    assert len(reads) == 1
    assert second.rows.equals(first.rows)
    assert second.card == first.card
    (root / "train.csv").rename(root / "moved.csv")
    assert len(open_dataset(settings, paths).split("train")) == 0
    assert len(reads) == 2


def test_published_statistics_take_the_place_of_measured_ones(chexpert):
    root, settings, paths = chexpert
    measured = open_dataset(settings, paths).card
    assert measured.mean is not None
    # RSNA's published training values (LoVT).
    scan = {"pixel_mean": 0.48988, "pixel_std": 0.24818}
    (root / "published.json").write_text(json.dumps({"train": {"num_samples": 16010, "scan": scan}}))
    card = open_dataset({**settings, "statistics": "published.json"}, paths).card
    assert (card.mean, card.std) == (0.48988, 0.24818)
    assert card.fingerprint == measured.fingerprint
    own = prepared_folder(settings, paths) / "dataset_statistics.json"
    assert open_dataset({**settings, "statistics": str(own)}, paths).card.mean == pytest.approx(
        measured.mean, abs=0.05
    )
    with pytest.raises(DataError, match=r"no statistics file 'none\.json'"):
        open_dataset({**settings, "statistics": "none.json"}, paths)
    (root / "published.json").write_text(json.dumps({"test": {"num_samples": 1, "scan": scan}}))
    with pytest.raises(DataError, match="says nothing of the training split"):
        open_dataset({**settings, "statistics": "published.json"}, paths)


def test_edited_lists_are_read_again(chexpert, tmp_path):
    root, settings, paths = chexpert
    rows = open_dataset(settings, paths).rows
    patients = rows["patient_id"].unique(maintain_order=True)
    lists = {split: tmp_path / f"{split}.txt" for split in ("train", "test")}

    def write(num_train):
        for split, chosen in (("train", patients[:num_train]), ("test", patients[num_train:])):
            lists[split].write_text(
                "\n".join(rows.filter(rows["patient_id"].is_in(chosen.implode()))["image_id"])
            )

    write(20)
    listed = {**settings, "split_files": {split: str(path) for split, path in lists.items()}}
    prepare(open_manifest(listed), root, prepared_folder(listed, paths), size=32, max_bad_fraction=0.5)
    before = open_dataset(listed, paths)
    assert before.rows.filter(before.rows["split"] == "train")["patient_id"].n_unique() == 20
    write(10)
    after = open_dataset(listed, paths)
    assert after.rows.filter(after.rows["split"] == "train")["patient_id"].n_unique() == 10
    assert after.card.fingerprint != before.card.fingerprint


def prepared_table(folder, name, grey, *, rows=3):
    """A table of one image a patient, all of one grey, in a working folder of its own."""
    place = folder / name
    (place / "images").mkdir(parents=True)
    lines = ["image_path,impression,patient,split"]
    for i in range(rows):
        Image.fromarray(np.full((32, 32), grey, np.uint8)).save(place / "images" / f"{i}.png")
        lines.append(f"{i}.png,Text of {name}.,p{i},{'test' if i == 0 else 'train'}")
    (place / "t.csv").write_text("\n".join(lines) + "\n")
    return place


RELATIVE = {
    "name": "table", "train_manifest": "t.csv", "image_root": "images", "patient_col": "patient",
    "split_col": "split", "views": [], "size": 32,
}  # fmt: skip


def test_the_same_words_in_another_working_folder_are_another_data_set(tmp_path, monkeypatch):
    paths = {"cache": str(tmp_path / "cache")}
    for name, grey in (("one", 10), ("two", 200)):
        monkeypatch.chdir(prepared_table(tmp_path, name, grey))
        if name == "one":
            prepare(open_manifest(RELATIVE), Path("images"), prepared_folder(RELATIVE, paths), size=32)
        data = open_dataset(RELATIVE, paths)
        assert {*data.rows["impression"]} == {f"Text of {name}."}
        assert data.source.image(int(data.source_rows[0])).mean() == grey


def test_an_edited_table_brings_its_own_card_and_no_statistics_of_other_images(tmp_path, monkeypatch):
    paths = {"cache": str(tmp_path / "cache")}
    place = prepared_table(tmp_path, "one", 10)
    monkeypatch.chdir(place)
    prepared = prepare(open_manifest(RELATIVE), Path("images"), prepared_folder(RELATIVE, paths), size=32)
    assert open_dataset(RELATIVE, paths).card.mean == prepared.card.mean == pytest.approx(10 / 255)
    table = place / "t.csv"
    table.write_text(table.read_text().replace("Text of one.", "Another text."))
    assert open_dataset(RELATIVE, paths).card.mean == prepared.card.mean
    table.write_text(table.read_text().replace("p2,train", "p2,test"))
    moved = open_dataset(RELATIVE, paths)
    assert moved.card.mean is None
    assert moved.card.split_hash != prepared.card.split_hash
    assert moved.card.split_hash == split_hash(moved.rows)


def test_a_store_of_another_format_is_refused(tmp_path, monkeypatch):
    paths = {"cache": str(tmp_path / "cache")}
    monkeypatch.chdir(prepared_table(tmp_path, "one", 10))
    prepare(open_manifest(RELATIVE), Path("images"), prepared_folder(RELATIVE, paths), size=32)
    monkeypatch.setattr(datasets, "FORMAT", datasets.FORMAT + 1)
    with pytest.raises(DataError, match=r"other settings \(format="):
        open_dataset(RELATIVE, paths)


def test_statistics_of_the_default_window_are_not_those_of_another(tmp_path):
    settings = {
        "name": "phantom_ct",
        "num_train": 2,
        "num_validate": 1,
        "num_test": 1,
        "image_size": 32,
        "size": 32,
    }
    paths = {"cache": str(tmp_path)}
    assert open_dataset(settings, paths).card.mean is not None
    assert open_dataset({**settings, "window": "lung"}, paths).card.mean is None
