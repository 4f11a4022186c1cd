"""The manifest of a `data` section with a user's own lists: splits, boxes, refusals, the command line."""

from __future__ import annotations

import logging

import polars as pl
import pytest

from radlearn import registry
from radlearn.composition import compose
from radlearn.data import split_files
from radlearn.data.splits import split_hash
from radlearn.datasets import open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._open import open_manifest
from radlearn.prepare import main, prepared_folder


@pytest.fixture(scope="module")
def rsna(tmp_path_factory):
    """The root of a miniature RSNA release, and its rows as they are."""
    root = tmp_path_factory.mktemp("rsna")
    registry.find("manifests", "rsna_pneumonia").fake(root)
    return root, open_manifest(settings(root)).read(root)


@pytest.fixture
def warned(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("radlearn"), "propagate", True)
    caplog.set_level(logging.WARNING, "radlearn")
    return caplog


def thirds(rows):
    """The rows in three parts of eight patients each, the last row in none."""
    rows = rows.sort("patient_id")[:-1]
    return {"train": rows[:8], "validate": rows[8:16], "test": rows[16:]}


def lists_of(rows, folder, change=lambda part: part):
    files = {}
    for split, part in thirds(rows).items():
        files[split] = str(folder / f"{split}.csv")
        split_files.write_lovt(folder / f"{split}.csv", change(part))
    return files


def settings(root, **more):
    return {"name": "rsna_pneumonia", "root": str(root), "size": 32, "max_bad_fraction": 0.5, **more}


def test_without_lists_the_manifest_is_itself(rsna):
    assert type(open_manifest(settings(rsna[0]))).__name__ == "RSNAPneumonia"
    assert type(open_manifest(settings(rsna[0], split_files={"train": None}))).__name__ == "RSNAPneumonia"


def test_rows_lie_in_the_splits_of_the_lists(rsna, tmp_path, warned):
    root, own = rsna
    release = open_manifest(settings(root, split_files=lists_of(own.rows, tmp_path))).read(root)
    parts = thirds(own.rows)
    for split, part in parts.items():
        there = release.rows.filter(pl.col("split") == split)["image_id"]
        assert there.sort().to_list() == part["image_id"].sort().to_list()
    card = release.card
    assert card.counts["left_out.in_no_list"] == len(own.rows) - sum(map(len, parts.values())) == 1
    assert {k: n for k, n in card.counts.items() if k.startswith("rejected.")} == {
        k: n for k, n in own.card.counts.items() if k.startswith("rejected.")
    }
    assert (card.split, card.split_seed, card.split_unit) == ("files", None, "patient")
    assert card.split_rule == (
        "lists given by the user: train from train.csv, validate from validate.csv, test from test.csv"
    )
    assert card.split_hash == split_hash(release.rows) != own.card.split_hash
    assert card.fingerprint != own.card.fingerprint
    assert release.rows["image_id"].is_sorted()
    assert release.rejected.equals(own.rejected)
    assert {*release.sources} == {*own.sources} | {str(tmp_path / f"{split}.csv") for split in parts}
    assert not warned.records  # the boxes are the release's own


def swap_sides(part):
    return part.with_columns(boxes=split_files.swapped_boxes(part["boxes"]))


def test_boxes_of_the_lists_are_compared_and_the_release_keeps_its_own(rsna, tmp_path, warned):
    root, own = rsna
    files = lists_of(own.rows, tmp_path, swap_sides)
    release = open_manifest(settings(root, split_files=files)).read(root)
    before = own.rows.filter(pl.col("image_id").is_in(release.rows["image_id"].implode()))
    assert release.rows["boxes"].equals(before["boxes"])
    train = thirds(own.rows)["train"]
    positive = train.filter(pl.col("boxes").list.len() > 0)
    [message] = [r.getMessage() for r in warned.records if "train.csv" in r.getMessage()]
    assert f"the boxes of {len(positive)} of 8 images are not those of the release" in message
    assert f"({len(positive)} have width and height exchanged)" in message
    assert "data.split_boxes=release keeps those of the release" in message
    assert any(f"first '{image_id}'" in message for image_id in positive["image_id"])


