"""ResNet levels: sizes, the published parameter count, and weights from a file."""

import pytest
import torch
import torchvision

from radlearn.encoders.resnet_levels import ResNetLevels
from radlearn.errors import ConfigurationError


def test_levels_have_the_published_widths_and_strides():
    encoder = ResNetLevels(normalise="half").eval()
    # LoVT: 23,508,032 parameters without average pooling and classifier.
    assert sum(p.numel() for p in encoder.parameters()) == 23_508_032
    with torch.inference_mode():
        maps = encoder.levels(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    assert [m.shape[1] for m in maps] == [64, 256, 512, 1024, 2048]
    assert [64 // m.shape[-1] for m in maps] == [2, 4, 8, 16, 32]


def test_regions_are_the_cells_of_the_last_map_row_by_row():
    torch.manual_seed(0)
    encoder = ResNetLevels(arch="resnet18").eval()
    images = torch.randint(0, 256, (2, 1, 96, 64), dtype=torch.uint8)
    with torch.inference_mode():
        encoded, last = encoder(images), encoder.levels(images)[-1]
    assert last.shape[-2:] == (3, 2)
    assert torch.equal(encoded.local[:, 2 * 2 + 1], last[:, :, 2, 1])
    torch.testing.assert_close(encoded.pooled, encoded.local.mean(1))


def test_features_are_torchvisions():
    torch.manual_seed(0)
    reference = torchvision.models.resnet18(weights=None).eval()
    encoder = ResNetLevels(arch="resnet18", normalise=[0.4, 0.2]).eval()
    encoder.trunk.load_state_dict(
        {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    )
    reference.fc = torch.nn.Identity()
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = reference(((images / 255 - 0.4) / 0.2).expand(-1, 3, -1, -1))
        torch.testing.assert_close(encoder(images).pooled, wanted)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_local_file_is_loaded_and_its_classifier_left_out(tmp_path, suffix):
    from safetensors.torch import save_file

    state = torchvision.models.resnet18(weights=None).state_dict()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    encoder = ResNetLevels(arch="resnet18", weights=str(path))
    assert torch.equal(encoder.trunk.conv1.weight, state["conv1.weight"])
    del state["layer1.0.conv1.weight"]
    torch.save(state, path.with_suffix(".pth"))
    with pytest.raises(ConfigurationError, match=r"do not fit.*layer1\.0\.conv1\.weight"):
        ResNetLevels(arch="resnet18", weights=str(path.with_suffix(".pth")))


def test_weights_that_cannot_be_had_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(ConfigurationError, match=r"cannot be fetched.*encoder\.weights=/path"):
        ResNetLevels(arch="resnet18", weights="imagenet")
    with pytest.raises(ConfigurationError, match="no such file"):
        ResNetLevels(weights=str(tmp_path / "absent.pth"))
    with pytest.raises(ConfigurationError, match="did you mean 'resnet50'"):
        ResNetLevels(arch="resnet5")


def _no_network(*args, **kwargs):
    raise OSError("no network")
