"""The verb `export`: weights that work without radlearn, with a card whose lines run."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from test_embed import SETTINGS

from radlearn import composition, export
from radlearn.errors import ConfigurationError, DataError
from radlearn.training import checkpoint
from radlearn.training.model import load
from radlearn.training.pretrain import pretrain

ENCODERS = {
    "torchvision": ["encoder=resnet_levels", "encoder.arch=resnet18"],
    "torchvision, one channel": ["encoder=resnet_levels", "encoder.arch=resnet18", "encoder.channels=1",
                                 "encoder.normalise=half"],
    "timm": ["encoder=timm_image", "encoder.arch=vit_tiny_patch16_224", "model.hidden_size=48",
             "model.num_layers=2", "model.num_heads=3"],
    "radlearn": ["encoder=small_cnn", "encoder.multiplier=0.25"],
}  # fmt: skip
NAMES = {library: library.replace(", ", "_").replace(" ", "_") for library in ENCODERS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    return [f"paths.runs={root / 'runs'}", f"paths.cache={root / 'cache'}"]


@pytest.fixture(scope="module")
def runs(folders):
    own = [s for s in SETTINGS if not s.startswith(("encoder.m", "encoder=", "run_name"))]
    return {
        library: pretrain(
            composition.compose("pretrain", [*own, *folders, *settings, f"run_name={NAMES[library]}"])
        )
        for library, settings in ENCODERS.items()
    }


def settings(folders, *overrides):
    return composition.compose("export", [*folders, *overrides])


def card_lines(folder):
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)


@pytest.mark.parametrize("library", ENCODERS)
def test_the_card_s_lines_give_the_run_s_encoder(library, runs, folders, tmp_path, monkeypatch):
    folder = export.main(settings(folders, f"run={NAMES[library]}", f"output_dir={tmp_path / 'out'}"))
    about = json.loads((folder / "backbone.json").read_text())
    names: dict = {}
    monkeypatch.chdir(folder)
    exec(card_lines(folder), names)
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    encoder = load(runs[library].folder).objective.image_encoder
    with torch.no_grad():
        wanted = encoder(images).pooled
        if library == "radlearn":
            found = names["encoder"].eval()(images).pooled
        else:
            # What the card says is done to an image, in NumPy.
            seen = about["preprocessing"]
            grey = np.repeat(images.numpy() / 255.0, seen["channels"], axis=1)
            x = (grey - np.reshape(seen["mean"], (1, -1, 1, 1))) / np.reshape(seen["std"], (1, -1, 1, 1))
            model = names["model"].eval()
            if "torchvision" in library:
                model.fc = torch.nn.Identity()
            found = model(torch.from_numpy(x).float())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert about["library"] == library.split(",")[0]
    assert about["width"] == wanted.shape[1]
    assert about["data"]["access"] == "synthetic"
    assert "**synthetic**" in (folder / "README.md").read_text()
    assert about["sha256"]["weights"] == checkpoint.file_hash(folder / "backbone_weights.pt")


@pytest.mark.parametrize("library", ENCODERS)
def test_a_run_starts_from_an_export(library, runs, folders, tmp_path):
    folder = export.main(settings(folders, f"run={NAMES[library]}", f"output_dir={tmp_path / 'out'}"))
    own = [s for s in SETTINGS if not s.startswith(("encoder.m", "encoder=", "run_name"))]
    more = [f"init={folder / 'backbone_weights.pt'}", "max_steps=1", "lr=1e-12", "eta_min=0"]
    again = pretrain(
        composition.compose(
            "pretrain",
            [*own, *folders, *ENCODERS[library], *more, f"output_dir={tmp_path / 'again'}", "run_name=again"],
        )
    )
    first, second = (load(run.folder).objective.image_encoder for run in (runs[library], again))
    for key, value in first.named_parameters():
        torch.testing.assert_close(second.get_parameter(key), value, msg=key)


def test_a_backbone_of_torchvision_s_names_is_the_start_of_an_encoder(runs, folders, tmp_path):
    from radlearn.encoders.resnet_levels import ResNetLevels

    folder = export.main(settings(folders, "run=torchvision", f"output_dir={tmp_path / 'out'}"))
    encoder = ResNetLevels(arch="resnet18", weights=str(folder / "backbone_weights.pt"))
    trained = load(runs["torchvision"].folder).objective.image_encoder
    assert torch.equal(encoder.trunk.layer4[0].conv1.weight, trained.trunk.layer4[0].conv1.weight)


def test_a_whole_model_without_what_only_resuming_needs(runs, folders, tmp_path):
    folder = export.main(
        settings(folders, "run=radlearn", "format=checkpoint", f"output_dir={tmp_path / 'out'}")
    )
    assert not (folder / "state.pt").exists()
    run, exported = load(runs["radlearn"].folder), load(folder)
    images = [np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)]
    assert torch.equal(run.embed_image(images), exported.embed_image(images))
    assert torch.equal(run.embed_text(["Edema."]), exported.embed_text(["Edema."]))
    with pytest.raises(DataError, match="cannot go on from it"):
        checkpoint.load(folder).state()


def test_an_export_replaces_itself_and_nothing_else(runs, folders, tmp_path):
    first = export.main(settings(folders, "run=radlearn"))
    assert first == runs["radlearn"].folder / "export"
    before = (first / "backbone_weights.pt").stat().st_ino
    assert export.main(settings(folders, "run=radlearn")) == first
    assert (first / "backbone_weights.pt").stat().st_ino != before
    (first / "notes.txt").write_text("mine")
    for form in ("backbone", "checkpoint"):
        with pytest.raises(ConfigurationError, match=f"no part of an export of format={form}"):
            export.main(settings(folders, "run=radlearn", f"format={form}"))
    assert (first / "notes.txt").read_text() == "mine"
    assert (first / "backbone_weights.pt").exists()
    live = checkpoint.latest(runs["radlearn"].folder)
    with pytest.raises(ConfigurationError, match=r"state\.pt, which is no part"):
        export.main(settings(folders, "run=radlearn", "format=checkpoint", f"output_dir={live}"))
    # A path that leads back out of a folder that is not there yet names a folder that is.
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds mine\.txt"):
        export.main(settings(folders, "run=radlearn", f"output_dir={tmp_path / 'new' / '..'}"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_the_earlier_export(runs, folders, tmp_path, monkeypatch):
    folder = export.main(settings(folders, "run=radlearn", f"output_dir={tmp_path / 'out'}"))
    held = (folder / "backbone_weights.pt").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match="No space left"):
        export.main(settings(folders, "run=radlearn", f"output_dir={tmp_path / 'out'}"))
    assert (folder / "backbone_weights.pt").read_bytes() == held
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_with_more_than_weights_is_never_unpickled(tmp_path):
    from radlearn.encoders import _weight_file

    torch.save({"weights": torch.zeros(1), "made_by": print}, tmp_path / "bad.pt")
    with pytest.raises(ConfigurationError, match="never unpickled"):
        _weight_file.read(tmp_path / "bad.pt", key="init")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigurationError, match="holds no dict of weights"):
        _weight_file.read(tmp_path / "list.pt", key="init")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigurationError, match="is no safetensors file"):
        _weight_file.read(tmp_path / "bad.safetensors", key="encoder.weights")
