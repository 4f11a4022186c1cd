"""Full-size input: 2500 x 3050 JPEG files in MIMIC-CXR-JPG's layout, ViT-S multi-crop, from prepare to zero-
shot.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import polars as pl
import pytest

from radlearn.phantom import render_case, render_full_size

NUM_IMAGES = 10


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mimic") / "files"
    rows = []
    for i in range(NUM_IMAGES):
        case = render_case(0, i, 0, 64)
        path = f"p10/p1000{i:04d}/s5041{i:04d}/{i:08x}-0.jpg"
        (root / path).parent.mkdir(parents=True)
        image = render_full_size(0, i, 0, height=3050, width=2500)
        assert image.shape == (3050, 2500)
        assert cv2.imwrite(str(root / path), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        labels = {"Effusion": case.labels["effusion"], "Edema": int(i % 2)}
        rows.append({"image_path": path, "impression": case.impression, "ViewPosition": case.view, **labels})
    pl.DataFrame(rows).write_csv(root.parent / "train.csv")
    return root


def test_files_are_as_large_as_real_ones(release):
    sizes = [path.stat().st_size for path in release.rglob("*.jpg")]
    assert 0.8e6 < sum(sizes) / len(sizes) < 2.5e6


@pytest.mark.slow
def test_the_published_command_runs_from_prepare_to_zero_shot(release, tmp_path):
    table = release.parent / "train.csv"
    folders = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"]
    data = [f"data.train_manifest={table}", f"data.image_root={release}", "data.label_cols=[Effusion,Edema]"]
    small = ["model=small", "text.model=minilm", "run_name=nova_vits", "batch_size=4", "max_steps=2"]

    def radlearn(*words: str) -> str:
        command = [sys.executable, "-m", "radlearn", *words, "num_workers=0", *folders]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    radlearn("prepare", "data=table", *data)
    (folder,) = [path.parent for path in (tmp_path / "cache").rglob("images-00000.arrow")]
    assert len(pl.read_parquet(folder / "manifest.parquet")) == NUM_IMAGES
    said = radlearn("pretrain", *data, *small)
    assert "vit" in (tmp_path / "runs" / "nova_vits" / "config.yaml").read_text()
    assert "crops have more pixels than the stored image" in said
    evals = (
        f"evals=[{{name: test, manifest: {table}, image_root: {release}, label_cols: [Effusion, Edema], "
        "positive_prompts: [effusion, edema], negative_prompts: [no effusion, no edema]}]"
    )
    assert "macro" in radlearn("evaluate", "run=nova_vits", "num_bootstrap=20", evals)
