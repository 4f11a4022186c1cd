import pytest
import torch

from radlearn.encoders.timm_image import TimmImage
from radlearn.errors import ConfigurationError


@pytest.mark.parametrize(
    ("arch", "width", "parameters"),
    [("vit_small_patch16_224", 384, 21_665_664), ("vit_base_patch16_224", 768, 85_798_656)],
)
def test_published_sizes(arch, width, parameters):
    # Reference: parameters of the ViTs without a classifier, 3 input channels.
    with torch.device("meta"):
        encoder = TimmImage(arch=arch)
    assert encoder.width == width
    assert sum(p.numel() for p in encoder.trunk.parameters()) == parameters


def test_tokens_of_the_two_crop_sizes():
    encoder = TimmImage(arch="vit_tiny_patch16_224", num_layers=1)
    assert encoder.num_tokens(224) == 197
    assert encoder.num_tokens(96) == 37
    assert encoder(torch.rand(1, 1, 96, 96)).local.shape == (1, 36, 192)


def test_a_size_between_patches_names_the_next_ones():
    encoder = TimmImage(arch="vit_tiny_patch16_224", num_layers=1)
    with pytest.raises(ValueError, match=r"multiples of the patch size 16: got 98 x 98; .* to 96 or 112"):
        encoder(torch.rand(1, 1, 98, 98))


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'vit_small_patch16_224'"):
        TimmImage(arch="vit_smal_patch16_224")


def test_weights_from_a_local_file_load_strictly(tmp_path):
    first = TimmImage(arch="vit_tiny_patch16_224", num_layers=1)
    torch.save(first.trunk.state_dict() | {"head.weight": torch.zeros(2, 192)}, tmp_path / "weights.pth")
    second = TimmImage(arch="vit_tiny_patch16_224", num_layers=1, weights=str(tmp_path / "weights.pth"))
    images = torch.rand(1, 1, 32, 32)
    assert torch.equal(first.eval()(images).pooled, second.eval()(images).pooled)
    with pytest.raises(ConfigurationError, match="does not fit"):
        TimmImage(arch="vit_tiny_patch16_224", num_layers=2, weights=str(tmp_path / "weights.pth"))


def test_a_pickle_with_code_is_not_loaded(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported|magic"):
        TimmImage(arch="vit_tiny_patch16_224", num_layers=1, weights=str(tmp_path / "weights.pth"))
