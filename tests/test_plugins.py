"""A toy objective, encoder, manifest, task and figure, one file each: found and contract-tested by
themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "objectives/toy_objective.py": '''
"""Pull each view to the text."""

from radlearn.losses.alignment import prediction_mse
from radlearn.objectives.base import DualEncoder
from radlearn.records import Output


class Toy(DualEncoder):
    """One term, nothing against collapse."""

    def forward(self, batch, step):
        z, t = self.embed_batch(batch)
        loss = prediction_mse(z, t, all_reduce=self.sum_across_ranks)
        return Output(loss, {"mse": loss.detach()}, {"image": z.detach(), "text": t.detach()})
''',
    "encoders/toy_encoder.py": '''
"""Patch averages."""

from torch import nn
from torch.nn import functional as F

from radlearn.encoders.base import Encoder, Normalise
from radlearn.records import Encoded


class ToyEncoder(Encoder):
    """A linear layer on 4 x 4 averages."""

    def __init__(self, *, width=6, image_size=32):
        super().__init__()
        self.width, self.local_width, self.image_size = width, width, image_size
        self.level_widths = (width,) * 4
        self.normalise, self.project = Normalise("half", 1), nn.Conv2d(1, width, 1)

    def forward(self, images):
        x = self.project(self.normalise(images))
        levels = tuple(F.adaptive_avg_pool2d(x, max(images.shape[-1] // s, 1)) for s in (4, 8, 16, 32))
        return Encoded(x.mean((2, 3)), levels[1].flatten(2).transpose(1, 2), levels)
''',
    "manifests/toy_manifest.py": '''
"""Squares, bright or dark."""

import cv2
import numpy as np
import polars as pl

from radlearn.errors import DataError
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import finish
from radlearn.records import Card


class ToyManifest(Manifest):
    """Forty squares of twenty patients."""

    card = Card(name="toy_manifest", source="made up", licence="none", access="open", release="1",
                label_names=("bright",), split_rule="patient number")

    def read(self, root, progress=None):
        if not (root / "0.png").exists():
            raise DataError(f"no squares in {root}")
        rows = [
            {"image_id": f"i{i}", "patient_id": f"p{i // 2}", "study_id": f"s{i}",
             "split": "train" if i < 24 else "validate" if i < 32 else "test", "view": "PA",
             "path": f"{i}.png", "height": 40, "width": 40, "impression": "bright" if i % 2 else "dark",
             "bright": float(i % 2)}
            for i in range(40)
        ]
        table = pl.DataFrame(rows).with_columns(pl.col("height", "width").cast(pl.Int32))
        return finish(table.with_columns(pl.col("bright").cast(pl.Float32)), [], self.card, root)

    @classmethod
    def fake(cls, root):
        """Forty squares.

        - two images a patient
        - one study an image
        - bright and dark take turns
        - a ramp of grey over each
        - no report but its impression
        """
        for i in range(40):
            pixels = np.full((40, 40), 60 + 120 * (i % 2), np.uint8)
            cv2.imwrite(str(root / f"{i}.png"), pixels + np.arange(40, dtype=np.uint8))
        return cls()
''',
    "tasks/toy_task.py": '''
"""The first coordinates of the embedding are the scores."""

from radlearn.errors import ConfigurationError
from radlearn.tasks.base import ClassificationTask


class ToyTask(ClassificationTask):
    """One coordinate a label."""

    name = "toy_task"
    needs = ("embeddings",)

    def scores(self, inputs):
        if inputs.embeddings is None:
            raise ConfigurationError("toy_task needs embeddings")
        return {"": inputs.embeddings[:, : len(inputs.label_names)].double().numpy()}
''',
    "figures/toy_figure.py": '''
"""Loss over steps, again."""

import polars as pl

from radlearn.figures import base

NEEDS = ("step", "loss")


def draw(table, *, title=""):
    base.require(table, NEEDS, "toy_figure")
    with base.style():
        figure = base.new_figure(4, 3, title)
        axes = figure.add_subplot()
        axes.plot(table["step"], table["loss"])
        axes.set(xlabel="optimiser step", ylabel="loss")
        base.footer(figure, f"n = {table.height} steps", synthetic=base.is_synthetic(table))
    return figure


def fake():
    return pl.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.5], "synthetic": [True] * 3})
''',
}
NAMES = [Path(name).stem for name in FILES]


@pytest.fixture(scope="module")
def plugins(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    for name, source in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source.lstrip())
    return folder


def run(plugins: Path, *command: str) -> str:
    environment = {**os.environ, "RADLEARN_PLUGINS": str(plugins)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_are_listed_beside_the_package_s_own(plugins):
    out = run(plugins, sys.executable, "-m", "radlearn", "list")
    assert all(name in out for name in NAMES)


def test_each_is_contract_tested_by_itself(plugins):
    contracts = Path(__file__).parent / "contracts"
    expression = " or ".join(name for name in NAMES)
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(contracts),
        "-k",
        expression,
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    out = run(plugins, *command)
    collected = run(plugins, *command, "--collect-only")
    for name in NAMES:
        assert any(f"[{name}" in line or f"{name}]" in line for line in collected.splitlines()), name
    assert " passed" in out


def test_they_train_together(plugins, tmp_path):
    release = tmp_path / "release"
    release.mkdir()
    code = f"""
import radlearn as rl
from pathlib import Path
from radlearn import registry
registry.find("manifests", "toy_manifest").fake(Path({str(release)!r}))
keys = dict(paths={{"runs": {str(tmp_path / "runs")!r}, "cache": {str(tmp_path / "cache")!r}}})
rl.pretrain("method=toy_objective", "encoder=toy_encoder", "data=toy_manifest", "data.root={release}",
    "text.model=hashed", "batch_size=4", "max_steps=2", "global_size=32", "local_size=16",
    "embed_dim=8", "predictor_width=8", "num_workers=0", "accelerator=cpu", "precision=32-true",
    "run_name=toy", "warmup_steps=0", **keys)
rows = rl.evaluate("run=toy", "task=toy_task", "num_workers=0", "num_bootstrap=10", "device=cpu", **keys)
print(len(rows), "results")
"""
    assert "results" in run(plugins, sys.executable, "-c", code)