def test_boxes_of_the_lists_are_taken_where_that_is_asked_for(rsna, tmp_path):
    root, own = rsna
    files = lists_of(own.rows, tmp_path, swap_sides)
    release = open_manifest(settings(root, split_files=files, split_boxes="file")).read(root)
    before = own.rows.filter(pl.col("image_id").is_in(release.rows["image_id"].implode()))
    assert release.rows["boxes"].equals(split_files.swapped_boxes(before["boxes"]))
    assert release.rows.schema == own.rows.schema
    assert (
        len(release.rows) == len(own.rows) - 1
    )  # none is rejected, though exchanged boxes leave their images


def test_a_release_without_boxes_takes_them_from_the_lists(tmp_path, warned):
    root = tmp_path / "chexpert"
    root.mkdir()
    own = registry.find("manifests", "chexpert").fake(root).read(root).rows
    boxes = pl.Series("boxes", [[{"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "class": "Edema"}]] * 2)
    train = own.filter(pl.col("split") == "train").unique("patient_id", keep="first", maintain_order=True)[:2]
    split_files.write_lovt(tmp_path / "train.csv", train.with_columns(boxes))
    data = {"name": "chexpert", "split_files": {"train": str(tmp_path / "train.csv")}}
    assert "boxes" not in open_manifest(data).read(root).rows.columns
    assert "data.split_boxes=file takes them" in warned.text
    release = open_manifest({**data, "split_boxes": "file"}).read(root)
    assert release.rows["boxes"].to_list() == boxes.to_list()


def test_patients_in_two_lists_are_refused_or_counted(rsna, tmp_path, warned):
    root, own = rsna
    rows = own.rows.with_columns(patient_id=pl.lit("one"))

    class OnePatient:
        def __init__(self, manifest):
            self.read = lambda root, progress=None: manifest.read(root).__class__(
                rows, own.rejected, own.card, str(root)
            )

    files = lists_of(own.rows, tmp_path)
    manifest = open_manifest(settings(root, split_files=files))
    manifest.manifest = OnePatient(manifest.manifest)
    with pytest.raises(DataError, match=r"1 of 1 patients .*; data\.split_unit=image takes"):
        manifest.read(root)
    manifest.unit = "image"
    release = manifest.read(root)
    assert release.card.counts["leak.patients_in_several_splits"] == 1
    assert release.card.split_unit == "image"
    assert release.sources == ()  # it did not say what it was read from
    assert "1 patients into several splits" in warned.text


def test_settings_without_sense_are_refused(rsna):
    with pytest.raises(ConfigurationError, match=r"names files for train, validate, test: got \['valid'\]"):
        open_manifest(settings(rsna[0], split_files={"valid": "a.csv"}))
    with pytest.raises(ConfigurationError, match="phantom_cxr is generated and splits itself"):
        open_manifest({"name": "phantom_cxr", "split_files": {"train": "a.csv"}})
    for key, value in (("split_unit", "image"), ("split_boxes", "file")):
        with pytest.raises(ConfigurationError, match=rf"data\.{key} belongs to data\.split_files"):
            open_manifest(settings(rsna[0], **{key: value}))


def test_the_command_line_takes_lists_and_opens_what_was_prepared(rsna, tmp_path, capsys):
    root, own = rsna
    files = lists_of(own.rows, tmp_path)
    named = ", ".join(f"{split}: {path}" for split, path in files.items())
    words = [
        "data=rsna_pneumonia",
        f"data.root={root}",
        f"data.split_files={{{named}}}",
        "data.split_boxes=file",
        "data.size=32",
        "data.max_bad_fraction=0.5",
        f"paths.cache={tmp_path / 'cache'}",
        "num_workers=0",
    ]
    config = compose("prepare", words)
    assert config["data"]["split_files"] == files
    assert config["engine"] == "local"
    prepared = main(config)
    assert prepared.counts["train"] == 8
    assert "left out: in_no_list" in capsys.readouterr().out
    dataset = open_dataset(config["data"], config["paths"])
    assert type(dataset.source).__name__ == "Store"
    assert len(dataset.split("test")) == len(thirds(own.rows)["test"])
    plain = {key: value for key, value in config["data"].items() if not key.startswith("split_")}
    assert prepared_folder(plain, config["paths"]) != prepared.folder
    with pytest.raises(ConfigurationError, match=r"data\.split_boxes is one of release, file"):
        compose("prepare", [*words, "data.split_boxes=list"])
    with pytest.raises(ConfigurationError, match="engine is one of local, ray"):
        compose("prepare", [*words, "engine=dask"])
