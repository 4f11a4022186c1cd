"""The demo, end to end: what a newcomer types first."""

from __future__ import annotations

import os
import subprocess
import sys

import polars as pl
import pytest

from radlearn import composition, schema
from radlearn.demo import evaluation_settings


def test_its_evaluation_has_every_key_of_the_verb(tmp_path):
    settings = evaluation_settings(composition.compose("demo", []), tmp_path, "zero_shot")
    assert settings.keys() == schema.VERBS["evaluate"].keys()


@pytest.mark.slow
def test_the_fast_demo_learns_what_is_easy_and_writes_its_page(tmp_path):
    command = [sys.executable, "-m", "radlearn", "demo", "fast=true", f"paths.runs={tmp_path / 'runs'}"]
    command += [f"paths.cache={tmp_path / 'cache'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    run = tmp_path / "runs" / "demo-nova-fast"
    page = (run / "report" / "index.html").read_text()
    assert "ynthetic" in page
    assert "https://" not in page.replace("https://arxiv.org", "")
    results = pl.read_parquet(run / "results.parquet")
    assert results["synthetic"].all()
    auc = results.filter(
        pl.col("task") == "zero_shot", pl.col("metric") == "auc", pl.col("variant").fill_null("") == ""
    )
    values = dict(zip(auc["label"], auc["value"], strict=True))
    # Twelve thousand samples teach these two; macro means of so short a run depend on the seed.
    assert values["cardiomegaly"] > 0.75
    assert values["edema"] > 0.75
