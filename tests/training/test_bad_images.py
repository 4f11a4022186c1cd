"""Images that cannot be read: few are counted and left out, many stop the run; nothing is lost."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from radlearn import composition
from radlearn.errors import DataError
from radlearn.training import checkpoint
from radlearn.training.pretrain import pretrain


@pytest.fixture
def release(tmp_path) -> Path:
    """Sixty small JPEGs and their table."""
    folder = tmp_path / "release"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(60):
        cv2.imwrite(str(folder / f"{i}.jpg"), random.integers(0, 255, (48, 40), dtype=np.uint8))
    texts = [f"Finding number {i % 7}." for i in range(60)]
    table = {"image_path": [f"{i}.jpg" for i in range(60)], "impression": texts, "ViewPosition": ["PA"] * 60}
    pl.DataFrame(table).write_csv(folder / "train.csv")
    return folder


def configuration(release: Path, tmp_path: Path, *overrides: str):
    settings = [
        f"data.train_manifest={release / 'train.csv'}",
        f"data.image_root={release}",
        "encoder=small_cnn",
        "encoder.image_size=32",
        "encoder.multiplier=0.25",
        "text.model=hashed",
        "batch_size=10",
        "max_steps=6",
        "warmup_steps=0",
        "precision=32-true",
        "accelerator=cpu",
        "num_workers=0",
        "global_crops_number=1",
        "global_size=32",
        "local_crops_number=0",
        "embed_dim=8",
        "predictor_width=16",
        "run_name=table",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'cache'}",
        "data.size=48",
    ]
    return composition.compose("pretrain", [*settings, *overrides])


def test_a_plain_folder_works_without_prepare_and_the_root_stays_untouched(release, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in release.iterdir()}
    release.chmod(0o555)
    try:
        run = pretrain(configuration(release, tmp_path))
    finally:
        release.chmod(0o755)
    assert checkpoint.load(run.folder).step == 6
    assert {path: path.stat().st_mtime_ns for path in release.iterdir()} == before


def test_few_bad_images_are_left_out_and_listed(release, tmp_path, caplog):
    (release / "7.jpg").write_bytes(b"")
    (release / "9.jpg").write_bytes((release / "9.jpg").read_bytes()[:200])
    (release / "11.jpg").unlink()
    logging.getLogger("radlearn").propagate = True
    with caplog.at_level(logging.WARNING, logger="radlearn"):
        run = pretrain(configuration(release, tmp_path, "data.max_bad_fraction=0.1"))
    assert "3 images could not be read and were left out" in caplog.text
    listed = pl.read_parquet(run.folder / "rejected.parquet")["path"].to_list()
    assert sorted(listed) == ["11.jpg", "7.jpg", "9.jpg"]
    assert pl.read_parquet(run.folder / "metrics.parquet")["loss"].is_finite().all()


def test_more_than_the_limit_stop_the_run_and_name_files(release, tmp_path):
    for i in range(8):
        (release / f"{i}.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"of 60 training images cannot be read, more than data\.max_bad"):
        pretrain(configuration(release, tmp_path))


def test_a_crop_larger_than_the_store_names_data_size(release, tmp_path):
    from radlearn.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"data\.size=64"):
        pretrain(configuration(release, tmp_path, "global_size=64"))


def test_a_table_without_text_or_a_text_column_says_so(release, tmp_path):
    table = pl.read_csv(release / "train.csv")
    table.with_columns(impression=pl.lit("")).write_csv(release / "train.csv")
    with pytest.raises(DataError, match=r"(?i)text|impression"):
        pretrain(configuration(release, tmp_path))
