"""`check`: counts against counts by hand, and what may be shown of whose data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from radlearn import check
from radlearn.data.store import FolderSource
from radlearn.datasets import Dataset
from radlearn.manifests.chestxray14 import ChestXray14
from radlearn.manifests.table import Table
from radlearn.records import Card

CARD = Card(
    name="toy", source="here", licence="none", access="open", release="1", label_names=("edema",),
    counts={"train": 8, "rejected.missing": 2},
)  # fmt: skip


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    root = tmp_path / "images"
    root.mkdir()
    for i in range(12):
        cv2.imwrite(str(root / f"{i}.png"), np.full((40, 30), 20 * i, np.uint8))
    rows = pl.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(12)],
            "patient_id": [f"p{i // 2}" for i in range(12)],
            "study_id": [f"s{i // 2}" for i in range(12)],
            "split": ["train"] * 8 + ["validate"] * 2 + ["test"] * 2,
            "view": ["PA"] * 12,
            "path": [f"{i}.png" for i in range(12)],
            "height": [40] * 12,
            "width": [30] * 12,
            "impression": [f"Report [of] {i // 2}." for i in range(12)],
            # Train: 2 of 5 known are positive, 1 uncertain, 2 blank.
            "edema": [1.0, 1.0, 0.0, 0.0, 0.0, -1.0, None, None, None, None, 0.0, 1.0],
        }
    )
    source = FolderSource(root, rows["path"].to_list(), rows["image_id"].to_list())
    return Dataset(rows, source, np.arange(12), CARD, Table(), 40)


def test_prevalence_counts_images_patients_and_labels_by_split(dataset):
    table = check.prevalence(dataset.rows, ("edema",))
    assert table.rows() == [
        ("images", "8", "2", "2"),
        ("patients", "4", "1", "1"),
        ("edema", "2 (40.0%), 1 uncertain", "0", "1 (50.0%)"),
    ]


def test_the_split_is_told_with_its_rule_and_the_others(dataset):
    card = dataclasses.replace(
        CARD, split="official", split_rule="as published", split_hash="ab" * 32, split_seed=3, overlaps=("b",)
    )
    lines = check.split_lines(dataclasses.replace(dataset, card=card, manifest=ChestXray14()))
    assert lines[:3] == [
        "split: official by patient, seed 3, hash abababababab",
        "rule: as published",
        "patients in several splits: none",
    ]
    assert {line.split(":")[0] for line in lines[3:-1]} == {
        f"data.split={name}" for name in ChestXray14.splits if name != "official"
    }
    assert lines[-1] == "shares patients with: b"
    leaking = dataset.rows.with_columns(patient_id=pl.lit("one"))
    assert "patients in several splits: 1" in check.split_lines(dataclasses.replace(dataset, rows=leaking))


def test_the_sheet_and_the_texts_are_made_and_missing_files_are_named(dataset, tmp_path):
    Path(dataset.source.paths[0]).unlink()
    found = check.check_dataset(dataset, tmp_path / "out")
    assert [Path(path).name for path in found["missing"]] == ["0.png"]
    assert found["texts"] == [f"Report [of] {i}." for i in range(5)]
    assert cv2.imread(str(found["contact_sheet"])).shape[0] > 300


def test_credentialed_data_show_nothing_unless_asked(dataset, tmp_path):
    closed = dataclasses.replace(dataset, card=dataclasses.replace(CARD, access="credentialed"))
    found = check.check_dataset(closed, tmp_path / "out")
    assert found["contact_sheet"] is None
    assert found["texts"] == []
    assert not (tmp_path / "out").exists()
    assert check.check_dataset(closed, tmp_path / "out", cases=True)["contact_sheet"].exists()


def test_the_verb_prints_it_all(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("radlearn.datasets.open_dataset", lambda data, paths: dataset)
    paths = {"runs": str(tmp_path), "data": "data", "cache": str(tmp_path / "cache")}
    found = check.main({"paths": paths, "data": {"name": "toy"}, "run": str(tmp_path), "output": None})
    text = capsys.readouterr().out
    for words in ("torch", "cannot be loaded", "(will be made)", "toy (open)", "2 (40.0%), 1 uncertain"):
        assert words in text
    for words in ("rejected: 2 missing", "missing: none", "impression: Report [of] 0.", "contact sheet:"):
        assert words in text
    assert found["contact_sheet"] == tmp_path / "cache" / "check" / "toy.png"
